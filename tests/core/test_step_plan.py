"""Steps that fit the traffic: what a plan promises, held against rollouts that are simulated."""

from datetime import timedelta
from itertools import pairwise
from statistics import mean
from typing import Any

import pytest
from builders import NOW, a_policy, a_sample
from hypothesis import given, settings
from hypothesis import strategies as some

from controller.core.evidence import MINUTE, Minute
from controller.core.policy import Policy, parse_policy, policy_as_plain
from controller.core.policy_fields import Gate
from controller.core.policy_guards import ErrorGuard
from controller.core.reach import (
    Traffic,
    eyes_of,
    reach_lines,
    reach_of,
    reach_warnings,
    ruled_out,
    seen_after,
    traffic_of,
)
from controller.core.step_plan import StepPlan, fit_steps, plan_steps
from controller.simulation.rollouts import Ending, simulate
from controller.simulation.users import Behaviour, Users

AN_HOUR = 1 / 60
"""One request an hour, in requests a minute."""

RUNS = 100
TOLERANCE = 1.1
"""The mean of so many runs is not exact."""

traffics = some.builds(Traffic, a_minute=some.floats(0.001, 1e6), errors=some.floats(1e-5, 0.5))


def auto(at_most: int = 50, **fields: Any) -> Policy:
    return a_policy(steps={"at_most": at_most}, **fields)


def a_plan(traffic: Traffic, at_most: int = 50, **fields: Any) -> StepPlan:
    plan = plan_steps(auto(at_most, **fields), traffic)
    assert plan is not None
    return plan


def shares_of(plan: StepPlan) -> list[int]:
    return [each.step.traffic for each in plan.steps]


def with_one_step(plan: StepPlan, number: int = 0) -> Policy:
    """Return a policy whose rollouts end with this step."""
    step = plan.steps[number].step.model_copy(update={"gate": Gate()})
    return auto().model_copy(update={"steps": (step,), "auto": None})


# --- what a plan promises ---


@pytest.mark.repeats
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.03])
@pytest.mark.parametrize(
    "traffic",
    [Traffic(1200, 0.001), Traffic(300, 0.005), Traffic(60, 0.01), Traffic(12, 0.005)],
    ids=lambda traffic: traffic.text,
)
def test_however_much_a_candidate_fails_the_first_step_risks_no_more_than_it_says(
    traffic: Traffic, share: float
) -> None:
    plan = a_plan(traffic)
    users = Users(traffic.a_minute / 60, Behaviour(traffic.errors), Behaviour(share))
    policy = with_one_step(plan)
    outcomes = [simulate(policy, users, f"{number}") for number in range(RUNS)]
    failed = mean(each.failed - each.requests * traffic.errors for each in outcomes)
    assert failed <= TOLERANCE * plan.steps[0].risk.failed
    assert plan.steps[0].risk.failed <= plan.allowed or plan.steps[0].step.traffic == 1


def test_the_risk_is_no_exaggeration() -> None:
    traffic = Traffic(60, 0.005)
    plan = a_plan(traffic)
    users = Users(1, Behaviour(traffic.errors), Behaviour(plan.steps[0].risk.share))
    outcomes = [simulate(with_one_step(plan), users, f"{number}") for number in range(RUNS)]
    assert {each.ending for each in outcomes} == {Ending.ROLLED_BACK}
    assert mean(each.failed for each in outcomes) > plan.steps[0].risk.failed / 1.5


@settings(max_examples=40)
@given(traffics, some.integers(1, 1000))
def test_shares_at_least_double_up_to_half_and_every_plan_is_a_policy(traffic: Traffic, at_most: int) -> None:
    plan = a_plan(traffic, at_most)
    shares = shares_of(plan)
    assert shares[-1] == 50
    assert all(min(2 * before, 50) <= after <= 5 * before for before, after in pairwise(shares))
    for each in plan.steps:
        assert 3 * MINUTE <= each.step.hold.at_least <= 120 * MINUTE
        assert each.step.hold.at_most >= 4 * each.step.hold.at_least
    fitted = plan.policy(auto(at_most))
    assert fitted.auto is None
    assert parse_policy(policy_as_plain(fitted)) == fitted


