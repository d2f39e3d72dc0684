"""How fast the local Cloud Monitoring answers about a whole project, and what counting a request costs.

The answer is 200 services x 2 revisions x 3 response classes x 60 minutes, read by the official client from
the call to the first page. Beside it: the time to build and write the same answer of protobuf objects.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import grpc
from google.cloud import monitoring_v3
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport

from controller.emulator.monitoring.histogram import FINITE_BUCKETS, GROWTH, SCALE, Histogram
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings

SERVICES, MINUTES = 200, 60
REVISIONS = ("one", "two")
CODES = {200: 300, 404: 20, 500: 5}
"""Response codes, and what decides how many requests a minute each has."""
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
ROUNDS = 15
LIMIT_MS = 100.0
LIMIT_RECORD_US = 2.0
GROUP_BY = [
    "resource.label.location",
    "resource.label.service_name",
    "resource.label.revision_name",
    "metric.label.response_code_class",
]
Response: Any = monitoring_v3.ListTimeSeriesResponse.pb()


def fill(metrics: Metrics) -> None:
    """Put an hour of a whole project into the store: latencies in a dozen buckets, and unlike counts."""
    rng = Random(1)
    keys = [
        RevisionKey("local-1", f"service-{number}", f"service-{number}-{revision}")
        for number in range(SERVICES)
        for revision in REVISIONS
    ]
    for key in keys:
        metrics.instance_started(key, START)
    for minute in range(1, MINUTES + 1):
        at = START + timedelta(minutes=minute)
        for key in keys:
            for code, about in CODES.items():
                latencies = Histogram()
                for _ in range(12):
                    times = 1 + rng.randrange(max(2, about // 6))
                    latencies.add(rng.lognormvariate(math.log(80), 0.4), times)
                metrics.record_many(key, code, latencies, at)


def a_request(metric: str) -> monitoring_v3.ListTimeSeriesRequest:
    """Return the call that a controller of a whole project makes."""
    return monitoring_v3.ListTimeSeriesRequest(
        {
            "name": "projects/demo",
            "filter": f'metric.type="run.googleapis.com/{metric}" AND resource.type="cloud_run_revision"',
            "interval": {"start_time": START, "end_time": START + timedelta(minutes=MINUTES)},
            "aggregation": {
                "alignment_period": timedelta(minutes=1),
                "per_series_aligner": "ALIGN_DELTA",
                "cross_series_reducer": "REDUCE_SUM",
                "group_by_fields": GROUP_BY,
            },
        }
    )


def milliseconds(action: Callable[[], object]) -> float:
    """Return how long an action takes."""
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000


def first_page(client: Any, metric: str) -> Any:
    """Return the first page, as protobuf."""
    pages = client.list_time_series(request=a_request(metric), timeout=60).pages
    return monitoring_v3.ListTimeSeriesResponse.pb(next(iter(pages)))


def plain(page: Any) -> list[tuple[Any, list[tuple[int, Any]]]]:
    """Return what a server has before it builds an answer: headers, and end and value of each point."""
    return [
        (
            headers_of(series),
            [(point.interval.end_time.seconds, value_of(point.value)) for point in series.points],
        )
        for series in page.time_series
    ]


def headers_of(series: Any) -> Any:
    """Return a copy without the points."""
    result = type(series)()
    result.CopyFrom(series)
    del result.points[:]
    return result


def value_of(value: Any) -> Any:
    """Return a number, or of a distribution its count, mean, squared deviation and buckets."""
    if value.WhichOneof("value") == "int64_value":
        return value.int64_value
    found = value.distribution_value
    return found.count, found.mean, found.sum_of_squared_deviation, list(found.bucket_counts)


def by_objects(series: Sequence[tuple[Any, list[tuple[int, Any]]]]) -> bytes:
    """Build and write an answer in the plain way, with an object for each point."""
    answer = Response()
    for headers, points in series:
        one = answer.time_series.add()
        one.CopyFrom(headers)
        for end, value in points:
            point = one.points.add()
            point.interval.end_time.seconds = end
            point.interval.start_time.seconds = end - MINUTE
            if isinstance(value, int):
                point.value.int64_value = value
            else:
                set_distribution(point.value.distribution_value, *value)
    encoded: bytes = answer.SerializeToString()
    return encoded


def set_distribution(target: Any, count: int, mean: float, squares: float, buckets: Sequence[int]) -> None:
    """Set all that a distribution holds."""
    target.count, target.mean, target.sum_of_squared_deviation = count, mean, squares
    options = target.bucket_options.exponential_buckets
    options.num_finite_buckets, options.growth_factor, options.scale = FINITE_BUCKETS, GROWTH, SCALE
    target.bucket_counts.extend(buckets)


@dataclass(frozen=True)
class Listing:
    """A metric that was listed, in milliseconds: the calls, and the ways to compare them with."""

    metric: str
    series: int
    points: int
    calls: list[float]
    first: float
    busy: float
    """Processor time of a call, client and server together."""
    objects: float
    """Building the same answer of protobuf objects, alone; the median."""

    @property
    def milliseconds(self) -> float:
        """Return the median of the calls."""
        return statistics.median(self.calls)

    def lines(self) -> list[str]:
        """Return what people read of it."""
        median, ratio = self.milliseconds, self.objects / self.milliseconds
        best, worst = min(self.calls), max(self.calls)
        return [
            f"{self.metric}: {self.series:,} series, {self.points:,} points, {len(self.calls)} rounds",
            f"  a call: median {median:.1f} ms, best {best:.1f}, worst {worst:.1f}, first {self.first:.1f}",
            f"  processor time of a call, client and server together: mean {self.busy:.1f} ms",
            f"  building the answer of objects, alone: {self.objects:.1f} ms, {ratio:.1f} times the call",
        ]


def listing(client: Any, metric: str, rounds: int) -> Listing:
    """Measure one metric; both ways must give the same answer."""
    first = milliseconds(lambda: first_page(client, metric))
    busy = time.process_time()
    calls = [milliseconds(lambda: first_page(client, metric)) for _ in range(rounds)]
    busy = (time.process_time() - busy) * 1000 / rounds
    page = first_page(client, metric)
    series = plain(page)
    if Response.FromString(by_objects(series)).time_series != page.time_series:
        raise SystemExit(f"{metric}: the two ways differ")
    objects = statistics.median(milliseconds(lambda: by_objects(series)) for _ in range(rounds))
    points = sum(len(one.points) for one in page.time_series)
    return Listing(metric, len(series), points, calls, first, busy, objects)


def measure(rounds: int = ROUNDS) -> list[Listing]:
    """Fill a local Cloud Monitoring with an hour of a whole project, and list it by the official client."""
    settings = Settings(runtime=RuntimeKind.SIMULATED, speed=0, start=START)
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with (
        LocalCloudRun.started(settings) as local,
        grpc.insecure_channel(local.grpc_address, options) as channel,
    ):
        local.advance(timedelta(minutes=MINUTES + 5))
        local.measure(fill)
        client = monitoring_v3.MetricServiceClient(transport=MetricServiceGrpcTransport(channel=channel))
        return [listing(client, metric, rounds) for metric in ("request_count", "request_latencies")]


def microseconds_a_record(requests: int = 200_000) -> dict[str, float]:
    """Return what counting one request costs, best of five: without and with a wait for an instance."""
    key, at = RevisionKey("local-1", "web", "web-one"), START + timedelta(seconds=30)

    def best(pending: float) -> float:
        metrics = Metrics()

        def count() -> None:
            for _ in range(requests):
                metrics.record(key, 200, 80.0, at, pending)

        return min(milliseconds(count) for _ in range(5)) * 1000 / requests

    return {"without a wait": best(0.0), "after a wait": best(250.0)}


def main() -> None:
    """Measure, print, and end with 1 if a limit is not held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    listings = measure(parser.parse_args().rounds)
    print("\n".join(line for one in listings for line in one.lines()))
    costs = microseconds_a_record()
    print("counting a request:", ", ".join(f"{cost:.2f} us {case}" for case, cost in costs.items()))
    kept = max(one.milliseconds for one in listings) < LIMIT_MS and max(costs.values()) < LIMIT_RECORD_US
    limits = f"a call under {LIMIT_MS:.0f} ms, counting under {LIMIT_RECORD_US:.0f} us"
    print(f"{limits}: {'kept' if kept else 'NOT kept'}")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
