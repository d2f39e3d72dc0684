"""Values in a Logging filter and in an entry: how they are read, folded, and found inside payloads."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import normalize

from controller.emulator.logs.entries import Severity

_UNIT = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+")
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def fold(text: str) -> str:
    """Return a text as it is compared: without case, and in one form of what Unicode can write in several."""
    if text.isascii():
        return text.lower()
    return normalize("NFKC", normalize("NFKC", text.casefold()).casefold())


def number(text: str) -> float:
    """Read a number; raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def instant(text: str) -> datetime:
    """Read a date or an RFC 3339 time; without a zone it is UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def duration(text: str) -> timedelta:
    """Read a duration such as `1.5s` or `2h45m`; raises ValueError or OverflowError."""
    if not _DURATION.fullmatch(text):
        raise ValueError(text)
    seconds = sum(float(count) * _UNIT[unit] for count, unit in _STEP.findall(text))
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def severity(text: str) -> float:
    """Read a severity, by name or by number; raises ValueError."""
    name = text.upper()
    return Severity[name] if name in Severity.__members__ else number(text)


def truth(text: str) -> bool:
    """Read a boolean; raises ValueError."""
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def values_at(value: Any, path: tuple[str, ...]) -> list[Any]:
    """Return what a path leads to: several values where it goes through lists, none where it ends early."""
    for index, key in enumerate(path):
        if isinstance(value, list):
            return [found for one in value for found in values_at(one, path[index:])]
        if not isinstance(value, dict) or key not in value:
            return []
        value = value[key]
    return value if isinstance(value, list) else [value]


def leaves(value: Any) -> Iterator[Any]:
    """Give every single value in an object."""
    match value:
        case dict():
            for one in value.values():
                yield from leaves(one)
        case list() | tuple():
            for one in value:
                yield from leaves(one)
        case _:
            yield value


def as_text(value: Any) -> str:
    """Return a single value as the API shows it in JSON, texts without quotes."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Severity):
        return value.name
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
