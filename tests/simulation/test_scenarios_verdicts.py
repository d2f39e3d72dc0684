"""The scenarios of verdicts: what the evidence says, and what comes of it."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from scene import Stage, a_stage, both, steps, suffer

from controller.cli.following import exit_code
from controller.core.evidence import MINUTE
from controller.core.findings import Finding, VerdictValue
from controller.core.rollout import Phase
from controller.emulator.names import RevisionKey
from controller.engine.loop import Ending
from controller.engine.reconcile import Pass


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


def findings_of(seen: Pass) -> dict[str, Finding]:
    verdict = seen.decision.verdict if seen.decision else None
    return {finding.guard: finding for finding in verdict.findings} if verdict else {}


SHORT: dict[str, Any] = {"hold": {"at_least": "3m", "at_most": "10m"}}
"""Held soon."""

REQUESTS_A_MINUTE = 20 * 60

# --- what guards say ---


@pytest.mark.scenario(29)
def test_a_step_is_passed_when_all_guards_pass(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out()
    passed = [seen for seen in stage.seen if seen.decision and seen.decision.event == "evidence passed"]
    assert [seen.rollout.percent for seen in passed if seen.rollout] == [25, 50, 100, 100]
    for seen in passed[:3]:
        assert {name: one.value for name, one in findings_of(seen).items()} == {
            "errors": VerdictValue.PASS,
            "latency": VerdictValue.PASS,
        }


@pytest.mark.scenario(29)
def test_one_guard_that_fails_rolls_back_and_the_others_are_reported_as_they_stood(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.08")
    rollout = stage.roll_out(steps(steps=["25%"], hold={"at_least": "10m"})).rollout
    assert stage.story[-1] == ("rolled_back", "100/0")
    assert rollout.reason.startswith("errors: candidate ")
    assert "latency" not in rollout.reason
    (harmed,) = (seen for seen in stage.seen if seen.decision and seen.decision.event == "harm shown")
    found = findings_of(harmed)
    assert found["errors"].value is VerdictValue.FAIL
    assert found["latency"].value is VerdictValue.PASS
    assert found["latency"].reason.startswith("candidate p50 ")


@pytest.mark.scenario(30)
def test_without_enough_evidence_it_is_held_and_no_timer_promotes_it(stage: Stage) -> None:
    stage.users(0.5)
    stage.deploy()
    followed = stage.roll_out(steps(**SHORT))
    assert followed.ending is Ending.HELD
    assert stage.story[2:] == [("stepping", "95/5"), ("paused", "95/5")]
    assert "not decided within 10 minutes: no sign of harm so far, needs " in followed.rollout.reason
    with stage.stays_as_it_is():
        stage.users(0)
        stage.wait(24 * 3600)
        assert stage.follow(stage.begin()).ending is Ending.HELD


OUTAGES: dict[str, tuple[dict[str, Any], str]] = {
    "unreachable": ({"kind": "error", "code": "UNAVAILABLE"}, "Cloud Monitoring cannot be reached; check"),
    "forbidden": (
        {"kind": "error", "code": "PERMISSION_DENIED"},
        "not allowed; it needs the permission monitoring.timeSeries.list",
    ),
    "out of quota": ({"kind": "error", "code": "RESOURCE_EXHAUSTED"}, "exhausted"),
    "broken": ({"kind": "error", "code": "INTERNAL"}, "Internal error encountered"),
    "slow": ({"kind": "error", "code": "DEADLINE_EXCEEDED"}, "did not answer in time"),
    "partial": ({"kind": "incomplete-metrics"}, "Cloud Monitoring returned only a part"),
}


@pytest.mark.scenario(31)
@pytest.mark.parametrize("what", OUTAGES)
def test_metrics_that_cannot_be_read_hold_for_a_bounded_time_and_say_which_way(
    stage: Stage, what: str
) -> None:
    fault, text = OUTAGES[what]
    stage.deploy()
    begun = stage.begin(steps(**SHORT))
    if fault["kind"] == "error":
        suffer(stage, method="ListTimeSeries", **fault)
    else:
        stage.local.fault_of(fault)
    followed = stage.follow(begun)
    assert followed.ending is Ending.HELD
    assert stage.story[2:] == [("stepping", "95/5"), ("paused", "95/5")]
    assert text in followed.rollout.reason, followed.rollout.reason
    others = [one for name, (_, one) in OUTAGES.items() if name != what]
    assert not any(one in followed.rollout.reason for one in others)
    assert stage.local.now() - begun.rollout.started_at < timedelta(minutes=15)


@pytest.mark.scenario(32)
@pytest.mark.parametrize("revision", ["candidate", "*"])
def test_an_empty_series_is_unmeasured_and_never_passes_or_fails(stage: Stage, revision: str) -> None:
    candidate = stage.deploy(ERROR_SHARE="0.5")
    begun = stage.begin(steps(**SHORT))
    missing = candidate if revision == "candidate" else "*"
    stage.local.fault_of({"kind": "missing-metrics", "revision": missing})
    assert stage.follow(begun).ending is Ending.HELD
    values = {seen.decision.verdict.value for seen in stage.seen if seen.decision and seen.decision.verdict}
    assert VerdictValue.UNMEASURED in values
    assert not values & {VerdictValue.PASS, VerdictValue.FAIL}
    assert "no request reached the candidate" in stage.record.reason


@pytest.mark.scenario(33)
def test_series_that_are_split_over_pages_are_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stories = []
    for page in (100_000, 2):
        monkeypatch.setattr("controller.emulator.monitoring.answer.LARGEST_PAGE", page)
        with a_stage() as stage:
            stage.deploy()
            stage.roll_out(steps(steps=["25%"], bake="1m"))
            stories.append((stage.story, stage.reasons))
    assert stories[0] == stories[1]
    assert stories[0][0][-1] == ("promoted", "0/100")


@pytest.mark.scenario(35)
def test_an_observing_guard_is_shown_and_never_decides(stage: Stage) -> None:
    stage.deploy(LATENCY_MS="80")
    rollout = stage.roll_out(steps(guards={"latency": {"observe": True}})).rollout
    assert rollout.phase is Phase.PROMOTED
    shown = [found["latency"] for seen in stage.seen if (found := findings_of(seen))]
    assert VerdictValue.FAIL in {one.value for one in shown}
    assert not any(one.decides for one in shown)


# --- which minutes count ---


@pytest.mark.scenario(37)
def test_minutes_that_are_not_visible_yet_are_not_read_as_a_drop_in_traffic(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out()
    weighed = [seen.assessment for seen in stage.seen if seen.assessment and seen.assessment.minutes]
    assert len(weighed) > 30
    for one in weighed:
        everybody = one.candidate.requests + (one.stable.requests if one.percent != 100 else 0)
        assert everybody > 0.9 * REQUESTS_A_MINUTE * one.minutes


@pytest.mark.scenario(37)
def test_points_that_come_late_change_no_verdict_that_was_given(stage: Stage) -> None:
    stage.deploy()
    begun = stage.begin(steps(**SHORT))
    stage.local.fault_of({"kind": "late-metrics", "by": "20m"})
    held = stage.follow(begun)
    assert held.ending is Ending.HELD
    with stage.stays_as_it_is():
        stage.wait(3600)  # all points are there by now
        assert stage.follow(stage.begin()) == held


@pytest.mark.scenario(38)
def test_no_window_holds_a_minute_of_another_step(stage: Stage) -> None:
    """A minute of an earlier step would show: the candidate had a fifth, or half, of the requests then."""
    stage.deploy()
    stage.roll_out()
    weighed = [seen.assessment for seen in stage.seen if seen.assessment and seen.assessment.minutes]
    assert {one.percent for one in weighed} == {5, 25, 50, 100}
    for one in weighed:
        assert one.percent is not None
        expected = REQUESTS_A_MINUTE * one.minutes * one.percent / 100
        assert abs(one.candidate.requests - expected) < 5 * math.sqrt(expected)
    for window in stage.record.windows:
        inside = [tick for tick in stage.ticks if window.start <= tick.at < (window.end or tick.at)]
        assert inside
        assert {tick.split for tick in inside} == {f"{100 - window.percent}/{window.percent}"}


# --- whose fault it is ---


@pytest.mark.scenario(39)
def test_a_back_end_that_both_need_and_that_is_down_pauses_and_blames_nobody(stage: Stage) -> None:
    revisions = (stage.newest(), stage.deploy())

    def back_end_goes_down() -> None:
        for revision in revisions:
            stage.local.behave(revision, error_share=0.4)

    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, back_end_goes_down))
    assert followed.ending is Ending.HELD
    assert stage.story[-2:] == [("stepping", "75/25"), ("paused", "75/25")]
    assert "stable is no better, so the candidate is not blamed" in followed.rollout.reason


def a_burst(stage: Stage, candidate: str, share: float, minutes: int) -> Any:
    """Let the candidate fail a share of its requests for some minutes of the second step."""
    begun: list[Any] = []

    def begin() -> None:
        begun.append(stage.local.now())
        stage.local.behave(candidate, error_share=share)

    def end(_: Pass) -> None:
        if begun and stage.local.now() - begun[0] >= minutes * MINUTE:
            stage.local.behave(candidate, error_share=0.0)

    return both(stage.when(Phase.STEPPING, 25, begin), end)


@pytest.mark.scenario(40)
def test_a_minute_of_errors_on_one_instance_of_eight_is_no_reason_to_go_back(stage: Stage) -> None:
    candidate = stage.deploy()
    policy = steps(hold={"at_least": "10m", "at_most": "2h"})
    rollout = stage.roll_out(policy, act=a_burst(stage, candidate, 1 / 8, 1)).rollout
    assert rollout.phase is Phase.PROMOTED, rollout.reason


@pytest.mark.scenario(40)
def test_three_minutes_of_errors_on_all_instances_are_rolled_back(stage: Stage) -> None:
    candidate = stage.deploy()
    policy = steps(hold={"at_least": "10m", "at_most": "2h"})
    rollout = stage.roll_out(policy, act=a_burst(stage, candidate, 1.0, 3)).rollout
    assert stage.story[-2:] == [("stepping", "75/25"), ("rolled_back", "100/0")]
    assert "errors: candidate" in rollout.reason


SLOWER: dict[str, dict[str, Any]] = {
    "in the body": {"LATENCY_MS": "60", "LATENCY_SPREAD": "0.05"},
    "in the tail": {"LATENCY_SPREAD": "0.8"},
    "in both": {"LATENCY_MS": "60", "LATENCY_SPREAD": "0.8"},
}


@pytest.mark.scenario(41)
@pytest.mark.parametrize("where", SLOWER)
def test_a_candidate_that_is_slower_is_rolled_back(stage: Stage, where: str) -> None:
    stable = stage.newest()
    stage.deploy(**SLOWER[where])
    rollout = stage.roll_out().rollout
    assert rollout.phase is Phase.ROLLED_BACK, rollout.reason
    assert "latency: candidate p50" in rollout.reason
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(41)
def test_a_faster_candidate_is_promoted(stage: Stage) -> None:
    stage.deploy(LATENCY_MS="20")
    assert stage.roll_out().rollout.phase is Phase.PROMOTED


@pytest.mark.scenario(41)
def test_first_requests_that_pay_for_the_cold_start_are_no_harm(stage: Stage) -> None:
    candidate = stage.deploy()
    key = RevisionKey("local-1", "web", candidate)

    def start_cold() -> None:
        now = stage.local.now() + MINUTE
        for _ in range(3):
            stage.local.measure(lambda metrics: metrics.record(key, 200, 9000.0, now))

    cold = [stage.when(Phase.STEPPING, percent, start_cold) for percent in (5, 25, 50)]
    rollout = stage.roll_out(act=both(*cold)).rollout
    assert rollout.phase is Phase.PROMOTED, rollout.reason


# --- hardly any traffic ---


@pytest.mark.scenario(42)
def test_without_any_traffic_it_is_held_and_never_promoted_or_rolled_back(stage: Stage) -> None:
    stage.users(0)
    stage.deploy(ERROR_SHARE="1")
    followed = stage.roll_out(steps(**SHORT))
    assert followed.ending is Ending.HELD
    assert stage.story[2:] == [("stepping", "95/5"), ("paused", "95/5")]
    assert "no request reached the candidate" in followed.rollout.reason


@pytest.mark.scenario(42)
def test_at_ten_requests_an_hour_a_candidate_that_fails_each_of_them_is_never_promoted(stage: Stage) -> None:
    stage.users(10 / 3600)
    stage.deploy(ERROR_SHARE="1")
    followed = stage.roll_out(steps(steps=["50%"], hold={"at_least": "1h", "at_most": "8h"}))
    assert followed.rollout.phase in {Phase.PAUSED, Phase.ROLLED_BACK}
    assert stage.highest == 50


@pytest.mark.scenario(43)
def test_a_candidate_that_does_not_answer_on_its_own_address_never_meets_a_user(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy()
    followed = stage.roll_out(steps(smoke=["/healthz"]))
    assert exit_code(followed) == 3
    assert stage.story == [("waiting", "100/0"), ("checking", "100/0"), ("rolled_back", "100/0")]
    assert "the smoke test failed: GET http://canary-" in followed.rollout.reason
    assert stage.highest == 0
    assert stage.serving() == {stable: 100}
    assert stage.tags() == set()
