import math
from bisect import bisect_right
from typing import Any

import pytest
from builders import BOUNDS
from hypothesis import given
from hypothesis import strategies as st

from controller.core.counts import FINE_BOUNDS, Counts, EvidenceInvalid, Histogram, counted_in_buckets

LATENCIES = st.lists(st.floats(0, 1e7), max_size=50)
THRESHOLDS = st.one_of(st.floats(1, 1e6), st.sampled_from(FINE_BOUNDS[:-1]))
NUMBERS = st.lists(st.integers(0, 10**9), min_size=3, max_size=3)


@pytest.mark.parametrize(
    ("bad", "total"),
    [(-1, 5), (0, -1), (2, 1), (math.nan, 5), (1, math.nan), (0, math.inf), (math.inf, math.inf)],
)
def test_counts_that_cannot_be_are_refused(bad: Any, total: Any) -> None:
    with pytest.raises(EvidenceInvalid, match="cannot be"):
        Counts(bad, total)


def test_a_sum_of_counts_cannot_hide_more_bad_than_total() -> None:
    with pytest.raises(EvidenceInvalid):
        _ = Counts(0, 10) + Counts(3, 2)
    assert Counts(1, 10) + Counts(2, 2) == Counts(3, 12)


def test_the_share_of_nothing_is_nothing() -> None:
    assert (Counts().share, Counts(1, 4).share, Counts(7, 7).share) == (0.0, 0.25, 1.0)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ((), (1,)),
        ((1.0, 1.0), (0, 0, 0)),
        ((1.0, math.inf), (0, 0, 0)),
        ((-math.inf, 1.0), (0, 0, 0)),
        ((1.0, math.nan), (0, 0, 0)),
        ((1.0,), (math.nan, 1)),
        ((1.0,), (1, math.nan)),
        ((1.0,), (1, math.inf)),
        ((1.0,), (0, 0, 0)),
    ],
)
def test_buckets_that_cannot_be_are_refused(bounds: Any, counts: Any) -> None:
    with pytest.raises(EvidenceInvalid):
        Histogram(bounds, counts)


def test_what_is_emptied_can_be_compared_with_what_it_was() -> None:
    histogram = Histogram((1.0, 2.0), (1, 2, 3))
    assert histogram.emptied() == Histogram((1.0, 2.0), (0, 0, 0))
    assert histogram + histogram.emptied() == histogram
    assert Counts(3, 4).emptied() == Counts(0, 0)


@given(NUMBERS, NUMBERS)
def test_histograms_add_bucket_by_bucket(one: list[int], other: list[int]) -> None:
    added = Histogram((1.0, 2.0), tuple(one)) + Histogram((1.0, 2.0), tuple(other))
    assert added.counts == tuple(a + b for a, b in zip(one, other, strict=True))
    assert added.total == sum(one) + sum(other)


@given(LATENCIES)
def test_every_latency_falls_into_the_bucket_whose_lower_edge_it_reaches(values: list[float]) -> None:
    histogram = counted_in_buckets(values)
    assert histogram.total == len(values)
    for bucket, count in enumerate(histogram.counts):
        assert count == sum(bisect_right(FINE_BOUNDS, value) == bucket for value in values)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.001])
def test_what_is_no_latency_is_refused(value: float) -> None:
    with pytest.raises(EvidenceInvalid, match="not a latency"):
        counted_in_buckets([1.0, value])


@given(LATENCIES, THRESHOLDS)
def test_what_is_beyond_for_certain_and_what_may_be_enclose_what_is(
    values: list[float], threshold: float
) -> None:
    histogram = counted_in_buckets(values)
    certain, possible = histogram.from_edge(threshold), histogram.reaching(threshold)
    assert certain <= sum(value >= threshold * (1 - 1e-9) for value in values)
    assert possible >= sum(value > threshold * (1 + 1e-9) for value in values)
    assert certain <= possible


@given(LATENCIES, st.sampled_from(FINE_BOUNDS))
def test_at_an_edge_nothing_is_uncertain(values: list[float], edge: float) -> None:
    histogram = counted_in_buckets(values)
    assert histogram.from_edge(edge) == histogram.reaching(edge)


def test_inside_a_bucket_exactly_its_own_requests_are_uncertain() -> None:
    histogram = Histogram(BOUNDS, tuple(range(136)))
    for bucket in range(134):
        inside = (BOUNDS[bucket] + BOUNDS[bucket + 1]) / 2
        assert histogram.reaching(inside) - histogram.from_edge(inside) == histogram.counts[bucket + 1]


@pytest.mark.parametrize("rounding", [1 - 1e-12, 1.0, 1 + 1e-12])
def test_an_edge_computed_in_another_way_is_the_same_edge(rounding: float) -> None:
    histogram = Histogram(BOUNDS, (1,) * 136)
    for bucket in range(135):
        edge = 10 * math.exp(bucket * math.log(1.1)) * rounding
        assert histogram.from_edge(edge) == histogram.reaching(edge) == 135 - bucket


def test_beyond_the_last_edge_nothing_is_certain_and_the_open_bucket_is_possible() -> None:
    histogram = Histogram((1.0, 2.0), (1, 2, 3))
    assert (histogram.from_edge(5.0), histogram.reaching(5.0)) == (0, 3)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_percentiles_rise_with_the_share(counts: list[int], one: float, other: float) -> None:
    histogram = Histogram((10.0, 20.0, 40.0), tuple(counts))
    low, high = (histogram.percentile(share) for share in sorted((one, other)))
    assert not histogram.total or 0 <= low <= high <= 40
