"""Guards on any metric: what their filters find in Cloud Monitoring, and what is said where it is wrong."""

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.api import distribution_pb2
from google.cloud import monitoring_v3

from contracts.conftest import Google, to
from controller.core.counts import Counts, Histogram
from controller.core.evidence import Minute, Sample
from controller.core.policy_guards import CustomGuard, Guards
from controller.gateways.monitoring import MonitoringGateway

from .test_monitoring import busy

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
COUNT = 'metric.type="run.googleapis.com/request_count"'
LATENCIES = 'metric.type="run.googleapis.com/request_latencies"'
FAILED = f'{COUNT} AND metric.labels.response_code="500"'
FAILURES = CustomGuard(bad=FAILED, total=COUNT)
GOOD_ANSWERS = CustomGuard(distribution=f'{LATENCIES} AND metric.labels.response_code_class="2xx"')


def a_gateway(channel: grpc.Channel) -> MonitoringGateway:
    return MonitoringGateway("demo", "local-1", lambda _: None, channel)


def read(
    google: Google,
    span: tuple[datetime, datetime],
    revisions: Sequence[str] = ("web-one", "web-two"),
    **guards: CustomGuard,
) -> Mapping[str, Sequence[Minute]]:
    return a_gateway(google.channel).read_minutes("web", revisions, *span, Guards(custom=guards)).of


def problem(google: Google, guard: CustomGuard, span: tuple[datetime, datetime] | None = None) -> str:
    """Return what is said of a guard, which keeps nothing else from being read."""
    now = google.local.now().replace(second=0, microsecond=0)
    pair, times = ("web-one", "web-two"), span or (now - 5 * MINUTE, now)
    guards = {"mine": guard, "fine": FAILURES}
    found = a_gateway(google.channel).read_minutes("web", pair, *times, Guards(custom=guards))
    if span:
        assert all(sample.codes and sample.custom.keys() == {"fine"} for sample in sums(found.of).values())
    assert found.problems.keys() == {"mine"}
    assert found.problems["mine"].endswith("; check guards.custom.mine in the policy")
    return found.problems["mine"]


def sums(minutes: Mapping[str, Sequence[Minute]]) -> dict[str, Sample]:
    return {
        revision: sum((minute.sample for minute in found), Sample()) for revision, found in minutes.items()
    }


@pytest.fixture
def span(google: Google) -> tuple[datetime, datetime]:
    """The minutes in which half of the users met web-one, which never fails, and half web-two, which may."""
    google.two_revisions(ERROR_SHARE="0.1")
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    return busy(google, minutes=3)


