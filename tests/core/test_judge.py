from datetime import timedelta
from itertools import product
from random import Random  # noqa: TID251 -- seeded

import pytest
from builders import NOW, a_policy, a_sample, an_assessment
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.assessment import assess
from controller.core.counts import Histogram
from controller.core.evidence import Evidence, Sample, Stage, Tick
from controller.core.judge import Finding, Verdict, VerdictValue, _combine, judge
from controller.core.policy import Hold, Policy

GOOD = a_sample(100)
HOLD = Hold(at_least=timedelta(minutes=5), at_most=timedelta(minutes=30), requests=50)


def verdict_of(stable: Sample, candidate: Sample, policy: Policy | None = None, **evidence: int) -> Verdict:
    policy = policy or a_policy()
    return judge(policy, HOLD, an_assessment(stable, candidate, policy, **evidence))


def test_a_candidate_like_stable_passes() -> None:
    verdict = verdict_of(GOOD, GOOD)
    assert verdict.value is VerdictValue.PASS
    assert [finding.guard for finding in verdict.findings] == ["errors", "latency"]


def test_many_more_errors_fail_and_the_reason_names_guard_numbers_and_limit() -> None:
    verdict = verdict_of(a_sample(1000, 5), a_sample(100, 8))
    assert verdict.value is VerdictValue.FAIL
    numbers = "errors: candidate 8.0 % of 1,000 requests, stable 0.5 % of 10,000 requests, over 10 minutes"
    assert numbers in verdict.reason
    assert "worse than the tolerated 1.25x stable + 0.2 points" in verdict.reason


def test_a_slower_body_fails() -> None:
    verdict = verdict_of(a_sample(latency=50), a_sample(latency=80))
    assert verdict.value is VerdictValue.FAIL
    assert verdict.reason.startswith("latency: candidate p50 80 ms") or "latency" in verdict.reason


def test_a_slower_tail_fails() -> None:
    assert verdict_of(a_sample(slow=0.01), a_sample(slow=0.2)).value is VerdictValue.FAIL


def test_a_faster_candidate_passes() -> None:
    assert verdict_of(a_sample(latency=80), a_sample(latency=40)).value is VerdictValue.PASS


def test_a_latency_within_the_tolerance_passes() -> None:
    assert verdict_of(a_sample(latency=50), a_sample(latency=55)).value is VerdictValue.PASS


def test_no_request_to_the_candidate_is_unmeasured() -> None:
    verdict = verdict_of(GOOD, Sample())
    assert verdict.value is VerdictValue.UNMEASURED
    assert verdict.reason == "no request reached the candidate in 10 minutes"


def test_no_request_at_all_is_unmeasured() -> None:
    assert verdict_of(Sample(), Sample()).value is VerdictValue.UNMEASURED


def test_unreadable_metrics_are_unmeasured_and_say_why() -> None:
    verdict = judge(a_policy(), HOLD, assess(a_policy(), Evidence(problem="quota")))
    assert verdict.value is VerdictValue.UNMEASURED
    assert "quota" in verdict.reason


def test_before_the_first_final_minute_it_is_unsure() -> None:
    verdict = judge(a_policy(), HOLD, assess(a_policy(), Evidence((Stage(5),))))
    assert verdict.value is VerdictValue.UNSURE
    assert "180 s late" in verdict.reason


def test_too_few_requests_are_unsure_and_say_how_many_more() -> None:
    verdict = verdict_of(GOOD, a_sample(4))
    assert verdict.value is VerdictValue.UNSURE
    assert verdict.requests_missing == 10
    assert verdict.minutes_missing == 3
    assert "needs 10 more requests on each side and about 3 more minutes" in verdict.reason


def test_too_few_minutes_are_unsure() -> None:
    verdict = verdict_of(GOOD, GOOD, minutes=3)
    assert (verdict.value, verdict.minutes_missing) == (VerdictValue.UNSURE, 2)


def test_without_requests_to_stable_a_step_does_not_pass() -> None:
    assert verdict_of(Sample(), GOOD).value is VerdictValue.UNSURE


def test_harm_needs_no_minimum_time() -> None:
    assert verdict_of(GOOD, a_sample(100, 100), minutes=1).value is VerdictValue.FAIL


def test_nobody_is_blamed_on_a_handful_of_requests() -> None:
    assert verdict_of(GOOD, a_sample(10, 10), minutes=1).value is VerdictValue.UNSURE


def test_a_sign_of_harm_without_proof_holds_the_step() -> None:
    verdict = verdict_of(a_sample(100, 0), a_sample(10, 0) + Sample({"500": 0}), minutes=9)
    assert verdict.value is VerdictValue.PASS
    worse = verdict_of(a_sample(100, 1), a_sample(10, 1, latency=50), minutes=6)
    assert worse.value is VerdictValue.UNSURE
    assert "looks worse" in worse.reason


def test_a_ceiling_broken_by_both_is_nobodys_fault() -> None:
    verdict = verdict_of(a_sample(100, 30), a_sample(100, 30))
    assert verdict.value is VerdictValue.UNSURE
    assert verdict.stable_is_bad
    assert "both are above the ceiling of 5 %" in verdict.reason


def test_a_candidate_far_worse_than_a_bad_stable_still_fails() -> None:
    verdict = verdict_of(a_sample(100, 20), a_sample(100, 90))
    assert (verdict.value, verdict.stable_is_bad) == (VerdictValue.FAIL, False)


