"""The tests on counts: exact expectations, an independent oracle, and simulated rollouts.

The exact ones sum over all outcomes with the probabilities of scipy. Where blocks are large they use that the
logarithm of an e-value is linear in both numbers of bad requests.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import binom, hypergeom

from controller.core.counts import Counts
from controller.core.sequential import (
    AGREEING_MINUTES,
    FAST_ODDS,
    FAST_POINTS,
    NO_ROOM,
    NOTHING,
    ODDS,
    Harm,
    Line,
    Safety,
    growth,
    log_e_value,
    log_sum,
    nearest_on,
    odds_times,
)

Floats = NDArray[np.float64]

TINY = 1e-9
NEEDED = math.log(100)
SAFE = math.log(20)
LINES = [Line(r, d) for r in (0.0, 1.0, 1.25, 1.5) for d in (0.0, 0.002, 0.05, 0.25) if r or d]
EQUAL = Line(1, 0)
WITHOUT_CAP = 0.0


def drawn_share(rng: np.random.Generator) -> float:
    """A share that is ordinary, tiny, nearly one, or exactly none or all."""
    kinds: tuple[Callable[[], float], ...] = (
        rng.random,
        lambda: 10 ** rng.uniform(-7, 0),
        lambda: 1 - 10 ** rng.uniform(-5, 0),
        lambda: float(rng.integers(2)),
    )
    return float(kinds[rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))]())


def drawn_total(rng: np.random.Generator, most: float) -> int:
    return int(10 ** rng.uniform(0, math.log10(most)))


def drawn_counts(rng: np.random.Generator, most: float = 3000, share: float | None = None) -> Counts:
    total = drawn_total(rng, most)
    return Counts(int(rng.binomial(total, drawn_share(rng) if share is None else share)), total)


def with_past(test: Any, rng: np.random.Generator) -> Any:
    """Feed a test a random past, of the kind of which it makes the best bets or the worst."""
    shares = [drawn_share(rng) if rng.random() < 0.5 else None for _ in range(2)]
    for _ in range(rng.integers(0, 8)):
        stable, candidate = (drawn_counts(rng, share=share) for share in shares)
        test = test.after(stable, candidate, new_step=bool(rng.random() < 0.2))
    return replace(test, waiting=(NOTHING, NOTHING))


def harmless_pairs(line: Line, rng: np.random.Generator, pairs: int) -> Iterator[tuple[float, float]]:
    """Shares of stable and candidate that are on the line, and some that are inside."""
    for number in range(pairs):
        stable = drawn_share(rng)
        yield stable, min(1.0, line.at(stable)) * (1.0 if number % 2 else rng.random())


def unsafe_pairs(line: Line, rng: np.random.Generator, pairs: int) -> Iterator[tuple[float, float]]:
    """Shares of stable and candidate that are on the line, and some that are beyond."""
    for number in range(pairs):
        stable = drawn_share(rng) * min(1.0, (1 - line.points) / (line.factor or 1))
        limit = min(1.0, line.at(stable))
        yield stable, limit if number % 2 else limit + rng.random() * (1 - limit)


Bet = tuple[Line, float, float]


def bets_of_harm(harm: Harm) -> list[Bet]:
    """The bets that harm makes on its next block: line, share of stable, share of the candidate."""
    stable = harm.stable.share
    far = Line(harm.line.factor, harm.line.points + FAST_POINTS)
    return [
        (line, stable, odds_times(line.at(stable), times))
        for line, odds in ((harm.line, ODDS), (far, FAST_ODDS))
        if line.at(stable) <= NO_ROOM
        for times in odds
    ]


def log_expectation(bet: Bet, totals: tuple[int, int], shares: tuple[float, float]) -> float:
    """The logarithm of a bet's expectation, by the sums over all numbers of bad requests on both sides."""

    def log(stable_bad: int, bad: int) -> float:
        return log_e_value(bet[0], Counts(stable_bad, totals[0]), Counts(bad, totals[1]), *bet[1:])

    base = log(0, 0)
    sums = []
    for total, share, most in zip(totals, shares, (log(totals[0], 0), log(0, totals[1])), strict=True):
        bad = np.arange(total + 1)
        sums.append(logsumexp(binom.logpmf(bad, total, share) + bad * ((most - base) / total)))
    return base + float(sum(sums))


