"""The detector: when it gives an alarm, how soon, and how rarely for nothing."""

import math
import random
from collections.abc import Iterator

import pytest

from controller.core.counts import Counts
from controller.core.detector import BETS, Detector, likely_onset, upper_bound

A_MONTH = 30 * 24 * 60
WINDOW = 30
LIMIT = 0.0145
"""What is tolerated where 1 % was usual."""


def a_detector(limit: float = LIMIT) -> Detector:
    return Detector(limit, A_MONTH, WINDOW)


def some_minutes(share: float, requests: int, minutes: int, seed: int = 1) -> Iterator[Counts]:
    """Draw minutes with about so many requests, each bad by itself."""
    drawn = random.Random(seed)
    mean = requests * share
    for _ in range(minutes):
        total = max(0, round(drawn.gauss(requests, math.sqrt(requests))))
        bad = round(drawn.gauss(mean, math.sqrt(mean * (1 - share)))) if mean > 10 else 0
        if mean <= 10:
            bad = sum(drawn.random() < share for _ in range(total))
        yield Counts(min(max(0, bad), total), total)


def minutes_to_alarm(detector: Detector, minutes: Iterator[Counts]) -> int | None:
    for number, counts in enumerate(minutes, start=1):
        detector = detector.after(counts)
        if detector.alarms:
            return number
    return None


def test_the_bets_are_one_whole() -> None:
    assert sum(weight for _, _, weight in BETS) == pytest.approx(1)


@pytest.mark.parametrize("total", [1, 7, 40])
@pytest.mark.parametrize("limit", [0.002, LIMIT, 0.05, 0.4])
def test_a_minute_at_the_limit_wins_nothing_on_average(limit: float, total: int) -> None:
    """M after one minute is the e-value itself: its expectation is at most 1, computed exactly."""
    expected = math.fsum(
        math.comb(total, bad)
        * limit**bad
        * (1 - limit) ** (total - bad)
        * a_detector(limit).after(Counts(bad, total)).evidence
        for bad in range(total + 1)
    )
    assert expected <= 1 + 1e-12


def test_minutes_without_requests_say_nothing() -> None:
    after = a_detector().after(Counts(3, 100))
    assert after.after_all([Counts()] * 5) == after


@pytest.mark.parametrize("before", [0, 20])
def test_four_times_the_usual_errors_are_found_in_minutes_under_a_ceiling_far_above(before: int) -> None:
    healthy = a_detector().after_all(some_minutes(0.01, 1200, before))
    found = minutes_to_alarm(healthy, some_minutes(0.04, 1200, 10, seed=2))
    assert found is not None
    assert found <= 5


def test_little_traffic_takes_longer_and_is_found_too() -> None:
    found = minutes_to_alarm(a_detector(0.05), some_minutes(0.6, 2, WINDOW))
    assert found is not None
    assert found > 4


@pytest.mark.parametrize("minutes", [1, 2])
def test_a_burst_is_no_alarm_however_bad_even_after_a_window_of_luck(minutes: int) -> None:
    lucky = a_detector().after_all([Counts(1, 69)] * (WINDOW - minutes))
    assert not lucky.after_all([Counts(1000, 1000)] * minutes).alarms


def test_an_outage_is_an_alarm_within_four_minutes() -> None:
    assert minutes_to_alarm(a_detector(), iter([Counts(1000, 1000)] * 10)) == 4


def test_harm_that_comes_and_goes_is_found() -> None:
    minutes = [Counts(300, 300), Counts(0, 300)] * 12
    assert a_detector(0.05).after_all([*minutes, Counts(300, 300)]).alarms


def test_good_minutes_long_before_do_not_hide_harm() -> None:
    late = a_detector().after_all([Counts(0, 1000)] * 500)
    assert minutes_to_alarm(late, iter([Counts(100, 1000)] * 10)) == 4


def test_it_is_quiet_again_when_harm_is_over() -> None:
    over = a_detector().after_all([*[Counts(1000, 1000)] * 10, Counts(5, 1000)])
    assert not over.alarms


@pytest.mark.parametrize(("limit", "requests"), [(0.05, 1), (LIMIT, 300)])
def test_in_thirty_days_at_the_limit_itself_there_is_about_one_false_alarm_at_most(
    limit: float, requests: int
) -> None:
    detector, alarms = a_detector(limit), 0
    for counts in some_minutes(limit, requests, A_MONTH, seed=5):
        detector = detector.after(counts)
        if detector.alarms:
            detector, alarms = a_detector(limit), alarms + 1
    assert alarms <= 2


def test_a_watch_over_the_latest_minutes_never_shows_more_than_one_without_an_end() -> None:
    minutes = list(some_minutes(0.02, 200, 120, seed=3))
    endless = a_detector().after_all(minutes)
    assert not endless.alarms
    assert a_detector().after_all(minutes[-WINDOW:]).evidence <= endless.evidence


def test_a_limit_that_cannot_be_exceeded_is_never_broken() -> None:
    assert not a_detector(1.0).after_all([Counts(10, 10)] * WINDOW).alarms


def test_the_onset_is_the_minute_from_which_on_it_was_bad() -> None:
    minutes = [*[Counts(5, 500)] * 20, *[Counts(40, 500)] * 7]
    assert likely_onset(minutes, LIMIT) == 7


@pytest.mark.parametrize(
    ("past", "least", "most"),
    [(Counts(0, 0), 1, 1), (Counts(0, 100), 0.02, 0.04), (Counts(1000, 100_000), 0.01, 0.0106)],
)
def test_the_bound_on_what_is_usual_is_wide_where_little_is_known(
    past: Counts, least: float, most: float
) -> None:
    assert least <= upper_bound(past) <= most
