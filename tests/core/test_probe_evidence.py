"""Evidence from probes: turns, pairs, and metrics without what we asked ourselves."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import NOW, a_policy, a_sample, some_evidence
from hypothesis import given
from hypothesis import strategies as st

from controller.core.assessment import assess
from controller.core.evidence import MINUTE, Minute, Sample, Source, Window
from controller.core.findings import VerdictValue
from controller.core.judge import Verdict, judge
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import (
    Answer,
    Asked,
    Pair,
    arrange_probes,
    pair_as_plain,
    parse_pair,
    slot_of,
    without_probes,
)

SECOND = timedelta(seconds=1)
GOOD, BAD = Answer(True, 200, 0.05), Answer(False, 500, 0.01, "GET / was answered with 500")
EVERY = Probe(path="/", every=timedelta(seconds=30))


def test_turns_are_the_same_for_whoever_asks_and_no_two_probes_have_the_same() -> None:
    turns = {slot_of(EVERY, number, NOW + offset * SECOND) for number in (0, 1) for offset in (0, 12, 29)}
    assert turns == {NOW, NOW + timedelta(microseconds=1)}
    assert slot_of(EVERY, 0, NOW + 30 * SECOND) == NOW + 30 * SECOND


def test_each_pair_is_a_tick_in_the_window_it_was_asked_in() -> None:
    windows = (Window(5, NOW, NOW + MINUTE), Window(100, NOW + 2 * MINUTE))
    pairs = [Pair(NOW + number * MINUTE / 2, "GET /", BAD, GOOD) for number in range(-1, 6)]
    evidence = arrange_probes(windows, reversed(pairs))
    assert evidence.source is Source.PROBES
    assert [len(stage.ticks) for stage in evidence.stages] == [3, 2]
    tick = evidence.stages[0].ticks[0]
    assert (tick.stable.codes, tick.candidate.codes) == ({"200": 1}, {"500": 1})
    assert tick.candidate.latencies is None
    later = arrange_probes(windows, pairs, since=NOW + MINUTE)
    assert [len(stage.ticks) for stage in later.stages] == [0, 2]


def test_a_pair_without_stable_is_about_the_candidate_alone() -> None:
    (stage,) = arrange_probes((Window(100, NOW),), [Pair(NOW, "GET /", GOOD)]).stages
    assert (stage.ticks[0].stable.requests, stage.ticks[0].candidate.requests) == (0, 1)


@pytest.mark.parametrize("pair", [Pair(NOW, "GET /", BAD, GOOD), Pair(NOW, "HEAD /a", GOOD)])
def test_a_pair_comes_back_from_the_log_as_it_was(pair: Pair) -> None:
    assert parse_pair(NOW, pair_as_plain(pair)) == pair


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"probe": "GET /"},
        {"probe": 1, "candidate": {"ok": True, "status": 200, "seconds": 1, "problem": ""}},
        {"probe": "GET /", "candidate": {"ok": "yes", "status": 200, "seconds": 1, "problem": ""}},
        {"probe": "GET /", "candidate": {"ok": True, "status": 2000, "seconds": 1, "problem": ""}},
        {"probe": "GET /", "candidate": {"ok": True, "status": 200, "seconds": -1, "problem": ""}},
        {"probe": "GET /", "candidate": {"ok": True, "status": 200, "seconds": float("nan"), "problem": ""}},
    ],
)
def test_what_somebody_else_wrote_into_the_log_is_no_pair(plain: dict[str, object]) -> None:
    assert parse_pair(NOW, plain) is None


# --- metrics without probes ---


def minute(number: int, sample: Sample) -> Minute:
    return Minute(NOW + number * MINUTE, sample)


def asked(*seconds: float, answer: Answer = GOOD) -> list[Asked]:
    return [(NOW + second * SECOND, answer) for second in seconds]


def test_our_requests_are_taken_off_the_counts_and_the_distribution() -> None:
    (users,), left = without_probes([minute(1, a_sample(5, latency=50))], asked(1, 31))
    assert left == []
    assert users.sample.codes == {"200": 3}
    assert users.sample.latencies is not None
    assert users.sample.latencies.total == 3


def test_where_there_were_only_probes_nothing_is_left() -> None:
    (users,), _ = without_probes([minute(1, a_sample(2, latency=50))], asked(1, 31))
    assert (users.sample.requests, users.sample.latencies) == (0, None)


def test_a_probe_may_be_counted_in_the_minute_after() -> None:
    minutes = [minute(1, a_sample(0, latency=None)), minute(2, a_sample(1, latency=None))]
    users, left = without_probes(minutes, asked(59))
    assert [each.sample.requests for each in users] == [0, 0]
    assert left == []


def test_a_probe_that_is_counted_nowhere_takes_no_user_much_later() -> None:
    nothing = [minute(number, Sample()) for number in (1, 2, 3)]
    users, left = without_probes([*nothing, minute(4, a_sample(1, latency=None))], asked(10))
    assert users[-1].sample.requests == 1
    assert left == []


def test_failing_probes_are_taken_off_the_failures() -> None:
    (users,), _ = without_probes([minute(1, Sample({"200": 3, "500": 2}))], asked(1, answer=BAD))
    assert users.sample.codes == {"200": 3, "500": 1}


@given(
    st.lists(st.tuples(st.floats(0, 599), st.booleans()), max_size=40),
    st.lists(st.integers(0, 5), min_size=10, max_size=10),
    st.lists(st.integers(1, 10), max_size=4),
)
def test_in_any_readings_exactly_the_users_are_left(
    probes: list[tuple[float, bool]], users: list[int], cuts: list[int]
) -> None:
    """However the minutes are read, what is left in the end are the users."""
    all_asked = [(NOW + second * SECOND, GOOD if good else BAD) for second, good in probes]
    minutes = []
    for number, count in enumerate(users):
        codes = {"200": count, "500": 0}
        for at, answer in all_asked:
            codes[str(answer.status)] += _is_in(at, number)
        minutes.append(minute(number + 1, Sample({code: each for code, each in codes.items() if each})))
    left, found, start = all_asked, 0, 0
    for end in sorted({*cuts, len(minutes)}):
        read, left = without_probes(minutes[start:end], left)
        found += sum(each.sample.requests for each in read)
        start = end
    assert found == sum(users)


def _is_in(at: datetime, number: int) -> bool:
    return number * MINUTE <= at - NOW < (number + 1) * MINUTE


def test_latencies_are_compared_only_where_both_answered_the_same_well() -> None:
    pairs = [Pair(NOW, "GET /", GOOD, BAD), Pair(NOW + SECOND, "GET /", GOOD, GOOD)]
    (stage,) = arrange_probes((Window(5, NOW),), pairs).stages
    assert [bool(tick.candidate.latencies) for tick in stage.ticks] == [False, True]


# --- judged ---


def judged(candidate: Answer, stable: Answer, pairs: int, **fields: Any) -> Verdict:
    """Judge so many pairs, a minute apart, beside as many minutes of users who meet no errors."""
    policy = a_policy(probes="/", **fields)
    asked_ = [Pair(NOW + number * MINUTE, "GET /", candidate, stable) for number in range(pairs)]
    probes = assess(policy, arrange_probes((Window(50, NOW),), asked_))
    users = some_evidence(a_sample(100), a_sample(100), minutes=pairs, percent=50)
    return judge(policy, policy.hold, assess(policy, users), [probes])


def test_pairs_that_the_candidate_alone_fails_show_harm_soon() -> None:
    verdict = judged(BAD, GOOD, 10)
    assert verdict.value is VerdictValue.FAIL
    assert "probes: candidate 100 % failed of" in verdict.reason


@pytest.mark.parametrize("pairs", [1, 3, 4, 5, 8, 60])
def test_pairs_that_both_fail_are_nobodys_fault(pairs: int) -> None:
    assert judged(BAD, BAD, pairs).value is not VerdictValue.FAIL


def test_slow_answers_of_both_are_nobodys_fault() -> None:
    slow = Answer(True, 200, 2.0)
    verdict = judged(slow, slow, 30, guards={"latency": {"ceilings": {"p95": "300ms"}}})
    assert verdict.value is VerdictValue.PASS


def test_proof_is_asked_of_the_users_alone() -> None:
    many = some_evidence(a_sample(5000), a_sample(5000), minutes=60, percent=50)
    policy = a_policy(probes="/", advance_on="proven")
    pairs = [Pair(NOW + number * MINUTE, "GET /", GOOD, GOOD) for number in range(60)]
    probes = assess(policy, arrange_probes((Window(50, NOW),), pairs))
    assert judge(policy, policy.hold, assess(policy, many), [probes]).value is VerdictValue.PASS
