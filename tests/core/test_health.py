"""Health: what a revision that serves is taken for, by its minutes, by its past and by its probes."""

from datetime import timedelta
from typing import Any

import pytest
from builders import NOW, a_policy, a_sample

from controller.core.evidence import Minute, Sample
from controller.core.health import HealthValue, HealthVerdict, judge_health, unreadable
from controller.core.policy_health import Health

DAY = 24 * 60


def a_health(**fields: Any) -> Health:
    health = a_policy(health=fields or "on").health
    assert health is not None
    return health


def minutes_of(*samples: Sample) -> list[Minute]:
    begin = NOW - timedelta(minutes=len(samples))
    return [Minute(begin + timedelta(minutes=number), each) for number, each in enumerate(samples, start=1)]


def a_past(share: float, requests: int = 1200) -> Sample:
    total = requests * DAY
    return a_sample(total, round(share * total))


def judged(
    bad: int, good: int = 0, *, past: Sample | None = None, requests: int = 1200, **fields: Any
) -> HealthVerdict:
    """Judge half an hour of 1 % errors, of which the latest minutes had so many errors of their requests."""
    usual = a_sample(requests, requests // 100)
    samples = [*[usual] * (30 - good), *[a_sample(requests, bad)] * good]
    return judge_health(a_health(**fields), past or a_past(0.01), minutes_of(*samples))


def test_what_is_as_usual_is_good_and_says_its_numbers() -> None:
    verdict = judged(0)
    assert verdict.value is HealthValue.GOOD
    assert verdict.reason == (
        "1 % of 36,000 requests in 30 minutes failed, within 1.5 % (1 % of 1,728,000 requests was usual in"
        " the 1d before)"
    )
    assert verdict.limit == pytest.approx(0.0147, abs=2e-4)
    assert verdict.minutes == 30


def test_four_times_the_usual_is_harm_though_the_ceiling_is_kept() -> None:
    verdict = judged(48, 6)
    assert verdict.value is HealthValue.HARMFUL
    assert verdict.reason.startswith("4 % of 7,200 requests in 6 minutes failed, above 1.5 % (1 % of")


def test_what_was_always_bad_is_harm_above_the_ceiling() -> None:
    verdict = judged(120, 30, past=a_past(0.1))
    assert verdict.value is HealthValue.HARMFUL
    assert verdict.reason == "10 % of 36,000 requests in 30 minutes failed, above the ceiling of 5 %"


def test_what_was_always_bad_is_good_without_a_ceiling() -> None:
    assert judged(120, 30, past=a_past(0.1), errors="off").value is HealthValue.GOOD


def test_a_revision_without_a_past_is_held_to_the_ceiling_alone() -> None:
    assert judged(48, 6, past=Sample()).value is HealthValue.GOOD
    assert judged(480, 6, past=Sample()).value is HealthValue.HARMFUL


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_burst_of_one_minute_is_no_harm(share: float) -> None:
    verdict = judged(round(1200 * share), 1)
    assert verdict.value is HealthValue.UNKNOWN
    assert "not enough for an alarm" in verdict.reason


def test_harm_that_is_over_is_no_reason_to_act() -> None:
    samples = [*[a_sample(1200, 600)] * 10, *[a_sample(1200, 12)] * 20]
    verdict = judge_health(a_health(), a_past(0.01), minutes_of(*samples))
    assert verdict.value is HealthValue.UNKNOWN


def test_other_codes_count_where_the_policy_says_so() -> None:
    samples = minutes_of(*[Sample({"200": 900, "429": 300})] * 30)
    assert judge_health(a_health(), Sample(), samples).value is HealthValue.GOOD
    assert judge_health(a_health(codes=["429"]), Sample(), samples).value is HealthValue.HARMFUL


def test_no_request_says_nothing() -> None:
    verdict = judge_health(a_health(), a_past(0.01), ())
    assert (verdict.value, verdict.minutes) == (HealthValue.UNKNOWN, 0)
    assert verdict.reason == "no request in 30m; nothing can be said"


def test_a_few_requests_that_fail_are_not_enough_to_call_it_harm() -> None:
    samples = minutes_of(a_sample(1, 1), *[Sample()] * 20, a_sample(2, 1))
    assert judge_health(a_health(), Sample(), samples).value is HealthValue.UNKNOWN


def test_a_percentile_above_its_ceiling_is_harm() -> None:
    health = a_health(latency={"p95": "400ms"})
    slow = [*[a_sample(600)] * 20, *[a_sample(600, latency=50, slow=0.2)] * 10]
    verdict = judge_health(health, Sample(), minutes_of(*slow))
    assert verdict.value is HealthValue.HARMFUL
    assert verdict.reason == (
        "20 % of 6,000 requests in 10 minutes took 400ms or more, above the 5 % that a p95 of 400ms leaves"
    )
    fast = judge_health(health, Sample(), minutes_of(*[a_sample(600, slow=0.02)] * 30))
    assert fast.value is HealthValue.GOOD


def test_probes_that_complain_are_harm_whatever_the_users_met() -> None:
    complaint = "GET /healthz was answered with 500"
    verdict = judge_health(a_health(), a_past(0), minutes_of(*[a_sample()] * 30), [complaint])
    assert (verdict.value, verdict.reason) == (HealthValue.HARMFUL, complaint)


def test_probes_alone_can_say_that_all_is_well() -> None:
    verdict = judge_health(a_health(), Sample(), (), [])
    assert verdict.value is HealthValue.GOOD
    assert verdict.reason == "no request in 30m; the probes were answered well"


def test_where_nothing_is_asked_nothing_is_found() -> None:
    verdict = judge_health(a_health(errors="off"), Sample(), minutes_of(*[a_sample(100, 100)] * 30))
    assert (verdict.value, verdict.limit) == (HealthValue.GOOD, None)


def test_metrics_that_cannot_be_read_are_unknown_never_harm() -> None:
    verdict = unreadable("denied")
    assert (verdict.value, verdict.unread) == (HealthValue.UNKNOWN, True)
    assert verdict.reason == "the metrics cannot be read: denied"
