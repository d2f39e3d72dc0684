"""Durations, shares and numbers as people write them: text to value and back."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

LONGEST_DURATION: Final = timedelta(days=30)
DURATION_PATTERN: Final = r"^([0-9]{1,9}(d|h|ms|m|s))+$"
PERCENT_PATTERN: Final = r"^([1-9][0-9]?|100)%?$"
SHARE_PATTERN: Final = r"^[0-9]{1,20}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,3})?%$"

_UNITS: Final = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_DURATION_PART: Final = re.compile(r"([0-9]{1,9})(d|h|ms|m|s)")
_LONGEST_SHOWN: Final = 40
LARGEST_COUNT: Final = 1_000_000_000


class UnitInvalid(ValueError):
    """A value that cannot be read; its text says why and what to write instead."""


def parse_duration(value: object) -> timedelta:
    """Read `500ms`, `30s`, `10m`, `2h`, `1d` or `1h30m`; a timedelta is taken as it is.

    Raises UnitInvalid for everything else, for a negative duration and for more than 30 days.
    """
    duration = value if isinstance(value, timedelta) else _read_duration(value)
    if duration < timedelta(0):
        raise UnitInvalid("a duration cannot be negative")
    if duration % _UNITS["ms"]:
        raise UnitInvalid("a duration is written in whole milliseconds at the finest")
    if duration > LONGEST_DURATION:
        raise UnitInvalid(
            f"{shown(value)} is too long; the longest duration is {duration_text(LONGEST_DURATION)}"
        )
    return duration


def duration_text(duration: timedelta) -> str:
    """Write a duration of whole milliseconds as `parse_duration` reads it, such as `1h30m`."""
    parts = []
    rest = duration
    for name, unit in _UNITS.items():
        count, rest = divmod(rest, unit)
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def parse_share(value: object) -> float:
    """Read `5%` or `0.05` as a share from 0 to 1.

    A bare whole number is refused: `1` may be meant as 1 % or as 100 %.
    """
    share = _read_share(value)
    if not 0 <= share <= 1:
        raise UnitInvalid(f"{shown(value)} is not between 0% and 100%; write it like 5%")
    return abs(share)  # no negative zero


def share_text(share: float) -> str:
    """Write a share from 0 to 1 as a percentage that reads back to the same float."""
    percent = Decimal(repr(share)).scaleb(2)
    text = f"{percent:f}"
    if len(text) > _LONGEST_SHOWN:
        return f"{percent}%"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def parse_percent(value: object) -> int:
    """Read `5%` or `5` as a whole traffic percentage from 1 to 100."""
    text = shown(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(text, str) and re.fullmatch(PERCENT_PATTERN, text):
        return int(text.removesuffix("%"))
    if isinstance(text, str) and re.fullmatch(r"[0-9]{1,20}\.[0-9]{1,20}%?", text):
        raise UnitInvalid(
            f"Cloud Run splits traffic in whole percents; write 1% or 5% instead of {shown(value)}"
        )
    if isinstance(text, str) and re.fullmatch(r"-?[0-9]{1,20}%?", text):
        raise UnitInvalid(f"{shown(value)} is not between 1% and 100%")
    raise UnitInvalid(f"expected a whole percentage such as 5%, not {shown(value)}")


def parse_factor(value: object) -> float:
    """Read a finite number of at least 1, such as `1.25`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnitInvalid(f"expected a number such as 1.25, not {shown(value)}")
    if not 1 <= value <= LARGEST_COUNT:  # NaN fails this, too
        raise UnitInvalid(
            f"{shown(value)} is not a factor of at least 1; 1.25 tolerates a quarter more than stable"
        )
    return float(value)


def parse_count(value: object) -> int:
    """Read a whole number from 1 to a thousand million."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnitInvalid(f"expected a whole number such as 50, not {shown(value)}")
    if not 1 <= value <= LARGEST_COUNT:
        raise UnitInvalid(f"{shown(value)} is not between 1 and {LARGEST_COUNT}")
    return value


def parse_switch(value: object) -> bool:
    """Read true or false; `on` and `off` are the same as text."""
    match value:
        case bool():
            return value
        case "on" | "true":
            return True
        case "off" | "false":
            return False
        case _:
            raise UnitInvalid(f"expected true or false, not {shown(value)}")


def shown(value: object) -> str:
    """Name an untrusted value in a message: short, on one line, whatever it is."""
    match value:
        case None:
            text = "nothing"
        case bool():
            text = "true" if value else "false"
        case int() if abs(value) > 10 * LARGEST_COUNT:
            text = "a very large number"
        case str():
            text = repr(value if len(value) <= _LONGEST_SHOWN else value[: _LONGEST_SHOWN - 3] + "...")
        case int() | float() | timedelta():
            text = str(value)
        case list() | tuple():
            text = "a list"
        case dict():
            text = "a mapping"
        case _:
            text = f"a value of type {type(value).__name__}"
    return text


def _read_duration(value: object) -> timedelta:
    if not isinstance(value, bool) and isinstance(value, int | float):
        raise UnitInvalid(f"{shown(value)} has no unit; {_unit_hint(shown(value))}")
    if not isinstance(value, str):
        raise UnitInvalid(f"expected a duration such as 10m, not {shown(value)}")
    if re.fullmatch(r"[0-9]{1,9}", value):
        raise UnitInvalid(f"{shown(value)} has no unit; {_unit_hint(value.lstrip('0'))}")
    if re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})+", value):
        raise UnitInvalid(f"{shown(value)} could mean hours or minutes; write 1h30m or 1m30s")
    if re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}(d|h|ms|m|s)", value):
        raise UnitInvalid(f"{shown(value)} is not a whole number of its unit; write 1h30m instead of 1.5h")
    if not re.fullmatch(DURATION_PATTERN, value) or len(value) > _LONGEST_SHOWN:
        raise UnitInvalid(f"expected a duration such as 30s, 10m or 1h30m, not {shown(value)}")
    parts = _DURATION_PART.findall(value)
    units = [unit for _, unit in parts]
    if units != [unit for unit in _UNITS if unit in units]:
        raise UnitInvalid(
            f"{shown(value)} names a unit twice or out of order; write hours before minutes: 1h30m"
        )
    try:
        return sum((int(count) * _UNITS[unit] for count, unit in parts), timedelta(0))
    except OverflowError:
        return timedelta.max - timedelta.max % _UNITS["s"]


def _unit_hint(number: str) -> str:
    return f"write {number}m or {number}s" if re.fullmatch(r"[0-9]+", number) else "write it like 10m or 30s"


def _read_share(value: object) -> float:
    match value:
        case bool():
            pass
        case int() if value:
            raise UnitInvalid(f"{shown(value)} has no percent sign; write it like 5%")
        case int() | float():
            return float(value)
        case str() if re.fullmatch(SHARE_PATTERN, value):
            return float(Decimal(value.removesuffix("%")).scaleb(-2))
        case _:
            pass
    raise UnitInvalid(f"expected a share such as 5% or 0.2%, not {shown(value)}")
