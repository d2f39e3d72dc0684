import math
import re
from dataclasses import replace
from datetime import timedelta
from itertools import product
from random import Random

import pytest
from builders import NOW, a_policy, a_sample, an_assessment
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.assessment import assess
from controller.core.counts import Counts, Histogram
from controller.core.evidence import Evidence, Sample, Stage, Tick
from controller.core.findings import Finding, VerdictValue
from controller.core.judge import Verdict, _combine, judge
from controller.core.policy import Policy
from controller.core.policy_steps import Hold
from controller.core.wording import odds_text, percent_text
from controller.draws import binomial

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
    numbers = "candidate 8 % errors of 300 requests, stable 0.5 % of 3,000, over 3 minutes"
    assert f"errors: {numbers}: " in verdict.reason
    assert "worse than the tolerated 1.25x + 0.2 points, beyond doubt (" in verdict.reason
    assert verdict.reason.endswith(" by chance)")


def test_a_slower_body_fails() -> None:
    verdict = verdict_of(a_sample(latency=50), a_sample(latency=80))
    assert verdict.value is VerdictValue.FAIL
    assert "latency: candidate p50 77.7 ms, p95 81 ms, p99 81.3 ms of 400 requests, " in verdict.reason
    assert "worse than the tolerated 1.21x, beyond doubt" in verdict.reason


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
    assert "needs 10 more requests to the candidate and about 3 more minutes" in verdict.reason
    both = verdict_of(a_sample(4), a_sample(4))
    assert "needs 10 more requests on each side" in both.reason


def test_too_few_minutes_are_unsure() -> None:
    verdict = verdict_of(GOOD, GOOD, minutes=3)
    assert (verdict.value, verdict.minutes_missing) == (VerdictValue.UNSURE, 2)


def test_without_requests_to_stable_a_step_does_not_pass() -> None:
    assert verdict_of(Sample(), GOOD).value is VerdictValue.UNSURE


def test_harm_needs_no_minimum_time() -> None:
    assert verdict_of(GOOD, a_sample(100, 100), minutes=1).value is VerdictValue.FAIL


def test_a_few_failures_prove_nothing_and_ten_of_ten_do() -> None:
    assert verdict_of(GOOD, a_sample(10, 1), minutes=1).value is VerdictValue.UNSURE
    assert verdict_of(GOOD, a_sample(3, 3), minutes=1).value is VerdictValue.UNSURE
    assert verdict_of(GOOD, a_sample(10, 10), minutes=1).value is VerdictValue.FAIL


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


