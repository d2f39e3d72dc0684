"""What can be made to go wrong: one description for the command, for HTTP and for tests."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

import grpc
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from controller.emulator.faults.values import Code, Duration, Jump, shown
from controller.emulator.monitoring.catalog import METRICS

Text = Annotated[str, Field(max_length=2000)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Percent = Annotated[int, Field(ge=0, le=100)]
STARTING: Final = frozenset(("CreateService", "UpdateService", "DeleteService", "DeleteRevision"))
"""The methods that start an operation."""


def is_called(metric_type: str, pattern: str) -> bool:
    """Return whether a pattern means a metric type, by its full name or by what follows the service's."""
    return fnmatchcase(metric_type, pattern) or fnmatchcase(metric_type.partition("/")[2], pattern)


def _known_metric(pattern: str) -> str:
    if not any(is_called(metric_type, pattern) for metric_type in METRICS):
        short = ", ".join(metric_type.partition("/")[2] for metric_type in METRICS)
        raise ValueError(f"no metric is called {shown(pattern)}; there are {short}")
    return pattern


class FaultInvalid(ValueError):
    """A description of a fault with at least one mistake; `lines` has each with what to write."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


class _Fault(BaseModel):
    """What every fault has."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True)

    lasts: Duration | None = Field(None, alias="for")
    """On the emulated clock, from when it was added; by default until it is cleared."""


class CallFault(_Fault):
    """A fault of calls: whose, of which method, and which of them."""

    method: Pattern = "*"
    """The short name, such as UpdateService, or the full one; * and ? stand for anything."""
    principal: Pattern = "*"
    """Who calls; * and ? stand for anything."""
    next: Count | None = None
    """Only so many calls, from the first."""
    every: Count = 1
    """Only each n-th call, beginning with the n-th."""

    def applies_to(self, method: str) -> bool:
        """Return whether a method, by its full name, is one that the fault may strike."""
        names = (method, method.removeprefix("/"), method.rpartition("/")[2])
        return any(fnmatchcase(name, self.method) for name in names)


class ErrorFault(CallFault):
    """The call is refused, and nothing is carried out."""

    kind: Literal["error"]
    code: Code = grpc.StatusCode.UNAVAILABLE
    message: Text = ""
    """By default what Google says with the code."""


class DelayFault(CallFault):
    """The call is held up before it is carried out."""

    kind: Literal["delay"]
    by: Duration
    """Emulated time, unless `real`. A clock that is moved by hand is moved by it."""
    real: bool = False


class LostAnswer(CallFault):
    """The call is carried out, and its caller hears DEADLINE_EXCEEDED."""

    kind: Literal["lost-answer"]
    hang: bool = False
    """Hears nothing until the caller's own deadline."""


class Partition(CallFault):
    """The call does not get through: UNAVAILABLE."""

    kind: Literal["partition"]
    hang: bool = False
    """Hears nothing until the caller's own deadline."""


class SlowOperation(CallFault):
    """The operation that the call starts takes longer."""

    kind: Literal["slow-operation"]
    by: Duration

    def applies_to(self, method: str) -> bool:
        """Return whether the method starts an operation."""
        return method.rpartition("/")[2] in STARTING and super().applies_to(method)


class ClockJump(CallFault):
    """The clock jumps just before the call."""

    kind: Literal["clock-jump"]
    by: Jump


class ForeignWrite(CallFault):
    """Somebody else writes to the service, just before or just after the call."""

    kind: Literal["foreign-write"]
    service: Text = ""
    """Short name; by default the service that the call is about."""
    when: Literal["before", "after"] = "before"
    writer: Pattern = "somebody-else@example.com"
    traffic: Annotated[Mapping[Text, Percent], Field(max_length=100)] = {}
    """Percent by revision (short name); LATEST stands for the latest."""
    annotations: Annotated[Mapping[Text, Text], Field(max_length=100)] = {}
    """Put beside those that the service has."""

    @model_validator(mode="after")
    def _writes_something(self) -> "ForeignWrite":
        if not self.traffic and not self.annotations:
            raise ValueError("it writes nothing; give traffic, annotations or both")
        return self

    def applies_to(self, method: str) -> bool:
        """Return whether the method is about a service."""
        return method.startswith("/google.cloud.run.v2.") and super().applies_to(method)


