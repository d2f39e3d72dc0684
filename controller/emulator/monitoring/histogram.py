"""Histograms of latencies, in the buckets that Cloud Run's metrics have."""

import math
from bisect import bisect_right
from collections.abc import Iterable

# Of run.googleapis.com/request_latencies: bounds 10 ms * 1.1^i, i = 0..134.
SCALE = 10.0
GROWTH = 1.1
FINITE_BUCKETS = 134
BOUNDS = [SCALE * GROWTH**i for i in range(FINITE_BUCKETS + 1)]


class Histogram:
    """Latencies in milliseconds: counts by bucket, and the sums that mean and variance need."""

    __slots__ = ("buckets", "count", "encoded", "squares", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        """0 = below the first bound, i = from bound i-1 to bound i."""
        self.count = 0
        self.total = 0.0
        self.squares = 0.0
        self.encoded = b""
        """The bytes of it, if they were needed since it was last changed; owned by the module `wire`."""

    @classmethod
    def merged(cls, parts: Iterable["Histogram"]) -> "Histogram":
        """Return a new one that counts what all of these count."""
        result = cls()
        for part in parts:
            result.merge(part)
        return result

    def add(self, milliseconds: float, times: int = 1) -> None:
        """Count a latency so many times."""
        bucket = bisect_right(BOUNDS, milliseconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += times
        self.total += milliseconds * times
        self.squares += milliseconds * milliseconds * times
        self.encoded = b""

    def merge(self, other: "Histogram") -> None:
        """Count what another one counted."""
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.encoded = b""

    @property
    def mean(self) -> float:
        """Return the mean in milliseconds; NaN if empty."""
        return self.total / self.count if self.count else math.nan

    @property
    def squared_deviation(self) -> float:
        """Return the sum of the squared distances from the mean; 0 if empty."""
        return max(0.0, self.squares - self.total * self.mean) if self.count else 0.0

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
