"""What the users of simulated revisions leave in Monitoring: late, by minute, and absent rather than zero."""

import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.conftest import Google, a_google, to
from controller.emulator.settings import RuntimeKind, Settings

MINUTE = timedelta(minutes=1)
BY_CLASS = ["resource.label.revision_name", "metric.label.response_code_class"]
SUM = {"per_series_aligner": "ALIGN_DELTA", "cross_series_reducer": "REDUCE_SUM", "alignment_period": MINUTE}


def busy(google: Google, minutes: int = 10, rps: float = 20) -> tuple[datetime, datetime]:
    """Let users come for some minutes, and wait until all is visible; return first and last whole minute."""
    google.local.users("web", rps=rps)
    start = whole_minute(google.local.now()) + MINUTE
    google.local.advance(start + minutes * MINUTE - google.local.now())
    google.local.users("web", rps=0)
    google.local.advance(timedelta(minutes=5))
    return start, start + minutes * MINUTE


def whole_minute(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def total(series: list[Any]) -> int:
    return sum(point.value.int64_value for one in series for point in one.points)


def test_counts_follow_the_split(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 80), to("web-two", 20)])
    google.settle()
    start, end = busy(google)
    series = google.series("request_count", start, end, group_by=["resource.label.revision_name"], **SUM)
    counts = {one.resource.labels["revision_name"]: total([one]) for one in series}
    sent = sum(counts.values())
    assert abs(sent - 20 * 600) < 5 * math.sqrt(20 * 600)
    assert abs(counts["web-two"] - 0.2 * sent) < 5 * math.sqrt(sent * 0.2 * 0.8)


def test_failures_are_a_series_of_their_own_and_absent_when_there_are_none(google: Google) -> None:
    """Fact 1: "'no 5xx series' is the normal healthy case"."""
    google.two_revisions(ERROR_SHARE="0.1")
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    start, end = busy(google)
    series = google.series("request_count", start, end, group_by=BY_CLASS, **SUM)
    classes = {
        (one.resource.labels["revision_name"], one.metric.labels["response_code_class"]) for one in series
    }
    assert classes == {("web-one", "2xx"), ("web-two", "2xx"), ("web-two", "5xx")}


def test_a_minute_is_visible_only_after_the_delay(google: Google) -> None:
    """Fact 1: "Sampled every 60 seconds. After sampling, data is not visible for up to **120 seconds**"."""
    google.create()
    google.settle()
    google.local.users("web", rps=20)
    start = whole_minute(google.local.now()) + MINUTE
    end = start + MINUTE
    google.local.advance(end + timedelta(seconds=119) - google.local.now())
    assert not google.series("request_count", start, end)
    google.local.advance(timedelta(seconds=2))
    assert total(google.series("request_count", start, end)) > 0


def test_idle_minutes_are_zero_counts_and_no_latencies(google: Google) -> None:
    """Fact 1: "request_count returned explicit **0** points for every idle minute (instances still alive)",

    and "request_latencies returned **no point at all** for idle minutes".
    """
    google.create()
    google.settle()
    start, end = busy(google, minutes=2)
    later = end + 3 * MINUTE
    (counts,) = google.series("request_count", start, later)
    (latencies,) = google.series("request_latencies", start, later)
    assert [point.value.int64_value for point in counts.points][:3] == [0, 0, 0]
    assert len(counts.points) == 5
    assert len(latencies.points) == 2


def test_rate_is_per_second(google: Google) -> None:
    """Fact 2: "ALIGN_RATE 60 s gave 0.32/s = 19.2 requests"."""
    google.create()
    google.settle()
    start, end = busy(google)
    (series,) = google.series(
        "request_count", start, end, per_series_aligner="ALIGN_RATE", alignment_period=10 * MINUTE
    )
    (point,) = series.points
    assert point.value.double_value == pytest.approx(total(google.series("request_count", start, end)) / 600)


def test_histograms_have_google_s_buckets(google: Google) -> None:
    """Fact 1: "exponential, scale = 10 (ms), growth_factor = 1.1, 135 bounds", so 134 finite buckets;

    and "sum(bucket_counts)==count".
    """
    google.create(LATENCY_MS="80")
    google.settle()
    start, end = busy(google)
    (series,) = google.series(
        "request_latencies", start, end, per_series_aligner="ALIGN_DELTA", alignment_period=10 * MINUTE
    )
    (point,) = series.points
    found = point.value.distribution_value
    options = found.bucket_options.exponential_buckets
    assert (options.scale, options.growth_factor, options.num_finite_buckets) == (10.0, 1.1, 134)
    assert sum(found.bucket_counts) == found.count > 10_000
    assert found.mean == pytest.approx(80 * math.exp(0.25**2 / 2), rel=0.02)


def test_percentiles_of_merged_histograms(google: Google) -> None:
    """Fact 2: "ALIGN_DELTA + REDUCE_PERCENTILE_99 → DOUBLE from the merged histogram"."""
    google.create(LATENCY_MS="80")
    google.settle()
    start, end = busy(google)
    (series,) = google.series(
        "request_latencies",
        start,
        end,
        per_series_aligner="ALIGN_DELTA",
        cross_series_reducer="REDUCE_PERCENTILE_95",
        alignment_period=10 * MINUTE,
    )
    assert series.points[0].value.double_value == pytest.approx(80 * math.exp(1.645 * 0.25), rel=0.1)


def test_a_switch_inside_a_minute_divides_it(google: Google) -> None:
    google.two_revisions()
    google.local.users("web", rps=100)
    start = whole_minute(google.local.now()) + MINUTE
    google.local.advance(start + timedelta(seconds=25) - google.local.now())
    google.update(traffic=[to("web-two", 100)])  # in force five seconds later
    google.local.advance(timedelta(minutes=5))
    series = google.series("request_count", start, start + MINUTE, group_by=BY_CLASS, **SUM)
    counts = {one.resource.labels["revision_name"]: total([one]) for one in series}
    assert counts["web-one"] == pytest.approx(3000, abs=5 * math.sqrt(3000))
    assert counts["web-two"] == pytest.approx(3000, abs=5 * math.sqrt(3000))


def test_the_same_seed_gives_the_same_requests() -> None:
    def counted() -> int:
        for google in a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, seed=7)):
            google.create()
            google.settle()
            start, end = busy(google)
            return total(google.series("request_count", start, end))
        raise AssertionError

    assert counted() == counted()


def test_behaviour_can_change_while_users_come(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    google.local.behave("web-one", error_share=1.0)
    start, end = busy(google, minutes=2)
    series = google.series("request_count", start, end)
    assert {one.metric.labels["response_code"] for one in series} == {"500"}
