"""Health checks of services at rest: what is found, what is done about it, and what it costs in calls."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from fleet import Fleet, a_fleet
from google.cloud import run_v2
from scene import Stage, a_stage, steps, suffer
from world import SERVICE

from controller.cli.report import way_back
from controller.core.evidence import Sample, final_until
from controller.core.health import HealthValue
from controller.core.policy import Policy
from controller.core.rollout import Event, Phase
from controller.core.traffic import Target
from controller.engine.health import ServiceHealth
from controller.engine.sweep import Checked, Memories, sweep

MOST_CALLS = 10


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with a_fleet() as fleet:
        yield fleet


def a_health(**fields: Any) -> Policy:

    return steps(health=fields or "on")


def promoted(stage: Stage, **fields: Any) -> tuple[str, str]:
    """Roll a revision out, and let it serve for a while; returns the one before, and it."""
    stable = stage.newest()
    candidate = stage.deploy()
    stage.roll_out(a_health(**fields))
    assert stage.record.phase is Phase.PROMOTED
    stage.wait(40 * 60)
    return stable, candidate


def swept(stage: Stage, memories: Memories | None = None) -> Checked:
    seen: dict[str, Checked] = {}
    sweep(stage.outside, lambda one: seen.__setitem__(one.service, one), memories)
    stage.look()
    return seen[SERVICE]


def health_of(stage: Stage) -> ServiceHealth:
    found = swept(stage).health
    assert found is not None
    return found


def turn_bad(stage: Stage, revision: str, share: float = 0.4, minutes: float = 12) -> None:
    stage.local.behave(revision, error_share=share)
    stage.wait(minutes * 60)


# --- what is found ---


def test_a_revision_that_serves_well_is_good(stage: Stage) -> None:
    _, candidate = promoted(stage)
    with stage.stays_as_it_is():
        found = health_of(stage)
    assert (found.revision, found.verdict.value) == (candidate, HealthValue.GOOD)


def test_a_promoted_service_that_turns_bad_later_is_reported_and_left_alone(stage: Stage) -> None:
    _, candidate = promoted(stage)
    turn_bad(stage, candidate)
    with stage.stays_as_it_is():
        found = health_of(stage)
    assert (found.verdict.value, found.back_to, found.why_not) == (HealthValue.HARMFUL, "", "")
    assert "failed, above" in found.verdict.reason


def test_it_goes_back_to_the_revision_before_where_the_policy_says_so(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    turn_bad(stage, candidate)
    found = health_of(stage)
    stage.wait(10)
    assert found.back_to == stable
    assert stage.serving() == {stable: 100}
    record = stage.record
    assert (record.phase, record.stable, record.candidate, record.by) == (
        Phase.ROLLED_BACK,
        stable,
        candidate,
        "health check",
    )
    assert record.reason == f"rolled back to {stable} by health check: {found.verdict.reason}"
    entries = stage.outside.audit_log.read_entries(SERVICE)
    assert any(found.verdict.reason in entry.message for entry in entries)


def test_four_times_the_usual_errors_are_found_under_a_ceiling_far_above(stage: Stage) -> None:
    _, candidate = promoted(stage)
    turn_bad(stage, candidate, share=0.01, minutes=180)
    assert "was usual" in health_of(stage).verdict.reason
    turn_bad(stage, candidate, share=0.04, minutes=12)
    found = health_of(stage)
    assert found.verdict.value is HealthValue.HARMFUL
    assert found.verdict.limit is not None
    assert found.verdict.limit < 0.02


def test_a_burst_of_one_minute_is_no_harm(stage: Stage) -> None:
    _, candidate = promoted(stage, on_harm="rollback")
    turn_bad(stage, candidate, share=0.9, minutes=1)
    turn_bad(stage, candidate, share=0, minutes=4)
    with stage.stays_as_it_is():
        assert not health_of(stage).is_harmful


def test_a_service_without_requests_is_unknown_never_harmful(stage: Stage) -> None:
    promoted(stage, on_harm="rollback")
    stage.users(0)
    stage.wait(40 * 60)
    verdict = health_of(stage).verdict
    assert (verdict.value, verdict.unread) == (HealthValue.UNKNOWN, False)
    assert verdict.reason == "no request in 30m; nothing can be said"


def test_metrics_that_cannot_be_read_are_unknown_and_say_why(stage: Stage) -> None:
    _, candidate = promoted(stage, on_harm="rollback")
    turn_bad(stage, candidate)
    suffer(stage, kind="error", code="PERMISSION_DENIED", method="ListTimeSeries")
    with stage.stays_as_it_is():
        verdict = health_of(stage).verdict
    assert (verdict.value, verdict.unread) == (HealthValue.UNKNOWN, True)
    assert stage.canary("check").code == 7


def test_a_policy_that_does_not_ask_is_not_answered(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out()
    stage.wait(600)
    assert swept(stage).health is None


# --- people come first ---


def test_what_people_have_set_by_hand_stays(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    third = stage.deploy()
    stage.set_traffic((Target(third, 100),))
    turn_bad(stage, third)
    with stage.stays_as_it_is():
        found = health_of(stage)
    assert (found.revision, found.is_harmful, found.back_to) == (third, True, "")
    assert found.why_not == "traffic was changed by hand since the rollout"
    assert stable != candidate != third


def test_a_service_that_two_revisions_serve_is_not_judged(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    stage.set_traffic((Target(stable, 50), Target(candidate, 50)))
    turn_bad(stage, candidate)
    with stage.stays_as_it_is():
        assert swept(stage).health is None


def test_a_paused_service_is_reported_alone(stage: Stage) -> None:
    _, candidate = promoted(stage, on_harm="rollback")
    stage.command(Event.PAUSE)
    turn_bad(stage, candidate)
    with stage.stays_as_it_is():
        assert health_of(stage).why_not == "it is paused"


def test_one_that_was_rolled_back_and_is_harmful_again_is_reported_alone(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    turn_bad(stage, candidate)
    swept(stage)
    stage.wait(10)
    swept(stage)
    turn_bad(stage, stable, minutes=15)
    with stage.stays_as_it_is():
        found = health_of(stage)
    assert (found.revision, found.is_harmful, found.back_to) == (stable, True, "")
    assert found.why_not == (
        "the last rollout was not promoted (rolled_back), so no revision before is known as good"
    )
    assert way_back(SERVICE, stage.record, found) == f"canary rollback {SERVICE} --to REVISION"


def test_one_whose_revision_before_is_gone_is_reported_alone(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    stage.revisions.delete_revision(name=f"{stage.parent}/services/{SERVICE}/revisions/{stable}")
    turn_bad(stage, candidate)
    with stage.stays_as_it_is():
        assert health_of(stage).why_not == f"{stable} is not ready to serve"


# --- probes ---


@pytest.fixture
def answering() -> Iterator[Stage]:
    """A stage on which revisions answer over HTTP."""
    with a_stage(simulated_front=True) as stage:
        yield stage


def tagged(stage: Stage, revision: str) -> None:
    """Give the revision that serves an address of its own, as its owner does."""
    stage.set_traffic((Target(revision, 100), Target(revision, 0, "live")))


def test_probes_of_a_revision_that_is_tagged_find_what_its_users_do_not_meet(answering: Stage) -> None:
    candidate = answering.newest()
    second = answering.deploy()
    answering.roll_out(steps(health="on", probes=["/healthz"]))
    tagged(answering, second)
    assert health_of(answering).verdict.reason.endswith("; the probes were answered well")
    answering.local.behave(second, probe_error_share=1.0)
    found = health_of(answering)
    assert found.is_harmful
    assert "/healthz was answered with 500" in found.verdict.reason
    assert candidate != second


def test_probes_are_asked_no_more_often_than_the_policy_says(answering: Stage) -> None:
    second = answering.deploy()
    answering.roll_out(steps(health="on", probes=[{"path": "/healthz", "every": "10m"}]))
    tagged(answering, second)
    memories = Memories()
    swept(answering, memories)
    answering.local.behave(second, probe_error_share=1.0)
    answering.wait(60)
    first = swept(answering, memories).health
    answering.wait(600)
    later = swept(answering, memories).health
    assert first is not None
    assert later is not None
    assert (first.is_harmful, later.is_harmful) == (False, True)


def test_a_policy_can_leave_the_probes_out(answering: Stage) -> None:
    second = answering.deploy()
    answering.roll_out(steps(health={"probes": False}, probes=["/healthz"]))
    tagged(answering, second)
    answering.local.behave(second, probe_error_share=1.0)
    assert not health_of(answering).is_harmful


# --- what the command says ---


def test_the_exit_code_and_the_line_say_what_was_found_and_done(stage: Stage) -> None:
    stable, candidate = promoted(stage)
    good = stage.canary("check")
    assert good.code == 0
    assert good.text.startswith(f"{SERVICE:<20} good        {candidate}: 0 % of ")
    turn_bad(stage, candidate)
    harmful = stage.canary("check")
    assert harmful.code == 8
    back = f"; to send all users back: canary rollback {SERVICE} --to {stable}"
    assert back in harmful.text
    line = harmful.text.splitlines()[-1]
    assert line.startswith(f"{SERVICE:<20} harmful     {candidate}: ")
    report = json.loads(stage.canary("check", "--json").text.splitlines()[-1])
    assert (report["phase"], report["health"]["value"]) == ("promoted", "harmful")
    assert report["health"]["back_to"] is None
    assert line.endswith(back)
    assert stable not in line.removesuffix(back)


def test_harm_stands_in_the_status_and_once_an_hour_in_the_history(stage: Stage) -> None:
    stable, candidate = promoted(stage)
    good = stage.canary("status", SERVICE).text
    assert f"good, by its metrics: {candidate}: " in good
    assert "send all users back" not in good
    assert "harm " not in stage.canary("history", SERVICE).text
    turn_bad(stage, candidate)
    for _ in range(3):
        stage.canary("check")
        stage.wait(60)
    with stage.stays_as_it_is():
        shown = stage.canary("status", SERVICE).text
        assert f"harmful, by its metrics: {candidate}: " in shown
        assert f"To send all users back: canary rollback {SERVICE} --to {stable}" in shown.splitlines()
        report = json.loads(stage.canary("status", SERVICE, "--json").text)
        lines = [json.loads(line) for line in stage.canary("history", SERVICE, "--json").text.splitlines()]
        rows = stage.canary("history", SERVICE).text.splitlines()
    assert report["health"]["value"] == "harmful"
    harm = [line for line in lines if line.get("event") == "harm"]
    assert 1 <= len(harm) <= 2  # an hour may have begun in between
    assert (harm[0]["revision"], harm[0]["rollout"]) == (candidate, stage.record.id)
    assert "failed, above" in harm[0]["reason"]
    assert lines[-1] == harm[-1]
    assert len([row for row in rows if " harm " in row]) == len(harm)
    assert stage.canary("replay", SERVICE).code == 0


def test_harm_that_could_not_be_logged_is_logged_later_and_crowds_nothing_out(stage: Stage) -> None:
    _, candidate = promoted(stage)
    before = stage.outside.audit_log.read_entries(SERVICE, limit=100)
    turn_bad(stage, candidate)
    stage.local.fault("error", method="WriteLogEntries", code="UNAVAILABLE", next=1)
    for memories in (Memories(), None):
        for _ in range(20):
            swept(stage, memories)
            stage.wait(30)
    entries = stage.outside.audit_log.read_entries(SERVICE, limit=100)
    harm = [entry for entry in entries if entry.labels["event"] == "harm"]
    assert 1 <= len(harm) <= 2
    assert [entry for entry in entries if entry not in harm] == before


def test_a_rollback_has_the_exit_code_of_one_until_it_is_in_force(stage: Stage) -> None:
    stable, candidate = promoted(stage, on_harm="rollback")
    turn_bad(stage, candidate)
    said = stage.canary("check")
    assert said.code == 3
    assert said.text.splitlines()[-1].endswith(f"; rolled back to {stable}")
    stage.wait(10)
    assert [stage.canary("check").code for _ in range(2)] == [3, 0]


def test_harm_is_reported_once_by_who_remembers(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    _, candidate = promoted(stage)
    turn_bad(stage, candidate)
    memories = Memories()
    capsys.readouterr()
    for _ in range(3):
        swept(stage, memories)
        stage.wait(60)
    assert capsys.readouterr().out.count("[error") == 1


# --- many services ---


def test_what_is_read_of_all_services_is_what_is_read_of_each(fleet: Fleet) -> None:
    fleet.deploy_all(resting=2, rolling=2)
    end = final_until(fleet.local.now(), timedelta(minutes=3))
    start = end - timedelta(minutes=45)
    metrics = fleet.outside.metrics
    together, totals = metrics.read_services(start, end), metrics.read_totals(start, end)
    some = metrics.read_services(start, end, ["rest-0", "roll-1"], latencies=False)
    assert {service for service, _ in some.of} == {"rest-0", "roll-1"}
    assert not together.problems
    places = set(together.of)
    assert len(places) == 6
    for service, revision in places:
        alone = metrics.read_minutes(service, [revision], start, end).of[revision]
        assert together.of[service, revision] == alone
        codes = sum((minute.sample for minute in alone), start=Sample()).codes
        assert totals[service, revision] == Sample(codes)


def test_two_hundred_services_take_no_more_calls_than_one(fleet: Fleet) -> None:
    """200 at rest and five under way: at most ten calls of each kind, with or without a memory."""
    fleet.deploy_all(resting=200, rolling=5)
    seen, calls = fleet.counted_sweep()
    assert len(seen) == 205
    assert not [checked.error for checked in seen.values() if checked.error]
    found = [checked.health.verdict.value for checked in seen.values() if checked.health]
    assert found == [HealthValue.GOOD] * 200
    weighed = [checked.seen.assessment for name, checked in seen.items() if checked.seen and "roll" in name]
    assert all(each is not None and each.minutes > 30 for each in weighed)
    assert max(calls.values()) <= MOST_CALLS, calls


def test_one_bad_service_among_many_is_found_and_one_rollout_goes_on_as_if_alone(fleet: Fleet) -> None:
    fleet.deploy_all(resting=3, rolling=2)
    fleet.local.behave("rest-1-00001-abc", error_share=0.5)
    fleet.local.behave("roll-1-00002-def", error_share=0.5)
    fleet.wait(900)
    seen = fleet.sweep()
    harmful = {name for name, checked in seen.items() if checked.health and checked.health.is_harmful}
    assert harmful == {"rest-1"}
    phases = {
        name: checked.seen.rollout.phase
        for name, checked in seen.items()
        if checked.seen and checked.seen.rollout
    }
    assert (phases["roll-0"], phases["roll-1"]) == (Phase.STEPPING, Phase.ROLLED_BACK)


def test_memories_of_services_that_are_gone_are_dropped(fleet: Fleet) -> None:
    fleet.deploy_all(resting=2, rolling=0)
    memories = Memories()
    fleet.sweep(memories)
    kept = memories.of("rest-1")
    assert memories.of("rest-1") is kept
    fleet.services.delete_service(run_v2.DeleteServiceRequest(name=f"{fleet.parent}/services/rest-1"))
    fleet.wait(10)
    fleet.sweep(memories)
    assert memories.of("rest-1") is not kept


def test_five_rollouts_that_all_move_at_once_stay_within_the_calls(fleet: Fleet) -> None:
    fleet.deploy_all(resting=20, rolling=5)
    fleet.wait(30 * 60)
    memories, most = Memories(), 0
    for _ in range(4):
        _, calls = fleet.counted_sweep(memories)
        most = max(most, *calls.values())
        fleet.wait(15)
    seen = fleet.sweep(memories)
    shares = [
        checked.seen.rollout.percent for checked in seen.values() if checked.seen and checked.seen.rollout
    ]
    assert sorted(shares) == [50] * 5 + [100] * 20
    assert most <= MOST_CALLS