@settings(max_examples=40)
@given(traffics)
def test_what_a_step_rules_out_the_next_need_not_fear(traffic: Traffic) -> None:
    plan = a_plan(traffic)
    for before, after in pairwise(plan.steps):
        assert after.feared == before.rules_out
        assert after.risk.share <= max(after.feared, 1.25 * traffic.errors + 0.002) + 1e-9


def test_with_more_traffic_the_first_share_is_smaller() -> None:
    firsts = [shares_of(a_plan(Traffic(rate, 0.005)))[0] for rate in (10, 60, 300, 1200)]
    assert firsts == sorted(firsts, reverse=True)
    assert firsts[0] == 50
    assert firsts[-1] == 1


def test_who_allows_less_gets_smaller_steps() -> None:
    firsts = [shares_of(a_plan(Traffic(60, 0.005), at_most))[0] for at_most in (10, 20, 50, 100)]
    assert firsts == sorted(firsts)
    assert firsts[0] < firsts[-1]


def test_the_request_log_allows_larger_steps() -> None:
    traffic = Traffic(300, 0.005)
    assert shares_of(a_plan(traffic, request_logs="on"))[0] > 3 * shares_of(a_plan(traffic))[0]


def test_where_even_the_smallest_share_risks_more_it_is_said() -> None:
    plan = a_plan(Traffic(6000, 0.01))
    assert shares_of(plan)[0] == 1
    assert (
        "fails about 347 requests in a step before it is noticed, more than the 50 allowed" in plan.sentence
    )


def test_steps_last_until_a_proof_that_the_policy_wants_can_be_had() -> None:
    traffic = Traffic(1200, 0.005)
    usual, proven = a_plan(traffic), a_plan(traffic, advance_on="proven")
    assert proven.steps[0].step.hold.at_least > usual.steps[0].step.hold.at_least
    fitted = fit_steps(auto(advance_on="proven"), traffic)
    assert not any("out of reach" in warning for warning in fitted.warnings)


def test_a_quiet_service_gets_one_step_and_is_told_what_can_be_shown_instead() -> None:
    plan = a_plan(Traffic(10 * AN_HOUR, 0.005))
    assert shares_of(plan) == [50]
    assert plan.steps[0].step.hold.at_least == timedelta(hours=2)
    assert plan.steps[0].step.hold.requests == 10
    assert plan.sentence.startswith("steps chosen for 10 requests an hour: 50% for 2h;")
    assert plan.sentence.endswith(
        "an increase of 28 points can be ruled out in 2h; the policy's proof of 0.33 points would take 59d"
    )


def test_a_plan_that_risks_no_more_than_it_may_is_no_warning() -> None:
    quiet, busy = Traffic(60, 0.005), Traffic(1200, 0.005)
    within = fit_steps(auto(at_most=120), quiet)
    assert within.plan
    assert (within.notes, within.warnings) == ((within.plan.sentence,), ())
    beyond = fit_steps(auto(at_most=5), busy)
    assert beyond.plan
    assert (beyond.notes, beyond.warnings) == ((), (beyond.plan.sentence,))


def test_the_arithmetic_of_each_step_is_said_in_words() -> None:
    lines = list(a_plan(Traffic(1200, 0.001)).lines())
    assert len(lines) == 4
    assert lines[0] == (
        "1%: 12 requests a minute. The worst that is still possible fails 99.9 % of them, is noticed and"
        " without users after 6m, and has failed 70 requests more than stable would have."
        " 5m of good evidence rule out more than 5.3 % failures."
    )


# --- policies at a traffic ---


def test_steps_that_are_named_stay_as_they_are() -> None:
    fitted = fit_steps(a_policy(), Traffic(1200, 0.005))
    assert fitted.policy == a_policy()
    assert fitted.warnings == ()


def test_without_any_traffic_the_usual_steps_are_taken_and_it_is_said() -> None:
    fitted = fit_steps(auto(), None)
    assert fitted.policy == a_policy()
    (warning,) = fitted.warnings
    assert warning.startswith("stable had no request in the last hour, so no steps can be chosen by it")
    assert warning.endswith("the usual ones, 5%, 25%, 50%")


