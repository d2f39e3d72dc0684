"""What the fields of a policy hold: how each kind of value is read, written, and described to an editor."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from controller.core import units
from controller.core.metric_filters import (
    FILTER_PATTERN,
    LONGEST_FILTER,
    REVISION_LABEL_PATTERN,
    parse_filter,
    parse_revision_label,
)
from controller.core.mistakes import Mistake, PolicyInvalid
from controller.core.units import UnitInvalid, duration_text, share_text, shown

T = TypeVar("T")

MINUTE: Final = timedelta(minutes=1)
PERCENTILES: Final = ("p50", "p90", "p95", "p99")

_ERRORS: Final = "45"
"""The first digits of the codes that can be errors."""
PATH_PATTERN: Final = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}$"
_PATH_FORM: Final = {"type": "string", "pattern": PATH_PATTERN}
MOST_PATHS: Final = 10
_EVEN_CHANCE: Final = 0.5
GUARD_NAME_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,30}$"
MOST_CUSTOM_GUARDS: Final = 8
_OWN_GUARDS: Final = ("errors", "latency", "startup", "capacity", "room", "probes", "split")
_LARGEST_MEASURE: Final = 1e18


@dataclass(frozen=True)
class Gate:
    """A person's consent that a step waits for; after `opens_after`, if it is given, evidence will do."""

    opens_after: timedelta | None = None


MANUAL: Final = "manual"


def _check_positive(duration: timedelta) -> timedelta:
    if not duration:
        raise UnitInvalid("must be longer than 0s")
    return duration


