"""google.monitoring.v3.MetricService: ListTimeSeries and the descriptors of the two request metrics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.api import label_pb2, metric_pb2
from google.cloud import monitoring_v3

from controller.emulator.calls import Call, Methods, unary
from controller.emulator.clock import Clock
from controller.emulator.errors import ApiError, invalid
from controller.emulator.instants import instant_of, seconds_of
from controller.emulator.monitoring import store as metrics
from controller.emulator.monitoring.filter import MetricFilter, parse_metric_filter
from controller.emulator.monitoring.store import MINUTE, Cells, Histogram, Lifetime, Metrics
from controller.emulator.monitoring.time_series import Aligner, Interval, Reducer, Series, Value, aggregate
from controller.emulator.settings import Settings

REQUEST_COUNT = "run.googleapis.com/request_count"
REQUEST_LATENCIES = "run.googleapis.com/request_latencies"
RESOURCE = "cloud_run_revision"
LARGEST_PAGE = 100_000
Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
ListTimeSeriesResponse: Any = monitoring_v3.ListTimeSeriesResponse.pb()


@dataclass(frozen=True)
class Page:
    """Where a page begins, and the instant at which the first page was read, so that all pages agree."""

    offset: int
    read_at: float

    @classmethod
    def parse(cls, token: str, now: float) -> "Page":
        """Read a page token; an empty one is the first page."""
        if not token:
            return cls(0, now)
        try:
            offset, read_at = token.split("@")
            return cls(int(offset), float(read_at))
        except ValueError:
            raise invalid(f"Invalid page token '{token}'.", "page_token") from None

    def next(self, size: int) -> str:
        """Return the token of the page after this one."""
        return f"{self.offset + size}@{self.read_at!r}"


class MonitoringApi:
    """Answers from the store of metrics, hiding what Monitoring would not show yet."""

    def __init__(self, clock: Clock, settings: Settings, store: Metrics) -> None:
        self._clock = clock
        self._settings = settings
        self._store = store

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        v3 = monitoring_v3
        descriptor = metric_pb2.MetricDescriptor.SerializeToString
        return {
            "google.monitoring.v3.MetricService": {
                "ListTimeSeries": unary(
                    self._list_time_series,
                    v3.ListTimeSeriesRequest.deserialize,
                    ListTimeSeriesResponse.SerializeToString,
                ),
                "ListMetricDescriptors": unary(
                    self._list_descriptors,
                    v3.ListMetricDescriptorsRequest.deserialize,
                    v3.ListMetricDescriptorsResponse.serialize,
                ),
                "GetMetricDescriptor": unary(
                    self._get_descriptor, v3.GetMetricDescriptorRequest.deserialize, descriptor
                ),
            },
        }

    def _list_time_series(self, call: Call, request: monitoring_v3.ListTimeSeriesRequest) -> Any:
        wanted = parse_metric_filter(request.filter)
        if wanted.metric_type not in {REQUEST_COUNT, REQUEST_LATENCIES}:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                f'Cannot find metric(s) that match type = "{wanted.metric_type}". If a metric was created '
                "recently, it could take up to 10 minutes to become available. Please try again soon.",
            )
        page = Page.parse(request.page_token, call.now.timestamp())
        interval = _interval(request)
        raw = self._raw(wanted, interval, page.read_at)
        series = aggregate(raw, interval, request.aggregation)
        return _answer(series, wanted.metric_type, request, page)

    def _raw(self, wanted: MetricFilter, interval: Interval, read_at: float) -> Iterator[Series]:
        last = min(interval.end, read_at - self._settings.visibility_delay.total_seconds())
        for key, code, cells, lifetime in self._store.series():
            labels = {
                "metric.type": wanted.metric_type,
                "resource.type": RESOURCE,
                "project": self._settings.project,
                "resource.labels.project_id": self._settings.project,
                "resource.labels.location": key.location,
                "resource.labels.service_name": key.service,
                "resource.labels.revision_name": key.revision,
                "resource.labels.configuration_name": key.service,
                "metric.labels.response_code": str(code),
                "metric.labels.response_code_class": f"{code // 100}xx",
                "metric.labels.route": "",
            }
            if wanted.matches(labels):
                points = _points(wanted.metric_type, cells, lifetime, interval.start, last)
                if points:
                    yield Series(labels, points)

    def _list_descriptors(
        self, _: Call, request: monitoring_v3.ListMetricDescriptorsRequest
    ) -> monitoring_v3.ListMetricDescriptorsResponse:
        both = [self._descriptor(REQUEST_COUNT), self._descriptor(REQUEST_LATENCIES)]
        matches = parse_metric_filter(request.filter, one_metric=False).matches if request.filter else None
        found = [one for one in both if matches is None or matches({"metric.type": one.type})]
        return monitoring_v3.ListMetricDescriptorsResponse(metric_descriptors=found)

    def _get_descriptor(
        self, _: Call, request: monitoring_v3.GetMetricDescriptorRequest
    ) -> metric_pb2.MetricDescriptor:
        metric_type = request.name.partition("/metricDescriptors/")[2]
        if metric_type not in {REQUEST_COUNT, REQUEST_LATENCIES}:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND, f"Could not find descriptor for metric '{metric_type}'."
            )
        return self._descriptor(metric_type)

    def _descriptor(self, metric_type: str) -> metric_pb2.MetricDescriptor:
        is_count = metric_type == REQUEST_COUNT
        result = metric_pb2.MetricDescriptor(
            name=f"projects/{self._settings.project}/metricDescriptors/{metric_type}",
            type=metric_type,
            metric_kind=Kind.DELTA,
            value_type=ValueType.INT64 if is_count else ValueType.DISTRIBUTION,
            unit="1" if is_count else "ms",
            display_name="Request Count" if is_count else "Request Latencies",
            monitored_resource_types=[RESOURCE],
            labels=[
                label_pb2.LabelDescriptor(key=key)
                for key in ("response_code", "response_code_class", "route")
            ],
        )
        result.metadata.sample_period.seconds = MINUTE
        result.metadata.ingest_delay.FromTimedelta(self._settings.visibility_delay)
        return result


def _interval(request: monitoring_v3.ListTimeSeriesRequest) -> Interval:
    end = instant_of(request.interval.end_time)
    if end is None:
        raise invalid("Field interval.endTime is required.", "interval.end_time")
    start = instant_of(request.interval.start_time) or end
    if start > end:
        raise invalid("Field interval.startTime must not be after interval.endTime.", "interval")
    return Interval(start.timestamp(), end.timestamp())


def _points(metric: str, cells: Cells, lifetime: Lifetime, start: float, last: float) -> dict[float, Value]:
    """Return what is visible in (start, last]: zeros too, of counts, in minutes with living instances."""
    if metric == REQUEST_LATENCIES:
        return {minute: value for minute, value in cells.latencies.items() if start < minute <= last}
    counts: dict[float, Value] = {}
    if cells.counts:
        first = max(min(cells.counts), metrics.minute_end(start + 1e-6))
        counts = dict.fromkeys(lifetime.minutes(first, int(last)), 0)
    counts.update({minute: value for minute, value in cells.counts.items() if start < minute <= last})
    return counts


def _answer(
    series: list[Series], metric_type: str, request: monitoring_v3.ListTimeSeriesRequest, page: Page
) -> Any:
    """Return one page. Its size counts points, so a series may go on in the next; headers count series."""
    answer = ListTimeSeriesResponse()
    size = min(request.page_size or LARGEST_PAGE, LARGEST_PAGE)
    headers_only = request.view == monitoring_v3.ListTimeSeriesRequest.TimeSeriesView.HEADERS
    skip, left = page.offset, size
    for one in series:
        points = sorted(one.points.items(), reverse=True)
        length = 1 if headers_only else len(points)
        if skip >= length:
            skip -= length
            continue
        if not left:
            answer.next_page_token = page.next(size)
            break
        shown = points[skip : skip + left]
        _describe(
            answer.time_series.add(), one, metric_type, request.aggregation, [] if headers_only else shown
        )
        left -= 1 if headers_only else len(shown)
        if not headers_only and skip + len(shown) < length:
            answer.next_page_token = page.next(size)
            break
        skip = 0
    return answer


def _describe(
    target: Any,
    series: Series,
    metric_type: str,
    aggregation: monitoring_v3.Aggregation,
    points: list[tuple[float, Value]],
) -> None:
    target.metric.type = metric_type
    target.resource.type = RESOURCE
    for path, value in series.labels.items():
        owner, _, label = path.partition(".labels.")
        if label:
            (target.metric if owner == "metric" else target.resource).labels[label] = value
    sample = next(iter(series.points.values()))
    is_delta = aggregation.per_series_aligner in {Aligner.ALIGN_NONE, Aligner.ALIGN_DELTA} and (
        aggregation.cross_series_reducer in {Reducer.REDUCE_NONE, Reducer.REDUCE_SUM}
    )
    target.metric_kind = Kind.DELTA if is_delta else Kind.GAUGE
    target.value_type = _value_type(sample)
    target.unit = "1" if metric_type == REQUEST_COUNT else "ms"
    period = seconds_of(aggregation.alignment_period) or MINUTE
    for end, shown in points:
        point = target.points.add()
        _set_time(point.interval.end_time, end)
        _set_time(point.interval.start_time, end - period if is_delta else end)
        _set_value(point.value, shown)


def _value_type(value: Value) -> int:
    if isinstance(value, Histogram):
        return ValueType.DISTRIBUTION
    return ValueType.INT64 if isinstance(value, int) else ValueType.DOUBLE


def _set_time(target: Any, seconds: float) -> None:
    target.FromNanoseconds(round(seconds * 1e6) * 1000)


def _set_value(target: Any, value: Value) -> None:
    if isinstance(value, int):
        target.int64_value = value
    elif isinstance(value, float):
        target.double_value = value
    else:
        _set_distribution(target.distribution_value, value)


def _set_distribution(target: Any, value: Histogram) -> None:
    target.count = value.count
    options = target.bucket_options.exponential_buckets
    options.num_finite_buckets = metrics.FINITE_BUCKETS
    options.growth_factor = metrics.GROWTH
    options.scale = metrics.SCALE
    if value.count:
        target.mean = value.total / value.count
        target.sum_of_squared_deviation = max(0.0, value.squares - value.total * target.mean)
        target.bucket_counts.extend(value.buckets.get(bucket, 0) for bucket in range(max(value.buckets) + 1))
