"""The metrics of Cloud Run that there are: what they are called, what they measure, and their series."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import NamedTuple

from google.api import metric_pb2

from controller.emulator.monitoring.filter import Labels
from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.points import Points, RequestSeries, Sample
from controller.emulator.names import RevisionKey

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType

Value = int | float | Histogram
Row = list[Value | None]
"""Values of consecutive minutes or periods, the newest first; None where there is no point."""

RESOURCE = "cloud_run_revision"
RESOURCE_LABELS: Mapping[str, str] = {
    "project_id": "The project that the revision belongs to.",
    "service_name": "The service that the revision belongs to.",
    "revision_name": "The revision.",
    "location": "The region in which the service runs.",
    "configuration_name": "The configuration that made the revision: the name of the service.",
}
METRIC_LABELS: Mapping[str, str] = {
    "response_code": "The status that the request was answered with.",
    "response_code_class": "The class of that status, such as 2xx.",
    "route": "The route by which the request came; always empty here.",
    "state": "Whether the instance is active or idle.",
}
NUMBERS = frozenset({"response_code"})
"""Labels that hold whole numbers; the others hold text."""


class Recorded(NamedTuple):
    """One series as it was recorded: whose it is, its metric's labels, and how to read some minutes of it."""

    key: RevisionKey
    labels: Labels
    read: Callable[[Sequence[int]], Row]


@dataclass(frozen=True)
class Metric:
    """One type of metric."""

    type: str
    title: str
    description: str
    kind: Kind
    value_type: ValueType
    unit: str
    labels: tuple[str, ...]
    series: Callable[[Points], Iterator[Recorded]]


def _by_answer(
    read: Callable[[RequestSeries, "_AliveMinutes", Sequence[int]], Row],
) -> Callable[[Points], Iterator[Recorded]]:
    """Return how to find the series by response code; `read` may ask when instances were alive."""

    def series(points: Points) -> Iterator[Recorded]:
        for key, by_code in points.requests.items():
            alive = _AliveMinutes(points, key)
            for code, one in by_code.items():
                yield Recorded(key, _answer_labels(code), partial(read, one, alive))

    return series


@lru_cache(maxsize=1024)
def _answer_labels(code: int) -> Labels:
    return {
        "metric.labels.response_code": str(code),
        "metric.labels.response_code_class": f"{code // 100}xx",
        "metric.labels.route": "",
    }


class _AliveMinutes:
    """The minutes in which a revision had instances, looked up once for all its response codes."""

    def __init__(self, points: Points, key: RevisionKey) -> None:
        self._lifetime = points.lifetimes.get(key)
        self._found: frozenset[int] | None = None

    def __call__(self, minutes: Sequence[int]) -> frozenset[int]:
        if self._found is None:
            self._found = self._lifetime.among(minutes) if self._lifetime else frozenset()
        return self._found


def _counts(series: RequestSeries, alive_minutes: _AliveMinutes, minutes: Sequence[int]) -> Row:
    """Return the requests of each minute; 0 in minutes without any in which an instance was alive."""
    row: Row = [*map(series.counts.get, minutes)]
    if None not in row:
        return row
    alive, first = alive_minutes(minutes), series.first
    return [
        0 if value is None and minute in alive and minute > first else value
        for minute, value in zip(minutes, row, strict=True)
    ]


def _latencies(series: RequestSeries, _: _AliveMinutes, minutes: Sequence[int]) -> Row:
    """Return the latencies of each minute; nothing at all of minutes without requests."""
    return [*map(series.latencies.get, minutes)]


def _end_to_end(series: RequestSeries, _: _AliveMinutes, minutes: Sequence[int]) -> Row:
    row = [*map(series.latencies.get, minutes)]
    return [series.apart.get(minute, value) for minute, value in zip(minutes, row, strict=True)]


def _sampled(minutes: Mapping[int, Sample], pick: Callable[[Sample], int], wanted: Sequence[int]) -> Row:
    return [pick(sample) if (sample := minutes.get(minute)) else None for minute in wanted]


def _pending(points: Points) -> Iterator[Recorded]:
    for key, minutes in points.samples.items():
        yield Recorded(key, {}, partial(_sampled, minutes, attrgetter("pending")))


def _instances(points: Points) -> Iterator[Recorded]:
    for key, minutes in points.samples.items():
        for state in ("active", "idle"):
            yield Recorded(key, {"metric.labels.state": state}, partial(_sampled, minutes, attrgetter(state)))


def _startups(points: Points) -> Iterator[Recorded]:
    for key, minutes in points.startups.items():
        yield Recorded(key, {}, partial(_started, minutes))


def _started(minutes: Mapping[int, Histogram], wanted: Sequence[int]) -> Row:
    return [minutes.get(minute) for minute in wanted]


_ANSWER = ("response_code", "response_code_class", "route")

METRICS: Mapping[str, Metric] = {
    metric.type: metric
    for metric in (
        Metric(
            "run.googleapis.com/request_count",
            "Request Count",
            "Requests that reached an instance, counted when they end; not those that no instance took.",
            Kind.DELTA,
            ValueType.INT64,
            "1",
            _ANSWER,
            _by_answer(_counts),
        ),
        Metric(
            "run.googleapis.com/request_latencies",
            "Request Latencies",
            "Time from a request's arrival in the container until it has left; starting is not in.",
            Kind.DELTA,
            ValueType.DISTRIBUTION,
            "ms",
            _ANSWER,
            _by_answer(_latencies),
        ),
        Metric(
            "run.googleapis.com/request_latency/e2e_latencies",
            "End-to-end Request Latencies",
            "Time from a request's arrival at the front until it is answered, with the wait for an instance.",
            Kind.DELTA,
            ValueType.DISTRIBUTION,
            "ms",
            _ANSWER,
            _by_answer(_end_to_end),
        ),
        Metric(
            "run.googleapis.com/pending_queue/pending_requests",
            "Pending Requests",
            "Requests that wait for an instance.",
            Kind.GAUGE,
            ValueType.INT64,
            "1",
            (),
            _pending,
        ),
        Metric(
            "run.googleapis.com/container/instance_count",
            "Instance Count",
            "Instances that exist, by whether they serve a request.",
            Kind.GAUGE,
            ValueType.INT64,
            "1",
            ("state",),
            _instances,
        ),
        Metric(
            "run.googleapis.com/container/startup_latencies",
            "Container Startup Latencies",
            "Time that new instances took until they listened.",
            Kind.DELTA,
            ValueType.DISTRIBUTION,
            "ms",
            (),
            _startups,
        ),
    )
}


@lru_cache(maxsize=1 << 14)
def resource_labels(project: str, key: RevisionKey) -> Labels:
    """Return the labels of a revision as a monitored resource."""
    return {
        "resource.type": RESOURCE,
        "project": project,
        "resource.labels.project_id": project,
        "resource.labels.service_name": key.service,
        "resource.labels.revision_name": key.revision,
        "resource.labels.location": key.location,
        "resource.labels.configuration_name": key.service,
    }
