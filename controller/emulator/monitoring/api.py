"""google.monitoring.v3.MetricService: ListTimeSeries, beside the descriptors."""

import grpc
from google.cloud import monitoring_v3

from controller.emulator.calls import Call, Methods, unary
from controller.emulator.errors import ApiError, invalid
from controller.emulator.instants import instant_of
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
from controller.emulator.monitoring.projects import check_project
from controller.emulator.monitoring.store import Metrics
from controller.emulator.monitoring.table import Shape, Table, is_empty
from controller.emulator.monitoring.time_series import aggregated
from controller.emulator.monitoring.visibility import Visibility
from controller.emulator.settings import Settings


class MonitoringApi:
    """Answers from the store of metrics, hiding what Monitoring would not show yet."""

    def __init__(self, settings: Settings, store: Metrics, visibility: Visibility) -> None:
        self._visibility = visibility
        self._project = settings.project
        self._store = store
        self._descriptors = Descriptors(settings.project, settings.visibility_delay, store)

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        list_time_series = unary(
            self._list_time_series, monitoring_v3.ListTimeSeriesRequest.deserialize, _as_it_is
        )
        return {
            "google.monitoring.v3.MetricService": {
                "ListTimeSeries": list_time_series,
                **self._descriptors.methods(),
            },
        }

    def _list_time_series(self, call: Call, request: monitoring_v3.ListTimeSeriesRequest) -> bytes:
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
            headers_only=request.view == monitoring_v3.ListTimeSeriesRequest.TimeSeriesView.HEADERS,
            errors=self._visibility.partial_errors,
        )

    def _table(
        self, request: monitoring_v3.ListTimeSeriesRequest, metric: Metric, wanted: MetricFilter, read_at: int
    ) -> Table:
        """Return the series that are asked for, aggregated once or twice."""
        if "secondary_aggregation" in request and "aggregation" not in request:
            raise invalid(
                "Field secondaryAggregation may only be specified if aggregation is.", "secondary_aggregation"
            )
        interval = _interval(request)
        oldest = interval.end if self._store.oldest is None else self._store.oldest * SECOND
        beyond = request.aggregation.per_series_aligner in BEYOND
        table = self._recorded(metric, wanted, interval.minutes(oldest, beyond=beyond), read_at)
        table = aggregated(table, interval, oldest, request.aggregation)
        if "secondary_aggregation" in request:
            table = aggregated(table, interval, oldest, request.secondary_aggregation)
        return table

    def _recorded(self, metric: Metric, wanted: MetricFilter, grid: Grid, read_at: int) -> Table:
        """Return the series that a filter chooses, with the points that are visible."""
        last = read_at - microseconds(self._visibility.delay(metric.type))
        minutes = [end // SECOND for end in grid.ends() if end <= last]
        invisible = [None] * (grid.count - len(minutes))
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
                    rows.append((labels, [*invisible, *row]))
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


def _interval(request: monitoring_v3.ListTimeSeriesRequest) -> Interval:
    start, end = instant_of(request.interval.start_time), instant_of(request.interval.end_time)
    if end is None:
        raise invalid("Field interval.endTime is required.", "interval.end_time")
    if start is None:
        raise invalid("Field interval.startTime is required.", "interval.start_time")
    if start >= end:
        raise invalid(
            "Field interval.startTime must be earlier than interval.endTime.", "interval.start_time"
        )
    return Interval(since_epoch(start), since_epoch(end))
