"""Cloud Monitoring: requests, latencies and custom metrics of a service's revisions, by the minute."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache, partial
from typing import Any, TypeVar

import grpc
from google.cloud import monitoring_v3
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from controller.core.counts import Counts, EvidenceInvalid, Histogram
from controller.core.evidence import MINUTE, Measure, Minute, Sample
from controller.core.policy_guards import CustomGuard, Guards
from controller.gateways.calls import Budget, Caller
from controller.gateways.filters import quoted
from controller.gateways.google_errors import translated
from controller.ports import (
    PLAIN,
    DeniedError,
    Metrics,
    Minutes,
    PermanentError,
    ServiceMinutes,
    TransientError,
)

BUDGET = 60.0
"""Seconds for all that a pass reads: several metrics, and all minutes at first."""
COUNT = "run.googleapis.com/request_count"
LATENCIES = "run.googleapis.com/request_latencies"
STARTUPS = "run.googleapis.com/container/startup_latencies"
PENDING = "run.googleapis.com/pending_queue/pending_requests"
INSTANCES = "run.googleapis.com/container/instance_count"
SERVICE = "resource.label.service_name"
REVISION = "resource.label.revision_name"
CODE = "metric.label.response_code"

T = TypeVar("T", int, Histogram)
Place = tuple[str, datetime]
"""A revision, and the end of one of its minutes."""
Samples = Iterator[tuple[Place, Sample]]


@dataclass(frozen=True)
class Query:
    """What is asked of Cloud Monitoring: series by filter, summed by their labels; and on whose behalf."""

    filter: str
    group_by: tuple[str, ...]
    doing: str = field(compare=False)
    aligner: int = monitoring_v3.Aggregation.Aligner.ALIGN_DELTA


@dataclass(frozen=True)
class Reading:
    """The metrics of some revisions of a service, in a time that `ask` knows.

    `problems` gets what is wrong with the metrics of single guards, by their names.
    """

    ask: Callable[[Query], Sequence[Any]]
    of_service: str
    revisions: frozenset[str]
    problems: dict[str, str] = field(default_factory=dict)

    def requests(self) -> Samples:
        """Yield the numbers of requests by response code."""
        query = Query(f'metric.type="{COUNT}" AND {self.of_service}', (REVISION, CODE), f"reading {COUNT}")
        for series in self.ask(query):
            code = series.metric.labels.get("response_code", "")
            for place, value in self._points(series, REVISION):
                yield place, Sample({code: _count(value)})

    def latencies(self) -> Samples:
        """Yield the distributions of latencies."""
        for place, value in self._of_each_revision(LATENCIES):
            if not _is_empty(value):
                yield place, Sample(latencies=_histogram(value))

    def startups(self) -> Samples:
        """Yield the distributions of how long instances took to start."""
        for place, value in self._of_each_revision(STARTUPS):
            if not _is_empty(value):
                yield place, Sample(startups=_histogram(value))

    def room(self) -> Samples:
        """Yield whether requests waited for an instance, and how many instances there were."""
        for place, value in self._of_each_revision(PENDING, monitoring_v3.Aggregation.Aligner.ALIGN_MAX):
            yield place, Sample(waited=Counts(min(_count(value), 1), 1))
        for place, value in self._of_each_revision(INSTANCES, monitoring_v3.Aggregation.Aligner.ALIGN_MAX):
            yield place, Sample(instances=_count(value))

    def _of_each_revision(self, metric: str, aligner: int = Query.aligner) -> Iterator[tuple[Place, Any]]:
        query = Query(
            f'metric.type="{metric}" AND {self.of_service}', (REVISION,), f"reading {metric}", aligner
        )
        for series in self.ask(query):
            yield from self._points(series, REVISION)

    def custom(self, guards: Mapping[str, CustomGuard]) -> Samples:
        """Yield what the metrics of a policy's own guards say; a wrong one must not blind the others."""
        for name, guard in guards.items():
            try:
                measures = self._counts(name, guard) if guard.is_ratio else self._histograms(name, guard)
            except DeniedError:
                raise
            except (EvidenceInvalid, PermanentError) as error:
                self._wrong(name, str(error))
                continue
            for place, measure in measures.items():
                yield place, Sample(custom={name: measure})

    def _wrong(self, name: str, what: str) -> None:
        self.problems[name] = f"{what}; check guards.custom.{name} in the policy"

    def _counts(self, name: str, guard: CustomGuard) -> Mapping[Place, Measure]:
        bad_values = self._values(f"{name}.bad", guard.bad, guard.revision_label)
        total_values = self._values(f"{name}.total", guard.total, guard.revision_label)
        bad = _sums((place, _count(value)) for place, value in bad_values)
        total = _sums((place, _count(value)) for place, value in total_values)
        parts = {}
        for place in bad | total:
            if bad.get(place, 0) > total.get(place, 0):
                revision, end = place
                self._wrong(
                    name,
                    f"bad is {bad[place]} and total {total.get(place, 0)} for {revision} in the minute to"
                    f" {end:%H:%M}, which is left out; bad must be a part of total",
                )
            else:
                parts[place] = Counts(bad.get(place, 0), total[place])
        return parts

    def _histograms(self, name: str, guard: CustomGuard) -> Mapping[Place, Measure]:
        values = self._values(f"{name}.distribution", guard.distribution, guard.revision_label)
        return _sums((place, _histogram(value)) for place, value in values if not _is_empty(value))

    def _values(self, field_name: str, written: str, revision_label: str) -> Iterator[tuple[Place, Any]]:
        """Yield all values that a filter in the policy finds.

        Only Cloud Run's own label of the revision stands beside labels of the region and the service. The
        filter of a metric that has the revision elsewhere is taken as it is written.
        """
        label = revision_label.replace(".labels.", ".label.")
        narrowed = f"{written} AND {self.of_service}" if label == REVISION else written
        for series in self.ask(Query(narrowed, (label,), f"reading guards.custom.{field_name}")):
            yield from self._points(series, label)

    def _points(self, series: Any, label: str) -> Iterator[tuple[Place, Any]]:
        owner, _, key = label.partition(".label.")
        revision = (series.metric if owner == "metric" else series.resource).labels.get(key, "")
        if revision in self.revisions:
            for point in series.points:
                yield (revision, _whole_minute(point.interval.end_time)), point.value


