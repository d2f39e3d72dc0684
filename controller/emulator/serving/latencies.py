"""Histograms of many lognormal latencies, drawn by bucket instead of one by one."""

import math
import random
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist

from controller.draws import multinomial
from controller.emulator.monitoring.histogram import BOUNDS, Histogram
from controller.emulator.serving.knobs import Knobs

_FEW = 100
"""Up to so many latencies are drawn one by one, more by bucket."""
_FARTHEST = 6.0
"""Buckets farther than so many standard deviations from the median are left out."""


def draw_each(knobs: Knobs, rng: random.Random, requests: int) -> tuple[Histogram, list[float]]:
    """Return the latencies of so many requests, and each by itself."""
    result, each = Histogram(), [knobs.draw_latency(rng) for _ in range(requests)]
    for milliseconds in each:
        result.add(milliseconds)
    return result, each


def draw_latencies(knobs: Knobs, rng: random.Random, requests: int) -> Histogram:
    """Return the latencies of so many requests."""
    result = Histogram()
    if requests <= _FEW or not knobs.latency_ms or not knobs.latency_spread:
        for _ in range(requests):
            result.add(knobs.draw_latency(rng))
        return result
    middles, shares = _buckets(knobs.latency_ms, knobs.latency_spread)
    for middle, times in zip(middles, multinomial(rng, requests, shares), strict=True):
        if times:
            result.add(middle, times)
    return result


@lru_cache(maxsize=256)
def _buckets(median: float, spread: float) -> tuple[list[float], list[float]]:
    """Return, of the buckets that a lognormal latency falls into, a latency inside and the probability."""
    normal = NormalDist(math.log(median), spread)
    lowest = math.exp(normal.mean - _FARTHEST * spread)
    highest = math.exp(normal.mean + _FARTHEST * spread)
    edges = [lowest, *(bound for bound in BOUNDS if lowest < bound < highest), highest]
    middles = [math.sqrt(low * high) for low, high in pairwise(edges)]
    cumulated = [0.0, *(normal.cdf(math.log(edge)) for edge in edges[1:-1]), 1.0]
    return middles, [after - before for before, after in pairwise(cumulated)]
