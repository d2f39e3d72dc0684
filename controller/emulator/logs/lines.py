"""Structured logging: a JSON object that an instance prints on one line, taken apart as Cloud Run does it.

Its special keys become fields of the entry, the rest its jsonPayload. A special key with a value that does
not fit stays in the payload.
"""

import json
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from google.cloud.logging_v2 import types
from google.logging.type import http_request_pb2
from google.protobuf import json_format, message

from controller.emulator.logs.entries import (
    NOTHING_MORE,
    HttpRequest,
    JsonPayload,
    More,
    Severity,
    bytes_of_value,
    clean,
)
from controller.emulator.logs.messages import operation_of, request_of, source_location_of

FURTHEST_AHEAD = timedelta(hours=24)
FURTHEST_BACK = timedelta(days=30)
"""How long logs are kept by default."""
_PREFIX = "logging.googleapis.com/"
_LARGEST_EXACT = 2**53
_LogEntryOperation: Any = types.LogEntryOperation.pb()
_LogEntrySourceLocation: Any = types.LogEntrySourceLocation.pb()


class Line(NamedTuple):
    """What a line says."""

    payload: str | JsonPayload
    severity: Severity = Severity.DEFAULT
    time: datetime | None = None
    request: HttpRequest | None = None
    labels: dict[str, str] | None = None
    trace: str = ""
    more: More = NOTHING_MORE


def read_line(text: str, at: datetime) -> Line:
    """Take a line apart; what is no JSON object stays a text. A time far from `at` stays in the payload."""
    fields, size = _object_of(text)
    if fields is None:
        return Line(clean(text))
    lift = partial(_lifted, fields)
    severity = lift("severity", _severity)
    more = More(
        lift(f"{_PREFIX}insertId", _text) or "",
        lift(f"{_PREFIX}spanId", _text) or "",
        lift(f"{_PREFIX}trace_sampled", _flag) or False,
        lift(f"{_PREFIX}operation", lambda value: operation_of(_parsed(value, _LogEntryOperation()))),
        lift(
            f"{_PREFIX}sourceLocation",
            lambda value: source_location_of(_parsed(value, _LogEntrySourceLocation())),
        ),
    )
    return Line(
        JsonPayload(fields, size),
        Severity.DEFAULT if severity is None else severity,
        lift("time", partial(_time, at)),
        lift("httpRequest", lambda value: request_of(_parsed(value, http_request_pb2.HttpRequest()))),
        lift(f"{_PREFIX}labels", _labels),
        lift(f"{_PREFIX}trace", _text) or "",
        NOTHING_MORE if more == NOTHING_MORE else more,
    )


def _object_of(text: str) -> tuple[dict[str, Any] | None, int]:
    """Return the JSON object and the memory that it takes, or None where it cannot be kept as one."""
    try:
        found = json.loads(text, parse_float=_number, parse_int=_number, parse_constant=_number)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair cannot be sent
        size = bytes_of_value(found)
    except (ValueError, RecursionError):
        return None, 0
    return (found, size) if isinstance(found, dict) else (None, 0)


def _number(text: str) -> float:
    """Return a number as a payload holds it: a double, shown without a point where it is whole."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return int(number) if number.is_integer() and abs(number) < _LARGEST_EXACT else number


def _lifted(fields: dict[str, Any], key: str, read: Callable[[Any], Any]) -> Any:
    """Take a special key out of the payload; leave it where its value does not fit."""
    if key not in fields:
        return None
    try:
        value = read(fields[key])
    except (ValueError, TypeError, OverflowError, json_format.ParseError):
        return None
    del fields[key]
    return value


def _parsed(value: Any, target: message.Message) -> message.Message:
    if not isinstance(value, dict):
        raise TypeError(value)
    return json_format.ParseDict(value, target, ignore_unknown_fields=True)


def _severity(value: Any) -> Severity:
    if isinstance(value, str) and value.upper() in Severity.__members__:
        return Severity[value.upper()]
    raise ValueError(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(value)
    return value


def _time(at: datetime, value: Any) -> datetime:
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None or not at - FURTHEST_BACK <= found <= at + FURTHEST_AHEAD:
        raise ValueError(value)
    return found


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise TypeError(value)
    return value