@pytest.mark.parametrize("requests", [400, 5])
def test_an_incident_that_both_share_is_never_held_against_the_candidate(requests: int) -> None:
    """Ten good minutes, ten in which both fail often, then good ones: asked while it lasts, passed after."""
    good, bad = a_sample(requests, latency=None), a_sample(requests, requests * 2 // 5, latency=None)
    policy = a_policy(guards={"latency": "off"})
    evidence = staged((50, good, good, 10), (50, bad, bad, 10), (50, good, good, 30))
    ticks = tuple(tick for stage in evidence.stages for tick in stage.ticks)
    verdicts = [
        judge(policy, HOLD, assess(policy, Evidence((Stage(50, ticks[:minutes]),))))
        for minutes in range(1, len(ticks) + 1)
    ]
    assert all(verdict.value is not VerdictValue.FAIL for verdict in verdicts)
    assert verdicts[19].stable_is_bad
    assert verdicts[-1].value is VerdictValue.PASS


@pytest.mark.parametrize("share", [0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_bad_stable_does_not_hide_a_candidate_that_is_much_worse(share: float) -> None:
    """Stable fails 20 %, four times the ceiling; the candidate more: at no minute is it called alike."""
    policy = a_policy(guards={"latency": "off"})
    ticks = [
        Tick(NOW + timedelta(minutes=n), a_sample(300, 60), a_sample(100, round(100 * share)))
        for n in range(30)
    ]
    verdicts = [
        judge(policy, HOLD, assess(policy, Evidence((Stage(25, tuple(ticks[:minutes])),))))
        for minutes in range(1, 31)
    ]
    assert not any(verdict.stable_is_bad for verdict in verdicts)
    assert VerdictValue.PASS not in {verdict.value for verdict in verdicts}
    assert verdicts[-1].value is VerdictValue.FAIL


def test_far_above_a_ceiling_nothing_passes_even_before_it_is_sure() -> None:
    sample = a_sample(50, 10)
    policy = a_policy(guards={"latency": "off"})
    for minutes in range(1, 10):
        verdict = verdict_of(sample, sample, policy, minutes=minutes)
        assert verdict.value is VerdictValue.UNSURE
        assert "within limits" not in verdict.reason


@pytest.mark.parametrize("share", [0.055, 0.06, 0.07])
def test_one_as_good_as_a_stable_above_the_ceiling_is_not_rolled_back(share: float) -> None:
    random, policy = Random(7), a_policy(guards={"latency": "off"})

    def drawn(requests: int) -> Sample:
        failed = binomial(random, requests, share)
        return Sample({"200": requests - failed, "500": failed})

    for _ in range(8):
        steps = [Tick(NOW + timedelta(minutes=n), drawn(450), drawn(150)) for n in range(15)]
        bake = [Tick(NOW + timedelta(hours=1, minutes=n), Sample(), drawn(600)) for n in range(20)]
        evidence = Evidence((Stage(25, tuple(steps)), Stage(100, tuple(bake))))
        assert judge(policy, HOLD, assess(policy, evidence)).value is not VerdictValue.FAIL


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


@pytest.mark.parametrize("seed", range(4))
def test_looking_every_minute_for_an_hour_rolls_back_hardly_any_healthy_release(seed: int) -> None:
    """400 healthy releases at 1 % errors, looked at 60 times each: no more than the 1 % promised."""
    random = Random(seed)
    policy = a_policy(guards={"latency": "off", "errors": {"tolerance": {"factor": 1, "points": 0}}})
    rolled_back = sum(_is_rolled_back(random, policy) for _ in range(100))
    assert rolled_back <= 1 + 3


def _is_rolled_back(random: Random, policy: Policy) -> bool:
    assessment = None
    for minute in range(60):
        tick = Tick(NOW + timedelta(minutes=minute), _drawn(random, 100), _drawn(random, 25))
        assessment = assess(policy, Evidence((Stage(20, (tick,)),)), assessment)
        if judge(policy, HOLD, assessment).value is VerdictValue.FAIL:
            return True
    return False


def _drawn(random: Random, requests: int) -> Sample:
    failed = binomial(random, requests, 0.01)
    return Sample({"200": requests - failed, "500": failed})


# --- what is said ---


def test_an_unsure_verdict_says_what_is_missing() -> None:
    verdict = verdict_of(a_sample(400, 4), a_sample(100, 4), minutes=6)
    assert verdict.value is VerdictValue.UNSURE
    assert re.search(
        r"looks worse than the tolerated 1\.25x \+ 0\.2 points, not sure yet: about [\d,]+ more requests?"
        r" to the candidate, \d+ minutes? at the present rate",
        verdict.reason,
    )
    assert verdict.requests_missing > 0
    assert verdict.minutes_missing > 0


def test_about_as_many_requests_as_were_said_to_be_missing_decide() -> None:
    stable, candidate = a_sample(400, 4, latency=None), a_sample(100, 4, latency=None)
    policy = a_policy(guards={"latency": "off"})
    early = verdict_of(stable, candidate, policy, minutes=6)
    said = 6 + early.minutes_missing
    decided = next(
        minutes
        for minutes in range(6, 100)
        if verdict_of(stable, candidate, policy, minutes=minutes).value is VerdictValue.FAIL
    )
    assert said / 2 <= decided <= said * 2


def test_an_unproven_verdict_says_what_is_missing_and_what_is_ruled_out() -> None:
    policy = a_policy(advance_on="proven", guards={"latency": "off"})
    verdict = verdict_of(a_sample(200, 2), a_sample(50), policy)
    assert verdict.value is VerdictValue.UNSURE
    assert "not shown yet to stay within the tolerated 1.25x + 0.2 points: about " in verdict.reason
    assert "an increase of more than 1 point is ruled out" in verdict.reason


def test_a_pass_says_which_increase_is_ruled_out() -> None:
    verdict = verdict_of(a_sample(2000, 20), a_sample(500, 5))
    assert verdict.value is VerdictValue.PASS
    assert "within limits; an increase of more than 0.5 points is ruled out" in verdict.reason
    assert "more than 1.1x at p95 is ruled out" in verdict.reason


@pytest.mark.parametrize(
    ("log_evidence", "words"),
    [
        (math.log(3456), "1 in 3,400 by chance"),
        (math.log(101), "1 in 100 by chance"),
        (math.log(100), "1 in 100 by chance"),
        (60.0, "less than 1 in 1,000,000,000 by chance"),
    ],
)
def test_odds_are_rounded_down_to_two_digits(log_evidence: float, words: str) -> None:
    assert odds_text(log_evidence) == words


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.021, "2.1 %"), (0.0004, "0.04 %"), (1, "100 %"), (0.5, "50 %")]
)
def test_shares_are_written_for_people(share: float, words: str) -> None:
    assert percent_text(share) == words