def test_where_no_guard_decides_on_errors_the_usual_steps_are_taken() -> None:
    fitted = fit_steps(auto(guards={"errors": {"observe": True}}), Traffic(60, 0.005))
    assert fitted.policy.auto is None
    assert fitted.warnings[0].startswith("no guard decides on errors")


def test_requests_that_do_not_come_in_time_are_out_of_reach() -> None:
    (warning,) = reach_warnings(a_policy(), Traffic(10 * AN_HOUR, 0.005))
    assert warning == (
        "at 10 requests an hour, what steps 1, 2, 3 must show is out of reach: with 5%, 50 requests to each"
        " revision would take 5d, and the limit is 30m; an increase of 100 points can be ruled out by then"
    )


def test_a_proof_that_takes_too_long_is_out_of_reach() -> None:
    traffic = Traffic(1200, 0.01)
    assert not list(reach_warnings(a_policy(), traffic))
    (warning,) = reach_warnings(a_policy(advance_on="proven"), traffic)
    assert "what step 1 must show is out of reach: with 5%, proof of at most 0.46 points more" in warning
    assert "an increase of 0.77 points can be ruled out by then" in warning
    assert not list(reach_warnings(a_policy(advance_on="proven", hold="2h"), traffic))


def test_how_long_each_step_takes_is_said() -> None:
    lines = list(reach_lines(a_policy(steps=["10%", "100%"]), Traffic(60, 0.005)))
    assert lines == [
        "Step 1: 10% are 6 requests a minute; with 50 requests to each revision it takes about 14m."
    ]


@given(traffics, some.sampled_from([{}, {"advance_on": "proven"}, {"steps": [80]}]))
def test_every_policy_has_a_reach_at_every_traffic(traffic: Traffic, fields: dict[str, Any]) -> None:
    policy = a_policy(**fields)
    assert all(each.takes > each.step.hold.at_least for each in reach_of(policy, traffic))
    assert all("\n" not in line for line in [*reach_lines(policy, traffic), *reach_warnings(policy, traffic)])


# --- what it rests on ---


@pytest.mark.parametrize(
    ("requests", "points"), [(10, 0.3), (25, 0.13), (50, 0.08), (100, 0.05), (200, 0.03), (500, 0.02)]
)
def test_so_many_requests_rule_out_so_many_points(requests: int, points: float) -> None:
    traffic = Traffic(60, 0.005)
    assert 0.5 * points < ruled_out(a_policy(), traffic, 50, requests) - traffic.errors <= points


def test_the_more_a_candidate_fails_the_sooner_it_is_seen() -> None:
    policy, traffic = a_policy(), Traffic(1200, 0.005)
    times = [seen_after(eyes_of(policy, traffic), traffic, 5, share) for share in (0.01, 0.05, 0.5, 1.0)]
    assert times == sorted(times, reverse=True)
    assert times[-1] == timedelta(minutes=5, seconds=50)
    assert seen_after(eyes_of(policy, traffic), traffic, 5, 0.005) > timedelta(days=300)


def test_traffic_is_counted_from_the_first_request() -> None:
    late = [Minute(NOW - (9 - ago) * MINUTE, a_sample(60, 3)) for ago in range(10)]
    traffic = traffic_of([Minute(NOW - 40 * MINUTE, a_sample(0)), *late], NOW, ErrorGuard())
    assert traffic is not None
    assert traffic.a_minute == 60
    assert traffic.errors == pytest.approx(30.5 / 700)
    assert traffic_of([Minute(NOW, a_sample(0))], NOW, ErrorGuard()) is None


def test_a_revision_that_had_a_small_share_before_is_counted_by_its_latest_minutes() -> None:
    minutes = [Minute(NOW - ago * MINUTE, a_sample(60 if ago < 20 else 6)) for ago in range(60)]
    traffic = traffic_of(minutes, NOW, ErrorGuard())
    assert traffic is not None
    assert traffic.a_minute == 60


@pytest.mark.parametrize(
    ("a_minute", "text"),
    [(1200, "20 requests a second"), (60, "1 request a second"), (30, "30 requests a minute"),
     (0.5, "30 requests an hour"), (120_000, "2000 requests a second")],
)  # fmt: skip
def test_a_rate_is_said_as_people_do(a_minute: float, text: str) -> None:
    assert Traffic(a_minute, 0.005).text == text
