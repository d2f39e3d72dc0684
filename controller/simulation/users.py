"""Users that are only numbers: what both revisions would answer in a minute, drawn."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

from controller.core.counts import Histogram
from controller.core.evidence import Sample
from controller.core.traffic import ALL
from controller.draws import binomial, from_table, poisson_table

BOUNDS = tuple(10 * 1.1**power for power in range(135))
"""The bucket edges of Cloud Run's request latencies, in milliseconds."""

P95 = NormalDist().inv_cdf(0.95)
DEFAULT_P95 = 3.0
"""Where nothing is said of the spread, the 95th percentile is so many times the median."""


@dataclass(frozen=True)
class Latency:
    """A lognormal latency: median and 95th percentile in milliseconds, both above 0."""

    median: float = 100.0
    p95: float = 100.0 * DEFAULT_P95

    def times(self, factor: float) -> "Latency":
        """Return the latency with everything so many times slower."""
        return Latency(self.median * factor, self.p95 * factor)


@dataclass(frozen=True)
class Behaviour:
    """What a revision does: the share of requests that fail, 0 to 1, and its latency."""

    errors: float = 0.0
    latency: Latency = Latency()


@dataclass(frozen=True)
class Users:
    """Requests a second to the whole service, and what they meet in either revision."""

    rps: float
    stable: Behaviour
    candidate: Behaviour


def draw_minute(rng: random.Random, users: Users, percent: int) -> tuple[Sample, Sample]:
    """Return what stable and the candidate answer in a minute, if the candidate has so many percent."""
    mean = users.rps * 60
    return (
        _draw(rng, mean * (ALL - percent) / ALL, users.stable),
        _draw(rng, mean * percent / ALL, users.candidate),
    )


def _draw(rng: random.Random, mean: float, behaviour: Behaviour) -> Sample:
    if mean <= 0:
        return Sample()
    counts = [0] * (len(BOUNDS) + 1)
    for bucket, table in _tables(mean, behaviour.latency):
        counts[bucket] = from_table(rng, table)
    requests = sum(counts)
    failed = binomial(rng, requests, behaviour.errors)
    codes = {"200": requests - failed, "500": failed}
    return Sample(codes, Histogram(BOUNDS, tuple(counts)) if requests else None)


@lru_cache(maxsize=256)
def _tables(mean: float, latency: Latency) -> Sequence[tuple[int, tuple[float, ...]]]:
    """Return, for each bucket that any request may fall into, the distribution of their number.

    Requests that arrive at random fall into the buckets independently of one another.
    """
    spread = math.log(latency.p95 / latency.median) / P95
    below = [0.0, *(_below(edge, latency.median, spread) for edge in BOUNDS), 1.0]
    means = [mean * (after - before) for before, after in pairwise(below)]
    return [(bucket, poisson_table(each)) for bucket, each in enumerate(means) if each > 0]


def _below(edge: float, median: float, spread: float) -> float:
    if not spread:
        return float(median < edge)
    return NormalDist(math.log(median), spread).cdf(math.log(edge))