# --- steps and stages ---


def staged(*stages: tuple[int, Sample, Sample, int]) -> Evidence:
    """Stages of so many minutes each, one after the other: percent, stable, candidate, minutes."""
    built, minute = [], 0
    for percent, stable, candidate, minutes in stages:
        ends = [NOW + timedelta(minutes=minute + each) for each in range(minutes)]
        built.append(Stage(percent, tuple(Tick(end, stable, candidate) for end in ends)))
        minute += minutes + 5
    return Evidence(tuple(built))


def test_evidence_of_harm_is_carried_from_step_to_step() -> None:
    worse = (a_sample(400, 4, latency=None), a_sample(100, 3, latency=None))
    alone = judge(a_policy(), HOLD, assess(a_policy(), staged((25, *worse, 6))))
    after = judge(a_policy(), HOLD, assess(a_policy(), staged((5, *worse, 12), (25, *worse, 6))))
    assert after.log_harm > alone.log_harm


def test_a_drift_that_both_share_is_no_harm_whatever_the_shares_of_the_traffic() -> None:
    evidence = staged(
        (5, a_sample(950, 5), a_sample(50), 10),
        (25, a_sample(750, 30), a_sample(250, 10), 10),
        (50, a_sample(500, 50), a_sample(500, 50), 10),
    )
    verdict = judge(a_policy(), HOLD, assess(a_policy(guards={"errors": {"ceiling": "off"}}), evidence))
    assert verdict.value is VerdictValue.PASS
    assert "errors of 5,000" in numbers_of(verdict, "errors")


def numbers_of(verdict: Verdict, guard: str) -> str:
    return next(finding.reason for finding in verdict.findings if finding.guard == guard)


def test_the_bake_is_not_held_by_what_the_steps_made_suspicious() -> None:
    slightly = (a_sample(400, 4, latency=None), a_sample(400, 9, latency=None))
    fine = a_sample(500, 5, latency=None)
    policy = a_policy(guards={"latency": "off"})
    steps = staged((50, *slightly, 10))
    assert judge(policy, HOLD, assess(policy, steps)).value is VerdictValue.UNSURE
    bake = staged((50, *slightly, 10), (100, Sample(), fine, 10))
    assert judge(policy, HOLD, assess(policy, bake)).value is VerdictValue.PASS


