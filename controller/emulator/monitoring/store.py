"""The store behind Monitoring: what each revision answered, minute by minute."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.emulator.names import RevisionKey

MINUTE = 60
# Of run.googleapis.com/request_latencies: bounds 10 ms * 1.1^i, i = 0..134.
SCALE = 10.0
GROWTH = 1.1
FINITE_BUCKETS = 134
BOUNDS = [SCALE * GROWTH**i for i in range(FINITE_BUCKETS + 1)]


class Histogram:
    """Latencies in milliseconds: counts by bucket, and the sums that mean and variance need."""

    __slots__ = ("buckets", "count", "squares", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.squares = 0.0

    def add(self, milliseconds: float, times: int = 1) -> None:
        """Count a latency so many times."""
        bucket = bisect_right(BOUNDS, milliseconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += times
        self.total += milliseconds * times
        self.squares += milliseconds * milliseconds * times

    def merge(self, other: "Histogram") -> None:
        """Count what another one counted."""
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    def percentile(self, percent: float) -> float:
        """Return the latency at a percentile (0 to 100), interpolated inside its bucket; NaN if empty."""
        if not self.count:
            return math.nan
        rank, below = percent / 100 * self.count, 0
        bucket = 0
        for bucket in sorted(self.buckets):
            if below + self.buckets[bucket] >= rank:
                break
            below += self.buckets[bucket]
        lower = BOUNDS[bucket - 1] if bucket else 0.0
        upper = BOUNDS[min(bucket, FINITE_BUCKETS)]
        return lower + (upper - lower) * (rank - below) / self.buckets[bucket]


@dataclass
class Cells:
    """What one revision answered with one response code, by the minute's end in epoch seconds."""

    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    latencies: dict[int, Histogram] = field(default_factory=lambda: defaultdict(Histogram))


@dataclass
class Lifetime:
    """When instances of a revision were alive: spans in epoch seconds, the last of them perhaps open."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    alive: int = 0
    since: float = 0.0

    def minutes(self, first: int, last: int) -> Iterator[int]:
        """Yield the ends of the minutes, from first to last, in which an instance was alive."""
        spans = [*self.spans, (self.since, math.inf)] if self.alive else self.spans
        reached = first
        for start, end in spans:
            minute = max(reached, minute_end(start))
            while minute <= last and minute - MINUTE < end:
                yield minute
                minute += MINUTE
            reached = max(reached, minute)


class Metrics:
    """Counts and latency histograms by revision and response code."""

    def __init__(self) -> None:
        self._cells: dict[RevisionKey, dict[int, Cells]] = defaultdict(dict)
        self._lifetimes: dict[RevisionKey, Lifetime] = defaultdict(Lifetime)

    def record(
        self,
        key: RevisionKey,
        code: int,
        milliseconds: float,
        ended: datetime,
        pending_milliseconds: float = 0.0,  # noqa: ARG002
    ) -> None:
        """Count a request that has ended. Its minute is the one in which it ended."""
        cells = self.cells(key, code)
        minute = minute_end(ended.timestamp())
        cells.counts[minute] += 1
        cells.latencies[minute].add(milliseconds)

    def record_many(self, key: RevisionKey, code: int, latencies: Histogram, ended: datetime) -> None:
        """Count requests that ended in the same minute."""
        if latencies.count:
            cells = self.cells(key, code)
            minute = minute_end(ended.timestamp())
            cells.counts[minute] += latencies.count
            cells.latencies[minute].merge(latencies)

    def cells(self, key: RevisionKey, code: int) -> Cells:
        """Return the cells of a revision and response code, making them if need be."""
        return self._cells[key].setdefault(code, Cells())

    def sample(self, key: RevisionKey, at: datetime, *, active: int, idle: int, pending: int) -> None:
        """Note how many instances and waiting requests there are at a whole minute."""

    def instance_started(
        self,
        key: RevisionKey,
        at: datetime,
        startup_milliseconds: float = 0.0,  # noqa: ARG002
    ) -> None:
        """Note that one more instance is alive, and how long it took to start."""
        lifetime = self._lifetimes[key]
        if not lifetime.alive:
            lifetime.since = at.timestamp()
        lifetime.alive += 1

    def instance_stopped(self, key: RevisionKey, at: datetime) -> None:
        """Note that one instance less is alive."""
        lifetime = self._lifetimes[key]
        lifetime.alive -= 1
        if not lifetime.alive:
            lifetime.spans.append((lifetime.since, at.timestamp()))

    def series(self) -> Iterator[tuple[RevisionKey, int, Cells, Lifetime]]:
        """Yield every series there is: revision, response code, its cells, and when instances were alive."""
        for key, by_code in self._cells.items():
            for code, cells in by_code.items():
                yield key, code, cells, self._lifetimes[key]

    def totals(self) -> Mapping[RevisionKey, dict[int, int]]:
        """Return all requests ever counted, by revision and response code."""
        return {
            key: {code: sum(cells.counts.values()) for code, cells in by_code.items()}
            for key, by_code in self._cells.items()
        }


def minute_end(seconds: float) -> int:
    """Return the end of the minute (start, end] that an instant belongs to, in epoch seconds."""
    return math.ceil(seconds / MINUTE) * MINUTE
