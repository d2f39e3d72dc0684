"""The points as rows that JSON can hold, to keep them across restarts."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.points import Points, Sample
from controller.emulator.names import RevisionKey


class Row(NamedTuple):
    """One row. The fields before `values` name it: a later row of the same name replaces an earlier one."""

    kind: str
    """requests, total, startups, sample or lifetime."""
    location: str
    service: str
    revision: str
    code: int
    """Of requests and totals; else 0."""
    minute: int
    """Its end in epoch seconds; 0 where the row is about all minutes."""
    values: list[Any]


def rows_of(points: Points, since: int) -> Iterator[Row]:
    """Yield the minutes that end at or after an instant, and all that is about more than a minute."""
    return chain(_requests(points, since), _others(points, since), _lifetimes(points))


def _requests(points: Points, since: int) -> Iterator[Row]:
    for key, by_code in points.requests.items():
        for code, series in by_code.items():
            yield Row("total", *key, code, 0, [series.total, series.first])
            for minute, latencies in series.latencies.items():
                if minute >= since:
                    apart = series.apart.get(minute)
                    values = [_listed(latencies), _listed(apart) if apart else None]
                    yield Row("requests", *key, code, minute, values)


def _others(points: Points, since: int) -> Iterator[Row]:
    for key, startups in points.startups.items():
        for minute, histogram in startups.items():
            if minute >= since:
                yield Row("startups", *key, 0, minute, _listed(histogram))
    for key, samples in points.samples.items():
        for minute, sample in samples.items():
            if minute >= since:
                yield Row("sample", *key, 0, minute, [*sample])


def _lifetimes(points: Points) -> Iterator[Row]:
    """Yield when instances were alive; an open span has no end."""
    for key, lifetime in points.lifetimes.items():
        spans: list[Any] = [[start, end] for start, end in lifetime.spans]
        if lifetime.alive:
            spans.append([lifetime.since, None])
        yield Row("lifetime", *key, 0, 0, spans)


def restore(points: Points, rows: Iterable[Iterable[Any]]) -> None:
    """Put rows into empty points.

    The instances that were alive are not any more: they are taken to have ended with the newest minute.
    """
    read = [Row(*row) for row in rows]
    newest = max((row.minute for row in read), default=0)
    for row in read:
        key = RevisionKey(row.location, row.service, row.revision)
        match row.kind:
            case "total":
                series = points.series_of(key, row.code, row.values[1])
                series.total, series.first = row.values
            case "requests":
                latencies, apart = row.values
                series = points.series_of(key, row.code, row.minute)
                series.latencies[row.minute] = _histogram(latencies)
                series.counts[row.minute] = series.latencies[row.minute].count
                if apart:
                    series.apart[row.minute] = _histogram(apart)
            case "startups":
                points.startups[key][row.minute] = _histogram(row.values)
            case "sample":
                points.samples[key][row.minute] = Sample(*row.values)
            case "lifetime":
                points.lifetimes[key].spans = [
                    (start, max(start, newest) if end is None else end) for start, end in row.values
                ]
            case unknown:
                raise ValueError(f"metrics cannot be restored from a row of the kind {unknown!r}")
        if row.minute:
            points.note_minute(row.minute)


def _listed(histogram: Histogram) -> list[Any]:
    return [histogram.total, histogram.squares, [[*pair] for pair in histogram.buckets.items()]]


def _histogram(listed: list[Any]) -> Histogram:
    result = Histogram()
    result.total, result.squares, buckets = listed
    result.buckets = dict(map(tuple, buckets))
    result.count = sum(result.buckets.values())
    return result
