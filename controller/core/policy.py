"""What a rollout policy says: the model, and plain values turned into it or into every mistake at once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from controller.core.mistakes import Mistake, Path, PolicyInvalid, read_mistakes
from controller.core.policy_fields import (
    GUARD_NAME_PATTERN,
    MINUTE,
    MOST_CUSTOM_GUARDS,
    REVISION_LABEL,
    AdvanceOn,
    AfterPromotion,
    Ceiling,
    Ceilings,
    Codes,
    Count,
    Duration,
    Factor,
    FalseRollback,
    Filter,
    Measures,
    Minutes,
    OnNewRevision,
    Paths,
    Percent,
    PositiveDuration,
    Promotion,
    RevisionLabel,
    Share,
    Switch,
    Version,
    WhenUnsure,
    choice,
    is_off,
    is_on,
    parse_custom_guards,
    parse_minutes,
)
from controller.core.units import LONGEST_DURATION, UnitInvalid, duration_text, parse_share, shown

__all__ = [
    "AdvanceOn",
    "AfterPromotion",
    "Confidence",
    "CustomGuard",
    "ErrorGuard",
    "Guards",
    "Hold",
    "LatencyGuard",
    "Mistake",
    "OnNewRevision",
    "Policy",
    "PolicyInvalid",
    "Step",
    "Tolerance",
    "WhenUnsure",
    "evidence_time",
    "parse_policy",
    "policy_as_plain",
    "policy_digest",
    "smallest_limit",
]

Fields = dict[Any, Any]

_SHORTEST_LIMIT: Final = timedelta(minutes=30)
_LIMIT_FACTOR: Final = 4
_LONGEST_FILTERS: Final = 32 * 1024
"""Of all filters together, as JSON: they are part of the record, whose length is limited."""


class _Part(BaseModel):
    """What all parts of a policy have in common: they never change, and hold nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return value if isinstance(value, cls) else cls._read(value)

    @classmethod
    def _read(cls, value: object) -> Fields:
        """Return the fields that a value stands for: short forms spelled out, what is implied filled in."""
        return _fields(value)


def _has_fields(value: object, short: str | None = None) -> bool:
    return isinstance(value, Mapping) or (bool(short) and isinstance(value, str | int | float | timedelta))


def _fields(value: object, short: str | None = None, kind: str = "a mapping") -> Fields:
    """Take a mapping as it is, and a scalar as the field that the short form stands for."""
    if isinstance(value, Mapping):
        return dict(value)
    if not _has_fields(value, short):
        raise UnitInvalid(f"expected {kind}, not {shown(value)}")
    return {short: value}


class Hold(_Part):
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
        fields = _fields(value, "at_least", "a duration such as 10m or a mapping such as {at_least: 10m}")
        if "at_most" in fields or "at_least" not in fields:
            return fields
        try:
            limit = _LIMIT_FACTOR * parse_minutes(fields["at_least"])
        except UnitInvalid:
            return fields
        return fields | {"at_most": min(max(_SHORTEST_LIMIT, limit), LONGEST_DURATION)}