def test_a_latency_ceiling_is_absolute() -> None:
    policy = a_policy(guards={"latency": {"ceilings": {"p95": "300ms"}}})
    assert verdict_of(a_sample(latency=40), a_sample(latency=45, slow=0.3), policy).value is VerdictValue.FAIL
    slow_both = verdict_of(a_sample(latency=400), a_sample(latency=400), policy)
    assert slow_both.stable_is_bad


def test_only_ceilings_decide_while_the_candidate_serves_everybody() -> None:
    assert verdict_of(Sample(), a_sample(100, 1), percent=100).value is VerdictValue.PASS
    assert verdict_of(Sample(), a_sample(100, 20), percent=100).value is VerdictValue.FAIL


def test_without_any_ceiling_the_bake_still_needs_its_requests() -> None:
    policy = a_policy(guards={"errors": {"ceiling": "off"}})
    assert verdict_of(Sample(), a_sample(100, 20), policy, percent=100).value is VerdictValue.PASS
    assert verdict_of(Sample(), a_sample(1), policy, percent=100).value is VerdictValue.UNSURE
    assert verdict_of(Sample(), Sample(), policy, percent=100).value is VerdictValue.UNMEASURED


def test_an_observing_guard_is_shown_and_never_decides() -> None:
    policy = a_policy(guards={"latency": {"observe": True}})
    verdict = verdict_of(a_sample(latency=50), a_sample(latency=500), policy)
    assert verdict.value is VerdictValue.PASS
    assert [(f.guard, f.value, f.decides) for f in verdict.findings] == [
        ("errors", VerdictValue.PASS, True),
        ("latency", VerdictValue.FAIL, False),
    ]


def test_which_codes_are_errors_is_the_policys_to_say() -> None:
    teapots = Sample({"200": 80, "418": 20})
    policy = a_policy(guards={"latency": "off", "errors": {"codes": ["418"]}})
    assert verdict_of(Sample({"200": 100}), teapots, policy).value is VerdictValue.FAIL
    policy = a_policy(guards={"latency": "off"})
    assert verdict_of(Sample({"200": 100}), teapots, policy).value is VerdictValue.PASS


def test_missing_latencies_are_unmeasured_where_they_must_decide() -> None:
    verdict = verdict_of(a_sample(latency=None), a_sample(latency=None), a_policy(guards={"errors": "off"}))
    assert verdict.value is VerdictValue.UNMEASURED


def test_different_latency_buckets_are_never_compared() -> None:
    other = Sample({"200": 100}, Histogram((1.0, 2.0), (0, 100, 0)))
    verdict = verdict_of(GOOD, other)
    assert verdict.value is VerdictValue.UNMEASURED
    assert "different buckets" in verdict.reason


def test_proof_asks_for_more_than_the_absence_of_harm() -> None:
    policy = a_policy(advance_on="proven", guards={"latency": "off"})
    assert verdict_of(a_sample(100), a_sample(10), policy).value is VerdictValue.UNSURE
    assert verdict_of(a_sample(9000), a_sample(3000), policy).value is VerdictValue.PASS


@pytest.mark.parametrize("values", list(product(VerdictValue, repeat=2)))
def test_the_worst_deciding_guard_speaks(values: tuple[VerdictValue, VerdictValue]) -> None:
    order = [VerdictValue.FAIL, VerdictValue.UNMEASURED, VerdictValue.UNSURE, VerdictValue.PASS]
    findings = tuple(Finding(f"g{n}", value, "so") for n, value in enumerate(values))
    verdict = _combine(findings, alone=False)
    assert verdict.value is min(values, key=order.index)
    assert verdict.findings == findings


@given(
    requests=st.integers(1, 300),
    failed=st.integers(0, 300),
    more=st.integers(1, 50),
    minutes=st.integers(1, 20),
)
@settings(deadline=None)
def test_more_errors_never_make_it_better(requests: int, failed: int, more: int, minutes: int) -> None:
    order = [VerdictValue.FAIL, VerdictValue.UNSURE, VerdictValue.PASS]
    failed = min(failed, requests)
    few, many = (a_sample(requests, n, latency=None) for n in (failed, min(requests, failed + more)))
    policy = a_policy(guards={"latency": "off"})
    one, other = (
        verdict_of(a_sample(200, 1), sample, policy, minutes=minutes).value for sample in (few, many)
    )
    assert order.index(other) <= order.index(one)


def test_looking_every_minute_for_an_hour_rolls_back_hardly_any_healthy_release() -> None:
    """300 healthy releases at 1 % errors, looked at 60 times each: no more than the 1 % promised."""
    random = Random(20260302)
    policy = a_policy(guards={"latency": "off", "errors": {"tolerance": {"factor": 1, "points": 0}}})
    rolled_back = sum(_is_rolled_back(random, policy) for _ in range(300))
    assert rolled_back <= 3 + 3 * 3**0.5


def _is_rolled_back(random: Random, policy: Policy) -> bool:
    ticks: list[Tick] = []
    for minute in range(60):
        end = NOW + timedelta(minutes=minute)
        ticks.append(Tick(end, _drawn(random, 100), _drawn(random, 25)))
        verdict = judge(policy, HOLD, assess(policy, Evidence((Stage(20, tuple(ticks)),))))
        if verdict.value is VerdictValue.FAIL:
            return True
    return False


def _drawn(random: Random, requests: int) -> Sample:
    failed = sum(random.random() < 0.01 for _ in range(requests))
    return Sample({"200": requests - failed, "500": failed})
