"""What a rollout policy says: the model, and plain values turned into it or into every mistake at once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from controller.core.mistakes import Mistake, Path, PolicyInvalid, read_mistakes
from controller.core.policy_fields import (
    MINUTE,
    AdvanceOn,
    AfterPromotion,
    Count,
    Duration,
    FalseRollback,
    Minutes,
    OnDeadline,
    OnNewRevision,
    Paths,
    Percent,
    PositiveDuration,
    Promotion,
    StepGate,
    Version,
    WhenUnsure,
    choice,
    parse_minutes,
)
from controller.core.policy_guards import Guards
from controller.core.policy_parts import Fields, Part, fields_of, has_fields
from controller.core.traffic import ALL
from controller.core.units import LONGEST_DURATION, UnitInvalid, duration_text, shown

__all__ = [
    "AdvanceOn",
    "AfterPromotion",
    "Confidence",
    "Hold",
    "Mistake",
    "OnDeadline",
    "OnNewRevision",
    "Policy",
    "PolicyInvalid",
    "Step",
    "WhenUnsure",
    "evidence_time",
    "parse_policy",
    "policy_as_plain",
    "policy_digest",
    "smallest_limit",
]

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
            "Requests that each revision must have served in the step before it may pass; "
            "less if safety is proven before."
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


_BAKE: Final = Hold(at_least=timedelta(minutes=15), at_most=timedelta(minutes=60))


def _parse_steps(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise UnitInvalid(f"expected a list such as [5%, 25%, 50%], not {shown(value)}")
    if not value:
        raise UnitInvalid("there must be at least one step; write [100%] to move everything at once")
    return value


class Policy(Part):
    """A whole policy: the steps of a rollout, what is watched, and what happens then."""

    version: Version = Field(
        default=1,
        description="Version of the policy's format.",
    )
    steps: Annotated[tuple[Step, ...], BeforeValidator(_parse_steps)] = Field(
        default=(Step(traffic=5), Step(traffic=25), Step(traffic=50)),
        description="Rising shares of traffic for the candidate; after the last it gets all, to `bake`.",
    )
    hold: Hold = Field(default=Hold(), description="How long a step lasts where it does not say so itself.")
    bake: Hold = Field(
        default=_BAKE,
        description="How long the candidate serves everything, with stable kept as the way back.",
    )
    guards: Guards = Field(default=Guards(), description="What the candidate is compared on.")
    confidence: Confidence = Field(default=Confidence(), description="How sure the controller must be.")
    advance_on: Annotated[AdvanceOn, *choice(AdvanceOn)] = Field(
        default=AdvanceOn.NO_HARM,
        description=(
            "Whether a step passes when nothing points to harm, or only when for every guard it is shown "
            "that the candidate is within tolerance."
        ),
    )
    when_unsure: Annotated[WhenUnsure, *choice(WhenUnsure)] = Field(
        default=WhenUnsure.HOLD,
        description="What an unsure step does at `at_most`: wait for a person, go on, or go back.",
    )
    after_promotion: Annotated[AfterPromotion, *choice(AfterPromotion)] = Field(
        default=AfterPromotion.AS_FOUND,
        description="Whether traffic ends as it was found, pinned to the revision, or on the latest one.",
    )
    on_new_revision: Annotated[OnNewRevision, *choice(OnNewRevision)] = Field(
        default=OnNewRevision.SUPERSEDE,
        description="Whether a newer revision ends this rollout and starts its own, waits, or is ignored.",
    )
    smoke: Paths = Field(
        default=(),
        description=(
            "Paths that the candidate must answer with 2xx or 3xx on an address of its own "
            "before any user is sent to it."
        ),
    )
    ready_within: PositiveDuration = Field(
        default=timedelta(minutes=10),
        description="Time that the candidate may take to become ready before the rollout fails.",
    )
    on_deadline: Annotated[OnDeadline, *choice(OnDeadline)] = Field(
        default=OnDeadline.ROLLBACK,
        description=(
            "Whether a candidate that is not ready within `ready_within` ends the rollout, or is reported "
            "and waited for."
        ),
    )
    settle: Duration = Field(
        default=timedelta(seconds=30),
        description="Time after a split is observed before its evidence counts, as earlier requests end.",
    )
    metrics_delay: Duration = Field(
        default=timedelta(seconds=180),
        description="Age at which a minute of Cloud Monitoring is final and may be used.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        fields = fields_of(value, None, "a mapping of fields such as steps and guards")
        steps = fields.get("steps", cls.model_fields["steps"].default)
        if isinstance(steps, list | tuple):
            written = _written_hold(fields.get("hold", {}))
            fields["steps"] = [_with_hold(step, written) for step in steps]
        if has_fields(fields.get("bake"), "at_least"):
            fields["bake"] = {"at_least": _BAKE.at_least} | fields_of(fields["bake"], "at_least")
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        mistakes = [*_rise_mistakes(self.steps), *_gate_mistakes(self.steps), *_limit_mistakes(self)]
        if mistakes:
            raise PolicyInvalid(mistakes)
        return self


def _written_hold(value: object) -> Fields:
    """Take what the policy's `hold` says, or nothing if it is mistaken: one mistake is reported once."""
    if isinstance(value, Hold):
        return dict(value)
    try:
        Hold.model_validate(value)
    except ValidationError:
        return {}
    return fields_of(value, "at_least")


