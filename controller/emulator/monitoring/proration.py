"""Periods whose edges cut a minute in two: each gets its share, as if requests came evenly."""

from collections.abc import Iterator, Sequence

from controller.emulator.monitoring.catalog import Row
from controller.emulator.monitoring.grid import Grid
from controller.emulator.monitoring.histogram import Histogram

Shares = list[tuple[int, float]]
"""Of one window: places in a row, and the share (0 to 1] of what is there."""
Numbers = list[float | None]


def shares(source: Grid, windows: Grid) -> list[Shares]:
    """Return, for each window, which parts of which source periods it covers."""
    return [list(_shares(source, end, windows.period)) for end in windows.ends()]


def _shares(source: Grid, end: int, period: int) -> Iterator[tuple[int, float]]:
    first = max(0, (source.newest - end) // source.period)
    after = min(source.count, -(-(source.newest - end + period) // source.period))
    for place in range(first, after):
        source_end = source.newest - place * source.period
        overlap = min(end, source_end) - max(end - period, source_end - source.period)
        if overlap > 0:
            yield place, overlap / source.period


def prorated(row: Row, parts: Sequence[Shares]) -> Numbers:
    """Return what each window gets of a row of numbers; nothing where there is no point at all."""
    result: Numbers = []
    for window in parts:
        got = [value * share for place, share in window if (value := _number(row, place)) is not None]
        result.append(sum(got) if got else None)
    return result


def whole(values: Numbers) -> list[int | None]:
    """Round, newest first, so that the sum of any run of windows is the rounded sum of their values."""
    result: list[int | None] = []
    reached, given = 0.0, 0
    for value in reversed(values):
        if value is None:
            result.append(None)
            continue
        reached += value
        result.append(round(reached) - given)
        given = round(reached)
    return result[::-1]


def interpolated(row: Row, source: Grid, windows: Grid) -> Row:
    """Return the value at the end of each window, on the line between the points around it."""
    return [_between(row, source, end) for end in windows.ends()]


def _between(row: Row, source: Grid, instant: int) -> int | float | None:
    later, rest = divmod(source.newest - instant, source.period)
    after, before = _number(row, later), _number(row, later + 1)
    if not rest or after is None or before is None:
        return after if not rest else None
    value = after + (before - after) * rest / source.period
    return round(value) if isinstance(after, int) and isinstance(before, int) else value


def _number(row: Row, place: int) -> int | float | None:
    value = row[place] if 0 <= place < len(row) else None
    return None if isinstance(value, Histogram) else value
