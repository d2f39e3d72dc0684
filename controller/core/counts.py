"""Counts of what happened: so many bad of so many requests, and latencies counted in buckets."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

ROUNDING = 1e-9
"""Edges closer to one another than this, relative to their size, are the same edge."""

FINE_BOUNDS = tuple(1.05**power for power in range(310))
"""Edges in milliseconds, 5 % apart, from 1 ms to an hour: for latencies that come one by one."""


class EvidenceInvalid(Exception):
    """Numbers that cannot be what happened, or that cannot be compared."""


@dataclass(frozen=True, slots=True)
class Counts:
    """`bad` of `total` requests: whole numbers, 0 <= bad <= total."""

    bad: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        # Written so that not-a-number is refused, too.
        if not 0 <= self.bad <= self.total < math.inf:
            raise EvidenceInvalid(f"{self.bad} bad of {self.total} cannot be")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.bad + other.bad, self.total + other.total)

    @property
    def share(self) -> float:
        """The share that is bad, 0 to 1; 0 where there is none."""
        return self.bad / self.total if self.total else 0.0

    def emptied(self) -> "Counts":
        """Return the same measure of nothing."""
        return Counts()


@dataclass(frozen=True)
class Histogram:
    """Latencies in milliseconds, or another measure, counted in buckets.

    `bounds` are the n rising edges between buckets, `counts` the n + 1 numbers of requests: below the first
    edge, between two edges (the lower one included), and from the last edge on.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.bounds:
            raise EvidenceInvalid("a histogram has no bucket edge")
        if len(self.counts) != len(self.bounds) + 1:
            raise EvidenceInvalid(f"{len(self.bounds)} bucket edges need {len(self.bounds) + 1} counts")
        if not (min(self.counts) >= 0 and sum(self.counts) < math.inf):
            raise EvidenceInvalid("a bucket has a count that cannot be")
        _check_bounds(self.bounds)

    @property
    def total(self) -> int:
        """The number of requests."""
        return sum(self.counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        self.check_comparable(other)
        return Histogram(self.bounds, tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def emptied(self) -> "Histogram":
        """Return the same buckets with nothing in them."""
        return Histogram(self.bounds, (0,) * len(self.counts))

    def check_comparable(self, other: "Histogram") -> None:
        """Raise EvidenceInvalid unless both count in the same buckets."""
        if self.bounds != other.bounds:
            raise EvidenceInvalid("two histograms have different buckets")

    def from_edge(self, value: float) -> int:
        """Return how many are at or above `value` for certain: those in buckets from that edge on."""
        return sum(self.counts[bisect_left(self.bounds, value * (1 - ROUNDING)) + 1 :])

    def reaching(self, value: float) -> int:
        """Return how many may be above `value`: also those in the bucket that it lies inside."""
        return sum(self.counts[bisect_right(self.bounds, value * (1 + ROUNDING)) :])

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that `share` (0 to 1) of the requests stay below.

        Interpolated within its bucket; the open bucket at the end counts as its edge. NaN without requests.
        """
        if not self.total:
            return math.nan
        rank = share * self.total
        edges = (min(0.0, self.bounds[0]), *self.bounds, self.bounds[-1])
        for bucket, reached in enumerate(accumulate(self.counts)):
            if reached >= rank and self.counts[bucket]:
                part = 1 - (reached - rank) / self.counts[bucket]
                return edges[bucket] + part * (edges[bucket + 1] - edges[bucket])
        return edges[-1]


@lru_cache(maxsize=64)
def _check_bounds(bounds: tuple[float, ...]) -> None:
    """Raise EvidenceInvalid unless the edges are finite and rise."""
    if not all(math.isfinite(bound) for bound in bounds):
        raise EvidenceInvalid("a bucket has no finite edge")
    if any(low >= high for low, high in pairwise(bounds)):
        raise EvidenceInvalid("the edges of the buckets do not rise")


def counted_in_buckets(values: Iterable[float], bounds: tuple[float, ...] = FINE_BOUNDS) -> Histogram:
    """Count values that come one by one, such as latencies of single requests in milliseconds."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        if not value >= 0 or math.isinf(value):
            raise EvidenceInvalid(f"{value} is not a latency")
        counts[bisect_right(bounds, value)] += 1
    return Histogram(bounds, tuple(counts))
