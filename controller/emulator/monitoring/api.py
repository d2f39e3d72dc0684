"""google.monitoring.v3.MetricService: ListTimeSeries, beside the descriptors."""

from typing import Any

import grpc
from google.cloud import monitoring_v3
from google.protobuf.timestamp_pb2 import Timestamp

from controller.emulator.calls import Call, Method, Methods
from controller.emulator.errors import ApiError, invalid
from controller.emulator.monitoring.alignment import BEYOND
from controller.emulator.monitoring.answer import Page, write_page
from controller.emulator.monitoring.catalog import (
    METRICS,
    RESOURCE,
    RESOURCE_LABELS,
    Metric,
    resource_labels,
)
from controller.emulator.monitoring.descriptors import Descriptors
from controller.emulator.monitoring.filter import Labels, MetricFilter, Named, parse_metric_filter
from controller.emulator.monitoring.grid import SECOND, Grid, Interval, microseconds, since_epoch
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.points import RETENTION
from controller.emulator.monitoring.projects import check_project
from controller.emulator.monitoring.store import Metrics
from controller.emulator.monitoring.table import Shape, Table, is_empty
from controller.emulator.monitoring.time_series import aggregated
from controller.emulator.monitoring.visibility import Visibility
from controller.emulator.settings import Settings

_HEADERS = monitoring_v3.ListTimeSeriesRequest.TimeSeriesView.HEADERS
_Request: Any = monitoring_v3.ListTimeSeriesRequest.pb()
"""Protobuf's own kind: proto-plus fails at instants after the year 9999, and warns of unknown enums."""


class MonitoringApi:
    """Answers from the store of metrics, hiding what Monitoring would not show yet."""

    def __init__(self, settings: Settings, store: Metrics, visibility: Visibility) -> None:
        self._visibility = visibility
        self._project = settings.project
        self._store = store
        self._descriptors = Descriptors(settings.project, settings.visibility_delay, store)

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        return {
            "google.monitoring.v3.MetricService": {
                "ListTimeSeries": Method(self._list_time_series, _Request.FromString, _as_it_is),
                **self._descriptors.methods(),
            },
        }

    def _list_time_series(self, call: Call, request: Any) -> bytes:
        check_project(request.name, self._project, "monitoring.timeSeries.list")
        if request.order_by:
            raise invalid("Field orderBy is not supported and must be left blank.", "order_by")
        wanted = parse_metric_filter(request.filter)
        metric = _metric(wanted.named)
        page = Page.parse(request.page_token, request.page_size, since_epoch(call.now))
        table = self._table(request, metric, wanted, page.read_at)
        return write_page(
            metric.type,
            table,
            page,
            headers_only=request.view == _HEADERS,
            errors=self._visibility.partial_errors,
        )

    def _table(self, request: Any, metric: Metric, wanted: MetricFilter, read_at: int) -> Table:
        """Return the series that are asked for, aggregated once or twice."""
        if request.HasField("secondary_aggregation") and not request.HasField("aggregation"):
            raise invalid(
                "Field secondaryAggregation may only be specified if aggregation is.", "secondary_aggregation"
            )
        interval = _interval(request)
        points = self._points(metric, read_at)
        beyond = request.aggregation.per_series_aligner in BEYOND
        table = self._recorded(metric, wanted, interval.minutes(points, beyond=beyond))
        table = aggregated(table, interval, points, request.aggregation)
        if request.HasField("secondary_aggregation"):
            table = aggregated(table, interval, points, request.secondary_aggregation)
        return table

    def _points(self, metric: Metric, read_at: int) -> Interval:
        """Return the interval in which there can be points that are visible, from and to a whole minute."""
        minute = MINUTE * SECOND
        end = (read_at - microseconds(self._visibility.delay(metric.type))) // minute * minute
        oldest = end if self._store.oldest is None else self._store.oldest * SECOND
        return Interval(max(oldest - minute, (read_at - RETENTION * SECOND) // minute * minute), end)

    def _recorded(self, metric: Metric, wanted: MetricFilter, grid: Grid) -> Table:
        """Return the series that a filter chooses, with their points at the minutes of a grid."""
        minutes = [end // SECOND for end in grid.ends()]
        rows = []
        for recorded in metric.series(self._store):
            labels: Labels = {
                "metric.type": metric.type,
                **resource_labels(self._project, recorded.key),
                **recorded.labels,
            }
            if wanted.matches(labels) and not self._visibility.hides(metric.type, recorded.key):
                row = recorded.read(minutes)
                if not is_empty(row):
                    rows.append((labels, row))
        return Table(Shape(metric.kind, metric.value_type, metric.unit), grid, rows)


def _as_it_is(answer: bytes) -> bytes:
    return answer


def _metric(named: Named) -> Metric:
    """Return the one metric that a filter is about."""
    if len(named.metric_types) != 1:
        raise invalid(
            'The provided filter must specify a single metric type with metric.type = "..."; '
            f"it specifies {len(named.metric_types)}.",
            "filter",
        )
    (metric_type,) = named.metric_types
    if metric_type not in METRICS:
        raise ApiError(
            grpc.StatusCode.NOT_FOUND,
            f'Cannot find metric(s) that match type = "{metric_type}". If a metric was created '
            "recently, it could take up to 10 minutes to become available. Please try again soon.",
        )
    metric = METRICS[metric_type]
    _check_combination(metric, named)
    return metric


def _check_combination(metric: Metric, named: Named) -> None:
    """Refuse another resource, and labels that the metric or its resource does not have."""
    known = {f"metric.labels.{key}" for key in metric.labels}
    known |= {f"resource.labels.{key}" for key in RESOURCE_LABELS}
    labels = {path for path in named.fields if path.startswith(("metric.labels.", "resource.labels."))}
    if labels - known or (named.resource_types and RESOURCE not in named.resource_types):
        raise invalid(
            "The supplied filter does not specify a valid combination of metric and monitored resource "
            "descriptors. The query will not return any time series.",
            "filter",
        )


def _interval(request: Any) -> Interval:
    start, end = (_instant(request.interval, name) for name in ("start_time", "end_time"))
    if start >= end:
        raise invalid(
            "Field interval.startTime must be earlier than interval.endTime.", "interval.start_time"
        )
    return Interval(start, end)


def _instant(interval: Any, name: str) -> int:
    """Return an end of the interval, in microseconds since the epoch."""
    field = {"start_time": "interval.startTime", "end_time": "interval.endTime"}[name]
    if not interval.HasField(name):
        raise invalid(f"Field {field} is required.", f"interval.{name}")
    instant: Timestamp = getattr(interval, name)
    try:
        return instant.ToMicroseconds()
    except ValueError:
        message = f"Field {field} must lie in the years 1 to 9999, with nanos from 0 to 999999999."
        raise invalid(message, f"interval.{name}") from None
