"""The request log in a policy: whether single requests are looked at, seconds after they were answered."""

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from controller.core.policy_fields import Duration, is_on
from controller.core.policy_parts import Fields, Part, fields_of
from controller.core.units import UnitInvalid, duration_text

SHORTEST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(minutes=5)


def _check_delay(delay: timedelta) -> timedelta:
    if not SHORTEST_DELAY <= delay <= LONGEST_DELAY:
        shortest, longest = duration_text(SHORTEST_DELAY), duration_text(LONGEST_DELAY)
        raise UnitInvalid(f"{duration_text(delay)} is not from {shortest} to {longest}; 10s is usual")
    return delay


class RequestLogs(Part):
    """How the request log is read; written short as `on`."""

    delay: Annotated[Duration, AfterValidator(_check_delay)] = Field(
        default=timedelta(seconds=10),
        description="Age at which entries of Cloud Logging count as all there; later ones count later.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        if is_on(value):
            return {}
        return fields_of(value, "delay", "on, off, a delay such as 10s, or a mapping")
