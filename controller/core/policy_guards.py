"""The guards of a policy: what the candidate is compared on, and how much worse than stable it may be."""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from controller.core.metric_filters import REVISION_LABEL
from controller.core.mistakes import Mistake, PolicyInvalid, read_mistakes
from controller.core.policy_fields import (
    GUARD_NAME_PATTERN,
    MOST_CUSTOM_GUARDS,
    Ceiling,
    Ceilings,
    Codes,
    Factor,
    Filter,
    Measures,
    RevisionLabel,
    Share,
    Switch,
    is_off,
    is_on,
    off_as_none,
    parse_custom_guards,
)
from controller.core.policy_parts import Fields, Part, fields_of, has_fields
from controller.core.units import UnitInvalid, parse_share

_LONGEST_FILTERS: Final = 32 * 1024
"""Of all filters together, as JSON: they are part of the record, whose length is limited."""


class Tolerance(Part):
    """How much worse than stable the candidate may be; written short as `1.25`, which is `factor`."""

    factor: Factor = Field(description="The candidate may have this many times what stable has.")
    points: Share = Field(default=0.0, description="And this much more on top, as a share of the requests.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, "factor", "a factor or a mapping such as {factor: 1.25}")


_SHARE_TOLERANCE: Final = Tolerance(factor=1.25, points=0.002)
_DISTRIBUTION_TOLERANCE: Final = Tolerance(factor=1.21)


def _with_tolerance(fields: Fields, default: Tolerance) -> Fields:
    """Complete a guard's tolerance from the guard's own default; what is mistaken stays as it is."""
    tolerance = fields.get("tolerance", {})
    if not has_fields(tolerance, "factor"):
        return fields
    return fields | {"tolerance": dict(default) | fields_of(tolerance, "factor")}


class ErrorGuard(Part):
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
        fields = {} if is_on(value) else fields_of(value, "ceiling", "a share, a mapping or off")
        return _with_tolerance(fields, _SHARE_TOLERANCE)


def _check_no_points(tolerance: Tolerance) -> Tolerance:
    if tolerance.points:
        message = "latency is compared by a factor alone; take points away"
        raise PolicyInvalid([Mistake(("points",), message)])
    return tolerance


class LatencyGuard(Part):
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
            fields = fields_of(value, None, "a duration, a mapping or off")
        return _with_tolerance(fields, _DISTRIBUTION_TOLERANCE)


class CustomGuard(Part):
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
        fields = fields_of(value, None, "a mapping such as {bad: ..., total: ...} or {distribution: ...}")
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


class StartupGuard(LatencyGuard):
    """Compares how long instances take to start; written short as `20s`, which is the ceiling of p95."""


class CapacityGuard(Part):
    """Compares what the platform refuses for want of an instance; written short as `5%`, its ceiling."""

    tolerance: Tolerance = Field(
        default=_SHARE_TOLERANCE,
        description="How many more refusals than stable the candidate may have.",
    )
    ceiling: Ceiling = Field(
        default=0.05,
        description="Share of refusals that the candidate may not exceed; off for none.",
    )
    observe: Switch = Field(default=False, description="Whether the guard only reports and never decides.")

    @classmethod
    def _read(cls, value: object) -> Fields:
        fields = {} if is_on(value) else fields_of(value, "ceiling", "a share, a mapping, on or off")
        return _with_tolerance(fields, _SHARE_TOLERANCE)


AnyGuard = ErrorGuard | LatencyGuard | CapacityGuard | CustomGuard


class Guards(Part):
    """What the candidate is compared on; a guard that is left out is on with its defaults."""

    errors: Annotated[ErrorGuard | None, BeforeValidator(off_as_none)] = Field(
        default=ErrorGuard(),
        description="The share of failed responses; off to leave it unlooked at.",
    )
    latency: Annotated[LatencyGuard | None, BeforeValidator(off_as_none)] = Field(
        default=LatencyGuard(),
        description="The distribution of latencies; off to leave it unlooked at.",
    )
    startup: Annotated[StartupGuard | None, BeforeValidator(off_as_none)] = Field(
        default=None,
        description="How long instances take to start; off to leave it unlooked at.",
    )
    capacity: Annotated[CapacityGuard | None, BeforeValidator(off_as_none)] = Field(
        default=None,
        description=(
            "What the platform refuses for want of an instance, and whether the candidate takes its share of "
            "the users; needs `request_logs`. Off to leave it unlooked at."
        ),
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

    @property
    def named(self) -> dict[str, AnyGuard]:
        """The guards that are on, by their names; no custom guard is called errors or latency."""
        own = {
            "errors": self.errors,
            "latency": self.latency,
            "startup": self.startup,
            "capacity": self.capacity,
        }
        return {name: guard for name, guard in own.items() if guard} | dict(self.custom)

    @classmethod
    def _read(cls, value: object) -> Fields:
        return fields_of(value, None, "a mapping of errors, latency and custom")

    @model_validator(mode="after")
    def _check_decisive(self) -> Self:
        if all(guard.observe for guard in self.named.values()):
            raise UnitInvalid(
                "no guard decides, so nothing could roll back; leave errors or latency on, "
                "or let a custom guard decide"
            )
        return self