def test_shown_safety_needs_no_minimum_of_requests_but_its_minutes() -> None:
    hold = Hold(at_least=timedelta(minutes=5), at_most=timedelta(minutes=30), requests=10**6)
    policy = a_policy()
    enough = an_assessment(a_sample(9000, 9), a_sample(9000, 9), policy)
    assert judge(policy, hold, enough).value is VerdictValue.PASS
    early = an_assessment(a_sample(9000, 9), a_sample(9000, 9), policy, minutes=3)
    assert judge(policy, hold, early).value is VerdictValue.UNSURE
    few = an_assessment(a_sample(100), a_sample(100), policy)
    assert judge(policy, hold, few).value is VerdictValue.UNSURE


# --- guards of the policy's own ---

PAYMENTS = {"payments": {"bad": 'metric.type="x"', "total": 'metric.type="y"', "ceiling": "5%"}}


def paying(bad: int, total: int) -> Sample:
    return replace(a_sample(100), custom={"payments": Counts(bad, total)})


def test_a_custom_share_decides_like_errors() -> None:
    policy = a_policy(guards={"custom": PAYMENTS})
    assert verdict_of(paying(1, 100), paying(1, 100), policy).value is VerdictValue.PASS
    worse = verdict_of(paying(1, 100), paying(20, 100), policy)
    assert worse.value is VerdictValue.FAIL
    assert "payments: candidate 20 % bad of 300 requests" in worse.reason


def test_a_custom_distribution_decides_like_latency_and_has_no_unit() -> None:
    policy = a_policy(guards={"custom": {"sizes": {"distribution": 'metric.type="x"'}}})
    one, other = (replace(a_sample(100), custom={"sizes": histogram_of(sample)}) for sample in (SMALL, LARGE))
    worse = verdict_of(one, other, policy)
    assert worse.value is VerdictValue.FAIL
    assert "sizes: candidate p50 " in worse.reason
    assert " ms" not in worse.reason


def histogram_of(sample: Sample) -> Histogram:
    assert sample.latencies is not None
    return sample.latencies


SMALL, LARGE = a_sample(100, latency=50), a_sample(100, latency=100)


def test_a_custom_guard_without_any_data_is_unmeasured() -> None:
    verdict = verdict_of(GOOD, GOOD, a_policy(guards={"custom": PAYMENTS}))
    assert verdict.value is VerdictValue.UNMEASURED
    assert "payments: candidate nothing" in verdict.reason


def test_what_is_a_share_at_one_time_and_a_distribution_at_another_is_unmeasured() -> None:
    policy = a_policy(guards={"custom": PAYMENTS})
    mixed = replace(a_sample(100), custom={"payments": histogram_of(a_sample(100))})
    evidence = staged((5, paying(1, 100), paying(1, 100), 2), (25, mixed, mixed, 1))
    ticks = tuple(tick for stage in evidence.stages for tick in stage.ticks)
    assert judge(policy, HOLD, assess(policy, Evidence((Stage(5, ticks),)))).value is VerdictValue.UNMEASURED


# --- harm that comes and goes ---


def every(number: int, good: Sample, bad: Sample, stable: Sample, minutes: int = 40) -> list[Tick]:
    """Minutes of which each so manieth is bad on the candidate alone."""
    ends = [NOW + timedelta(minutes=minute) for minute in range(minutes)]
    return [Tick(end, stable, good if minute % number else bad) for minute, end in enumerate(ends, start=1)]


@pytest.mark.parametrize("number", [2, 3])
def test_errors_that_come_and_go_are_never_passed_and_never_called_within_limits(number: int) -> None:
    policy = a_policy(guards={"latency": "off"})
    good, bad = a_sample(1000, 10, latency=None), a_sample(1000, 250, latency=None)
    ticks = every(number, good, bad, a_sample(3000, 30, latency=None))
    for minutes in range(3 * number, len(ticks) + 1):
        verdict = judge(policy, HOLD, assess(policy, Evidence((Stage(25, tuple(ticks[:minutes])),))))
        assert verdict.value in {VerdictValue.UNSURE, VerdictValue.FAIL}
        assert "within limits" not in verdict.reason


