"""The steps of a policy: what share of the traffic, for how long, and how sure one must be."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from controller.core.mistakes import Mistake, PolicyInvalid, nearest, read_mistakes
from controller.core.policy_fields import (
    Count,
    FalseRollback,
    Minutes,
    Percent,
    PositiveDuration,
    Promotion,
    StepGate,
    parse_minutes,
)
from controller.core.policy_parts import Fields, Part, fields_of
from controller.core.units import LARGEST_COUNT, LONGEST_DURATION, UnitInvalid, shown

AUTO: Final = "auto"
_SHORTEST_LIMIT: Final = timedelta(minutes=30)
_LIMIT_FACTOR: Final = 4


class Hold(Part):
    """How long a step lasts; written short as `10m`, which is `at_least`."""

    at_least: Minutes = Field(
        default=timedelta(minutes=5),
        description="Minutes of final evidence that the step is judged on before it may pass.",
    )
    at_most: PositiveDuration = Field(
        default=timedelta(minutes=30),
        description=(
            "Limit of the step, counted from the moment its split is observed; then `when_unsure` applies. "
            "Left out, it is 30m or 4 times `at_least`, whichever is more."
        ),
    )
    requests: Count = Field(
        default=50,
        description=(
            "Requests that each revision must have served in the step, probes included, before it may "
            "pass; less if safety is proven before."
        ),
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        fields = fields_of(value, "at_least", "a duration such as 10m or a mapping such as {at_least: 10m}")
        if "at_most" in fields or "at_least" not in fields:
            return fields
        try:
            limit = _LIMIT_FACTOR * parse_minutes(fields["at_least"])
        except UnitInvalid:
            return fields
        return fields | {"at_most": min(max(_SHORTEST_LIMIT, limit), LONGEST_DURATION)}


class Step(Part):
    """One share of traffic for the candidate; written short as `5%`."""

    traffic: Percent = Field(description="Share of the traffic that the candidate gets, in whole percents.")
    hold: Hold = Field(
        default=Hold(),
        description="How long the step lasts; what is left out comes from the policy's `hold`.",
    )
    gate: StepGate = Field(
        default=None,
        description=(
            "Whether a person must let it go on when the step has passed: `manual`, or a duration after "
            "which passing evidence will do. Until then the evidence is watched on."
        ),
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, "traffic", "a share such as 5% or a mapping such as {traffic: 5%}")


class Confidence(Part):
    """How sure the controller must be before it acts."""

    false_rollback: FalseRollback = Field(
        default=0.01,
        description=(
            "Chance at most that a candidate as good as stable is rolled back: "
            "for the whole rollout, all guards and all looks together."
        ),
    )
    promotion: Promotion = Field(
        default=0.95,
        description="How sure each guard's proof must be that the candidate is within tolerance.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, None, "a mapping such as {false_rollback: 1%}")


BAKE: Final = Hold(at_least=timedelta(minutes=15), at_most=timedelta(minutes=60))


_FAILED_PATTERN: Final = r"^([0-9]{1,10}) failed requests?$"


def _parse_failed(value: object) -> object:
    """Read `50 failed requests` as 50, and leave the rest as it is."""
    found = re.fullmatch(_FAILED_PATTERN, value) if isinstance(value, str) else None
    return int(found[1]) if found else value


class AutoSteps(Part):
    """Steps that fit the traffic, chosen when a rollout begins; written short as `auto`."""

    at_most: Annotated[
        Count,
        BeforeValidator(_parse_failed),
        WithJsonSchema(
            {
                "title": "whole number, 1 or more",
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": LARGEST_COUNT},
                    {"type": "string", "pattern": _FAILED_PATTERN},
                ],
            }
        ),
    ] = Field(
        default=50,
        description=(
            "Requests that a bad candidate may fail in a step before it is noticed; the shares and times "
            "are chosen so, from the requests that stable had in the last hour."
        ),
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return {} if value == AUTO else fields_of(value)


def is_auto(value: object) -> bool:
    """Say whether a value asks for steps that fit the traffic, in a form without mistakes."""
    if value != AUTO and not isinstance(value, AutoSteps | Mapping):
        return False
    try:
        AutoSteps.model_validate(value)
    except ValidationError:
        return False
    return True


def parse_steps(value: object) -> object:
    """Read a list of at least one step; raises UnitInvalid, or PolicyInvalid for steps that are chosen."""
    if isinstance(value, Mapping):
        raise PolicyInvalid(_mistakes_in_auto(value))
    if not isinstance(value, list | tuple):
        raise UnitInvalid(
            f"expected a list such as [5%, 25%, 50%], or {AUTO}, not {shown(value)}{nearest(value, [AUTO])}"
        )
    if not value:
        raise UnitInvalid("there must be at least one step; write [100%] to move everything at once")
    return value


def _mistakes_in_auto(value: object) -> Iterator[Mistake]:
    try:
        AutoSteps.model_validate(value)
    except ValidationError as error:
        yield from read_mistakes(AutoSteps, error)