def _check_minutes(duration: timedelta) -> timedelta:
    minutes = max(-(-duration // MINUTE), 1) * MINUTE
    if duration != minutes:
        written, instead = duration_text(duration), duration_text(minutes)
        raise UnitInvalid(f"evidence comes in whole minutes; write {instead} instead of {written}")
    return duration


def parse_minutes(value: object) -> timedelta:
    """Read a duration of one or more whole minutes."""
    return _check_minutes(units.parse_duration(value))


def _check_false_rollback(share: float) -> float:
    if not 0 < share < _EVEN_CHANCE:
        raise UnitInvalid(f"{share_text(share)} is not above 0% and below 50%; 1% is usual")
    return share


def _check_promotion(share: float) -> float:
    if not _EVEN_CHANCE <= share < 1:
        raise UnitInvalid(f"{share_text(share)} is not from 50% up to below 100%; 95% is usual")
    return share


def is_off(value: object) -> bool:
    """Say whether a value turns something off: false, off or nothing."""
    return value is None or value is False or value == "off"


def off_as_none(value: object) -> object:
    """Read what turns a part off as None, and leave the rest as it is."""
    return None if is_off(value) else value


def is_on(value: object) -> bool:
    """Say whether a value turns something on as it is: true or on."""
    return value is True or value == "on"


def _parse_ceiling(value: object) -> float | None:
    if is_off(value):
        return None
    share = units.parse_share(value)
    if not share:
        raise UnitInvalid("a ceiling of 0% would blame the first error; write off for no ceiling")
    if share >= 1:
        raise UnitInvalid("a ceiling of 100% cannot be broken; write off for no ceiling")
    return share


def _parse_version(value: object) -> int:
    if type(value) is int and value == 1:
        return value
    raise UnitInvalid(f"this controller reads policies of version 1, not {shown(value)}; write version: 1")


def _parse_codes(classes: str, value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list | tuple) else (value,)
    if not entries:
        off = "; to count no errors, write errors: off" if classes == _ERRORS else ""
        raise UnitInvalid(f"there must be at least one code{off}")
    texts = [shown(entry) if type(entry) is int else entry for entry in entries]
    known = ", ".join(f"{digit}xx" for digit in reversed(classes))
    _raise_any(
        Mistake(
            (index,) if entries is value else (),
            f"expected {known} or one code such as {classes[-1]}03, not {shown(text)}",
        )
        for index, text in enumerate(texts)
        if not (isinstance(text, str) and re.fullmatch(_code_pattern(classes), text))
    )
    return tuple(dict.fromkeys(texts))


def _code_pattern(classes: str) -> str:
    return rf"^[{classes}](xx|[0-9]{{2}})$"


def _parse_paths(value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list | tuple) else (value,)
    if len(entries) > MOST_PATHS:
        raise UnitInvalid(f"at most {MOST_PATHS} paths, not {len(entries)}; ask what matters most")
    _raise_any(
        Mistake((index,) if entries is value else (), f"expected a path such as /health, not {shown(entry)}")
        for index, entry in enumerate(entries)
        if not (isinstance(entry, str) and re.fullmatch(PATH_PATTERN, entry))
    )
    return tuple(dict.fromkeys(entries))


def _parse_ceilings(parse: Callable[[object], T], example: str, value: object) -> dict[str, T]:
    ceilings = _parse_each(parse, _percentile_complaint, f"{{p95: {example}}}", value)
    return {name: ceilings[name] for name in PERCENTILES if name in ceilings}


def _percentile_complaint(name: object) -> str:
    if name in PERCENTILES:
        return ""
    return f"unknown percentile {shown(name)}; known are {', '.join(PERCENTILES)}"


def _parse_positive(value: object) -> timedelta:
    return _check_positive(units.parse_duration(value))


def _parse_gate(value: object) -> Gate | None:
    if is_off(value):
        return None
    if value == MANUAL or isinstance(value, Gate):
        return value if isinstance(value, Gate) else Gate()
    try:
        return Gate(_parse_positive(value))
    except UnitInvalid:
        raise UnitInvalid(
            f"expected manual, a duration such as 2h after which it opens by itself, or off,"
            f" not {shown(value)}"
        ) from None


def _write_gate(gate: Gate | None) -> str | None:
    if gate is None:
        return None
    return MANUAL if gate.opens_after is None else duration_text(gate.opens_after)


def _parse_measure(value: object) -> float:
    """Read a plain number above 0, in whatever unit a metric has."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnitInvalid(
            f"expected a plain number such as 800, in the metric's own unit, not {shown(value)}"
        )
    if not 0 < value <= _LARGEST_MEASURE:  # NaN fails this, too
        raise UnitInvalid(f"{shown(value)} is not a number above 0 and up to {_LARGEST_MEASURE:g}")
    return float(value)


def parse_custom_guards(parse: Callable[[object], T], value: object) -> dict[str, T]:
    """Read a mapping of names to guards, each guard by `parse`."""
    if isinstance(value, Mapping) and len(value) > MOST_CUSTOM_GUARDS:
        message = f"at most {MOST_CUSTOM_GUARDS} custom guards, not {len(value)}; keep what matters most"
        raise UnitInvalid(message)
    return _parse_each(parse, _guard_name_complaint, "{payments: {bad: ..., total: ...}}", value)


def _guard_name_complaint(name: object) -> str:
    if name in _OWN_GUARDS:
        return f"{shown(name)} is the name of a guard of its own; choose another"
    if isinstance(name, str) and re.fullmatch(GUARD_NAME_PATTERN, name):
        return ""
    return (
        f"{shown(name)} is no name for a guard; write one such as payments: a small letter, "
        "then up to 30 small letters, digits, - and _"
    )


def _parse_each(
    parse: Callable[[object], T], complaint_about: Callable[[object], str], example: str, value: object
) -> dict[str, T]:
    """Read the values of a mapping, and collect what is wrong with them and with their names."""
    if not isinstance(value, Mapping):
        raise UnitInvalid(f"expected a mapping such as {example}, not {shown(value)}")
    read: dict[str, T] = {}
    mistakes: list[Mistake] = []
    for name, each in value.items():
        place = name if isinstance(name, str | int) else shown(name)
        if complaint := complaint_about(name):
            mistakes.append(Mistake((place,), complaint))
        try:
            read[str(place)] = parse(each)
        except UnitInvalid as cause:
            mistakes.append(Mistake((place,), str(cause)))
        except PolicyInvalid as invalid:
            mistakes += [Mistake((place, *below.path), below.message) for below in invalid.mistakes]
    _raise_any(mistakes)
    return read


def _raise_any(mistakes: Iterable[Mistake]) -> None:
    if found := tuple(mistakes):
        raise PolicyInvalid(found)


def _write_ceiling(share: float | None) -> str | None:
    return None if share is None else share_text(share)


def _write_ceilings(ceilings: Mapping[str, timedelta]) -> dict[str, str]:
    return {name: duration_text(limit) for name, limit in ceilings.items()}


def _write_percent(percent: int) -> str:
    return f"{percent}%"


def _schema(title: str, **schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"title": title, **schema})


def response_codes(classes: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return how a list of response codes that begin with one of these digits is read and described."""
    forms = [
        {"type": "string", "pattern": _code_pattern(classes)},
        {"type": "integer", "minimum": int(f"{classes[0]}00"), "maximum": int(f"{classes[-1]}99")},
    ]
    schema = _schema(
        "list of response codes",
        anyOf=[{"type": "array", "minItems": 1, "items": {"anyOf": forms}}, *forms],
    )
    return BeforeValidator(partial(_parse_codes, classes)), schema


_DURATION_TEXT: Final = {"type": "string", "pattern": units.DURATION_PATTERN}
_SHARE_FORMS: Final = [
    {"type": "string", "pattern": units.SHARE_PATTERN},
    {"type": "number", "minimum": 0, "maximum": 1},
]
_MEASURE_FORM: Final = {"type": "number", "exclusiveMinimum": 0}
OFF_FORMS: Final = {"enum": [False, None, "off"]}
ON_FORMS: Final = {"enum": [True, "on"]}

Duration = Annotated[
    timedelta,
    BeforeValidator(units.parse_duration),
    PlainSerializer(duration_text, return_type=str),
    _schema("duration", **_DURATION_TEXT),
]
PositiveDuration = Annotated[Duration, AfterValidator(_check_positive)]
StepGate = Annotated[
    Gate | None,
    BeforeValidator(_parse_gate),
    PlainSerializer(_write_gate, return_type=str | None),
    _schema("manual, duration or off", anyOf=[{"const": MANUAL}, _DURATION_TEXT, OFF_FORMS]),
]
Minutes = Annotated[Duration, AfterValidator(_check_minutes), _schema("whole minutes", **_DURATION_TEXT)]
Share = Annotated[
    float,
    BeforeValidator(units.parse_share),
    PlainSerializer(share_text, return_type=str),
    _schema("share", anyOf=_SHARE_FORMS),
]
FalseRollback = Annotated[
    Share, AfterValidator(_check_false_rollback), _schema("share below 50%", anyOf=_SHARE_FORMS)
]
Promotion = Annotated[Share, AfterValidator(_check_promotion), _schema("share from 50%", anyOf=_SHARE_FORMS)]
Ceiling = Annotated[
    float | None,
    BeforeValidator(_parse_ceiling),
    PlainSerializer(_write_ceiling, return_type=str | None),
    _schema("share or off", anyOf=[*_SHARE_FORMS, OFF_FORMS]),
]
Ceilings = Annotated[
    dict[str, timedelta],
    BeforeValidator(partial(_parse_ceilings, _parse_positive, "800ms")),
    PlainSerializer(_write_ceilings, return_type=dict[str, str]),
    _schema(
        "mapping of p50, p90, p95, p99 to durations",
        type="object",
        properties=dict.fromkeys(PERCENTILES, _DURATION_TEXT),
        additionalProperties=False,
    ),
]
Measures = Annotated[
    dict[str, float],
    BeforeValidator(partial(_parse_ceilings, _parse_measure, "800")),
    _schema(
        "mapping of p50, p90, p95, p99 to numbers",
        type="object",
        properties=dict.fromkeys(PERCENTILES, _MEASURE_FORM),
        additionalProperties=False,
    ),
]
Filter = Annotated[
    str,
    BeforeValidator(parse_filter),
    _schema("filter", type="string", pattern=FILTER_PATTERN, maxLength=LONGEST_FILTER),
]
RevisionLabel = Annotated[
    str,
    BeforeValidator(parse_revision_label),
    _schema("label", type="string", pattern=REVISION_LABEL_PATTERN),
]
Codes = Annotated[tuple[str, ...], *response_codes(_ERRORS)]
Paths = Annotated[
    tuple[str, ...],
    BeforeValidator(_parse_paths),
    _schema(
        "list of paths",
        anyOf=[{"type": "array", "maxItems": MOST_PATHS, "items": _PATH_FORM}, _PATH_FORM],
    ),
]
Percent = Annotated[
    int,
    BeforeValidator(units.parse_percent),
    PlainSerializer(_write_percent, return_type=str),
    _schema(
        "whole percentage",
        anyOf=[
            {"type": "string", "pattern": units.PERCENT_PATTERN},
            {"type": "integer", "minimum": 1, "maximum": 100},
        ],
    ),
]
Factor = Annotated[
    float, BeforeValidator(units.parse_factor), _schema("factor, 1 or more", type="number", minimum=1)
]
Count = Annotated[
    int,
    BeforeValidator(units.parse_count),
    _schema("whole number, 1 or more", type="integer", minimum=1, maximum=units.LARGEST_COUNT),
]
Switch = Annotated[
    bool, BeforeValidator(units.parse_switch), _schema("true or false", enum=[True, False, "on", "off"])
]
Version = Annotated[Literal[1], BeforeValidator(_parse_version), _schema("number", const=1)]
