"""Instants and durations of proto-plus: Python's, though its type hints name protobuf's."""

from datetime import datetime, timedelta
from typing import Any


def stamp(instant: datetime) -> Any:
    """Return what may be assigned to a Timestamp field."""
    return instant


def duration(length: timedelta) -> Any:
    """Return what may be assigned to a Duration field."""
    return length


def instant_of(value: Any) -> datetime | None:
    """Return a Timestamp field as an aware datetime; None if it is not set."""
    return value if isinstance(value, datetime) else None


def seconds_of(value: Any) -> float:
    """Return a Duration field in seconds; 0 if it is not set."""
    return value.total_seconds() if isinstance(value, timedelta) else 0.0
