"""How long ListTimeSeries takes over 200 services of two revisions and three classes for an hour.

`make bench-front` runs it too; by itself it prints one line, with --json as JSON.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
from google.cloud import monitoring_v3
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings

SERVICES, REVISIONS, CODES, MINUTES = 200, ("a", "b"), (200, 404, 500), 60
GROUPED = [
    "resource.label.location",
    "resource.label.service_name",
    "resource.label.revision_name",
    "metric.label.response_code_class",
]


@dataclass(frozen=True)
class Listing:
    """What was listed, and the milliseconds it took (best of the rounds)."""

    metric: str
    series: int
    points: int
    milliseconds: float


def fill(metrics: Metrics, start: datetime) -> None:
    """Record a request in each minute of each series."""
    for minute in range(MINUTES):
        at = start + timedelta(minutes=minute, seconds=30)
        for service in range(SERVICES):
            for revision in REVISIONS:
                key = RevisionKey("local-1", f"service-{service}", f"service-{service}-{revision}")
                for code in CODES:
                    metrics.record(key, code, 20.0 + minute, at)


def measure(rounds: int = 10) -> list[Listing]:
    """Fill the store, and list it through the official client."""
    with LocalCloudRun.started(Settings(runtime=RuntimeKind.SIMULATED, speed=0)) as local:
        start = local.now()
        local._do(lambda: fill(local._emulator.metrics, start))  # noqa: SLF001 - nobody else fills it so fast
        local.advance(timedelta(minutes=MINUTES + 5))
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            client = monitoring_v3.MetricServiceClient(transport=MetricServiceGrpcTransport(channel=channel))
            return [
                listing(client, metric, start, rounds) for metric in ("request_count", "request_latencies")
            ]


def listing(client: monitoring_v3.MetricServiceClient, metric: str, start: datetime, rounds: int) -> Listing:
    """Return how long the fastest of several rounds takes."""
    request = monitoring_v3.ListTimeSeriesRequest(
        name="projects/demo",
        filter=f'metric.type="run.googleapis.com/{metric}" AND resource.type="cloud_run_revision"',
        interval=monitoring_v3.TimeInterval(start_time=start, end_time=start + timedelta(minutes=MINUTES)),
        aggregation=monitoring_v3.Aggregation(
            alignment_period=timedelta(seconds=60),
            per_series_aligner=monitoring_v3.Aggregation.Aligner.ALIGN_DELTA,
            cross_series_reducer=monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
            group_by_fields=GROUPED,
        ),
    )
    best, series, points = float("inf"), 0, 0
    for _ in range(rounds):
        begun = time.perf_counter()
        # Pages as they come, so that reading the answer is left out as far as can be.
        pages = list(client.list_time_series(request=request, timeout=60).pages)
        best = min(best, (time.perf_counter() - begun) * 1000)
        found = [one for page in pages for one in type(page).pb(page).time_series]
        series, points = (
            len({one.SerializeToString() for one in found}),
            sum(len(one.points) for one in found),
        )
    return Listing(metric, series, points, best)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds)
    if options.json:
        print(json.dumps([one.__dict__ for one in found]))
    else:
        for one in found:
            print(f"{one.metric}: {one.series} series, {one.points} points, {one.milliseconds:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