def outcomes(test: Any, totals: tuple[int, int]) -> Floats:
    """What each outcome of the next block multiplies the evidence by; stable's bad requests go down."""
    stable_total, total = totals
    return np.array(
        [
            [
                math.exp(after.log_evidence - test.log_evidence)
                for after in (
                    test.after(Counts(stable_bad, stable_total), Counts(bad, total))
                    for bad in range(total + 1)
                )
            ]
            for stable_bad in range(stable_total + 1)
        ]
    )


def expectation(table: Floats, shares: tuple[float, float]) -> float:
    """The expectation over a table of outcomes."""
    down, across = (
        binom.pmf(np.arange(size), size - 1, share) for size, share in zip(table.shape, shares, strict=True)
    )
    return float(down @ table @ across)


# --- the exact expectation of one bet ---


@pytest.mark.parametrize("line", LINES, ids=str)
def test_no_bet_on_harm_wins_on_average_where_there_is_none(line: Line) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        harm = with_past(Harm(line, NEEDED), rng)
        totals = drawn_total(rng, 300), drawn_total(rng, 300)
        for bet in bets_of_harm(harm):
            for shares in harmless_pairs(bet[0], rng, 4):
                assert log_expectation(bet, totals, shares) <= TINY
            nearest = nearest_on(bet[0], *totals, *bet[1:])
            assert log_expectation(bet, totals, nearest) == pytest.approx(0, abs=TINY)


@pytest.mark.parametrize("own_rates", [False, True])
@pytest.mark.parametrize("line", LINES, ids=str)
def test_no_bet_on_safety_wins_on_average_where_there_is_none(line: Line, own_rates: bool) -> None:
    rng, bets = np.random.default_rng(2), 0
    for _ in range(40):
        safety = with_past(Safety(line, own_rates=own_rates), rng)
        totals = drawn_total(rng, 300), drawn_total(rng, 300)
        stable, candidate = safety.shares()
        if candidate >= line.at(stable) or line.at(stable) >= 1:
            continue  # it does not bet
        bets += 1
        for shares in unsafe_pairs(line, rng, 6):
            assert log_expectation((line, stable, candidate), totals, shares) <= TINY
        nearest = nearest_on(line, *totals, stable, candidate)
        assert log_expectation((line, stable, candidate), totals, nearest) == pytest.approx(0, abs=TINY)
    assert bets or line == EQUAL


