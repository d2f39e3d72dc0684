import math
from datetime import timedelta

import pytest
from builders import BOUNDS, NOW, a_sample
from hypothesis import given
from hypothesis import strategies as st

from controller.core.counts import EvidenceInvalid, Histogram
from controller.core.evidence import (
    KEPT,
    Minute,
    Sample,
    Window,
    arrange_evidence,
    final_until,
    full_minutes,
    minutes_of,
)

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def test_a_window_holds_only_whole_minutes_inside_it() -> None:
    window = Window(5, NOW + 10 * SECOND, NOW + 3 * MINUTE + 50 * SECOND)
    assert full_minutes(window, NOW + 60 * MINUTE) == [NOW + 2 * MINUTE, NOW + 3 * MINUTE]


def test_a_window_that_begins_on_the_minute_holds_that_minute() -> None:
    assert full_minutes(Window(5, NOW), NOW + 2 * MINUTE) == [NOW + MINUTE, NOW + 2 * MINUTE]


@given(
    start=st.integers(0, 7200), length=st.integers(0, 7200), until=st.integers(0, 7200), is_open=st.booleans()
)
def test_no_minute_reaches_out_of_its_window(start: int, length: int, until: int, is_open: bool) -> None:
    window = Window(5, NOW + start * SECOND, None if is_open else NOW + (start + length) * SECOND)
    last = NOW + until * SECOND
    for end in full_minutes(window, last):
        assert end - MINUTE >= window.start
        assert end <= last
        assert window.end is None or end <= window.end


@given(
    start=st.integers(0, 7200),
    length=st.integers(0, 7200),
    until=st.integers(0, 120),
    since=st.integers(0, 120),
)
def test_the_minutes_of_a_window_are_those_before_and_those_since_some_time(
    start: int, length: int, until: int, since: int
) -> None:
    window = Window(5, NOW + start * SECOND, NOW + (start + length) * SECOND)
    between, last = NOW + min(since, until) * MINUTE, NOW + until * MINUTE
    whole = full_minutes(window, last)
    assert full_minutes(window, between) + full_minutes(window, last, between) == whole
    assert minutes_of(window, last) == len(whole)


def test_a_minute_is_final_when_it_is_as_old_as_the_delay() -> None:
    assert final_until(NOW + 59 * SECOND, 3 * MINUTE) == NOW - 3 * MINUTE
    assert final_until(NOW + 60 * SECOND, 3 * MINUTE) == NOW - 2 * MINUTE


def test_minutes_of_another_step_are_left_out() -> None:
    windows = (Window(5, NOW, NOW + 2 * MINUTE), Window(25, NOW + 5 * MINUTE))
    minutes = [Minute(NOW + n * MINUTE, a_sample(n)) for n in range(1, 10)]
    evidence = arrange_evidence(windows, minutes, minutes, NOW + 7 * MINUTE)
    assert [[tick.stable.requests for tick in stage.ticks] for stage in evidence.stages] == [[1, 2], [6, 7]]


def test_minutes_that_were_weighed_before_are_left_out_and_their_windows_stay() -> None:
    windows = (Window(5, NOW, NOW + 2 * MINUTE), Window(25, NOW + 5 * MINUTE))
    minutes = [Minute(NOW + n * MINUTE, a_sample(n)) for n in range(1, 10)]
    evidence = arrange_evidence(windows, minutes, minutes, NOW + 9 * MINUTE, NOW + 6 * MINUTE)
    assert [stage.percent for stage in evidence.stages] == [5, 25]
    assert [[tick.stable.requests for tick in stage.ticks] for stage in evidence.stages] == [[], [7, 8, 9]]


def test_a_minute_that_only_one_revision_reports_counts_none_for_the_other() -> None:
    evidence = arrange_evidence((Window(5, NOW),), [Minute(NOW + MINUTE, a_sample(9))], [], NOW + MINUTE)
    tick = evidence.stages[0].ticks[0]
    assert (tick.stable.requests, tick.candidate.requests) == (9, 0)


def test_codes_are_counted_by_class_and_by_number() -> None:
    sample = Sample({"200": 90, "404": 4, "500": 3, "503": 2, "": 1})
    assert sample.having(["5xx"]) == 5
    assert sample.having(["503", "4xx"]) == 6
    assert sample.requests == 100


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [((1.0, 2.0), (1, 2)), ((1.0,), (1, -1)), ((2.0, 1.0), (0, 0, 0)), ((math.nan,), (0, 0))],
)
def test_a_histogram_that_cannot_be_is_refused(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(EvidenceInvalid):
        Histogram(bounds, counts)


def test_negative_requests_are_refused() -> None:
    with pytest.raises(EvidenceInvalid):
        Sample({"200": -1})


def test_different_buckets_are_never_added() -> None:
    with pytest.raises(EvidenceInvalid, match="different buckets"):
        _ = Histogram((1.0,), (1, 1)) + Histogram((2.0,), (1, 1))


def test_a_percentile_lies_in_its_bucket() -> None:
    histogram = Histogram((10.0, 20.0, 40.0), (0, 90, 10, 0))
    assert histogram.percentile(0.5) == pytest.approx(10 + 10 * 50 / 90)
    assert histogram.percentile(0.95) == pytest.approx(30.0)
    assert math.isnan(Histogram((10.0,), (0, 0)).percentile(0.5))


def test_from_an_edge_counts_only_buckets_that_are_slower_for_certain() -> None:
    histogram = Histogram((10.0, 20.0, 40.0), (1, 2, 3, 4))
    assert [histogram.from_edge(ms) for ms in (10, 15, 20, 40, 41)] == [9, 7, 7, 4, 0]


def test_a_shift_by_two_buckets_is_the_tolerance_of_1_21_exactly() -> None:
    histogram = Histogram(BOUNDS, tuple([1] * 136))
    for bucket in range(100):
        assert histogram.from_edge(BOUNDS[bucket] * 1.21) == histogram.from_edge(BOUNDS[bucket + 2])


@given(st.lists(st.integers(0, 50), min_size=136, max_size=136), st.floats(0.01, 0.99))
def test_about_the_share_of_requests_lies_below_the_percentile(counts: list[int], share: float) -> None:
    histogram = Histogram(BOUNDS, tuple(counts))
    if histogram.total:
        value = histogram.percentile(share)
        assert histogram.from_edge(value) <= (1 - share) * histogram.total + 1e-6


def test_samples_add_up() -> None:
    added = a_sample(10, 1) + a_sample(20, 2) + Sample()
    assert (added.requests, added.having(["5xx"])) == (30, 3)
    assert added.latencies is not None
    assert added.latencies.total == 30


def test_windows_from_before_the_metrics_began_cost_no_more_than_the_metrics_that_are_kept() -> None:
    ancient = Window(5, NOW.replace(year=2020))
    evidence = arrange_evidence((ancient,), (), (), NOW)
    assert len(evidence.stages[0].ticks) == KEPT // timedelta(minutes=1)
