"""The test on histograms: exact expectations over all outcomes, and simulated minutes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from builders import BOUNDS
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import lognorm, multinomial

from controller.core.counts import EvidenceInvalid, Histogram
from controller.core.sequential import AGREEING_MINUTES
from controller.core.sequential_histograms import (
    SHIFTS,
    TAILS,
    Slower,
    _lowered,
    _shift_logs,
    _tail_logs,
    _targets,
)

Floats = NDArray[np.float64]
Logs = Callable[[Sequence[float], Sequence[int], Sequence[int]], Iterator[float]]

TINY = 1e-9
NEEDED = math.log(100)
WITHOUT_CAP = 0.0
FEW = (10.0, 20.0, 40.0)


def all_counts(total: int, buckets: int) -> list[tuple[int, ...]]:
    """All the ways in which so many requests can fall into the buckets."""
    if buckets == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in all_counts(total - first, buckets - 1)]


def drawn_shares(rng: np.random.Generator, buckets: int) -> Floats:
    """Shares of buckets: even, uneven, or all in one."""
    return rng.dirichlet(np.full(buckets, rng.choice([0.05, 0.5, 5.0])))


def no_larger(shares: Floats, rng: np.random.Generator) -> Floats:
    """A distribution that is stochastically no larger: the same, or with some requests in lower buckets."""
    moved = shares.copy()
    for bucket in range(1, len(shares)):
        part = moved[bucket] * rng.choice([0.0, 0.0, 0.1, 1.0])
        moved[bucket] -= part
        moved[rng.integers(bucket)] += part
    return moved


def drawn_past(rng: np.random.Generator, buckets: int) -> tuple[float, ...]:
    """A past as it comes about, after few requests or many."""
    expected = drawn_shares(rng, buckets) * 10 ** rng.uniform(0, 7)
    return tuple(float(each) for each in rng.poisson(expected) + 1 / buckets)


def outcomes(test: Slower, totals: tuple[int, int]) -> tuple[Floats, list[list[tuple[int, ...]]]]:
    """What each outcome of the next minute multiplies the evidence by; stable's outcomes go down."""
    sides = [all_counts(total, len(test.bounds) + 1) for total in totals]
    table = [
        [
            math.exp(
                test.after(Histogram(test.bounds, stable), Histogram(test.bounds, candidate)).log_evidence
                - test.log_evidence
            )
            for candidate in sides[1]
        ]
        for stable in sides[0]
    ]
    return np.array(table), sides


def expectation(
    outcomes: tuple[Floats, list[list[tuple[int, ...]]]],
    totals: tuple[int, int],
    shares: tuple[Floats, Floats],
) -> float:
    table, sides = outcomes
    down, across = (
        multinomial.pmf(np.array(side), total, of_side / of_side.sum())
        for side, total, of_side in zip(sides, totals, shares, strict=True)
    )
    return float(down @ table @ across)


def a_test(buckets: int, rng: np.random.Generator, minutes: float, factor: float = 1.0) -> Slower:
    bounds = tuple(10 * 1.1**power for power in range(buckets - 1))
    return Slower(factor, NEEDED, minutes, bounds=bounds, past=drawn_past(rng, buckets))


# --- exact expectations ---


@pytest.mark.parametrize("minutes", [WITHOUT_CAP, AGREEING_MINUTES])
@pytest.mark.parametrize("totals", [(1, 1), (1, 4), (4, 1), (2, 3), (3, 3)])
def test_a_minute_adds_no_evidence_on_average_where_the_candidate_is_no_slower(
    totals: tuple[int, int], minutes: float
) -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        test = a_test(4, rng, minutes)
        table = outcomes(test, totals)
        for number in range(20):
            stable = drawn_shares(rng, 4)
            candidate = no_larger(stable, rng) if number else stable
            assert expectation(table, totals, (stable, candidate)) <= 1 + TINY


@pytest.mark.parametrize("factor", [1.05, 1.1, 1.21, 1.3, 2.0])
def test_a_minute_adds_no_evidence_on_average_within_the_tolerance(factor: float) -> None:
    """The candidate's latencies are stable's times the factor at most, whatever the buckets make of it."""
    rng, totals = np.random.default_rng(2), (2, 3)
    for _ in range(4):
        bounds = tuple(np.sort(10 * np.exp(rng.uniform(0, 1.5, size=3))).tolist())
        test = Slower(factor, NEEDED, WITHOUT_CAP, bounds=bounds, past=drawn_past(rng, 4))
        table = outcomes(test, totals)
        for _ in range(10):
            scale, spread = 10 * math.exp(rng.uniform(0, 1.5)), rng.uniform(0.05, 1)
            times = factor * (1 - 0.2 * rng.choice([0.0, rng.random()]))
            stable, candidate = (bucketed(bounds, scale * each, spread) for each in (1, times))
            assert expectation(table, totals, (stable, candidate)) <= 1 + TINY


