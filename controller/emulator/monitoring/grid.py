"""Instants in microseconds, intervals, and the consecutive periods that they are cut into."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from controller.emulator.monitoring.minutes import MINUTE

SECOND = 1_000_000
"""In microseconds, as every instant and period here, so that edges are compared without rounding."""
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def since_epoch(instant: datetime) -> int:
    """Return an instant in microseconds since the epoch."""
    return (instant - _EPOCH) // _MICROSECOND


def microseconds(length: timedelta) -> int:
    """Return a length of time in microseconds."""
    return length // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Grid:
    """Consecutive periods: each one, (end - period, end], is named by its end, and the newest comes first."""

    newest: int
    period: int
    count: int

    def ends(self) -> list[int]:
        """Return the ends of the periods."""
        return [self.newest - position * self.period for position in range(self.count)]


class Interval(NamedTuple):
    """(start, end]."""

    start: int
    end: int

    def minutes(self, points: "Interval", *, beyond: bool) -> Grid:
        """Return the whole minutes that end inside, as far as there can be points.

        With `beyond` there is also the one that the end of the interval cuts in two.
        """
        minute = MINUTE * SECOND
        newest = -(-self.end // minute) * minute if beyond else self.end // minute * minute
        newest = min(newest, points.end)
        before = max(self.start, points.start)
        return Grid(newest, minute, max(0, -(-(newest - before) // minute)))

    def windows(self, period: int, points: "Interval") -> Grid:
        """Return the periods, cut backwards from the end, as far as there can be points.

        What is left over at the start is no period; but there is one, however short the interval.
        """
        count = max(1, (self.end - self.start) // period)
        skipped = max(0, (self.end - points.end) // period)
        reached = min(count, -(-(self.end - points.start) // period))
        return Grid(self.end - skipped * period, period, max(0, reached - skipped))