class MonitoringGateway(Metrics):
    """Metrics of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self, project: str, region: str, sleep: Callable[[float], None], channel: grpc.Channel | None = None
    ) -> None:
        self._project = project
        self._region = region
        self._caller = Caller("Cloud Monitoring", sleep)
        with translated("opening Cloud Monitoring", "Cloud Monitoring", "to sign in"):
            self._client = monitoring_v3.MetricServiceClient(
                transport=MetricServiceGrpcTransport(channel=channel) if channel else None
            )

    def read_minutes(
        self,
        service: str,
        revisions: Sequence[str],
        start: datetime,
        end: datetime,
        guards: Guards = PLAIN,
    ) -> Minutes:
        """Return each revision's minutes that end after `start` and not after `end`, both whole minutes."""
        reading = Reading(
            # What several guards have in common is asked once.
            ask=cache(partial(self._list, start=start, end=end, budget=Budget(BUDGET))),
            of_service=f"{self._of_region} AND resource.labels.service_name={quoted(service)}",
            revisions=frozenset(revisions),
        )
        try:
            samples = [*reading.requests(), *reading.latencies(), *reading.custom(guards.custom)]
            samples += reading.startups() if guards.startup else ()
            samples += reading.room() if guards.capacity else ()
            return Minutes(_by_revision(revisions, samples), reading.problems)
        except EvidenceInvalid as invalid:
            raise PermanentError(f"reading the metrics of {service}: {invalid}") from invalid

    def read_services(
        self, start: datetime, end: datetime, services: Sequence[str] = (), *, latencies: bool = True
    ) -> ServiceMinutes:
        """Return the minutes of all services, or of some, with as few calls as of one."""
        names = ", ".join(quoted(service) for service in services)
        chosen = f"{self._of_region} AND resource.labels.service_name=one_of({names})"
        reading = partial(
            self._of_services, chosen if services else self._of_region, start, end, MINUTE, Budget(BUDGET)
        )
        problems: dict[str, str] = {}
        samples = [*reading(COUNT, (CODE,), problems)]
        samples += reading(LATENCIES, (), problems) if latencies else ()
        return ServiceMinutes(_by_place(samples, problems), problems)

    def read_totals(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], Sample]:
        """Return the responses of all services in that time, by service and revision."""
        problems: dict[str, str] = {}
        reading = self._of_services(
            self._of_region, start, end, end - start, Budget(BUDGET), COUNT, (CODE,), problems
        )
        found = _by_place(reading, problems)
        return {place: sum((each.sample for each in parts), start=Sample()) for place, parts in found.items()}

    def _of_services(
        self,
        chosen: str,
        start: datetime,
        end: datetime,
        period: timedelta,
        budget: Budget,
        metric: str,
        labels: tuple[str, ...],
        problems: dict[str, str],
    ) -> Iterator[tuple[tuple[str, str], Minute]]:
        """Yield each point of a metric by service and revision; what is wrong with one blinds only that."""
        query = Query(
            f'metric.type="{metric}" AND {chosen}', (SERVICE, REVISION, *labels), f"reading {metric}"
        )
        for series in self._list(query, start, end, budget, period):
            resource, code = series.resource.labels, series.metric.labels.get("response_code", "")
            service, revision = resource.get("service_name", ""), resource.get("revision_name", "")
            try:
                for point in series.points:
                    if sample := _sample(metric, code, point.value):
                        yield (service, revision), Minute(_whole_minute(point.interval.end_time), sample)
            except EvidenceInvalid as invalid:
                problems[service] = f"reading the metrics of {service}: {invalid}"

    @property
    def _of_region(self) -> str:
        return f'resource.type="cloud_run_revision" AND resource.labels.location={quoted(self._region)}'

    def _list(
        self, query: Query, start: datetime, end: datetime, budget: Budget, period: timedelta = MINUTE
    ) -> Sequence[Any]:
        """Return all series, one point a minute, or a longer period; a series may come in parts."""
        request = monitoring_v3.ListTimeSeriesRequest(
            name=f"projects/{self._project}",
            filter=query.filter,
            interval={"start_time": start, "end_time": end},
            aggregation={
                "alignment_period": period,
                "per_series_aligner": query.aligner,
                "cross_series_reducer": monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
                "group_by_fields": list(query.group_by),
            },
        )

        def whole(asked: Any, **options: Any) -> Any:
            pager = self._client.list_time_series(asked, **options)
            if pager.execution_errors:
                problem = pager.execution_errors[0].message
                raise TransientError(f"{query.doing}: Cloud Monitoring returned only a part ({problem})")
            return pager

        permission = "monitoring.timeSeries.list"
        pages = self._caller.pages(whole, request, doing=query.doing, permission=permission, budget=budget)
        # The client's own wrappers of messages are many times slower to read than the messages inside them.
        return [
            series for page in pages for series in monitoring_v3.ListTimeSeriesResponse.pb(page).time_series
        ]


