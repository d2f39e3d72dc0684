"""The budget of reading logs: no call beyond the rate, which refusals halve and time gives back."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from builders import NOW
from hypothesis import given
from hypothesis import strategies as st

from controller.gateways.log_budget import CALLS_A_MINUTE, LEAST_CALLS_A_MINUTE, LogBudget

MOST = int(CALLS_A_MINUTE)


@dataclass
class HandClock:
    """A clock that a test moves."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def move(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def budget(clock: HandClock) -> LogBudget:
    return LogBudget(clock.now)


def calls_at_once(budget: LogBudget) -> int:
    """Make calls until there is one to wait for."""
    made = 0
    while not budget.wait():
        budget.spend()
        made += 1
    return made


def test_the_calls_of_a_minute_may_be_made_at_once(budget: LogBudget) -> None:
    assert calls_at_once(budget) == MOST


def test_the_next_call_may_be_made_when_the_wait_is_over(budget: LogBudget, clock: HandClock) -> None:
    calls_at_once(budget)
    assert budget.wait() == pytest.approx(60 / MOST)
    clock.move(budget.wait() / 2)
    assert budget.wait() == pytest.approx(30 / MOST)
    clock.move(budget.wait())
    assert calls_at_once(budget) == 1


def test_what_is_not_used_is_kept_for_a_minute_and_no_longer(budget: LogBudget, clock: HandClock) -> None:
    calls_at_once(budget)
    clock.move(60 / MOST * 5)
    assert calls_at_once(budget) == 5
    clock.move(3600)
    assert calls_at_once(budget) == MOST


def test_tries_beyond_the_budget_are_paid_back(budget: LogBudget) -> None:
    for _ in range(MOST + 2):
        budget.spend()
    assert budget.wait() == pytest.approx(3 * 60 / MOST)


def test_each_refusal_halves_the_rate_down_to_the_least(budget: LogBudget) -> None:
    rates = []
    for _ in range(6):
        budget.halve(0)
        rates.append(budget.rate)
    assert rates == [MOST / 2, MOST / 4, MOST / 8, LEAST_CALLS_A_MINUTE, LEAST_CALLS_A_MINUTE, 1]


def test_after_a_refusal_no_call_is_made_for_as_long_as_was_asked_and_then_one(
    budget: LogBudget, clock: HandClock
) -> None:
    budget.halve(60)
    assert budget.wait() == 60
    clock.move(59)
    assert budget.wait() == 1
    clock.move(1)
    assert calls_at_once(budget) == 1


def test_a_shorter_wait_does_not_end_a_longer_one(budget: LogBudget) -> None:
    budget.halve(60)
    budget.halve(7)
    assert budget.wait() == 60


def test_the_rate_is_regained_by_one_call_a_minute(budget: LogBudget, clock: HandClock) -> None:
    budget.halve(60)
    clock.move(60)
    assert budget.rate == MOST / 2
    clock.move(60)
    assert budget.rate == MOST / 2 + 1
    clock.move(30)
    assert budget.rate == MOST / 2 + 1.5
    clock.move(3600)
    assert budget.rate == MOST


def test_a_clock_that_is_set_back_takes_nothing_away(budget: LogBudget, clock: HandClock) -> None:
    calls_at_once(budget)
    clock.move(-3600)
    assert budget.wait() == pytest.approx(60 / MOST)
    clock.move(60 / MOST)
    assert calls_at_once(budget) == 1


SECONDS = st.integers(0, 90_000).map(lambda thousandths: thousandths / 1000)
STEPS = st.lists(
    st.one_of(
        SECONDS.map(lambda seconds: ("move", seconds)),
        st.just(("call", 0.0)),
        st.just(("calls", 0.0)),
        SECONDS.map(lambda seconds: ("halve", seconds)),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_no_minute_has_more_than_two_minutes_calls(steps: list[tuple[str, float]]) -> None:
    """A full bucket and what flows into it meanwhile; and the next call is never further than it says."""
    clock = HandClock()
    budget = LogBudget(clock.now)
    made: list[datetime] = []
    for action, seconds in steps:
        if action == "move":
            clock.move(seconds)
        elif action == "halve":
            budget.halve(seconds)
            assert budget.wait() >= seconds
        else:
            made += [clock.time] * (calls_at_once(budget) if action == "calls" else one_call(budget))
        assert LEAST_CALLS_A_MINUTE <= budget.rate <= CALLS_A_MINUTE
        assert 0 <= budget.wait() <= 90 + 60 / LEAST_CALLS_A_MINUTE
    for first in made:
        of_a_minute = [at for at in made if first <= at < first + timedelta(minutes=1)]
        assert len(of_a_minute) <= 2 * MOST
    clock.move(budget.wait())
    assert budget.wait() == 0


def one_call(budget: LogBudget) -> int:
    if budget.wait():
        return 0
    budget.spend()
    return 1
