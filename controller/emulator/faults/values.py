"""The values that faults are described with: durations and status codes."""

import re
from datetime import timedelta
from typing import Annotated, Any, Final

import grpc
from pydantic import AfterValidator, BeforeValidator, PlainSerializer

LONGEST: Final = timedelta(days=31)
_DURATION: Final = re.compile(r"(-?)([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)?")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_CODES: Final = {code.name for code in grpc.StatusCode} - {"OK"}


def shown(value: Any) -> str:
    """Return a value as a message shows it: its beginning is enough."""
    return f"{value!r:.60}"


def parse_duration(value: Any) -> timedelta:
    """Read `90s`, `5m`, `-1h`, `250ms` or a number of seconds; raises ValueError."""
    text = value if isinstance(value, str) else f"{value!r}"
    match = None if isinstance(value, bool) else _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{shown(value)} is no duration; write one such as 90s, 5m or 1h")
    duration = timedelta(seconds=float(match[2]) * _SECONDS[match[3]])
    if duration > LONGEST:
        raise ValueError(f"{shown(value)} is too long; {LONGEST.days}d is the most")
    return -duration if match[1] else duration


def _check_positive(duration: timedelta) -> timedelta:
    if duration <= timedelta():
        raise ValueError("must be longer than 0s")
    return duration


def _check_not_zero(duration: timedelta) -> timedelta:
    if not duration:
        raise ValueError("must not be 0s")
    return duration


def _parse_code(value: Any) -> grpc.StatusCode:
    if isinstance(value, grpc.StatusCode):
        return value
    if not isinstance(value, str) or value not in _CODES:
        raise ValueError(f"{shown(value)} is no status code; write one of {', '.join(sorted(_CODES))}")
    return grpc.StatusCode[value]


_Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(lambda value: f"{value.total_seconds():g}s")
]
Duration = Annotated[_Duration, AfterValidator(_check_positive)]
"""Longer than nothing."""
Jump = Annotated[_Duration, AfterValidator(_check_not_zero)]
"""Forward or, with a minus, back."""
Code = Annotated[Any, BeforeValidator(_parse_code), PlainSerializer(lambda value: value.name)]
"""A gRPC status code but OK, by its name."""

TEXTS: Final = {
    "ABORTED": "The operation was aborted.",
    "CANCELLED": "The operation was cancelled.",
    "DEADLINE_EXCEEDED": "Deadline expired before operation could complete.",
    "INTERNAL": "Internal error encountered.",
    "INVALID_ARGUMENT": "Request contains an invalid argument.",
    "NOT_FOUND": "Requested entity was not found.",
    "PERMISSION_DENIED": "The caller does not have permission",
    "RESOURCE_EXHAUSTED": "Resource has been exhausted (e.g. check quota).",
    "UNAVAILABLE": "The service is currently unavailable.",
}
"""What Google's front ends say with a code when the API itself has nothing to say."""


def text_of(code: grpc.StatusCode) -> str:
    """Return the usual text of a code."""
    return TEXTS.get(code.name, f"The call failed with {code.name}.")