def _by_revision(
    revisions: Sequence[str], samples: Iterable[tuple[Place, Sample]]
) -> Mapping[str, Sequence[Minute]]:
    """Return each revision's minutes, the oldest first."""
    by_end: dict[str, dict[datetime, Sample]] = {revision: {} for revision in revisions}
    for (revision, end), sample in samples:
        known = by_end[revision]
        known[end] = known.get(end, Sample()) + sample
    return {
        revision: [Minute(end, sample) for end, sample in sorted(known.items())]
        for revision, known in by_end.items()
    }


def _by_place(
    minutes: Iterable[tuple[tuple[str, str], Minute]], problems: dict[str, str]
) -> dict[tuple[str, str], Sequence[Minute]]:
    """Return the minutes of each service and revision, the oldest first."""
    by_end: dict[tuple[str, str], dict[datetime, Sample]] = {}
    for place, minute in minutes:
        known = by_end.setdefault(place, {})
        try:
            known[minute.end] = known[minute.end] + minute.sample if minute.end in known else minute.sample
        except EvidenceInvalid as invalid:
            problems[place[0]] = f"reading the metrics of {place[0]}: {invalid}"
    return {
        place: [Minute(end, sample) for end, sample in sorted(known.items())]
        for place, known in by_end.items()
    }