class Step(_Part):
    """One share of traffic for the candidate; written short as `5%`."""

    traffic: Percent = Field(description="Share of the traffic that the candidate gets, in whole percents.")
    hold: Hold = Field(
        default=Hold(),
        description="How long the step lasts; what is left out comes from the policy's `hold`.",
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return _fields(value, "traffic", "a share such as 5% or a mapping such as {traffic: 5%}")


class Tolerance(_Part):
    """How much worse than stable the candidate may be; written short as `1.25`, which is `factor`."""

    factor: Factor = Field(description="The candidate may have this many times what stable has.")
    points: Share = Field(default=0.0, description="And this much more on top, as a share of the requests.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        return _fields(value, "factor", "a factor or a mapping such as {factor: 1.25}")


_SHARE_TOLERANCE: Final = Tolerance(factor=1.25, points=0.002)
_DISTRIBUTION_TOLERANCE: Final = Tolerance(factor=1.21)


def _with_tolerance(fields: Fields, default: Tolerance) -> Fields:
    """Complete a guard's tolerance from the guard's own default; what is mistaken stays as it is."""
    tolerance = fields.get("tolerance", {})
    if not _has_fields(tolerance, "factor"):
        return fields
    return fields | {"tolerance": dict(default) | _fields(tolerance, "factor")}


class ErrorGuard(_Part):
    """Compares the share of failed responses; written short as `5%`, which is `ceiling`."""

    tolerance: Tolerance = Field(
        default=_SHARE_TOLERANCE,
        description="How many more errors than stable the candidate may have.",
    )
    ceiling: Ceiling = Field(
        default=0.05,
        description="Share of errors that the candidate may not exceed, whatever stable does; off for none.",
    )
    codes: Codes = Field(
        default=("5xx",), description="Response codes that count as errors, such as `5xx`, `4xx` or `503`."
    )
    observe: Switch = Field(default=False, description="Whether the guard only reports and never decides.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        fields = {} if is_on(value) else _fields(value, "ceiling", "a share, a mapping or off")
        return _with_tolerance(fields, _SHARE_TOLERANCE)


def _check_no_points(tolerance: Tolerance) -> Tolerance:
    if tolerance.points:
        message = "latency is compared by a factor alone; take points away"
        raise PolicyInvalid([Mistake(("points",), message)])
    return tolerance


class LatencyGuard(_Part):
    """Compares the whole distribution of latencies; written short as `800ms`, which is the ceiling of p95."""

    tolerance: Annotated[Tolerance, AfterValidator(_check_no_points)] = Field(
        default=_DISTRIBUTION_TOLERANCE,
        description=(
            "How much slower than stable the candidate may be, anywhere in the distribution; "
            "`factor` alone, without `points`."
        ),
    )
    ceilings: Ceilings = Field(
        default={},
        description="Latencies that the candidate's percentiles may never exceed, whatever stable does.",
    )
    observe: Switch = Field(default=False, description="Whether the guard only reports and never decides.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        if is_on(value):
            fields: Fields = {}
        elif isinstance(value, str | int | float):
            fields = {"ceilings": {"p95": value}}
        else:
            fields = _fields(value, None, "a duration, a mapping or off")
        return _with_tolerance(fields, _DISTRIBUTION_TOLERANCE)


class CustomGuard(_Part):
    """Compares a metric of Cloud Monitoring: a share, `bad` of `total`, or a `distribution`."""

    bad: Filter = Field(default="", description="Filter of what is bad, as a part of `total`.")
    total: Filter = Field(default="", description="Filter of all that could be bad, such as all requests.")
    distribution: Filter = Field(
        default="", description="Filter of a distribution, instead of `bad` and `total`."
    )
    tolerance: Tolerance = Field(
        default=_SHARE_TOLERANCE,
        description=(
            "How much more than stable the candidate may have. Left out, it is "
            "`{factor: 1.25, points: 0.2%}` for `bad` of `total`, and `1.21` for a distribution, "
            "which takes no `points`."
        ),
    )
    ceiling: Ceiling = Field(
        default=None,
        description="Share of `bad` that the candidate may not exceed, whatever stable does; off for none.",
    )
    ceilings: Measures = Field(
        default={},
        description=(
            "What the percentiles of the candidate's distribution may never exceed, whatever stable does, "
            "in the metric's own unit."
        ),
    )
    revision_label: RevisionLabel = Field(
        default=REVISION_LABEL, description="Label of the metric that holds the name of the revision."
    )
    observe: Switch = Field(default=False, description="Whether the guard only reports and never decides.")

    @property
    def is_ratio(self) -> bool:
        """Whether it is about `bad` of `total`, or else about a distribution."""
        return not self.distribution

    @classmethod
    def _read(cls, value: object) -> Fields:
        fields = _fields(value, None, "a mapping such as {bad: ..., total: ...} or {distribution: ...}")
        is_ratio = not _is_written(fields.get("distribution", ""))
        return _with_tolerance(fields, _SHARE_TOLERANCE if is_ratio else _DISTRIBUTION_TOLERANCE)

    @model_validator(mode="wrap")
    @classmethod
    def _check_kind(cls, value: object, build: ModelWrapValidatorHandler[Self]) -> Self:
        """Find what is wrong with the fields together, even where one is wrong by itself."""
        together = list(_kind_mistakes(value)) if isinstance(value, Mapping) else []
        try:
            guard = build(value)
        except ValidationError as error:
            raise PolicyInvalid([*read_mistakes(cls, error), *together]) from None
        if together:
            raise PolicyInvalid(together)
        return guard


def _is_written(text: object) -> bool:
    return not isinstance(text, str) or bool(text.strip())


def _kind_mistakes(fields: Mapping[Any, object]) -> Iterator[Mistake]:
    """Yield what does not go together in a custom guard."""
    match [name for name in ("bad", "total", "distribution") if _is_written(fields.get(name, ""))]:
        case []:
            yield Mistake((), "there is no metric in it; write bad and total, or a distribution")
        case ["bad"]:
            yield Mistake(("total",), "total is missing; write the filter of all that could be bad")
        case ["total"]:
            yield Mistake(("bad",), "bad is missing; write the filter of the part of total that is bad")
        case ["bad", "total"]:
            yield from _ratio_mistakes(fields)
        case ["distribution"]:
            yield from _distribution_mistakes(fields)
        case _:
            message = "a guard is about bad and total or about a distribution; make two guards of it"
            yield Mistake(("distribution",), message)


def _ratio_mistakes(fields: Mapping[Any, object]) -> Iterator[Mistake]:
    if fields.get("ceilings"):
        message = "ceilings are for a distribution; for bad and total, write one such as ceiling: 2%"
        yield Mistake(("ceilings",), message)


def _distribution_mistakes(fields: Mapping[Any, object]) -> Iterator[Mistake]:
    if not is_off(fields.get("ceiling")):
        message = "a ceiling is for bad and total; for a distribution, write ceilings such as {p95: 800}"
        yield Mistake(("ceiling",), message)
    if _has_points(fields.get("tolerance")):
        message = "a distribution is compared by a factor alone; take points away"
        yield Mistake(("tolerance", "points"), message)


def _has_points(tolerance: object) -> bool:
    if isinstance(tolerance, Tolerance):
        return bool(tolerance.points)
    try:
        return isinstance(tolerance, Mapping) and bool(parse_share(tolerance.get("points", 0.0)))
    except UnitInvalid:
        return False


def _parse_custom_guard(value: object) -> CustomGuard:
    if is_off(value):
        raise UnitInvalid("a custom guard is off when it is not there; take it away, or write observe: true")
    try:
        return CustomGuard.model_validate(value)
    except ValidationError as error:
        raise PolicyInvalid(read_mistakes(CustomGuard, error)) from None


def _check_filters(guards: Mapping[str, CustomGuard]) -> Mapping[str, CustomGuard]:
    filters = [text for guard in guards.values() for text in (guard.bad, guard.total, guard.distribution)]
    length = len(json.dumps(filters))
    if length > _LONGEST_FILTERS:
        raise UnitInvalid(
            f"the filters are too long to go into the record of a rollout: {length} characters together, "
            f"of {_LONGEST_FILTERS} at most; shorten them"
        )
    return guards


def _off_as_none(value: object) -> object:
    return None if is_off(value) else value


class Guards(_Part):
    """What the candidate is compared on; a guard that is left out is on with its defaults."""

    errors: Annotated[ErrorGuard | None, BeforeValidator(_off_as_none)] = Field(
        default=ErrorGuard(),
        description="The share of failed responses; off to leave it unlooked at.",
    )
    latency: Annotated[LatencyGuard | None, BeforeValidator(_off_as_none)] = Field(
        default=LatencyGuard(),
        description="The distribution of latencies; off to leave it unlooked at.",
    )
    custom: Annotated[
        Mapping[str, CustomGuard],
        BeforeValidator(partial(parse_custom_guards, _parse_custom_guard)),
        AfterValidator(_check_filters),
    ] = Field(
        default={},
        title="mapping of names to guards",
        description=f"Guards on any metric of Cloud Monitoring, by name; at most {MOST_CUSTOM_GUARDS}.",
        json_schema_extra={
            "maxProperties": MOST_CUSTOM_GUARDS,
            "propertyNames": {"pattern": GUARD_NAME_PATTERN},
        },
    )

    @classmethod
    def _read(cls, value: object) -> Fields:
        return _fields(value, None, "a mapping of errors, latency and custom")

    @model_validator(mode="after")
    def _check_decisive(self) -> Self:
        guards = (self.errors, self.latency, *self.custom.values())
        if all(guard is None or guard.observe for guard in guards):
            raise UnitInvalid(
                "no guard decides, so nothing could roll back; leave errors or latency on, "
                "or let a custom guard decide"
            )
        return self


class Confidence(_Part):
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
        return _fields(value, None, "a mapping such as {false_rollback: 1%}")


_BAKE: Final = Hold(at_least=timedelta(minutes=15), at_most=timedelta(minutes=60))


def _parse_steps(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise UnitInvalid(f"expected a list such as [5%, 25%, 50%], not {shown(value)}")
    if not value:
        raise UnitInvalid("there must be at least one step; write [100%] to move everything at once")
    return value


class Policy(_Part):
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
        fields = _fields(value, None, "a mapping of fields such as steps and guards")
        steps = fields.get("steps", cls.model_fields["steps"].default)
        if isinstance(steps, list | tuple):
            written = _written_hold(fields.get("hold", {}))
            fields["steps"] = [_with_hold(step, written) for step in steps]
        if _has_fields(fields.get("bake"), "at_least"):
            fields["bake"] = {"at_least": _BAKE.at_least} | _fields(fields["bake"], "at_least")
        return fields

    @model_validator(mode="after")
    def _check(self) -> Self:
        mistakes = [*_rise_mistakes(self.steps), *_limit_mistakes(self)]
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
    return _fields(value, "at_least")


def _with_hold(step: object, written: Fields) -> object:
    """Complete a step's hold from what the policy's `hold` says; what is mistaken stays as it is."""
    if isinstance(step, Step):
        if "hold" in step.model_fields_set:
            return step
        return {"traffic": step.traffic, "hold": written}
    if not _has_fields(step, "traffic"):
        return step
    fields = _fields(step, "traffic")
    hold = fields.get("hold", {})
    if not _has_fields(hold, "at_least"):
        return fields
    return fields | {"hold": written | _fields(hold, "at_least")}


def _rise_mistakes(steps: tuple[Step, ...]) -> Iterator[Mistake]:
    for index, (before, after) in enumerate(pairwise(steps), start=1):
        if after.traffic <= before.traffic:
            message = (
                f"steps must rise: {after.traffic}% follows {before.traffic}%; order them from small to large"
            )
            yield Mistake(("steps", index, "traffic"), message)


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
    step whose hold is the policy's is written short.
    """
    plain = policy.model_dump(mode="json")
    steps = [step["traffic"] if step["hold"] == plain["hold"] else step for step in plain["steps"]]
    return plain | {"steps": steps}


def policy_digest(policy: Policy) -> str:
    """Return twelve hexadecimal digits that are the same for equal policies and differ for others."""
    text = json.dumps(policy_as_plain(policy), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
