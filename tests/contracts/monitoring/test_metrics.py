"""What the metrics say of a revision, and when they say nothing at all."""

from datetime import timedelta
from typing import Any

import pytest
from google.api import metric_pb2
from google.api_core import exceptions
from google.cloud import monitoring_v3

from contracts.conftest import SECONDS, Google
from controller.emulator.names import project_number

from .measured import (
    COUNT,
    END_TO_END,
    INSTANCES,
    LATENCIES,
    ONE,
    PENDING,
    STARTUPS,
    Measured,
    after,
    begins,
    ends,
    integers,
    measured_by,
    sizes,
)

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
ANSWER = ["response_code", "response_code_class", "route"]


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


def test_a_series_has_the_five_labels_of_its_revision(measured: Measured) -> None:
    """Resource cloud_run_revision; configuration_name == service name in all samples."""
    measured.counts([1])
    (series,) = measured.ask()
    assert series.resource.type == "cloud_run_revision"
    assert dict(series.resource.labels) == {
        "project_id": "demo",
        "location": "local-1",
        "service_name": "web",
        "revision_name": "web-one",
        "configuration_name": "web",
    }
    assert dict(series.metric.labels) == {
        "response_code": "200",
        "response_code_class": "2xx",
        "route": "",
    }


def test_latencies_do_not_include_the_wait_for_an_instance_and_end_to_end_latencies_do(
    measured: Measured,
) -> None:
    """ "it does not include container startup latency"; e2e: Google network ingress until response sent."""
    measured.record(1, 80)
    measured.record(1, 80, pending=3000)
    measured.record(1, 90)
    measured.record(2, 80)
    (inside,) = measured.ask(LATENCIES)
    (seen,) = measured.ask(END_TO_END)
    assert sizes(inside) == sizes(seen) == [1, 3]
    assert inside.points[1].value.distribution_value.mean == pytest.approx(250 / 3)
    assert seen.points[1].value.distribution_value.mean == pytest.approx(3250 / 3)
    assert inside.points[0].value.distribution_value == seen.points[0].value.distribution_value


def test_end_to_end_latencies_can_be_filtered_by_response_code(measured: Measured) -> None:
    measured.record(1, 80, code=200)
    measured.record(1, 80, code=503)
    (series,) = measured.ask(END_TO_END, 'metric.labels.response_code="503"')
    assert series.metric.labels["response_code"] == "503"


def test_pending_requests_and_instances_are_gauges_sampled_on_whole_minutes(measured: Measured) -> None:
    """GAUGE results come back with start_time == end_time."""
    measured.sample(1, active=2, idle=1, pending=5)
    measured.sample(2, active=3, idle=0, pending=0)
    (pending,) = measured.ask(PENDING)
    states = {one.metric.labels["state"]: one for one in measured.ask(INSTANCES)}
    assert integers(pending) == [0, 5]
    assert {state: integers(one) for state, one in states.items()} == {"active": [3, 2], "idle": [0, 1]}
    for series in (pending, *states.values()):
        assert series.metric_kind == Kind.GAUGE
        assert begins(series) == ends(series) == [2, 1]


def test_startup_latencies_have_no_labels_of_their_own(measured: Measured) -> None:
    local = measured.google.local
    local.measure(lambda metrics: metrics.instance_started(ONE, after(0.5), 1500))
    local.measure(lambda metrics: metrics.instance_started(ONE, after(0.7), 2500))
    local.measure(lambda metrics: metrics.instance_started(ONE, after(1.5)))
    (series,) = measured.ask(STARTUPS)
    assert dict(series.metric.labels) == {}
    assert sizes(series) == [2]
    assert series.points[0].value.distribution_value.mean == 2000


def test_buckets_grow_by_a_tenth_from_10_ms_to_58_minutes(measured: Measured) -> None:
    """Exponential, scale = 10 (ms), growth_factor = 1.1, 135 bounds; all < 10 ms is one underflow bucket.

    Inclusive lower, exclusive upper; bucket_counts may be shorter, missing tail = 0; their sum is the count.
    """
    measured.record(1, 0.1, 9.99, 10.0, 10.99, 11.0)
    measured.record(2, 4e6)
    (series,) = measured.ask(LATENCIES)
    large, small = (point.value.distribution_value for point in series.points)
    options = small.bucket_options.exponential_buckets
    assert (options.scale, options.growth_factor, options.num_finite_buckets) == (10.0, 1.1, 134)
    assert list(small.bucket_counts) == [2, 2, 1]
    assert sum(small.bucket_counts) == small.count == 5
    assert len(large.bucket_counts) == options.num_finite_buckets + 2
    assert large.bucket_counts[-1] == 1


def test_mean_and_spread_are_exact_whatever_the_buckets(measured: Measured) -> None:
    measured.record(1, 12, 48, 90)
    (series,) = measured.ask(LATENCIES)
    found = series.points[0].value.distribution_value
    assert found.mean == pytest.approx(50)
    assert found.sum_of_squared_deviation == pytest.approx(38**2 + 2**2 + 40**2)


