"""Cloud Monitoring: request counts and latency histograms of a service's revisions, by the minute."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.cloud import monitoring_v3
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from controller.core.counts import EvidenceInvalid, Histogram
from controller.core.evidence import Minute, Sample
from controller.gateways.google_errors import READ_TIMEOUT, retried, translated
from controller.ports import Metrics, PermanentError, TransientError

COUNT = "run.googleapis.com/request_count"
LATENCIES = "run.googleapis.com/request_latencies"
REVISION = "resource.label.revision_name"
CODE = "metric.label.response_code"

Samples = dict[str, dict[datetime, Sample]]


class MonitoringGateway(Metrics):
    """Metrics of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self, project: str, region: str, sleep: Callable[[float], None], channel: grpc.Channel | None = None
    ) -> None:
        self._project = project
        self._region = region
        self._sleep = sleep
        with translated("opening Cloud Monitoring", "Cloud Monitoring", "to sign in"):
            self._client = monitoring_v3.MetricServiceClient(
                transport=MetricServiceGrpcTransport(channel=channel) if channel else None
            )

    def read_minutes(
        self, service: str, revisions: Sequence[str], start: datetime, end: datetime
    ) -> Mapping[str, Sequence[Minute]]:
        """Return each revision's minutes that end after `start` and not after `end`, both whole minutes."""
        try:
            return self._read_minutes(service, revisions, start, end)
        except EvidenceInvalid as invalid:
            raise PermanentError(f"reading the metrics of {service}: {invalid}") from invalid

    def _read_minutes(
        self, service: str, revisions: Sequence[str], start: datetime, end: datetime
    ) -> Mapping[str, Sequence[Minute]]:
        samples: Samples = {revision: {} for revision in revisions}
        for series in self._list(service, COUNT, (REVISION, CODE), start, end):
            code = series.metric.labels.get("response_code", "")
            _add(samples, series, lambda value: Sample({code: _count(value)}))  # noqa: B023 -- used at once
        for series in self._list(service, LATENCIES, (REVISION,), start, end):
            _add(samples, series, lambda value: Sample(latencies=_histogram(value)))
        return {
            revision: [Minute(moment, sample) for moment, sample in sorted(by_minute.items())]
            for revision, by_minute in samples.items()
        }

    def _list(
        self, service: str, metric: str, group_by: Sequence[str], start: datetime, end: datetime
    ) -> Iterable[Any]:
        """Return all series of a metric, one point a minute; a series may come in parts."""
        request = monitoring_v3.ListTimeSeriesRequest(
            name=f"projects/{self._project}",
            filter=(
                f'metric.type="{metric}" AND resource.type="cloud_run_revision"'
                f' AND resource.labels.location="{self._region}" AND resource.labels.service_name="{service}"'
            ),
            interval={"start_time": start, "end_time": end},
            aggregation={
                "alignment_period": timedelta(minutes=1),
                "per_series_aligner": monitoring_v3.Aggregation.Aligner.ALIGN_DELTA,
                "cross_series_reducer": monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
                "group_by_fields": list(group_by),
            },
        )

        def read() -> list[Any]:
            with translated(f"reading {metric}", "Cloud Monitoring", "monitoring.timeSeries.list"):
                pages = self._client.list_time_series(request, timeout=READ_TIMEOUT, retry=None).pages
                return [series for page in pages for series in _complete(page, metric)]

        return retried(read, self._sleep)


def _complete(page: Any, metric: str) -> Iterable[Any]:
    if page.execution_errors:
        raise TransientError(
            f"reading {metric}: Cloud Monitoring returned only a part ({page.execution_errors[0].message})"
        )
    series: Iterable[Any] = page.time_series
    return series


def _add(samples: Samples, series: Any, sample_of: Callable[[Any], Sample]) -> None:
    by_minute = samples.get(series.resource.labels.get("revision_name", ""))
    if by_minute is None:
        return
    for point in series.points:
        end = _whole_minute(point.interval.end_time)
        by_minute[end] = by_minute.get(end, Sample()) + sample_of(point.value)


def _whole_minute(moment: datetime) -> datetime:
    """Return a plain datetime for the client's own kind of timestamp, on the minute it stands for."""
    nearest = moment + timedelta(seconds=30)
    return datetime(
        nearest.year, nearest.month, nearest.day, nearest.hour, nearest.minute, tzinfo=nearest.tzinfo
    )


def _count(value: Any) -> int:
    """Return a whole number whatever type it was sent in."""
    kind = value._pb.WhichOneof("value")  # noqa: SLF001 -- proto-plus hides which field is set
    if kind == "int64_value":
        return int(value.int64_value)
    if kind == "double_value":
        number = float(value.double_value)
        if not math.isfinite(number):
            raise EvidenceInvalid(f"Cloud Monitoring sent {number} as a count of requests")
        return round(number)
    raise EvidenceInvalid(f"Cloud Monitoring sent a {kind} as a count of requests")


def _histogram(value: Any) -> Histogram:
    """Read a distribution with the buckets that it says it has; they have changed over the years."""
    kind = value._pb.WhichOneof("value")  # noqa: SLF001
    if kind != "distribution_value":
        raise EvidenceInvalid(f"Cloud Monitoring sent a {kind} as latencies")
    distribution = value._pb.distribution_value  # noqa: SLF001
    bounds = _bounds(distribution.bucket_options)
    counts = list(distribution.bucket_counts)
    if len(counts) > len(bounds) + 1 or sum(counts) != distribution.count:
        raise EvidenceInvalid("Cloud Monitoring sent latencies whose buckets do not add up")
    counts += [0] * (len(bounds) + 1 - len(counts))
    return Histogram(bounds, tuple(counts))


def _bounds(options: Any) -> tuple[float, ...]:
    """Return the edges of the buckets (google.api.Distribution.BucketOptions)."""
    match options.WhichOneof("options"):
        case "exponential_buckets":
            o = options.exponential_buckets
            return tuple(o.scale * o.growth_factor**i for i in range(o.num_finite_buckets + 1))
        case "linear_buckets":
            o = options.linear_buckets
            return tuple(o.offset + o.width * i for i in range(o.num_finite_buckets + 1))
        case "explicit_buckets":
            return tuple(options.explicit_buckets.bounds)
        case kind:
            raise EvidenceInvalid(f"Cloud Monitoring sent latencies in unknown buckets ({kind})")
