"""The interval that is asked for, and the periods it is cut into, whole minutes or not."""

import time

import pytest
from google.api import metric_pb2
from google.api_core import exceptions

from contracts.conftest import Google

from .measured import (
    LATENCIES,
    Measured,
    begins,
    doubles,
    ends,
    integers,
    measured_by,
    sizes,
)

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
REVISION, CLASS = "resource.label.revision_name", "metric.label.response_code_class"


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


def test_the_interval_excludes_its_start_and_includes_its_end(measured: Measured) -> None:
    """Read interval is half-open (start, end]: excludes start, includes end."""
    measured.counts([1, 2, 3, 4])
    (series,) = measured.ask(start=1, end=3)
    assert ends(series) == [3, 2]


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (None, 10, "interval.startTime is required"),
        (0, None, "interval.endTime is required"),
        (10, 10, "startTime must be earlier"),
        (11, 10, "startTime must be earlier"),
    ],
)
def test_the_start_must_be_given_and_lie_before_the_end(
    measured: Measured, start: float | None, end: float | None, message: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        measured.ask(start=start, end=end)


def test_points_are_newest_first_and_last_a_minute(measured: Measured) -> None:
    """Points are newest-first."""
    measured.counts([1, 2, 3])
    (series,) = measured.ask()
    assert integers(series) == [3, 2, 1]
    assert ends(series) == [3, 2, 1]
    assert begins(series) == [2, 1, 0]
    assert series.metric_kind == Kind.DELTA
    assert series.unit == "1"


def test_windows_are_cut_backwards_from_the_end_of_the_interval(measured: Measured) -> None:
    """A capture with end 09:50:18.962995 has every point at hh:mm:18.962995."""
    measured.counts([6] * 20)
    end = 15 + 18.962995 / 60
    (series,) = measured.aligned("ALIGN_RATE", start=end - 5, end=end)
    seconds = [point.interval.end_time.timestamp() % 60 for point in series.points]
    assert seconds == pytest.approx([18.962995] * 5)


def test_there_is_one_point_a_period_stamped_at_its_end(measured: Measured) -> None:
    """One point per period, stamped at the period's END."""
    measured.counts([1, 2, 3, 4, 5, 6])
    (series,) = measured.aligned("ALIGN_DELTA", period=2, end=6)
    assert integers(series) == [11, 7, 3]
    assert ends(series) == [6, 4, 2]
    assert begins(series) == [4, 2, 0]


def test_what_is_left_over_at_the_start_is_no_period(measured: Measured) -> None:
    measured.counts([1, 2, 3, 4, 5, 6])
    (series,) = measured.aligned("ALIGN_DELTA", period=4, end=6)
    assert integers(series) == [18]


def test_an_interval_shorter_than_the_period_is_one_period(measured: Measured) -> None:
    measured.counts([1, 2, 3, 4, 5, 6])
    (series,) = measured.aligned("ALIGN_DELTA", period=10, start=3, end=6)
    assert integers(series) == [15]


def test_a_period_may_be_no_whole_number_of_minutes(measured: Measured) -> None:
    measured.counts([60] * 6)
    (series,) = measured.aligned("ALIGN_DELTA", period=1.5, end=6)
    assert integers(series) == [90, 90, 90, 90]


def test_an_interval_over_all_time_costs_no_more_than_its_points(measured: Measured) -> None:
    measured.counts([1, 2])
    (series,) = measured.aligned("ALIGN_DELTA", start=-(50 * 365 * 24 * 60), end=120)
    assert integers(series) == [2, 1]


YEAR = 365 * 24 * 60.0
"""In minutes."""


@pytest.mark.parametrize("future", [10, YEAR, 10 * YEAR, 7900 * YEAR])
def test_an_end_in_the_future_shows_what_is_visible_now(measured: Measured, future: float) -> None:
    measured.counts([1, 2, 4])
    begin = time.monotonic()
    for found in (
        measured.ask(end=180 + future),
        measured.aligned("ALIGN_DELTA", end=180 + future),
        measured.aligned("ALIGN_SUM", end=180 + future, reducer="REDUCE_SUM"),
    ):
        assert [ends(one) for one in found] == [[3, 2, 1]]
        assert [integers(one) for one in found] == [[4, 2, 1]]
    assert time.monotonic() - begin < 2  # it took minutes, and gigabytes


def test_windows_are_cut_backwards_from_an_end_in_the_future(measured: Measured) -> None:
    measured.counts([60] * 178)
    (series,) = measured.aligned("ALIGN_DELTA", period=7, start=160, end=160 + 1000 * 7 + 0.5)
    assert ends(series) == [181.5, 174.5, 167.5]
    assert integers(series)[1:] == [420, 420]
    assert integers(series)[0] == pytest.approx(3.5 * 60)  # from 174.5 to the newest visible minute


def test_a_period_of_two_years_holds_everything(measured: Measured) -> None:
    measured.counts([1, 2, 4])
    (series,) = measured.aligned("ALIGN_DELTA", period=104 * 7 * 24 * 60)
    assert integers(series) == [7]


@pytest.mark.parametrize("period", [0, 59.999 / 60, -1, 104 * 7 * 24 * 60 + 1, 1e9])
def test_a_period_that_is_too_short_or_too_long_is_refused(measured: Measured, period: float) -> None:
    """Fact 2: "alignment_period ≥ 60 s; required when aligner ≠ ALIGN_NONE"."""
    with pytest.raises(exceptions.InvalidArgument, match=r"aggregation\.alignmentPeriod"):
        measured.aligned("ALIGN_DELTA", period=period)


# --- whole minutes, and those that are cut in two ---


def test_unaligned_ends_prorate_rates(measured: Measured) -> None:
    """Unaligned ends get prorated/interpolated deltas: ALIGN_RATE 60 s gave 0.32/s = 19.2 requests."""
    measured.counts([18, 24, 18])
    (series,) = measured.aligned("ALIGN_RATE", start=1.2, end=2.2)
    assert doubles(series) == [pytest.approx((24 * 0.8 + 18 * 0.2) / 60)]


def test_unaligned_ends_prorate_deltas_and_lose_no_request(measured: Measured) -> None:
    measured.counts([0, 1, 0, 7, 3, 0])
    (series,) = measured.aligned("ALIGN_DELTA", start=0.5, end=6.5)
    assert ends(series) == [5.5, 4.5, 3.5, 2.5, 1.5]
    assert sum(integers(series)) == 11


def test_the_minute_that_the_end_cuts_gives_its_share(measured: Measured) -> None:
    measured.counts([60, 60, 120])
    (series,) = measured.aligned("ALIGN_DELTA", start=1.5, end=2.5)
    assert integers(series) == [30 + 60]


def test_a_sum_takes_points_as_they_are(measured: Measured) -> None:
    """ALIGN_SUM has no interpolation clause; a capture with integer sums (8, 2, 1) is consistent."""
    measured.counts([8, 2, 1])
    (series,) = measured.aligned("ALIGN_SUM", start=0.3, end=3.3)
    assert integers(series) == [1, 2, 8]


def test_a_distribution_belongs_to_the_period_of_its_end(measured: Measured) -> None:
    measured.counts([8, 2, 1])
    (series,) = measured.aligned("ALIGN_DELTA", LATENCIES, start=0.3, end=3.3)
    assert sizes(series) == [1, 2, 8]


def test_periods_without_a_point_are_absent(measured: Measured) -> None:
    measured.counts([1])
    measured.record(4, 80)
    (series,) = measured.aligned("ALIGN_DELTA", LATENCIES, end=5)
    assert ends(series) == [4, 1]
