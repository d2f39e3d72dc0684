"""ListTimeSeries: picks series, cuts them into periods, aligns, reduces and pages them."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from google.cloud import monitoring_v3

from controller.emulator.errors import invalid
from controller.emulator.instants import seconds_of
from controller.emulator.monitoring.filter import Labels, label_path
from controller.emulator.monitoring.store import MINUTE, Histogram

Aligner = monitoring_v3.Aggregation.Aligner
Reducer = monitoring_v3.Aggregation.Reducer
Value = int | float | Histogram

PERCENTILES: Mapping[int, float] = {
    Aligner.ALIGN_PERCENTILE_99: 99,
    Aligner.ALIGN_PERCENTILE_95: 95,
    Aligner.ALIGN_PERCENTILE_50: 50,
    Aligner.ALIGN_PERCENTILE_05: 5,
}
REDUCED_PERCENTILES: Mapping[int, float] = {
    Reducer.REDUCE_PERCENTILE_99: 99,
    Reducer.REDUCE_PERCENTILE_95: 95,
    Reducer.REDUCE_PERCENTILE_50: 50,
    Reducer.REDUCE_PERCENTILE_05: 5,
}


@dataclass(frozen=True)
class Interval:
    """(start, end], in epoch seconds."""

    start: float
    end: float

    def windows(self, period: float) -> list[float]:
        """Return the ends of the periods, newest first, cut backwards from the end of the interval."""
        count = max(1, math.floor((self.end - self.start) / period + 1e-9))
        return [self.end - position * period for position in range(count)]


@dataclass(frozen=True)
class Series:
    """One series: its labels (full paths) and its points."""

    labels: Labels
    points: Mapping[float, Value]


def aggregate(
    series: Iterable[Series], interval: Interval, aggregation: monitoring_v3.Aggregation
) -> list[Series]:
    """Align each series and reduce them by group, as the aggregation says."""
    aligner, reducer = aggregation.per_series_aligner, aggregation.cross_series_reducer
    period = seconds_of(aggregation.alignment_period)
    if aligner == Aligner.ALIGN_NONE:
        if reducer != Reducer.REDUCE_NONE:
            raise invalid(
                "A cross_series_reducer requires a per_series_aligner other than ALIGN_NONE.", "aggregation"
            )
        return list(series)
    if period < MINUTE:
        raise invalid(
            f"aggregation.alignmentPeriod must be at least {MINUTE} seconds.", "aggregation.alignment_period"
        )
    align = _aligner(aligner, period)
    aligned = [
        Series(one.labels, _aligned(one.points, interval.windows(period), period, align, aligner))
        for one in series
    ]
    aligned = [one for one in aligned if one.points]
    if reducer == Reducer.REDUCE_NONE:
        return aligned
    return _reduced(aligned, [label_path(field) for field in aggregation.group_by_fields], _reducer(reducer))


def _aligned(
    points: Mapping[float, Value],
    windows: list[float],
    period: float,
    align: Callable[[list[Value]], Value],
    aligner: int,
) -> dict[float, Value]:
    prorated = aligner in {Aligner.ALIGN_DELTA, Aligner.ALIGN_RATE} and windows[0] % MINUTE != 0
    inside: dict[float, list[Value]] = {}
    newest = windows[0]
    for end, value in points.items():
        if prorated and not isinstance(value, Histogram):
            _prorate(inside, end, value, newest, period, len(windows))
            continue
        position = math.floor((newest - end) / period)
        if 0 <= position < len(windows):
            inside.setdefault(newest - position * period, []).append(value)
    return {window: align(inside[window]) for window in windows if window in inside}


def _prorate(
    inside: dict[float, list[Value]], end: float, value: float, newest: float, period: float, count: int
) -> None:
    """Give each window its share of a minute that the window's edge cuts in two."""
    for position in range(
        math.floor((newest - end) / period), math.floor((newest - end + MINUTE) / period) + 1
    ):
        window = newest - position * period
        overlap = min(end, window) - max(end - MINUTE, window - period)
        if 0 <= position < count and overlap > 0:
            inside.setdefault(window, []).append(value * overlap / MINUTE)