@pytest.mark.parametrize("totals", [(1, 20000), (20000, 1), (20000, 500)])
def test_no_bet_wins_on_average_however_unequal_the_sides(totals: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for line in (Line(1, 0), Line(1.25, 0.002), Line(1.5, 0.25), Line(0, 0.05)):
        bets = bets_of_harm(with_past(Harm(line, NEEDED), rng))
        for bet in bets[:: max(1, len(bets) // 4)]:
            for shares in harmless_pairs(bet[0], rng, 6):
                assert log_expectation(bet, totals, shares) <= TINY
        bet = (line, 0.01, 0.5 * line.at(0.01))
        for shares in unsafe_pairs(line, rng, 6):
            assert log_expectation(bet, totals, shares) <= TINY


@pytest.mark.parametrize("line", LINES, ids=str)
def test_the_logarithm_is_linear_in_the_bad_requests_as_these_sums_take_for_granted(line: Line) -> None:
    rng = np.random.default_rng(4)
    stable, candidate = 0.02, odds_times(line.at(0.02), 2)
    for _ in range(20):
        totals = drawn_total(rng, 3000), drawn_total(rng, 3000)
        bad = [int(rng.integers(total + 1)) for total in totals]
        corners = [(0, 0), (totals[0], 0), (0, totals[1])]
        logs = [
            log_e_value(line, Counts(ours, totals[0]), Counts(theirs, totals[1]), stable, candidate)
            for ours, theirs in [*corners, (bad[0], bad[1])]
        ]
        linear = logs[0]
        linear += sum((logs[side + 1] - logs[0]) * bad[side] / totals[side] for side in (0, 1))
        assert logs[3] == pytest.approx(linear, rel=1e-9, abs=1e-9)


# --- the exact expectation of whole minutes ---


@pytest.mark.parametrize("minutes", [WITHOUT_CAP, 1.0, AGREEING_MINUTES, 10.0])
@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_minute_adds_no_evidence_of_harm_on_average_where_there_is_none(line: Line, minutes: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(2):
        harm = with_past(Harm(line, NEEDED, minutes), rng)
        table = outcomes(harm, (int(rng.integers(1, 11)), int(rng.integers(1, 11))))
        for shares in harmless_pairs(line, rng, 40):
            assert expectation(table, shares) <= 1 + TINY


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_minute_adds_no_evidence_of_safety_on_average_where_there_is_none(line: Line) -> None:
    rng = np.random.default_rng(6)
    for number in range(6):
        safety = with_past(Safety(line, own_rates=bool(number % 2)), rng)
        table = outcomes(safety, (int(rng.integers(1, 13)), int(rng.integers(1, 13))))
        for shares in unsafe_pairs(line, rng, 40):
            assert expectation(table, shares) <= 1 + TINY


@pytest.mark.parametrize("totals", [(1, 3000), (3000, 1)])
def test_a_lopsided_minute_adds_no_evidence_on_average(totals: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    harm_table = outcomes(with_past(Harm(EQUAL, NEEDED), rng), totals)
    safety_table = outcomes(Safety(Line(1, 0.05)), totals)
    for shares in harmless_pairs(EQUAL, rng, 100):
        assert expectation(harm_table, shares) <= 1 + TINY
    for shares in unsafe_pairs(Line(1, 0.05), rng, 100):
        assert expectation(safety_table, shares) <= 1 + TINY


@pytest.mark.parametrize("line", [Line(1, 0), Line(1.25, 0.002), Line(0, 0.05)], ids=str)
def test_only_a_ceiling_knows_no_stable(line: Line) -> None:
    """Of a ceiling the evidence is the same whatever stable does, and with a factor it is not."""
    rows = outcomes(Harm(line, NEEDED), (6, 6))
    assert np.allclose(rows, rows[0]) == (not line.factor)


@pytest.mark.parametrize("minutes", [WITHOUT_CAP, AGREEING_MINUTES])
@pytest.mark.parametrize("line", [Line(1, 0), Line(1.25, 0.002), Line(0, 0.05), Line(1.5, 0.25)], ids=str)
def test_what_is_bet_on_a_minute_does_not_know_it(line: Line, minutes: float) -> None:
    """Two minutes together, the second on bets that the first changed, still win nothing on average."""
    rng = np.random.default_rng(8)
    test = with_past(Harm(line, NEEDED, minutes), rng)
    first, second = (3, 4), (5, 3)
    minutes_two = [
        [outcomes(test.after(Counts(ours, 3), Counts(theirs, 4)), second) for theirs in range(5)]
        for ours in range(4)
    ]
    table = outcomes(test, first)
    for one, other in zip(harmless_pairs(line, rng, 40), harmless_pairs(line, rng, 40), strict=True):
        after = np.array([[expectation(each, other) for each in row] for row in minutes_two])
        assert expectation(table * after, one) <= 1 + TINY


@pytest.mark.parametrize("minutes", [WITHOUT_CAP, AGREEING_MINUTES])
@pytest.mark.parametrize("line", [Line(1, 0), Line(1.25, 0.002), Line(1, 0.25)], ids=str)
def test_minutes_that_wait_for_one_another_win_nothing_on_average(line: Line, minutes: float) -> None:
    rng = np.random.default_rng(9)
    test = with_past(Harm(line, NEEDED, minutes), rng)
    waiting = [test.after(Counts(bad, 4), NOTHING) for bad in range(5)]
    assert all(each.log_evidence == test.log_evidence for each in waiting)
    tables = [outcomes(each, (3, 5)) for each in waiting]
    for shares in harmless_pairs(line, rng, 100):
        earlier = binom.pmf(np.arange(5), 4, shares[0])
        assert sum(earlier * [expectation(table, shares) for table in tables]) <= 1 + TINY


# --- the nearest point ---


def divergence(line: Line, totals: tuple[float, float], bets: tuple[float, float], share: float) -> float:
    points = share, line.at(share)
    return sum(
        total * (bet * math.log(bet / point) + (1 - bet) * math.log((1 - bet) / (1 - point)))
        for total, bet, point in zip(totals, bets, points, strict=True)
    )


@pytest.mark.parametrize("beyond", [True, False])
@pytest.mark.parametrize("line", [line for line in LINES if line.factor], ids=str)
def test_the_nearest_point_is_the_one_that_a_brute_search_finds(line: Line, beyond: bool) -> None:
    rng = np.random.default_rng(10)
    for _ in range(60):
        totals = 10 ** rng.uniform(0, 7), 10 ** rng.uniform(0, 7)
        highest = min(1.0, (1 - line.points) / line.factor)
        stable = highest * (rng.random() if rng.random() < 0.5 else 10 ** rng.uniform(-8, 0))
        limit = line.at(stable)
        candidate = (
            limit + (1 - limit) * rng.uniform(0.001, 0.999) if beyond else limit * rng.uniform(0.01, 1)
        )
        found, on_line = nearest_on(line, *totals, stable, candidate)

        def at(
            position: float,
            totals: tuple[float, float] = totals,
            bets: tuple[float, float] = (stable, candidate),
            highest: float = highest,
        ) -> float:
            return divergence(line, totals, bets, highest / (1 + math.exp(-position)))

        searched = minimize_scalar(at, bounds=(-25, 25), method="bounded", options={"xatol": 1e-10})
        distance = divergence(line, totals, (stable, candidate), found)
        assert distance <= searched.fun * (1 + 1e-9) + 1e-15 * sum(totals)
        assert on_line == pytest.approx(line.at(found))
        low, high = sorted((stable, (candidate - line.points) / line.factor))
        assert max(low, 0.0) <= found <= high * (1 + 1e-12)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-6, 1 - 1e-6), st.integers(1, 10**7), st.integers(1, 10**7))
def test_on_the_diagonal_the_nearest_point_is_the_pooled_share(
    stable: float, candidate: float, stable_total: int, total: int
) -> None:
    pooled = (stable_total * stable + total * candidate) / (stable_total + total)
    assert nearest_on(EQUAL, stable_total, total, stable, candidate) == pytest.approx((pooled, pooled))


@given(st.floats(0.001, 0.9), st.floats(1.01, 1000), st.integers(1, 10**6), st.integers(1, 10**6))
def test_evidence_grows_by_what_the_right_bet_wins_on_average(
    stable: float, times: float, stable_total: int, total: int
) -> None:
    share, totals = odds_times(stable, times), (stable_total, total)
    nats = growth(EQUAL, stable_total, total, stable, share)
    nearest = nearest_on(EQUAL, *totals, stable, share)
    distance = divergence(EQUAL, totals, (stable, share), nearest[0])
    assert nats == pytest.approx(distance / total, rel=1e-6, abs=1e-12)
    assert nats >= 0


# --- an independent oracle: the conditional test ---


def conditional_log_evidence(blocks: list[tuple[Counts, Counts]]) -> list[float]:
    """Fisher's exact test made sequential: bets on odds ratios, given how many were bad on both sides."""
    prior = np.array([0.1, *[0.9 / len(ODDS)] * len(ODDS)])
    weights, log_evidence, course = prior, 0.0, []
    psi = np.log([1.0, *ODDS])
    for stable, candidate in blocks:
        bad = stable.bad + candidate.bad
        among = np.arange(min(bad, candidate.total) + 1)
        chances = hypergeom.logpmf(among, stable.total + candidate.total, bad, candidate.total)
        logs = psi * candidate.bad - logsumexp(chances + np.outer(psi, among), axis=1)
        won = weights * np.exp(logs)
        log_evidence += math.log(won.sum())
        weights = 0.99 * won / won.sum() + 0.01 * prior
        course.append(log_evidence)
    return course


def blocks_of(
    rng: np.random.Generator, stable: Any, candidate: Any, totals: tuple[Any, Any], minutes: int = 60
) -> list[tuple[Counts, Counts]]:
    """Minutes with these shares and totals, each of them one number or one a minute."""
    sides = []
    for share, total in zip((stable, candidate), totals, strict=True):
        of_all = np.broadcast_to(np.asarray(total), minutes)
        sides.append(
            [Counts(int(b), int(n)) for b, n in zip(rng.binomial(of_all, share), of_all, strict=True)]
        )
    return list(zip(*sides, strict=True))


def course_of(test: Any, blocks: list[tuple[Counts, Counts]]) -> list[float]:
    """The evidence after each minute."""
    course = []
    for stable, candidate in blocks:
        test = test.after(stable, candidate)
        course.append(test.log_evidence)
    return course


def first_minute(course: list[float], needed: float) -> int | None:
    """The first minute at which the evidence is enough."""
    return next((minute for minute, log in enumerate(course, start=1) if log >= needed), None)


@pytest.mark.parametrize("share", [0.02, 0.03, 0.06])
def test_harm_is_found_about_as_soon_as_by_the_conditional_test(share: float) -> None:
    rng, ours, theirs = np.random.default_rng(11), [], []
    for _ in range(30):
        blocks = blocks_of(rng, 0.01, share, (300, 100), minutes=200)
        found = first_minute(course_of(Harm(EQUAL, NEEDED, WITHOUT_CAP), blocks), NEEDED)
        reference = first_minute(conditional_log_evidence(blocks), NEEDED)
        assert found is not None
        assert reference is not None
        ours.append(found)
        theirs.append(reference)
    assert 0.8 <= np.mean(ours) / np.mean(theirs) <= 1.25


def test_neither_finds_harm_where_there_is_none() -> None:
    rng, found, reference = np.random.default_rng(12), 0, 0
    for _ in range(150):
        blocks = blocks_of(rng, 0.02, 0.02, (300, 100), minutes=40)
        found += first_minute(course_of(Harm(EQUAL, NEEDED, WITHOUT_CAP), blocks), NEEDED) is not None
        reference += first_minute(conditional_log_evidence(blocks), NEEDED) is not None
    assert found <= at_most(0.01, 150)
    assert reference <= at_most(0.01, 150)


# --- simulated rollouts ---


def at_most(promised: float, runs: int) -> float:
    """The promised number of errors, and three standard errors more."""
    return runs * promised + 3 * math.sqrt(runs * promised * (1 - promised))


def steady(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    return blocks_of(rng, 0.01, 0.01, (540, 60))


def drifting(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    share = 0.01 + 0.1 * np.sin(np.arange(60) / 60 * math.pi) ** 4
    return blocks_of(rng, share, share, (540, 60))


def an_incident(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    share = np.where(np.abs(np.arange(60) - 30) < 5, 0.3, 0.01)
    return blocks_of(rng, share, share, (540, 60))


def rising_steps_and_errors(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    part, share = np.repeat([0.05, 0.25, 0.5], 20), np.repeat([0.005, 0.01, 0.02], 20)
    return blocks_of(rng, share, share, ((600 * (1 - part)).astype(int), (600 * part).astype(int)))


def bursts_routed_at_random(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    """Fifty failing requests of one client, every ten minutes or so, each to a revision of its own luck."""
    blocks = []
    for stable, candidate in steady(rng):
        ours, theirs = (0, 0) if rng.random() > 0.1 else rng.multinomial(50, (0.9, 0.1))
        blocks.append(
            (
                Counts(stable.bad + int(ours), stable.total + int(ours)),
                Counts(candidate.bad + int(theirs), candidate.total + int(theirs)),
            )
        )
    return blocks


def low_traffic(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    """Thirty requests an hour, so that most minutes wait for others."""
    totals = rng.poisson(0.25, 240), rng.poisson(0.25, 240)
    return blocks_of(rng, 0.05, 0.05, totals, minutes=240)


@pytest.mark.parametrize(
    "world", [steady, drifting, an_incident, rising_steps_and_errors, bursts_routed_at_random, low_traffic]
)
@pytest.mark.parametrize("minutes", [WITHOUT_CAP, AGREEING_MINUTES])
def test_hardly_any_healthy_candidate_is_found_harmful(
    world: Callable[[np.random.Generator], list[tuple[Counts, Counts]]], minutes: float
) -> None:
    rng, runs = np.random.default_rng(13), 300
    courses = (course_of(Harm(EQUAL, NEEDED, minutes), world(rng)) for _ in range(runs))
    found = sum(first_minute(course, NEEDED) is not None for course in courses)
    assert found <= at_most(0.01, runs)


def bursts_of_instances(rng: np.random.Generator) -> list[tuple[Counts, Counts]]:
    """18 instances of stable and 2 of the candidate, 30 requests a minute each.

    One minute of an instance in 200 goes wrong, with 30 % errors, on whichever revision.
    """
    shares = np.where(rng.random((60, 20)) < 0.005, 0.3, 0.01)
    bad = rng.binomial(30, shares)
    return [
        (Counts(int(ours), 540), Counts(int(theirs), 60))
        for ours, theirs in zip(bad[:, :18].sum(axis=1), bad[:, 18:].sum(axis=1), strict=True)
    ]


def test_the_cap_keeps_a_burst_of_one_instance_from_being_taken_for_a_bad_revision() -> None:
    rng, runs = np.random.default_rng(14), 300
    worlds = [bursts_of_instances(rng) for _ in range(runs)]
    found = {
        minutes: sum(
            first_minute(course_of(Harm(EQUAL, NEEDED, minutes), blocks), NEEDED) is not None
            for blocks in worlds
        )
        for minutes in (AGREEING_MINUTES, WITHOUT_CAP)
    }
    assert found[AGREEING_MINUTES] <= 0.02 * runs
    assert found[WITHOUT_CAP] >= 0.1 * runs


def test_an_outage_at_low_traffic_is_found_within_ten_requests() -> None:
    """Thirty requests an hour, half of them to a candidate that fails every one."""
    rng, needed_requests = np.random.default_rng(15), []
    for _ in range(100):
        harm, requests = Harm(EQUAL, NEEDED), 0
        while harm.log_evidence < NEEDED:
            stable, candidate = (int(count) for count in rng.poisson(0.25, 2))
            harm = harm.after(Counts(0, stable), Counts(candidate, candidate))
            requests += candidate
        needed_requests.append(requests)
    assert np.median(needed_requests) <= 10


def test_a_jump_is_believed_at_once_and_a_small_increase_only_after_three_minutes() -> None:
    good = Counts(3, 300)
    assert Harm(EQUAL, NEEDED).after(good, Counts(60, 100)).log_evidence >= NEEDED
    harm = Harm(EQUAL, NEEDED)
    course = course_of(harm, [(good, Counts(1500, 10000))] * 3)
    assert first_minute(course, NEEDED) == 3


def test_late_harm_is_found_about_as_soon_as_early_harm() -> None:
    rng = np.random.default_rng(16)
    late = []
    for _ in range(20):
        course = course_of(Harm(EQUAL, NEEDED), blocks_of(rng, 0.01, 0.01, (300, 100), minutes=120))
        blocks = blocks_of(rng, 0.01, 0.01, (300, 100), minutes=120)
        blocks += blocks_of(rng, 0.01, 0.06, (300, 100), minutes=30)
        found = first_minute(course_of(Harm(EQUAL, NEEDED), blocks), NEEDED)
        assert first_minute(course, NEEDED) is None
        assert found is not None
        late.append(found - 120)
    assert np.median(late) <= 10


@pytest.mark.parametrize(
    ("share", "line"),
    [
        (0.001, Line(1, 0.005)),
        (0.01, Line(1, 0.01)),
        (0.05, Line(1.5, 0)),
        (0.01, Line(1.25, 0.002)),
        (0.02, Line(0, 0.02)),
    ],
    ids=str,
)
def test_hardly_any_candidate_on_the_line_is_shown_to_be_safe(share: float, line: Line) -> None:
    rng, runs = np.random.default_rng(17), 300
    courses = (
        course_of(Safety(line), blocks_of(rng, share, line.at(share), (400, 100))) for _ in range(runs)
    )
    shown = sum(first_minute(course, SAFE) is not None for course in courses)
    assert shown <= at_most(0.05, runs)


@pytest.mark.parametrize(
    ("share", "line", "requests"),
    [
        (0.001, Line(1, 0.005), 1400),
        (0.01, Line(1, 0.01), 2000),
        (0.05, Line(1.5, 0), 1500),
        (0.01, Line(0, 0.05), 250),
    ],
    ids=str,
)
def test_a_candidate_like_stable_is_shown_to_be_safe(share: float, line: Line, requests: int) -> None:
    """At the median, with at most twice as many requests as the design measured."""
    rng, needed_requests = np.random.default_rng(18), []
    for _ in range(40):
        blocks = blocks_of(rng, share, share, (200, 50), minutes=200)
        shown = first_minute(course_of(Safety(line), blocks), SAFE)
        needed_requests.append(50 * (shown or 1000))
    assert np.median(needed_requests) <= requests


# --- what is always so ---

TOTALS = st.one_of(st.integers(1, 50), st.integers(1, 10**7))


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    total = draw(TOTALS)
    return Counts(draw(st.one_of(st.sampled_from([0, total]), st.integers(0, total))), total)


@st.composite
def a_past(draw: st.DrawFn) -> list[tuple[Counts, Counts]]:
    return draw(st.lists(st.tuples(some_counts(), some_counts()), max_size=6))


def after_all(test: Any, blocks: list[tuple[Counts, Counts]]) -> Any:
    for stable, candidate in blocks:
        test = test.after(stable, candidate)
    return test


@given(st.sampled_from(LINES), a_past(), some_counts(), some_counts(), st.integers(0, 10**7))
def test_more_errors_of_the_candidate_never_lower_the_evidence_of_their_minute(
    line: Line, past: list[tuple[Counts, Counts]], stable: Counts, candidate: Counts, fewer: int
) -> None:
    harm = after_all(Harm(line, NEEDED), past)
    less = Counts(min(fewer, candidate.bad), candidate.total)
    worse, better = (harm.after(stable, each).log_evidence for each in (candidate, less))
    assert worse >= better - 1e-9 * max(1.0, abs(better))


@given(st.sampled_from(LINES), a_past(), some_counts(), some_counts(), st.integers(0, 10**7))
def test_more_errors_of_stable_never_raise_the_evidence_of_their_minute(
    line: Line, past: list[tuple[Counts, Counts]], stable: Counts, candidate: Counts, fewer: int
) -> None:
    harm = after_all(Harm(line, NEEDED), past)
    less = Counts(min(fewer, stable.bad), stable.total)
    worse, better = (harm.after(each, candidate).log_evidence for each in (stable, less))
    assert worse <= better + 1e-9 * max(1.0, abs(better))


@given(st.sampled_from(LINES), a_past(), st.sampled_from([WITHOUT_CAP, AGREEING_MINUTES]))
def test_evidence_is_finite_whatever_is_counted(
    line: Line, past: list[tuple[Counts, Counts]], minutes: float
) -> None:
    harm = after_all(Harm(line, NEEDED, minutes), past)
    safeties = [after_all(Safety(line, own_rates=own), past) for own in (False, True)]
    assert all(math.isfinite(test.log_evidence) for test in (harm, *safeties))
    assert sum(harm.bets.weights) == pytest.approx(1)
    assert min(harm.bets.weights) > 0


@given(st.sampled_from(LINES), a_past())
def test_one_minute_counts_for_no_more_than_its_part_unless_it_is_a_jump(
    line: Line, past: list[tuple[Counts, Counts]]
) -> None:
    harm = Harm(line, NEEDED)
    for stable, candidate in past:
        after = harm.after(stable, candidate)
        assert after.capped - harm.capped <= 1.02 * NEEDED / AGREEING_MINUTES
        harm = after


@pytest.mark.parametrize("minutes", [1, 5, 20])
@pytest.mark.parametrize(
    ("good", "bad"), [((3, 300), (30, 100)), ((0, 20), (20, 20)), ((900, 3000), (800, 1000))]
)
def test_with_the_sides_swapped_there_is_no_harm(
    minutes: int, good: tuple[int, int], bad: tuple[int, int]
) -> None:
    blocks = [(Counts(*good), Counts(*bad))] * minutes
    harmful = after_all(Harm(EQUAL, NEEDED), blocks)
    swapped = after_all(Harm(EQUAL, NEEDED), [(candidate, stable) for stable, candidate in blocks])
    assert harmful.log_evidence > 1
    assert swapped.log_evidence <= 0


@given(
    st.sampled_from([line for line in LINES if line != EQUAL]),
    some_counts(),
    some_counts(),
    st.integers(1, 40),
)
def test_the_same_minute_over_and_over_never_shows_both_harm_and_safety(
    line: Line, stable: Counts, candidate: Counts, minutes: int
) -> None:
    harm, safety = Harm(line, NEEDED), Safety(line)
    for _ in range(minutes):
        harm, safety = harm.after(stable, candidate), safety.after(stable, candidate)
        assert min(harm.log_evidence / NEEDED, safety.log_evidence / SAFE) < 0.5


@pytest.mark.parametrize("excess", [0.0, 0.01, 0.02, 0.04])
def test_harm_and_safety_are_never_shown_of_the_same_candidate(excess: float) -> None:
    rng, line, both = np.random.default_rng(19), Line(1, 0.02), 0
    for _ in range(50):
        blocks = blocks_of(rng, 0.01, 0.01 + excess, (300, 100))
        harm, safety = course_of(Harm(line, NEEDED), blocks), course_of(Safety(line), blocks)
        both += max(harm) >= NEEDED and max(safety) >= SAFE
    assert both == 0


# --- minutes in which one side has no request ---


@pytest.mark.parametrize("test", [Harm(EQUAL, NEEDED), Harm(EQUAL, NEEDED, 0), Safety(Line(1, 0.1))])
def test_a_minute_with_one_empty_side_waits_for_the_other_side(test: Harm | Safety) -> None:
    waits = test.after(Counts(1, 5), NOTHING).after(NOTHING, NOTHING).after(Counts(0, 4), NOTHING)
    assert waits.log_evidence == test.log_evidence
    assert waits.after(NOTHING, Counts(2, 3)) == test.after(Counts(1, 9), Counts(2, 3))


@given(a_past(), some_counts(), some_counts())
def test_waiting_is_the_same_as_one_minute_for_both_whoever_comes_first(
    past: list[tuple[Counts, Counts]], stable: Counts, candidate: Counts
) -> None:
    for test in (after_all(Harm(Line(1.25, 0.002), NEEDED), past), after_all(Safety(Line(1, 0.1)), past)):
        at_once = test.after(stable, candidate)
        assert test.after(stable, NOTHING).after(NOTHING, candidate) == at_once
        assert test.after(NOTHING, candidate).after(stable, NOTHING) == at_once


@pytest.mark.parametrize("test", [Harm(EQUAL, NEEDED), Safety(Line(1, 0.1))])
def test_a_new_step_drops_what_waits(test: Harm | Safety) -> None:
    waits = test.after(Counts(5, 5), NOTHING)
    fresh = test.after(Counts(0, 3), Counts(1, 4), new_step=True)
    assert waits.after(Counts(0, 3), Counts(1, 4), new_step=True) == fresh
    still_waits = waits.after(NOTHING, Counts(1, 4), new_step=True)
    assert still_waits.waiting == (NOTHING, Counts(1, 4))


def test_a_new_step_lays_part_of_the_bets_anew_so_that_its_harm_counts_at_once() -> None:
    settled, harmful = (
        after_all(Harm(EQUAL, NEEDED), [(Counts(3, 300), Counts(1, 100))] * 60),
        (Counts(3, 300), Counts(9, 100)),
    )
    stays, moves = settled.after(*harmful), settled.after(*harmful, new_step=True)
    assert moves.log_evidence - settled.log_evidence > stays.log_evidence - settled.log_evidence > 0


def test_below_a_ceiling_the_candidate_alone_is_enough() -> None:
    ceiling = Harm(Line(0, 0.05), NEEDED)
    alone, beside = ceiling.after(NOTHING, Counts(9, 10)), ceiling.after(Counts(10, 10), Counts(9, 10))
    assert alone.log_evidence == beside.log_evidence > 1


@pytest.mark.parametrize("points", [0.9991, 1.0])
def test_a_limit_that_nothing_can_exceed_is_neither_broken_nor_bet_on(points: float) -> None:
    harm = after_all(Harm(Line(0, points), NEEDED), [(Counts(5, 5), Counts(1000, 1000))] * 9)
    assert harm.log_evidence == pytest.approx(0)


@given(st.floats(0.9, 0.9999), a_past())
def test_limits_near_one_hundred_percent_give_numbers(
    points: float, past: list[tuple[Counts, Counts]]
) -> None:
    for line in (Line(0, points), Line(1, points), Line(1.5, points)):
        assert math.isfinite(after_all(Harm(line, NEEDED), past).log_evidence)
        assert math.isfinite(after_all(Safety(line), past).log_evidence)


# --- state ---


@given(a_past(), a_past())
def test_state_written_as_json_and_read_back_goes_on_to_the_last_bit(
    past: list[tuple[Counts, Counts]], future: list[tuple[Counts, Counts]]
) -> None:
    tests = (Harm(Line(1.25, 0.002), NEEDED), Safety(Line(1, 0.05)), Safety(EQUAL, own_rates=True))
    for test in tests:
        state = after_all(test, past).after(Counts(1, 3), NOTHING)
        adapter: TypeAdapter[Any] = TypeAdapter(type(test))
        read = adapter.validate_json(adapter.dump_json(state))
        assert read == state
        assert after_all(read, future) == after_all(state, future)


def test_the_past_of_stable_makes_bets_better_and_is_no_evidence() -> None:
    history = [Counts(5, 100)] * 30
    known = Harm(EQUAL, NEEDED).knowing(history)
    assert known.log_evidence == Harm(EQUAL, NEEDED).log_evidence
    blocks = [(Counts(5, 100), Counts(12, 100))] * 4
    assert after_all(known, blocks).log_evidence > after_all(Harm(EQUAL, NEEDED), blocks).log_evidence


@given(st.lists(st.floats(-700, 700), max_size=8))
def test_logarithms_are_added_as_numbers(logs: list[float]) -> None:
    total = sum(math.exp(log) for log in logs)
    assert log_sum(logs) == pytest.approx(math.log(total) if logs else -math.inf)


def test_the_sum_of_what_has_no_logarithm_is_none() -> None:
    assert log_sum([-math.inf, -math.inf]) == -math.inf
    assert log_sum([-math.inf, 1.0]) == 1.0