def bucketed(bounds: tuple[float, ...], median: float, spread: float) -> Floats:
    """The shares of the buckets, of latencies whose logarithms are normal."""
    below = lognorm.cdf(np.array(bounds), spread, scale=median)
    return np.diff(np.concatenate(([0.0], below, [1.0])))


@pytest.mark.parametrize(("logs", "experts"), [(_shift_logs, len(SHIFTS)), (_tail_logs, len(TAILS))])
def test_no_bet_wins_on_average_with_many_requests_in_many_buckets(logs: Logs, experts: int) -> None:
    """By the product formula: a bet's logarithm is a sum over requests, each with its bucket's value."""
    rng, buckets = np.random.default_rng(3), 40
    for number in range(12):
        past = drawn_past(rng, buckets)
        totals = int(10 ** rng.uniform(0, 4)), int(10 ** rng.uniform(0, 4))
        stable_values, values = values_of_buckets(logs, past, totals)
        assert values.shape == (experts, buckets)
        for _ in range(20):
            stable = drawn_shares(rng, buckets)
            candidate = no_larger(stable, rng) if number % 3 else stable
            mean = totals[0] * np.log(np.exp(stable_values) @ stable)
            mean = mean + totals[1] * np.log(np.exp(values) @ candidate)
            assert np.all(mean <= TINY)


def values_of_buckets(logs: Logs, past: tuple[float, ...], totals: tuple[int, int]) -> tuple[Floats, Floats]:
    """What a request of stable, and of the candidate, adds in each bucket, for each expert.

    Found by minutes in which all requests of a side are in one bucket.
    """
    buckets = len(past)

    def in_one(total: int, bucket: int) -> list[int]:
        return [total * (each == bucket) for each in range(buckets)]

    base = np.array(list(logs(past, in_one(totals[0], 0), in_one(totals[1], 0))))
    stable = np.array([list(logs(past, in_one(totals[0], k), in_one(totals[1], 0))) for k in range(buckets)])
    candidate = np.array(
        [list(logs(past, in_one(totals[0], 0), in_one(totals[1], k))) for k in range(buckets)]
    )
    return ((stable - base) / totals[0]).T, (candidate / totals[1]).T


@pytest.mark.parametrize("concentrated", [None, 0, 1, 20, 39])
@pytest.mark.parametrize("logs", [_shift_logs, _tail_logs])
def test_what_a_slower_request_adds_never_falls_from_bucket_to_bucket(
    logs: Logs, concentrated: int | None
) -> None:
    rng, buckets = np.random.default_rng(4), 40
    for total in (0, 30, 10**4, 10**7):
        past = [1 / buckets] * buckets
        if concentrated is None:
            past = list(drawn_past(rng, buckets))
        else:
            past[concentrated] += total
        stable_values, values = values_of_buckets(logs, tuple(past), (50, 20))
        assert np.all(np.diff(values, axis=1) >= -1e-12)
        assert np.all(np.diff(stable_values, axis=1) <= 1e-12)


def test_what_is_bet_on_a_minute_does_not_know_it() -> None:
    """Two minutes together, the second on bets and a past that the first changed, win nothing on average."""
    rng, first, second = np.random.default_rng(5), (2, 2), (1, 2)
    test = replace(a_test(4, rng, WITHOUT_CAP), bounds=FEW)
    table = outcomes(test, first)
    then = [
        [outcomes(test.after(Histogram(FEW, ours), Histogram(FEW, theirs)), second) for theirs in table[1][1]]
        for ours in table[1][0]
    ]
    for _ in range(20):
        one, other = drawn_shares(rng, 4), drawn_shares(rng, 4)
        pairs = (one, no_larger(one, rng)), (other, no_larger(other, rng))
        after = np.array([[expectation(each, second, pairs[1]) for each in row] for row in then])
        assert expectation((table[0] * after, table[1]), first, pairs[0]) <= 1 + TINY


# --- simulated minutes ---


def drawn(
    rng: np.random.Generator, total: int, median: float, bounds: tuple[float, ...] = BOUNDS
) -> Histogram:
    counts = rng.multinomial(total, bucketed(bounds, median, 0.6))
    return Histogram(bounds, tuple(int(count) for count in counts))