def _aligner(aligner: int, period: float) -> Callable[[list[Value]], Value]:
    if aligner == Aligner.ALIGN_SUM:
        return _sum
    if aligner == Aligner.ALIGN_DELTA:
        return _whole_sum
    if aligner == Aligner.ALIGN_RATE:
        return lambda values: _number(_sum(values)) / period
    if aligner in PERCENTILES:
        return lambda values: _percentile(values, PERCENTILES[aligner])
    if aligner == Aligner.ALIGN_COUNT:
        return lambda values: sum(value.count if isinstance(value, Histogram) else 1 for value in values)
    if aligner == Aligner.ALIGN_MEAN:
        return _mean
    raise invalid(f"Aligner {aligner} is not supported for this metric.", "aggregation.per_series_aligner")


def _reducer(reducer: int) -> Callable[[list[Value]], Value]:
    if reducer == Reducer.REDUCE_SUM:
        return _sum
    if reducer == Reducer.REDUCE_MEAN:
        return _mean
    if reducer == Reducer.REDUCE_COUNT:
        return len
    if reducer == Reducer.REDUCE_MIN:
        return lambda values: min(map(_number, values))
    if reducer == Reducer.REDUCE_MAX:
        return lambda values: max(map(_number, values))
    if reducer in REDUCED_PERCENTILES:
        return lambda values: _percentile(values, REDUCED_PERCENTILES[reducer])
    raise invalid(f"Reducer {reducer} is not supported for this metric.", "aggregation.cross_series_reducer")


def _reduced(series: list[Series], fields: list[str], reduce: Callable[[list[Value]], Value]) -> list[Series]:
    groups: dict[tuple[str, ...], dict[float, list[Value]]] = {}
    always = {}
    for one in series:
        always = {name: one.labels[name] for name in ("metric.type", "resource.type")}
        windows = groups.setdefault(tuple(one.labels.get(field, "") for field in fields), {})
        for window, value in one.points.items():
            windows.setdefault(window, []).append(value)
    return [
        Series(
            {**always, **dict(zip(fields, group, strict=True))},
            {window: reduce(windows[window]) for window in sorted(windows, reverse=True)},
        )
        for group, windows in groups.items()
    ]


def _sum(values: list[Value]) -> Value:
    if isinstance(values[0], Histogram):
        return _merged(values)
    total = sum(_number(value) for value in values)
    return round(total) if all(isinstance(value, int) for value in values) else total


def _whole_sum(values: list[Value]) -> Value:
    """Return the sum of counts, whole even where a window's edge cut a minute in two."""
    total = _sum(values)
    return round(total) if isinstance(total, float) else total


def _merged(values: list[Value]) -> Histogram:
    result = Histogram()
    for value in values:
        if isinstance(value, Histogram):
            result.merge(value)
    return result


def _mean(values: list[Value]) -> float:
    if isinstance(values[0], Histogram):
        merged = _merged(values)
        return merged.total / merged.count if merged.count else math.nan
    return sum(_number(value) for value in values) / len(values)


def _percentile(values: list[Value], percent: float) -> float:
    """Return the percentile of a merged histogram, or, of numbers, the percentile of the numbers."""
    if isinstance(values[0], Histogram):
        return _merged(values).percentile(percent)
    numbers = sorted(_number(value) for value in values)
    place = percent / 100 * (len(numbers) - 1)
    lower = math.floor(place)
    upper = min(lower + 1, len(numbers) - 1)
    return numbers[lower] + (numbers[upper] - numbers[lower]) * (place - lower)


def _number(value: Value) -> float:
    if isinstance(value, Histogram):
        raise invalid("This aggregation needs numbers, and the metric is a distribution.", "aggregation")
    return value