def test_idle_minutes_are_explicit_zeros_of_the_count_and_nothing_of_the_latencies(
    measured: Measured,
) -> None:
    """request_count returned explicit 0 points for every idle minute (instances still alive), while

    request_latencies returned no point at all for idle minutes.
    """
    measured.alive(0)
    measured.counts([3, 2])
    (counts,) = measured.ask(end=6)
    (latencies,) = measured.ask(LATENCIES, end=6)
    assert integers(counts) == [0, 0, 0, 0, 2, 3]
    assert sizes(latencies) == [2, 3]
    assert ends(latencies) == [2, 1]


def test_after_the_last_instance_there_are_no_points(measured: Measured) -> None:
    """After scale-to-zero the series is absent."""
    measured.alive(0, 4.5)
    measured.counts([3])
    (counts,) = measured.ask(end=10)
    assert ends(counts) == [5, 4, 3, 2, 1]
    assert measured.ask(start=5) == []


def test_a_new_revision_without_requests_has_no_series(measured: Measured) -> None:
    measured.alive(0)
    assert measured.ask() == []


def test_zeros_begin_with_the_first_request_of_that_code(measured: Measured) -> None:
    """ "No 5xx series" is the normal healthy case."""
    measured.alive(0)
    measured.counts([1, 1, 1])
    measured.record(2, 80, code=500)
    by_code = {one.metric.labels["response_code"]: integers(one) for one in measured.ask(end=3)}
    assert by_code == {"200": [1, 1, 1], "500": [0, 1]}


def test_a_revision_that_comes_back_has_zeros_again(measured: Measured) -> None:
    measured.alive(0, 1.5)
    measured.alive(5, 6.5)
    measured.counts([1])
    (series,) = measured.ask()
    assert ends(series) == [7, 6, 5, 2, 1]


def test_points_older_than_six_weeks_are_gone(measured: Measured) -> None:
    """Retention of run.googleapis.com/*: 6 weeks."""
    measured.counts([7])
    measured.google.local.advance(timedelta(weeks=6) - timedelta(hours=3))
    assert [integers(one) for one in measured.ask()] == [[7]]
    measured.google.local.advance(timedelta(minutes=1))
    assert measured.ask() == []


def test_a_point_is_visible_120_seconds_after_its_minute(google: Google) -> None:
    measured = Measured(google)
    measured.counts([1])
    google.local.advance(timedelta(seconds=60 + 119))
    assert measured.ask() == []
    google.local.advance(timedelta(seconds=1))
    assert [integers(one) for one in measured.ask()] == [[1]]


def test_an_unknown_metric_is_not_found_in_google_s_words(google: Google) -> None:
    """404 Cannot find metric(s) that match type = "…". If a metric was created recently, it could take …"""
    with pytest.raises(exceptions.NotFound) as caught:
        Measured(google).ask("run.googleapis.com/container/restart_count")
    assert caught.value.message.startswith(
        'Cannot find metric(s) that match type = "run.googleapis.com/container/restart_count". '
        "If a metric was created recently, it could take up to 10 minutes to become available."
    )


@pytest.mark.parametrize(
    ("method", "request_", "permission"),
    [
        (
            "list_time_series",
            {"filter": f'metric.type="{COUNT}"', "interval": {"start_time": after(0), "end_time": after(1)}},
            "monitoring.timeSeries.list",
        ),
        ("list_metric_descriptors", {}, "monitoring.metricDescriptors.list"),
        ("list_monitored_resource_descriptors", {}, "monitoring.monitoredResourceDescriptors.list"),
    ],
)
def test_another_project_is_one_that_may_not_be_read(
    google: Google, method: str, request_: dict[str, Any], permission: str
) -> None:
    call = getattr(google.metrics, method)
    with pytest.raises(exceptions.PermissionDenied) as caught:
        call(request={"name": "projects/other", **request_}, timeout=SECONDS)
    assert caught.value.message == f"Permission {permission} denied (or the resource may not exist)."


def test_the_project_s_number_names_the_same_project(measured: Measured) -> None:
    measured.counts([1])
    project, metrics = f"projects/{project_number('demo')}", measured.google.metrics
    assert [integers(one) for one in measured.ask(name=project)] == [[1]]
    assert len(list(metrics.list_metric_descriptors(name=project, timeout=SECONDS))) == 6
    found = metrics.get_metric_descriptor(name=f"{project}/metricDescriptors/{COUNT}", timeout=SECONDS)
    assert found.name == f"projects/demo/metricDescriptors/{COUNT}"


def test_a_name_that_is_no_project_is_refused(google: Google) -> None:
    request = monitoring_v3.ListMetricDescriptorsRequest(name="organizations/1")
    with pytest.raises(exceptions.InvalidArgument, match="organizations/1"):
        google.metrics.list_metric_descriptors(request=request, timeout=SECONDS)