@pytest.mark.parametrize("minutes", [WITHOUT_CAP, AGREEING_MINUTES])
@pytest.mark.parametrize(
    ("times", "tolerated"),
    [(1.0, 1.0), (1.21, 1.21), (0.8, 1.0)],
    ids=["like stable", "on the limit", "faster"],
)
def test_hardly_any_candidate_within_the_tolerance_is_found_slower(
    times: float, tolerated: float, minutes: float
) -> None:
    """Forty minutes in which stable drifts up by half and down again."""
    rng, runs, found = np.random.default_rng(6), 120, 0
    for _ in range(runs):
        test = Slower(tolerated, NEEDED, minutes)
        for minute in range(40):
            median = 100 * (1 + 0.5 * math.sin(minute / 6))
            test = test.after(drawn(rng, 240, median), drawn(rng, 60, median * times))
            if test.log_evidence >= NEEDED:
                found += 1
                break
    assert found <= runs * 0.01 + 3 * math.sqrt(runs * 0.01)


@pytest.mark.parametrize(("times", "minutes"), [(1.25, 15), (1.5, 6), (3.0, 4)])
def test_a_slower_candidate_is_found_within_minutes(times: float, minutes: int) -> None:
    rng, found = np.random.default_rng(7), []
    for _ in range(20):
        test = Slower(1, NEEDED).knowing([drawn(rng, 300, 100) for _ in range(10)])
        minute = 0
        while test.log_evidence < NEEDED and minute < 100:
            minute += 1
            test = test.after(drawn(rng, 240, 100), drawn(rng, 60, 100 * times))
        found.append(minute)
    assert np.median(found) <= minutes


def test_a_growing_tail_is_found_where_the_body_is_the_same() -> None:
    rng = np.random.default_rng(8)
    test = Slower(1.21, NEEDED).knowing([drawn(rng, 300, 100)] * 10)
    for _ in range(20):
        test = test.after(drawn(rng, 240, 100), drawn(rng, 57, 100) + drawn(rng, 3, 1000))
    assert test.log_evidence >= NEEDED


# --- the tolerance in buckets ---


@pytest.mark.parametrize("power", range(1, 12))
def test_a_power_of_the_growth_of_the_buckets_lowers_by_so_many_buckets_exactly(power: int) -> None:
    targets = _targets(BOUNDS, 1.1**power)
    assert targets == tuple(max(0, bucket - power) for bucket in range(136))


def test_1_21_is_exactly_two_buckets() -> None:
    assert _lowered((0,) * 50 + (7,) + (0,) * 85, BOUNDS, 1.21)[48] == 7


@given(st.floats(1.0, 50), st.floats(1, 1e7))
def test_no_latency_is_lowered_by_less_than_the_tolerance(factor: float, latency: float) -> None:
    bucket = sum(bound <= latency for bound in BOUNDS)
    lowered = sum(bound <= latency / factor * (1 + 2e-9) for bound in BOUNDS)
    assert _targets(BOUNDS, factor)[bucket] <= lowered


def test_a_tolerance_between_two_powers_is_rounded_to_the_tolerant_side() -> None:
    assert _targets(BOUNDS, 1.15)[50] == 48
    assert _targets(BOUNDS, 1.2099)[50] == 48
    assert _targets(BOUNDS, 1.2101)[50] == 47


def test_values_below_zero_are_never_lowered_to_a_higher_bucket() -> None:
    targets = _targets((-5.0, -1.0, 0.0, 1.0, 5.0), 2.0)
    assert all(target <= bucket for bucket, target in enumerate(targets))
    assert list(targets) == sorted(targets)


# --- what is always so ---

COUNTS = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 10**7)), min_size=4, max_size=4)


@st.composite
def minutes_of_both(draw: st.DrawFn) -> list[tuple[Histogram, Histogram]]:
    pairs = draw(st.lists(st.tuples(COUNTS, COUNTS), max_size=6))
    return [(Histogram(FEW, tuple(one)), Histogram(FEW, tuple(other))) for one, other in pairs]


def after_all(test: Slower, minutes: list[tuple[Histogram, Histogram]]) -> Slower:
    for stable, candidate in minutes:
        test = test.after(stable, candidate)
    return test


def some(*counts: int) -> Histogram:
    return Histogram(FEW, counts)


NONE = some(0, 0, 0, 0)


@given(minutes_of_both(), st.sampled_from([WITHOUT_CAP, AGREEING_MINUTES]), st.floats(1, 3))
def test_evidence_is_finite_whatever_is_counted(
    minutes: list[tuple[Histogram, Histogram]], cap: float, factor: float
) -> None:
    test = after_all(Slower(factor, NEEDED, cap), minutes)
    assert math.isfinite(test.log_evidence)
    assert sum(test.bets.weights) == pytest.approx(1)