class _OfMetrics(_Fault):
    """What is said of metrics."""

    metric: Annotated[Pattern, AfterValidator(_known_metric)] = "*"
    """Such as request_count, or the full type; * and ? stand for anything."""

    def concerns(self, metric_type: str) -> bool:
        """Return whether a metric type is meant."""
        return is_called(metric_type, self.metric)


class MissingMetrics(_OfMetrics):
    """Points of metrics are not there, as if nobody had measured."""

    kind: Literal["missing-metrics"]
    revision: Pattern = "*"


class LateMetrics(_OfMetrics):
    """Points of metrics can be read later than usual."""

    kind: Literal["late-metrics"]
    by: Duration


class IncompleteMetrics(_Fault):
    """Answers of ListTimeSeries carry an execution error: they may be incomplete."""

    kind: Literal["incomplete-metrics"]
    message: Text = "Some of the time series could not be read."


MetricFault = MissingMetrics | LateMetrics | IncompleteMetrics
AnyCallFault = ErrorFault | DelayFault | LostAnswer | Partition | SlowOperation | ClockJump | ForeignWrite
Fault = AnyCallFault | MetricFault
KINDS: Final[Mapping[str, type[_Fault]]] = {
    "error": ErrorFault,
    "delay": DelayFault,
    "lost-answer": LostAnswer,
    "partition": Partition,
    "slow-operation": SlowOperation,
    "clock-jump": ClockJump,
    "foreign-write": ForeignWrite,
    "missing-metrics": MissingMetrics,
    "late-metrics": LateMetrics,
    "incomplete-metrics": IncompleteMetrics,
}
_ADAPTER: Final[TypeAdapter[Fault]] = TypeAdapter(Annotated[Fault, Field(discriminator="kind")])


def parse_fault(description: Any, methods: Collection[str]) -> Fault:
    """Read a fault of one of these methods (full names); raises FaultInvalid with every mistake."""
    if not isinstance(description, Mapping):
        raise FaultInvalid(["a fault is described by fields; write at least its kind"])
    kind = description.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        given = "the field kind is missing" if kind is None else f"kind: {shown(kind)} is not known"
        raise FaultInvalid([f"{given}; write one of {', '.join(KINDS)}"])
    try:
        fault = _ADAPTER.validate_python(dict(description))
    except ValidationError as error:
        raise FaultInvalid([_line(KINDS[kind], one) for one in error.errors(include_url=False)]) from None
    if isinstance(fault, CallFault) and not any(fault.applies_to(method) for method in methods):
        raise FaultInvalid([_no_such_method(fault, methods)])
    return fault


def plain(fault: Fault) -> dict[str, Any]:
    """Return the description that reads as this fault, without what is left at its default."""
    return {"kind": fault.kind, **fault.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def _line(kind: type[_Fault], error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"][1:])
    match error["type"]:
        case "extra_forbidden":
            known = ", ".join(field.alias or name for name, field in kind.model_fields.items())
            return f"{path}: there is no such field here; there are {known}"
        case "missing":
            return f"{path}: is missing; add it"
        case _:
            text = str(error["msg"]).removeprefix("Value error, ")
            return f"{path}: {text}" if path else text


def _no_such_method(fault: CallFault, methods: Collection[str]) -> str:
    of_any_method = fault.model_copy(update={"method": "*"})
    short = sorted({method.rpartition("/")[2] for method in methods if of_any_method.applies_to(method)})
    is_misspelt = all(method.rpartition("/")[2] != fault.method for method in methods)
    near = get_close_matches(fault.method, short, 1) if is_misspelt else []
    instead = f"did you mean {near[0]}?" if near else f"there are {', '.join(short)}"
    return f"method: no method that a fault of this kind can strike is called '{fault.method}'; {instead}"