@pytest.mark.scenario(33)
def test_a_share_is_what_is_bad_of_the_total_in_each_minute(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    minutes = read(google, span, failures=FAILURES)
    assert [len(found) for found in minutes.values()] == [3, 3]
    for sample in (minute.sample for found in minutes.values() for minute in found):
        assert sample.custom == {"failures": Counts(sample.codes.get("500", 0), sample.requests)}


def test_nothing_is_bad_where_there_is_no_series_of_what_is_bad(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    found = sums(read(google, span, failures=FAILURES))
    assert found["web-one"].custom["failures"] == Counts(0, found["web-one"].requests)
    assert found["web-two"].custom["failures"] == Counts(
        found["web-two"].codes["500"], found["web-two"].requests
    )


def test_a_distribution_holds_what_its_filter_chooses(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    everything = CustomGuard(distribution=LATENCIES)
    for sample in sums(read(google, span, good=GOOD_ANSWERS, everything=everything)).values():
        good = sample.custom["good"]
        assert isinstance(good, Histogram)
        assert good.total == sample.codes["200"] > 0
        assert sample.custom["everything"] == sample.latencies


def test_of_a_distribution_in_a_share_its_values_are_counted(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    guard = CustomGuard(bad=FAILED, total=LATENCIES)
    found = sums(read(google, span, mixed=guard, failures=FAILURES))
    assert found["web-two"].custom["mixed"] == found["web-two"].custom["failures"]


def test_a_metric_that_says_nothing_of_a_revision_is_left_out(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    refused = CustomGuard(distribution=f'{LATENCIES} AND metric.labels.response_code_class="4xx"')
    failed = CustomGuard(distribution=f'{LATENCIES} AND metric.labels.response_code_class="5xx"')
    found = sums(read(google, span, refused=refused, failed=failed))
    assert [set(sample.custom) for sample in found.values()] == [set(), {"failed"}]


def test_without_guards_of_its_own_a_policy_reads_nothing_more(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    assert all(not sample.custom for sample in sums(read(google, span)).values())


def test_only_the_service_s_own_revisions_are_read(google: Google) -> None:
    google.create("web", revision="web-one")
    google.create("shop", revision="shop-one")
    google.settle()
    google.local.users("shop", rps=20)
    found = sums(read(google, busy(google, minutes=2), ("web-one", "shop-one"), failures=FAILURES))
    assert found["web-one"].custom["failures"] == Counts(0, found["web-one"].requests)
    assert not found["shop-one"].custom


def test_a_revision_in_a_label_of_the_metric_is_found_as_the_filter_says(google: Google) -> None:
    google.create("web", revision="web-one", ERROR_SHARE="0.1")
    google.create("shop", revision="shop-one", ERROR_SHARE="0.1")
    google.settle()
    google.local.users("shop", rps=20)
    by_code = {"bad": COUNT, "total": COUNT, "revision_label": "metric.labels.response_code"}
    of_web = {**by_code, "total": f'{COUNT} AND resource.labels.service_name="web"'}
    of_web["bad"] = of_web["total"]
    span = busy(google, minutes=2)
    # The emulator's metrics have no label of that kind; the codes stand for the names of two revisions.
    guards = {"all": CustomGuard(**by_code), "web": CustomGuard(**of_web)}
    found = sums(read(google, span, ("200", "500"), **guards))
    web = sums(read(google, span, ("web-one",)))["web-one"]
    for code in ("200", "500"):
        everywhere, here = found[code].custom["all"], found[code].custom["web"]
        assert here == Counts(web.codes[code], web.codes[code])
        assert isinstance(everywhere, Counts)
        assert everywhere.total > web.codes[code]


def test_the_same_label_may_be_written_in_the_singular(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    singular = CustomGuard(bad=FAILED, total=COUNT, revision_label="resource.label.revision_name")
    for sample in sums(read(google, span, one=singular, other=FAILURES)).values():
        assert sample.custom["one"] == sample.custom["other"]


def test_an_unknown_metric_is_named_with_its_guard(google: Google) -> None:
    unknown = CustomGuard(bad='metric.type="custom.googleapis.com/nowhere"', total=COUNT)
    said = problem(google, unknown)
    assert said.startswith("reading guards.custom.mine.bad: ")
    assert "custom.googleapis.com/nowhere" in said


def test_a_filter_that_cloud_monitoring_refuses_is_named_with_its_guard(google: Google) -> None:
    said = problem(google, CustomGuard(bad=COUNT, total=f"{COUNT} AND nonsense=1"))
    assert said.startswith("reading guards.custom.mine.total: ")
    assert "position" in said


def test_a_minute_with_more_bad_than_total_is_left_out_and_named(
    google: Google, span: tuple[datetime, datetime]
) -> None:
    said = problem(
        google, CustomGuard(bad=COUNT, total=f'{COUNT} AND metric.labels.response_code="404"'), span
    )
    assert re.match(r"bad is \d+ and total 0 for web-", said)
    assert "bad must be a part of total" in said


def test_a_number_is_no_distribution(google: Google, span: tuple[datetime, datetime]) -> None:
    assert "a int64_value as a distribution" in problem(google, CustomGuard(distribution=COUNT), span)


# --- metrics of other shapes than the local Cloud Run's own ---


@dataclass
class Metrics:
    """Answers to ListTimeSeries: the values of each metric, all of one revision and minute."""

    values: Mapping[str, Sequence[monitoring_v3.TypedValue]]
    asked: list[str] = field(default_factory=list)

    def list(
        self, request: monitoring_v3.ListTimeSeriesRequest, _: Any
    ) -> monitoring_v3.ListTimeSeriesResponse:
        self.asked.append(request.filter)
        found = [
            value for name, values in self.values.items() if f'"{name}"' in request.filter for value in values
        ]
        return monitoring_v3.ListTimeSeriesResponse(time_series=[a_series(value) for value in found])


def a_series(value: monitoring_v3.TypedValue) -> monitoring_v3.TimeSeries:
    interval = monitoring_v3.TimeInterval(start_time=NOON - MINUTE, end_time=NOON)
    return monitoring_v3.TimeSeries(
        metric={"labels": {"revision": "web-one"}},
        points=[monitoring_v3.Point(interval=interval, value=value)],
    )


@contextmanager
def served(metrics: Metrics) -> Iterator[grpc.Channel]:
    handler = grpc.unary_unary_rpc_method_handler(
        metrics.list,
        request_deserializer=monitoring_v3.ListTimeSeriesRequest.deserialize,
        response_serializer=monitoring_v3.ListTimeSeriesResponse.serialize,
    )
    server = grpc.server(futures.ThreadPoolExecutor(1))
    service = "google.monitoring.v3.MetricService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"ListTimeSeries": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            yield channel
    finally:
        server.stop(None).wait()


def measured(guard: dict[str, str], **values: monitoring_v3.TypedValue) -> object:
    """Return what a guard finds where each metric has one value, what is wrong with it, or nothing."""
    mine = CustomGuard(**guard, revision_label="metric.labels.revision")
    with served(Metrics({name: [value] for name, value in values.items()})) as channel:
        read = a_gateway(channel).read_minutes(
            "web", ["web-one"], NOON - MINUTE, NOON, Guards(custom={"mine": mine})
        )
    found = [minute.sample.custom.get("mine") for minute in read.of["web-one"]]
    return found[0] if found else read.problems.get("mine")


SHARE = {"bad": 'metric.type="b"', "total": 'metric.type="t"'}
DISTRIBUTION = {"distribution": 'metric.type="d"'}


def a_number(value: float) -> monitoring_v3.TypedValue:
    return monitoring_v3.TypedValue(double_value=value)


def a_distribution(counts: Sequence[int], **buckets: Any) -> monitoring_v3.TypedValue:
    return monitoring_v3.TypedValue(
        distribution_value=distribution_pb2.Distribution(
            count=sum(counts),
            bucket_counts=counts,
            bucket_options=distribution_pb2.Distribution.BucketOptions(**buckets),
        )
    )


@pytest.mark.scenario(33)
def test_counts_that_come_as_fractions_are_rounded() -> None:
    assert measured(SHARE, b=a_number(2.0000001), t=a_number(9.6)) == Counts(2, 10)


def test_what_is_bad_of_nothing_is_unreadable() -> None:
    said = measured(SHARE, b=a_number(2))
    assert "bad is 2 and total 0 for web-one in the minute to 12:00" in str(said)


@pytest.mark.scenario(32)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_count_that_cannot_be_is_unreadable(value: float) -> None:
    said = measured(SHARE, b=a_number(min(value, 0)), t=a_number(value))
    assert re.search("as a count|cannot be", str(said))


def test_a_text_is_no_count() -> None:
    said = measured(SHARE, t=monitoring_v3.TypedValue(string_value="5"))
    assert "a string_value as a count" in str(said)


@pytest.mark.scenario(33)
@pytest.mark.parametrize(
    ("buckets", "bounds"),
    [
        ({"explicit_buckets": {"bounds": [0, 5, 50]}}, (0, 5, 50)),
        ({"linear_buckets": {"num_finite_buckets": 2, "width": 5, "offset": -5}}, (-5, 0, 5)),
        ({"exponential_buckets": {"num_finite_buckets": 2, "growth_factor": 2, "scale": 3}}, (3, 6, 12)),
    ],
)
def test_a_distribution_keeps_its_own_buckets(buckets: Any, bounds: tuple[float, ...]) -> None:
    assert measured(DISTRIBUTION, d=a_distribution([1, 0, 7], **buckets)) == Histogram(bounds, (1, 0, 7, 0))


def test_a_distribution_without_values_is_left_out() -> None:
    assert measured(DISTRIBUTION, d=a_distribution([])) is None


def test_a_distribution_whose_buckets_change_within_a_minute_is_named_with_its_guard() -> None:
    guard = CustomGuard(**DISTRIBUTION, revision_label="metric.labels.revision")
    two = [a_distribution([1], explicit_buckets={"bounds": [bound]}) for bound in (5, 6)]
    with served(Metrics({"d": two})) as channel:
        read = a_gateway(channel).read_minutes(
            "web", ["web-one"], NOON - MINUTE, NOON, Guards(custom={"mine": guard})
        )
    assert read.problems["mine"].startswith("two histograms have different buckets")


def test_what_guards_have_in_common_is_read_once() -> None:
    guard = CustomGuard(
        bad='metric.type="t"', total='metric.type="t"', revision_label="metric.labels.revision"
    )
    metrics = Metrics({"t": [a_number(7)]})
    with served(metrics) as channel:
        guards = {"one": guard, "other": guard}
        minutes = a_gateway(channel).read_minutes(
            "web", ["web-one"], NOON - MINUTE, NOON, Guards(custom=guards)
        )
    assert minutes.of["web-one"][0].sample.custom == {"one": Counts(7, 7), "other": Counts(7, 7)}
    assert metrics.asked.count('metric.type="t"') == 1