def _sample(metric: str, code: str, value: Any) -> Sample | None:
    """Return a point as a sample; None where it says nothing."""
    if metric == COUNT:
        return Sample({code: _count(value)})
    return None if _is_empty(value) else Sample(latencies=_histogram(value))


def _sums(values: Iterable[tuple[Place, T]]) -> dict[Place, T]:
    sums: dict[Place, T] = {}
    for place, value in values:
        sums[place] = sums[place] + value if place in sums else value
    return sums


def _whole_minute(moment: Any) -> datetime:
    """Return the minute that a timestamp stands for."""
    return datetime.fromtimestamp((moment.seconds + 30) // 60 * 60, UTC)


def _kind(value: Any) -> str:
    """Return the name of the field that is set."""
    return str(value.WhichOneof("value"))


def _count(value: Any) -> int:
    """Return a whole number whatever type it was sent in; of a distribution, the number of its values."""
    match _kind(value):
        case "int64_value":
            return int(value.int64_value)
        case "double_value":
            number = float(value.double_value)
            if not math.isfinite(number):
                raise EvidenceInvalid(f"Cloud Monitoring sent {number} as a count")
            return round(number)
        case "distribution_value":
            return int(value.distribution_value.count)
        case kind:
            raise EvidenceInvalid(f"Cloud Monitoring sent a {kind} as a count")


def _is_empty(value: Any) -> bool:
    """Say whether a distribution has no values; it may have no buckets then."""
    return _kind(value) == "distribution_value" and not value.distribution_value.count


def _histogram(value: Any) -> Histogram:
    """Read a distribution with the buckets that it says it has; they have changed over the years."""
    kind = _kind(value)
    if kind != "distribution_value":
        raise EvidenceInvalid(f"Cloud Monitoring sent a {kind} as a distribution")
    distribution = value.distribution_value
    bounds = _bounds(distribution.bucket_options)
    counts = list(distribution.bucket_counts)
    if len(counts) > len(bounds) + 1 or sum(counts) != distribution.count:
        raise EvidenceInvalid("Cloud Monitoring sent a distribution whose buckets do not add up")
    counts += [0] * (len(bounds) + 1 - len(counts))
    return Histogram(bounds, tuple(counts))


def _bounds(options: Any) -> tuple[float, ...]:
    """Return the edges of the buckets (google.api.Distribution.BucketOptions)."""
    match options.WhichOneof("options"):
        case "exponential_buckets":
            o = options.exponential_buckets
            return _exponential_bounds(o.scale, o.growth_factor, o.num_finite_buckets)
        case "linear_buckets":
            o = options.linear_buckets
            return tuple(o.offset + o.width * i for i in range(o.num_finite_buckets + 1))
        case "explicit_buckets":
            return tuple(options.explicit_buckets.bounds)
        case kind:
            raise EvidenceInvalid(f"Cloud Monitoring sent a distribution in unknown buckets ({kind})")


@lru_cache(maxsize=16)
def _exponential_bounds(scale: float, growth: float, buckets: int) -> tuple[float, ...]:
    """Return these edges, which come with each minute again."""
    return tuple(scale * growth**i for i in range(buckets + 1))
