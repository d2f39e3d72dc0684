"""The health section of a policy: what scheduled checks ask of the revision that serves all users."""

from datetime import timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from controller.core.mistakes import Mistake, PolicyInvalid
from controller.core.policy_choices import OnHarm, choice
from controller.core.policy_fields import Ceiling, Ceilings, Codes, Minutes, PositiveDuration, Switch, is_on
from controller.core.policy_parts import Fields, Part, fields_of
from controller.core.units import UnitInvalid, duration_text

SHORTEST_FALSE_ALARM: Final = timedelta(hours=1)


def _check_false_alarm(duration: timedelta) -> timedelta:
    if duration < SHORTEST_FALSE_ALARM:
        shortest = duration_text(SHORTEST_FALSE_ALARM)
        raise UnitInvalid(f"a false alarm each {duration_text(duration)} is none; write at least {shortest}")
    return duration


class Health(Part):
    """What is asked of the revision that serves, when no rollout is under way; `on` for the defaults."""

    errors: Ceiling = Field(
        default=0.05, description="Share of errors that is harm, whatever was usual; off for none."
    )
    codes: Codes = Field(default=("5xx",), description="Response codes that count as errors.")
    latency: Ceilings = Field(
        default={}, description="Latencies that the percentiles may not exceed, such as {p95: 2s}."
    )
    past: PositiveDuration = Field(
        default=timedelta(hours=24),
        description="Time before `window` that says what is usual: much more errors than then are harm.",
    )
    window: Minutes = Field(
        default=timedelta(minutes=30), description="Latest minutes that are searched for the onset of harm."
    )
    false_alarm: Annotated[PositiveDuration, AfterValidator(_check_false_alarm)] = Field(
        default=timedelta(days=30),
        description="Time between two false alarms, on average at least, where a check is made each minute.",
    )
    probes: Switch = Field(default=True, description="Whether the policy's probes are asked, too.")
    on_harm: Annotated[OnHarm, *choice(OnHarm)] = Field(
        default=OnHarm.ALERT,
        description=(
            "Whether harm is only reported, or users are sent back to the revision before, which was good."
        ),
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window >= self.past:
            window, past = duration_text(self.window), duration_text(self.past)
            message = f"{window} is no part of {past}, which says what is usual; write less than that"
            raise PolicyInvalid([Mistake(("window",), message)])
        return self

    @classmethod
    def _read(cls, value: object) -> Fields:
        if is_on(value):
            return {}
        return fields_of(value, None, "a mapping such as {errors: 5%}, on or off")