def test_slowness_that_comes_and_goes_is_never_passed() -> None:
    policy = a_policy(guards={"errors": "off"})
    ticks = every(2, a_sample(100, slow=0.01), a_sample(100, latency=250), a_sample(300, slow=0.01))
    for minutes in range(6, len(ticks) + 1):
        verdict = judge(policy, HOLD, assess(policy, Evidence((Stage(25, tuple(ticks[:minutes])),))))
        assert verdict.value in {VerdictValue.UNSURE, VerdictValue.FAIL}


def test_bursts_do_not_hide_steady_harm_that_comes_later() -> None:
    policy = a_policy(guards={"latency": "off"})
    good, bad = a_sample(1000, 10, latency=None), a_sample(1000, 100, latency=None)
    bursts = every(2, good, bad, a_sample(3000, 30, latency=None))
    steady = [replace(tick, end=tick.end + timedelta(hours=1), candidate=bad) for tick in bursts[:10]]
    evidence = Evidence((Stage(25, (*bursts, *steady)),))
    assert judge(policy, HOLD, assess(policy, evidence)).value is VerdictValue.FAIL


def test_one_bad_minute_holds_a_step_for_a_few_minutes_at_most() -> None:
    policy = a_policy(guards={"latency": "off"})
    good, bad = a_sample(1000, 10, latency=None), a_sample(1000, 250, latency=None)
    ticks = every(20, good, bad, a_sample(3000, 30, latency=None))[:30]
    assert (
        judge(policy, HOLD, assess(policy, Evidence((Stage(25, tuple(ticks)),)))).value is VerdictValue.PASS
    )


# --- what the attack on it found ---


def test_numbers_of_a_step_tell_of_the_minutes_before_it() -> None:
    sample = a_sample(1000, 10)
    verdict = judge(
        a_policy(), HOLD, assess(a_policy(), staged((5, sample, sample, 7), (25, sample, sample, 6)))
    )
    assert "over 6 minutes after 7 in earlier steps" in verdict.reason


def test_a_custom_guard_whose_stable_has_no_data_is_unmeasured() -> None:
    verdict = verdict_of(GOOD, paying(90, 100), a_policy(guards={"custom": PAYMENTS | {"payments": SHARE}}))
    assert verdict.value is VerdictValue.UNMEASURED
    assert "nothing was measured of stable" in verdict.reason


SHARE = {"bad": 'metric.type="x"', "total": 'metric.type="y"'}


def test_a_history_in_other_buckets_is_unmeasured() -> None:
    other = Sample({"200": 2}, Histogram((1.0,), (1, 1)))
    evidence = replace(staged((5, GOOD, GOOD, 3)), history=(other,))
    verdict = judge(a_policy(), HOLD, assess(a_policy(), evidence))
    assert verdict.value is VerdictValue.UNMEASURED
    assert "different buckets" in verdict.reason


def test_proof_is_never_reached_and_never_crashes_where_stable_always_fails() -> None:
    failing = a_sample(1000, 1000, latency=None)
    policy = a_policy(advance_on="proven", guards={"latency": "off", "errors": {"ceiling": "off"}})
    assert verdict_of(failing, failing, policy).value is VerdictValue.UNSURE


def test_bad_buckets_of_an_observing_guard_do_not_blind_the_others() -> None:
    policy = a_policy(guards={"latency": {"observe": True}})
    other = replace(a_sample(100, 50), latencies=Histogram((1.0,), (50, 50)))
    assert verdict_of(a_sample(1000, 10), other, policy).value is VerdictValue.FAIL
