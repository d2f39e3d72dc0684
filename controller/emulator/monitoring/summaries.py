"""What a group of values comes to: sums, means and percentiles of numbers and of distributions."""

import math
from collections.abc import Sequence
from functools import partial
from statistics import fmean, pstdev

from controller.emulator.monitoring.catalog import Value
from controller.emulator.monitoring.histogram import Histogram


def total(values: Sequence[Value]) -> Value:
    """Return the sum, of distributions the merged one."""
    histograms = _histograms(values)
    return Histogram.merged(histograms) if histograms else sum(_numbers(values))


def mean(values: Sequence[Value]) -> float:
    """Return the mean, of distributions that of everything in them."""
    histograms = _histograms(values)
    return Histogram.merged(histograms).mean if histograms else fmean(_numbers(values))


def deviation(values: Sequence[Value]) -> float:
    """Return the standard deviation, of distributions that of everything in them."""
    histograms = _histograms(values)
    if not histograms:
        return pstdev(_numbers(values))
    merged = Histogram.merged(histograms)
    return math.sqrt(merged.squared_deviation / merged.count) if merged.count else math.nan


def smallest(values: Sequence[Value]) -> Value:
    """Return the smallest number."""
    return min(_numbers(values))


def largest(values: Sequence[Value]) -> Value:
    """Return the largest number."""
    return max(_numbers(values))


def percentile(percent: float) -> partial[float]:
    """Return the function that gives this percentile (0 to 100) of numbers, or of merged distributions."""
    return partial(_percentile, percent)


def _percentile(percent: float, values: Sequence[Value]) -> float:
    histograms = _histograms(values)
    if histograms:
        return Histogram.merged(histograms).percentile(percent)
    numbers = sorted(_numbers(values))
    place = percent / 100 * (len(numbers) - 1)
    lower = math.floor(place)
    upper = min(lower + 1, len(numbers) - 1)
    return numbers[lower] + (numbers[upper] - numbers[lower]) * (place - lower)


def _histograms(values: Sequence[Value]) -> list[Histogram]:
    return [value for value in values if isinstance(value, Histogram)]


def _numbers(values: Sequence[Value]) -> list[int | float]:
    return [value for value in values if not isinstance(value, Histogram)]
