"""What a rollout policy says: the model, and plain values turned into it or into every mistake at once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from controller.core.mistakes import Mistake, Path, PolicyInvalid, read_mistakes
from controller.core.policy_choices import (
    AdvanceOn,
    AfterPromotion,
    OnDeadline,
    OnNewRevision,
    WhenUnsure,
    choice,
)
from controller.core.policy_fields import (
    MINUTE,
    Duration,
    Paths,
    PositiveDuration,
    Version,
    off_as_none,
)
from controller.core.policy_guards import Guards
from controller.core.policy_health import Health
from controller.core.policy_logs import RequestLogs
from controller.core.policy_notices import Receiver, check_each_told_once, receivers_of
from controller.core.policy_parts import Fields, Part, fields_of, has_fields
from controller.core.policy_probes import Probe, check_each_once, probes_of
from controller.core.policy_steps import BAKE, AutoSteps, Confidence, Hold, Step, is_auto, parse_steps
from controller.core.traffic import ALL
from controller.core.units import duration_text


class Policy(Part):
    """A whole policy: the steps of a rollout, what is watched, and what happens then."""

    version: Version = Field(
        default=1,
        description="Version of the policy's format.",
    )
    steps: Annotated[tuple[Step, ...], BeforeValidator(parse_steps)] = Field(
        default=(Step(traffic=5), Step(traffic=25), Step(traffic=50)),
        title="list of shares or mappings, or auto",
        description=(
            "Rising shares of traffic for the candidate; after the last it gets all, to `bake`. "
            "With `auto` they are chosen when a rollout begins, from the requests that stable had in the "
            "last hour."
        ),
    )
    auto: SkipJsonSchema[AutoSteps | None] = Field(default=None, exclude=True)
    """How the steps are chosen when a rollout begins; `steps` stand in where nothing can be measured."""
    hold: Hold = Field(default=Hold(), description="How long a step lasts where it does not say so itself.")
    bake: Hold = Field(
        default=BAKE,
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
    probes: Annotated[tuple[Probe, ...], BeforeValidator(probes_of), AfterValidator(check_each_once)] = Field(
        default=(),
        title="list of paths or mappings",
        description=(
            "Requests of our own, to stable and candidate in pairs: before the first step, and as evidence "
            "beside that of the users."
        ),
    )
    request_logs: Annotated[RequestLogs | None, BeforeValidator(off_as_none)] = Field(
        default=None,
        description=(
            "Whether the request log is evidence, too: harm is seen within seconds, and failures of the "
            "platform are told apart."
        ),
    )
    health: Annotated[Health | None, BeforeValidator(off_as_none)] = Field(
        default=None,
        description="What `canary check` and `canary run` ask of the revision that serves; off for nothing.",
    )
    notices: Annotated[
        tuple[Receiver, ...], BeforeValidator(receivers_of), AfterValidator(check_each_told_once)
    ] = Field(
        default=(),
        title="list of addresses or mappings",
        description="Who is told when a rollout starts, takes a step, is held or ends.",
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
        if "auto" in fields and not isinstance(fields["auto"], AutoSteps):
            raise PolicyInvalid([Mistake(("auto",), "unknown field 'auto'; write steps: auto")])
        if is_auto(fields.get("steps")):
            fields["auto"] = fields.pop("steps")
        steps = fields.get("steps", cls.model_fields["steps"].default)
        if isinstance(steps, list | tuple):
            written = _written_hold(fields.get("hold", {}))
            fields["steps"] = [_with_hold(step, written) for step in steps]
        if has_fields(fields.get("bake"), "at_least"):
            fields["bake"] = {"at_least": BAKE.at_least} | fields_of(fields["bake"], "at_least")
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        mistakes = [*_rise_mistakes(self.steps), *_gate_mistakes(self.steps), *_limit_mistakes(self)]
        mistakes += _probe_mistakes(self)
        if self.guards.capacity and not self.request_logs:
            message = "what is refused stands in the request log alone; write request_logs: on"
            mistakes.append(Mistake(("guards", "capacity"), message))
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


def _probe_mistakes(policy: "Policy") -> Iterator[Mistake]:
    """Yield the probes that are not asked even once in each step."""
    holds = [*(step.hold for step in policy.steps), policy.bake]
    shortest = min(hold.at_most for hold in holds)
    for index, probe in enumerate(policy.probes):
        if probe.every >= shortest:
            message = (
                f"a step may last {duration_text(shortest)} at most, so with {duration_text(probe.every)} it"
                " may end before this is asked; ask more often"
            )
            yield Mistake(("probes", index, "every"), message)


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
    plain: dict[str, Any] = _with_off(policy.model_dump(mode="json"))
    short = {"hold": plain["hold"], "gate": "off"}
    steps = [
        step["traffic"] if step == {"traffic": step["traffic"], **short} else step for step in plain["steps"]
    ]
    return plain | {"steps": policy.auto.model_dump(mode="json") if policy.auto else steps}


def _with_off(plain: Any) -> Any:
    """Write `off` where nothing stands: a file may leave no field without a value."""
    if isinstance(plain, dict):
        return {name: _with_off(each) for name, each in plain.items()}
    if isinstance(plain, list):
        return [_with_off(each) for each in plain]
    return "off" if plain is None else plain


def policy_digest(policy: Policy) -> str:
    """Return twelve hexadecimal digits that are the same for equal policies and differ for others."""
    text = json.dumps(policy_as_plain(policy), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
