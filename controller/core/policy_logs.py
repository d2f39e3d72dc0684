"""The request log in a policy: whether single requests are looked at, seconds after they were answered."""

from datetime import timedelta

from pydantic import Field

from controller.core.policy_fields import Duration, is_on
from controller.core.policy_parts import Fields, Part, fields_of


class RequestLogs(Part):
    """How the request log is read; written short as `on`."""

    delay: Duration = Field(
        default=timedelta(seconds=10),
        description="Age at which entries of Cloud Logging count as all there; later ones count later.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        if is_on(value):
            return {}
        return fields_of(value, "delay", "on, off, a delay such as 10s, or a mapping")