def _with_hold(step: object, written: Fields) -> object:
    """Complete a step's hold from what the policy's `hold` says; what is mistaken stays as it is."""
    if isinstance(step, Step):
        if "hold" in step.model_fields_set:
            return step
        return {"traffic": step.traffic, "hold": written, "gate": step.gate}
    if not has_fields(step, "traffic"):
        return step
    fields = fields_of(step, "traffic")
    hold = fields.get("hold", {})
    if not has_fields(hold, "at_least"):
        return fields
    return fields | {"hold": written | fields_of(hold, "at_least")}


def _rise_mistakes(steps: tuple[Step, ...]) -> Iterator[Mistake]:
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if after.traffic <= before.traffic:
            message = (
                f"steps must rise: {after.traffic}% follows {before.traffic}%; order them from small to large"
            )
            yield Mistake(("steps", index, "traffic"), message)


def _gate_mistakes(steps: tuple[Step, ...]) -> Iterator[Mistake]:
    for index, step in enumerate(steps):
        if step.gate and step.traffic == ALL:
            yield Mistake(
                ("steps", index, "gate"),
                "a step of 100% is the bake, which has no gate; put the gate on the step before",
            )


def _limit_mistakes(policy: Policy) -> Iterator[Mistake]:
    holds: list[tuple[Path, Hold]] = [(("hold",), policy.hold), (("bake",), policy.bake)]
    # A step that only repeats the policy's hold is not mistaken a second time.
    holds += [
        (("steps", index, "hold"), step.hold)
        for index, step in enumerate(policy.steps)
        if step.hold != policy.hold
    ]
    for path, hold in holds:
        smallest = smallest_limit(policy, hold)
        if hold.at_most < smallest:
            yield Mistake(
                (*path, "at_most"),
                f"{duration_text(hold.at_most)} is too short to judge by; write at least "
                f"{duration_text(smallest)}, which is more than at_least {duration_text(hold.at_least)} "
                f"+ settle {duration_text(policy.settle)} "
                f"+ metrics_delay {duration_text(policy.metrics_delay)} + 1m",
            )


def smallest_limit(policy: Policy, hold: Hold) -> timedelta:
    """Return the smallest `at_most` that leaves time to judge: the next minute after `evidence_time`."""
    return (evidence_time(policy, hold) // MINUTE + 1) * MINUTE


def evidence_time(policy: Policy, hold: Hold) -> timedelta:
    """Return how long after its split is observed a step's minimum of evidence is final at the latest."""
    return hold.at_least + policy.settle + policy.metrics_delay + MINUTE


# --- plain values to policy and back


def parse_policy(plain: object) -> Policy:
    """Read a policy from plain values such as YAML or JSON give.

    Raises PolicyInvalid with every mistake at once.
    """
    try:
        return Policy.model_validate(plain)
    except ValidationError as error:
        mistakes = tuple(read_mistakes(Policy, error))
    raise PolicyInvalid(dict.fromkeys([*mistakes, *_further_mistakes(plain, mistakes)]))


def _further_mistakes(plain: object, mistakes: Sequence[Mistake]) -> Iterator[Mistake]:
    """Yield what comparisons between fields find in the fields that are sound by themselves."""
    mistaken = {mistake.path[0] for mistake in mistakes if mistake.path}
    if not isinstance(plain, Mapping) or not mistaken or mistaken & {"settle", "metrics_delay"}:
        return
    sound = {
        name: value for name, value in plain.items() if name not in mistaken and name in Policy.model_fields
    }
    try:
        Policy.model_validate(sound)
    except ValidationError as error:
        # What was left out stands there with its default now, about which nobody wants to hear.
        yield from (each for each in read_mistakes(Policy, error) if each.path[0] not in mistaken)


def policy_as_plain(policy: Policy) -> dict[str, Any]:
    """Write a policy as plain values that JSON can carry and `parse_policy` reads back to an equal policy.

    Defaults are written out, so that a rollout keeps its policy when a later version changes them. Only a
    step whose hold is the policy's, and that has no gate, is written short.
    """
    plain = policy.model_dump(mode="json")
    short = {"hold": plain["hold"], "gate": None}
    steps = [
        step["traffic"] if step == {"traffic": step["traffic"], **short} else step for step in plain["steps"]
    ]
    return plain | {"steps": steps}


def policy_digest(policy: Policy) -> str:
    """Return twelve hexadecimal digits that are the same for equal policies and differ for others."""
    text = json.dumps(policy_as_plain(policy), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
