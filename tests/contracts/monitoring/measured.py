"""Points that a test puts into the store of metrics itself, and how it asks Monitoring for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud import monitoring_v3

from contracts.conftest import SECONDS, Google
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey

MINUTE = timedelta(minutes=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""Where the clock starts."""
ONE = RevisionKey("local-1", "web", "web-one")
TWO = RevisionKey("local-1", "web", "web-two")

COUNT = "run.googleapis.com/request_count"
LATENCIES = "run.googleapis.com/request_latencies"
END_TO_END = "run.googleapis.com/request_latency/e2e_latencies"
PENDING = "run.googleapis.com/pending_queue/pending_requests"
INSTANCES = "run.googleapis.com/container/instance_count"
STARTUPS = "run.googleapis.com/container/startup_latencies"


def after(minutes: float) -> datetime:
    """Return an instant, in minutes from the start."""
    return START + minutes * MINUTE


@dataclass
class Measured:
    """The local Cloud Run three hours after its start, with what was measured meanwhile."""

    google: Google

    def record(
        self,
        minutes: float,
        *latencies: float,
        code: int = 200,
        key: RevisionKey = ONE,
        pending: float = 0.0,
    ) -> None:
        """Let requests of these latencies end at an instant."""

        def record(metrics: Metrics) -> None:
            for latency in latencies:
                metrics.record(key, code, latency, after(minutes), pending)

        self.google.local.measure(record)

    def counts(self, counts: Sequence[int], *, code: int = 200, key: RevisionKey = ONE) -> None:
        """Let so many requests of 80 ms end in the first minute, the second, and so on."""
        for position, count in enumerate(counts):
            self.record(position + 1, *[80.0] * count, code=code, key=key)

    def alive(self, begin: float, end: float | None = None, *, key: RevisionKey = ONE) -> None:
        """Let an instance be alive between two instants, or from one on."""
        self.google.local.measure(lambda metrics: metrics.instance_started(key, after(begin)))
        if end is not None:
            self.google.local.measure(lambda metrics: metrics.instance_stopped(key, after(end)))

    def sample(
        self, minutes: float, *, active: int = 0, idle: int = 0, pending: int = 0, key: RevisionKey = ONE
    ) -> None:
        """Let there be so many instances and waiting requests at a whole minute."""
        self.google.local.measure(
            lambda metrics: metrics.sample(key, after(minutes), active=active, idle=idle, pending=pending)
        )

    def ask(
        self,
        metric: str = COUNT,
        text: str = "",
        start: float | None = 0,
        end: float | None = 10,
        **more: Any,
    ) -> list[Any]:
        """Return the series of a metric between two instants; `more` are fields of the request."""
        return list(self.pages(metric, text, start, end, **more))

    def pages(
        self,
        metric: str = COUNT,
        text: str = "",
        start: float | None = 0,
        end: float | None = 10,
        **more: Any,
    ) -> Any:
        """Return the answer, which can be gone through by series or by pages."""
        times = {"start_time": start, "end_time": end}
        fields = {
            "name": "projects/demo",
            "filter": f'metric.type="{metric}" {text}',
            "interval": {name: after(at) for name, at in times.items() if at is not None},
            **more,
        }
        request = monitoring_v3.ListTimeSeriesRequest(fields)
        return self.google.metrics.list_time_series(request=request, timeout=SECONDS)

    def aligned(
        self,
        aligner: str,
        metric: str = COUNT,
        *,
        reducer: str = "REDUCE_NONE",
        by: Sequence[str] = (),
        period: float = 1,
        start: float = 0,
        end: float = 10,
        text: str = "",
    ) -> list[Any]:
        """Return the aligned and perhaps reduced series; the period in minutes."""
        aggregation = {
            "alignment_period": period * MINUTE,
            "per_series_aligner": aligner,
            "cross_series_reducer": reducer,
            "group_by_fields": by,
        }
        return self.ask(metric, text, start, end, aggregation=aggregation)


def ends(series: Any) -> list[float]:
    """Return when the points of a series end, in minutes from the start, in their order."""
    return [(point.interval.end_time - START) / MINUTE for point in series.points]


def begins(series: Any) -> list[float]:
    """Return when they begin."""
    return [(point.interval.start_time - START) / MINUTE for point in series.points]


def integers(series: Any) -> list[int]:
    """Return the values of points that are whole numbers."""
    return [_value(point, "int64_value") for point in series.points]


def doubles(series: Any) -> list[float]:
    """Return the values of points that are floating-point numbers."""
    return [_value(point, "double_value") for point in series.points]


def sizes(series: Any) -> list[int]:
    """Return the counts of points that are distributions."""
    return [_value(point, "distribution_value").count for point in series.points]


def _value(point: Any, kind: str) -> Any:
    set_field = monitoring_v3.TypedValue.pb(point.value).WhichOneof("value")
    assert set_field == kind, f"a point holds {set_field}, not {kind}"
    return getattr(point.value, kind)


def measured_by(google: Google) -> Measured:
    """Let three hours pass, so that all that is recorded in them is visible."""
    google.local.advance(timedelta(hours=3))
    return Measured(google)
