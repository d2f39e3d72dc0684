"""The audit trail of whole rollouts: each transition once and in order, whatever happens to the log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import a_policy
from world import CONTROLLER, QUICK, SERVICE, World, a_world

from controller.core.rollout import Event, Phase
from controller.core.trail import UNLOGGED, Transition, transition_as_plain
from controller.engine.audit import entry_of, transitions_of
from controller.engine.reconcile import Memory, Pass, reconcile
from controller.engine.replay import Replayed, replay
from controller.engine.sweep import sweep

HOUR = timedelta(hours=1)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as world:
        world.pin()
        yield world


def trail_of(world: World) -> list[Transition]:
    return transitions_of(world.outside.audit_log.read_entries(SERVICE))


def replayed(world: World) -> list[Replayed]:
    return list(replay(world.outside, trail_of(world)))


def told(world: World) -> list[str]:
    return [each.event.name.lower() if each.event else "opened" for each in trail_of(world)]


def unlogged(world: World) -> str | None:
    text: str | None = dict(world.service().annotations).get(UNLOGGED)
    return text


def assert_a_chain(transitions: list[Transition]) -> None:
    """Each rollout opens with number 0, each transition begins where the last ended, and all ids differ."""
    ids = [transition.id for transition in transitions]
    assert sorted(set(ids)) == sorted(ids)
    last: dict[str, Transition] = {}
    for transition in transitions:
        after, before = transition.after, transition.before
        if transition.event is None:
            assert after.number == 0
        else:
            assert before is not None
            assert after.number == before.number + 1 == last[after.id].after.number + 1
            assert before.since == last[after.id].after.since
        last[after.id] = transition


def fail_log(world: World, code: str = "UNAVAILABLE", **fields: Any) -> None:
    wanted = {"kind": "error", "method": "WriteLogEntries", "principal": CONTROLLER, "code": code}
    world.local.fault_of(wanted | fields)


def check(world: World) -> None:
    """Pass once, as a scheduled controller does, which remembers nothing of the pass before."""
    sweep(world.outside, lambda _: None)
    world.wait(60)


ENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["opened", "ready", "checked", "passed", "passed", "passed"]),
    ({"ERROR_SHARE": "0.5"}, ["opened", "ready", "checked", "harmed"]),
]


@pytest.mark.parametrize(("knobs", "events"), ENDS, ids=["good", "bad"])
def test_each_transition_is_told_once_in_order_and_nothing_is_left(
    world: World, knobs: dict[str, Any], events: list[str]
) -> None:
    world.deploy(traffic=False, **knobs)
    world.roll_out()
    assert told(world) == events
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None
    assert trail_of(world)[-1].after.phase is world.phases[-1][0]


def test_what_is_told_is_what_happened_when_it_happened(world: World) -> None:
    world.deploy()
    seen_at: dict[Phase, Any] = {}

    def act(seen: Pass) -> None:
        assert seen.rollout
        seen_at.setdefault(seen.rollout.phase, seen.rollout.since)

    world.roll_out(act=act)
    for transition in trail_of(world):
        assert transition.time == transition.after.since
        if transition.after.phase in {Phase.BAKING, Phase.PROMOTED, Phase.CHECKING}:
            assert transition.time == seen_at[transition.after.phase]


def test_an_entry_written_again_is_still_one(world: World) -> None:
    world.deploy()
    world.roll_out()
    before = trail_of(world)
    world.outside.audit_log.write_entries([entry_of(transition) for transition in before])
    assert trail_of(world) == before
    assert len(world.outside.audit_log.read_entries(SERVICE)) == len(before)


def test_a_log_that_is_away_for_an_hour_gets_all_of_it_when_it_is_back(world: World) -> None:
    world.deploy()
    begun = world.local.now()
    fail_log(world, **{"for": "1h"})
    waited: list[int] = []
    policy = a_policy(**QUICK | {"bake": "2h"})

    def act(_: Pass) -> None:
        if world.local.now() - begun < HOUR:
            waited.append(len(json.loads(unlogged(world) or "[]")))

    followed = world.roll_out(policy, act)
    assert followed.rollout.phase is Phase.PROMOTED
    assert max(waited) == 5, "all but the promotion wait beside the record"
    assert told(world) == ENDS[0][1]
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


def test_a_log_that_is_denied_stops_nothing_and_the_trail_stays_on_the_service(world: World) -> None:
    stable = world.newest()
    fail_log(world, "PERMISSION_DENIED")
    world.deploy(ERROR_SHARE="0.5")
    followed = world.roll_out()
    assert followed.rollout.phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}
    assert trail_of(world) == []
    assert len(json.loads(unlogged(world) or "[]")) == len(ENDS[1][1])
    world.local.clear_faults()
    check(world)
    assert told(world) == ENDS[1][1]
    assert unlogged(world) is None


def test_what_is_left_of_one_rollout_is_told_with_the_next(world: World) -> None:
    fail_log(world, "PERMISSION_DENIED")
    world.deploy(ERROR_SHARE="0.5")
    world.roll_out()
    world.local.clear_faults()
    world.deploy()
    world.roll_out()
    assert told(world) == ENDS[1][1] + ENDS[0][1]
    assert_a_chain(trail_of(world))


def test_a_log_whose_answers_are_lost_tells_nothing_twice(world: World) -> None:
    world.deploy()
    world.local.fault_of(
        {"kind": "lost-answer", "method": "WriteLogEntries", "principal": CONTROLLER, "every": 2}
    )
    world.roll_out()
    assert told(world) == ENDS[0][1]
    assert len(world.outside.audit_log.read_entries(SERVICE)) == len(ENDS[0][1])
    assert unlogged(world) is None


def test_two_controllers_at_once_tell_one_story(world: World) -> None:
    world.deploy()
    other = Memory()

    def act(_: Pass) -> None:
        world.wait(1)
        reconcile(world.outside, SERVICE, other)

    world.roll_out(act=act)
    assert told(world) == ENDS[0][1]
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


def test_a_rollout_that_is_driven_by_a_schedule_tells_the_same_story(world: World) -> None:
    world.deploy()
    world.begin()
    for _ in range(30):
        check(world)
    assert told(world) == ENDS[0][1]
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


def test_an_outbox_that_somebody_damaged_stops_nothing(world: World) -> None:
    world.deploy()

    def act(seen: Pass) -> None:
        if seen.rollout and seen.rollout.phase is Phase.BAKING and len(json.loads(unlogged(world) or "[]")):
            world.set_annotations(**{UNLOGGED.replace("/", "__"): "{]"})

    followed = world.roll_out(act=act)
    assert followed.rollout.phase is Phase.PROMOTED
    assert unlogged(world) is None
    assert told(world)[-1] == "passed"


def test_people_are_told_with_what_they_asked_for(world: World) -> None:
    world.deploy()
    world.begin()
    world.wait(10)
    for event in (Event.PAUSE, Event.RESUME, Event.ROLLBACK):
        world.command(event)
    people = [each for each in trail_of(world) if each.command]
    assert [each.event for each in people] == [Event.PAUSE, Event.RESUME, Event.ROLLBACK]
    assert {each.after.by for each in people} == {"ada"}
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


# --- replay ---


@pytest.mark.parametrize(
    "knobs",
    [{}, {"ERROR_SHARE": "0.5"}, {"LATENCY_MS": "400"}, {"CRASH": "1"}],
    ids=["good", "errors", "slow", "broken"],
)
def test_what_was_decided_is_decided_again_the_same(world: World, knobs: dict[str, Any]) -> None:
    world.deploy(traffic=False, **knobs)
    world.roll_out()
    again = replayed(world)
    assert len(again) == len(trail_of(world)) > 1
    assert [(each.differs, each.other_evidence) for each in again] == [(False, False)] * len(again)
    assert [each.decision is None for each in again] == [True] + [False] * (len(again) - 1)


def test_commands_edits_and_gates_are_decided_again_the_same(world: World) -> None:
    stable = world.newest()
    world.deploy()
    policy = a_policy(**QUICK | {"steps": [{"traffic": "10%", "gate": "manual"}, "50%"]})
    done: list[object] = []

    def act(seen: Pass) -> None:
        assert seen.rollout
        if seen.rollout.at_gate and seen.rollout.observed_at:
            world.command(Event.RESUME)
        if seen.rollout.percent == 50 and seen.rollout.observed_at and not done:
            done.append(world.command(Event.PAUSE))
            world.command(Event.RESUME)
            world.command(Event.PROMOTE)
        if seen.rollout.phase is Phase.BAKING:
            world.set_traffic((replace(seen.service.traffic[0], revision=stable, percent=100),))

    assert world.roll_out(policy, act).rollout.phase is Phase.SUPERSEDED
    assert told(world)[3:] == ["gated", "resume", "pause", "resume", "promote", "edited"]
    assert [(each.differs, each.other_evidence) for each in replayed(world)] == [(False, False)] * 9


def tampered(transition: Transition, **fields: Any) -> Transition:
    assert transition.before is not None
    before = replace(transition.before, **fields)
    return replace(transition, before=before, after=replace(transition.after, policy=before.policy))


def test_another_policy_is_said_to_decide_otherwise(world: World) -> None:
    world.deploy(ERROR_SHARE="0.5")
    world.roll_out()
    *_, harmed = trail_of(world)
    assert harmed.event is Event.HARMED
    blind = a_policy(**QUICK | {"guards": {"errors": {"observe": True}}})
    (again,) = replay(world.outside, [tampered(harmed, policy=blind)])
    assert again.differs
    assert again.decision
    assert again.decision.rollout.phase is not Phase.ROLLED_BACK


def test_of_metrics_that_cannot_be_read_today_nothing_is_told(world: World) -> None:
    world.deploy(ERROR_SHARE="0.5")
    world.roll_out()
    *_, harmed = trail_of(world)
    fault = {"kind": "error", "method": "ListTimeSeries", "code": "PERMISSION_DENIED"}
    world.local.fault_of(fault)
    (again,) = replay(world.outside, [harmed])
    assert not again.differs
    assert "monitoring.timeSeries.list" in again.problem


def test_an_entry_that_was_changed_is_said_to_differ_and_one_that_cannot_be_read_is_left_out(
    world: World,
) -> None:
    world.deploy()
    world.roll_out()
    entries = list(world.outside.audit_log.read_entries(SERVICE))
    plain = transition_as_plain(trail_of(world)[3])
    changed = {**plain, "after": {**plain["after"], "step": 0}}
    entries[3] = replace(entries[3], payload=changed)
    entries[4] = replace(entries[4], payload={"hello": "world"})
    entries[5] = replace(entries[5], cut="the payload")
    again = list(replay(world.outside, transitions_of(entries)))
    assert [each.differs for each in again] == [False, False, False, True]


def test_of_two_transitions_with_one_number_the_one_that_was_gone_on_from_is_kept(world: World) -> None:
    world.deploy()
    world.roll_out()
    real = trail_of(world)
    lost = replace(real[2], after=replace(real[2].after, since=real[2].after.since + timedelta(seconds=1)))
    for order in ([*real, lost], [lost, *real]):
        assert transitions_of([entry_of(each) for each in order]) == real