@given(minutes_of_both())
def test_one_minute_counts_for_no_more_than_its_part(minutes: list[tuple[Histogram, Histogram]]) -> None:
    course = [Slower(1, NEEDED)]
    for stable, candidate in minutes:
        course.append(course[-1].after(stable, candidate))
    for before, after in pairwise(course):
        assert after.log_evidence - before.log_evidence <= NEEDED / AGREEING_MINUTES + 1e-12


@given(minutes_of_both(), COUNTS, COUNTS, st.integers(0, 2), st.integers(0, 10**7))
def test_a_request_in_a_slower_bucket_never_lowers_the_evidence_of_its_minute(
    past: list[tuple[Histogram, Histogram]], stable: list[int], candidate: list[int], bucket: int, moved: int
) -> None:
    test = after_all(Slower(1, NEEDED, WITHOUT_CAP), past)
    slower = list(candidate)
    slower[bucket] -= min(moved, candidate[bucket])
    slower[bucket + 1] += min(moved, candidate[bucket])
    less, more = (test.after(some(*stable), some(*each)).log_evidence for each in (candidate, slower))
    assert more >= less - 1e-9 * max(1.0, abs(less))


def test_the_first_minute_is_not_bet_on_where_nothing_is_known() -> None:
    first = Slower(1, NEEDED).after(some(9, 0, 0, 0), some(0, 0, 0, 9))
    assert first.log_evidence == 0
    assert first.past
    known = Slower(1, NEEDED).knowing([some(9, 0, 0, 0)])
    assert known.after(some(9, 0, 0, 0), some(0, 0, 0, 9)).log_evidence > 1


def test_with_the_sides_swapped_there_is_no_harm() -> None:
    slow, fast = some(5, 10, 50, 35), some(50, 35, 10, 5)
    assert after_all(Slower(1, NEEDED), [(fast, slow)] * 5).log_evidence > NEEDED
    assert after_all(Slower(1, NEEDED), [(slow, fast)] * 5).log_evidence < 0


def test_a_minute_with_one_empty_side_waits_for_the_other_side() -> None:
    test = Slower(1, NEEDED).after(some(9, 4, 1, 0), some(4, 2, 0, 0))
    waits = test.after(some(5, 1, 0, 0), NONE).after(NONE, NONE).after(some(4, 0, 1, 0), NONE)
    assert waits.log_evidence == test.log_evidence
    assert waits.after(NONE, some(1, 1, 1, 0)) == test.after(some(9, 1, 1, 0), some(1, 1, 1, 0))


def test_a_new_step_drops_what_waits() -> None:
    test = Slower(1, NEEDED).after(some(9, 4, 1, 0), some(4, 2, 0, 0))
    waits = test.after(some(0, 0, 0, 9), NONE)
    fresh = test.after(some(3, 0, 0, 0), some(1, 1, 0, 0), new_step=True)
    assert waits.after(some(3, 0, 0, 0), some(1, 1, 0, 0), new_step=True) == fresh


def test_a_new_step_lays_part_of_the_bets_anew_so_that_its_harm_counts_at_once() -> None:
    settled = after_all(Slower(1, NEEDED, 0), [(some(500, 300, 150, 50), some(50, 30, 15, 5))] * 60)
    harmful = some(500, 300, 150, 50), some(15, 30, 30, 25)
    stays, moves = settled.after(*harmful), settled.after(*harmful, new_step=True)
    assert moves.log_evidence - settled.log_evidence > stays.log_evidence - settled.log_evidence > 0


OTHER = Histogram((10.0, 20.0, 41.0), (1, 1, 1, 1))


def test_different_buckets_are_never_compared() -> None:
    test = Slower(1, NEEDED)
    with pytest.raises(EvidenceInvalid, match="different buckets"):
        test.after(some(1, 1, 1, 1), OTHER)
    with pytest.raises(EvidenceInvalid, match="different times"):
        test.after(some(1, 1, 1, 1), some(1, 1, 1, 1)).after(OTHER, OTHER)
    with pytest.raises(EvidenceInvalid, match="different times"):
        test.after(some(1, 1, 1, 1), NONE).after(OTHER, OTHER)
    with pytest.raises(EvidenceInvalid, match="different times"):
        test.knowing([some(1, 1, 1, 1), OTHER])


@given(minutes_of_both(), minutes_of_both())
def test_state_written_as_json_and_read_back_goes_on_to_the_last_bit(
    past: list[tuple[Histogram, Histogram]], future: list[tuple[Histogram, Histogram]]
) -> None:
    state = after_all(Slower(1.21, NEEDED), past).after(some(1, 0, 0, 2), NONE)
    adapter = TypeAdapter(Slower)
    read = adapter.validate_json(adapter.dump_json(state))
    assert read == state
    assert after_all(read, future) == after_all(state, future)
