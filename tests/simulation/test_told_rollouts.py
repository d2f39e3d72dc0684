"""Notices of whole rollouts: each once, none that lies, and none that changes a rollout."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import a_policy
from crowd import a_crowd
from kills import CANDIDATES, LONGEST, SHORT, VICTIM, CountingObserver, Point
from receivers import GitHubStandIn, Got, Receiving, a_receiver, a_silent_receiver, badly
from scheduler import Kill, Moment
from structlog.testing import capture_logs
from test_audit_trail import assert_a_chain, check, fail_log, trail_of, unlogged
from world import QUICK, SERVICE, World, a_world

from controller.core.rollout import Event, Phase
from controller.engine.commands import release_service
from controller.engine.loop import follow
from controller.engine.reconcile import Memory, Pass, reconcile
from controller.engine.telling import GRACE
from controller.gateways.notices import NoticeGateway

EVENTS = {"cloudevents": "env:EVENTS"}
GOOD = ["started", "step", "step", "step", "promoted"]


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as world:
        world.pin()
        yield world


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiving]:
    with a_receiver() as receiver:
        monkeypatch.setenv("EVENTS", receiver.address)
        yield receiver


def told(**fields: Any) -> Any:
    return a_policy(**QUICK | {"notices": [EVENTS], **fields})


def assert_each_once_and_true(world: World, receiver: Receiving) -> None:
    """Each notice has an id of its own, which is that of a transition in the trail."""
    ids = [got.json["id"] for got in receiver.got]
    assert len(set(ids)) == len(ids)
    assert {each.removesuffix("-superseded") for each in ids} <= {each.id for each in trail_of(world)}


@pytest.mark.parametrize(
    ("knobs", "fields", "kinds"),
    [
        ({}, {}, GOOD),
        ({"ERROR_SHARE": "0.5"}, {}, ["started", "step", "rolled_back"]),
        ({"CRASH": "1"}, {}, ["started", "failed"]),
        (
            {},
            {"steps": [{"traffic": "10%", "gate": "2h"}], "hold": {"at_least": "3m", "at_most": "10m"}},
            ["started", "step", "held", "step", "promoted"],
        ),
    ],
    ids=["good", "bad", "broken", "gate"],
)
def test_each_kind_is_told_once_in_order(
    world: World, receiver: Receiving, knobs: dict[str, Any], fields: dict[str, Any], kinds: list[str]
) -> None:
    world.deploy(**knobs)
    world.roll_out(told(**fields))
    assert receiver.kinds == kinds
    assert_each_once_and_true(world, receiver)
    assert unlogged(world) is None


def test_a_rollout_that_is_held_is_told_once_with_what_people_do_then(
    world: World, receiver: Receiving
) -> None:
    world.users(0)
    world.deploy()
    policy = told(
        hold={"at_least": "3m", "at_most": "10m"}, notices=[{**EVENTS, "on": ["held", "rolled_back"]}]
    )
    world.roll_out(policy)
    assert receiver.kinds == ["held"]
    world.command(Event.ROLLBACK)
    assert receiver.kinds == ["held", "rolled_back"]
    assert receiver.got[1].json["data"]["severity"] == "warning"
    assert_each_once_and_true(world, receiver)


def test_a_rollout_that_begins_paused_is_told_to_be_held(world: World, receiver: Receiving) -> None:
    world.command(Event.PAUSE)
    world.deploy()
    world.begin(told(notices=[{**EVENTS, "on": ["held"]}]))
    assert receiver.kinds == ["held"]
    assert receiver.got[0].json["data"]["title"].endswith("begins paused")


def test_a_rollout_whose_place_is_taken_is_told_to_be_superseded(world: World, receiver: Receiving) -> None:
    first = world.deploy()
    world.begin(told())
    second = world.deploy()
    world.begin(told())
    assert receiver.kinds == ["started", "superseded", "started"]
    assert [got.json["data"]["candidate"] for got in receiver.got] == [first, first, second]
    assert_each_once_and_true(world, receiver)


def test_a_notice_is_sent_when_it_is_written_and_before_it_is_in_the_audit_log(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, bool]] = []

    def reply(got: Any) -> tuple[int, Any]:
        there = {entry.insert_id for entry in world.outside.audit_log.read_entries(SERVICE)}
        seen.append((got.json["data"]["percent"], got.json["id"] in there))
        return 200, {}

    world.deploy()
    with a_receiver(reply) as receiver:
        monkeypatch.setenv("EVENTS", receiver.address)
        world.roll_out(told())
    assert seen == [(0, False), (10, False), (50, False), (100, False), (100, False)]


def test_github_shows_how_each_rollout_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    github = GitHubStandIn("t", frozenset({"c0ffee"}))
    policy = told(notices=[{"github": {"repository": "o/r", "ref": "c0ffee"}}])
    with a_receiver(github.reply) as receiver:
        monkeypatch.setenv("GITHUB_API_URL", receiver.address)
        monkeypatch.setenv("GITHUB_TOKEN", "t")
        world.deploy(ERROR_SHARE="0.5")
        world.roll_out(policy)
        world.deploy()
        world.roll_out(policy)
    assert github.states() == [["in_progress", "in_progress", "failure"], ["in_progress"] * 4 + ["success"]]


# --- who tells ---


def test_two_controllers_at_once_tell_everything_once(world: World, receiver: Receiving) -> None:
    world.deploy()
    other = Memory()

    def act(_: Pass) -> None:
        world.wait(1)
        reconcile(world.outside, SERVICE, other)

    world.roll_out(told(), act)
    assert receiver.kinds == GOOD
    assert_each_once_and_true(world, receiver)
    assert unlogged(world) is None


def test_a_schedule_tells_everything_once(world: World, receiver: Receiving) -> None:
    world.deploy()
    world.begin(told())
    for _ in range(30):
        check(world)
    assert receiver.kinds == GOOD
    assert_each_once_and_true(world, receiver)
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


class Killed(BaseException):
    """The end of a controller in the middle of its work."""


class Killing(NoticeGateway):
    """Ends the controller that wants to send anything."""

    def send(self, notices: Any) -> Any:
        raise Killed(notices)


def test_what_a_controller_could_not_tell_is_told_by_the_next_when_it_is_old_enough(
    world: World, receiver: Receiving
) -> None:
    world.deploy()
    begun = world.begin(told())
    whole = world.outside
    world.outside = replace(whole, notices=Killing("demo", "local-1"))
    with pytest.raises(Killed):
        follow(world.outside, begun.rollout, lambda _: None)
    killed_at = world.local.now()
    world.outside = whole
    assert receiver.kinds == ["started"]
    memory = Memory()
    while len(receiver.got) == 1:
        world.wait(5)
        reconcile(world.outside, SERVICE, memory)
    waited = world.local.now() - killed_at
    assert GRACE <= waited < GRACE + timedelta(seconds=30)
    for _ in range(30):
        check(world)
    assert receiver.kinds == GOOD
    assert_each_once_and_true(world, receiver)


def killed(receiver: Receiving, candidate: str, kill: Kill | None) -> tuple[list[Got], list[Point]]:
    """Return what was told of a rollout whose controller is killed so, and the calls that it made."""
    receiver.got.clear()
    with a_crowd(7, visibility_delay=timedelta(0), observer_of=CountingObserver) as crowd:
        crowd.world.pin()
        crowd.world.deploy(**CANDIDATES[candidate])
        crowd.controller(VICTIM, a_policy(**SHORT, notices=[EVENTS])).kill = kill
        crowd.run(LONGEST)
        assert crowd.kills == (kill is not None), "the kill did not strike"
        assert isinstance(crowd.observer, CountingObserver)
        trail = {entry.insert_id for entry in crowd.audit_trail()}
        assert {got.json["id"] for got in receiver.got} <= trail
        return list(receiver.got), crowd.observer.points


def kinds(told: list[Got]) -> list[str]:
    return [got.json["data"]["kind"] for got in told]


@pytest.mark.repeats
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_kill_between_write_and_notice_keeps_nobody_from_being_told_once(
    receiver: Receiving, candidate: str
) -> None:
    undisturbed, points = killed(receiver, candidate, None)
    sending = [point for point in points if point.name == "notices.send"]
    assert len(sending) == len(undisturbed) == {"good": 4, "bad": 3}[candidate]
    for point in sending:
        told, _ = killed(receiver, candidate, Kill(point.call, Moment.BEFORE))
        assert sorted(kinds(told)) == sorted(kinds(undisturbed)), str(point)


@pytest.mark.repeats
def test_a_kill_between_notice_and_log_tells_again_what_has_the_same_id(receiver: Receiving) -> None:
    undisturbed, points = killed(receiver, "bad", None)
    for point in [point for point in points if point.name == "notices.send"]:
        told, _ = killed(receiver, "bad", Kill(point.call, Moment.AFTER))
        once = {got.json["id"]: got for got in told}
        assert len(told) == len(once) + 1, str(point)
        assert sorted(kinds(list(once.values()))) == sorted(kinds(undisturbed)), str(point)


def test_a_receiver_that_refuses_everything_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.deploy()
    with a_receiver(badly) as receiver, capture_logs() as logs:
        monkeypatch.setenv("EVENTS", f"{receiver.address}/s3cret")
        assert world.roll_out(told()).rollout.phase is Phase.PROMOTED
    assert receiver.kinds == GOOD, "each was tried once"
    problems = [entry["problem"] for entry in logs if "problem" in entry]
    assert problems == ["the notice to cloudevents env:EVENTS: whoever gets the events answered with 500"] * 5
    assert "s3cret" not in str(logs)
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


def test_a_receiver_that_hangs_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stable = world.newest()
    world.deploy(ERROR_SHARE="0.5")
    world.outside = replace(world.outside, notices=NoticeGateway("demo", "local-1", seconds=0.2))
    with a_silent_receiver() as receiver:
        monkeypatch.setenv("EVENTS", receiver.address)
        assert world.roll_out(told()).rollout.phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}
    assert_a_chain(trail_of(world))
    assert unlogged(world) is None


# --- the audit log, and the end ---


def test_without_an_audit_log_nobody_is_told_again_and_again(world: World, receiver: Receiving) -> None:
    fail_log(world, "PERMISSION_DENIED")
    world.deploy(ERROR_SHARE="0.5")
    world.roll_out(told())
    for _ in range(5):
        check(world)
    assert receiver.kinds == ["started", "step", "rolled_back"]


def test_an_opening_while_the_audit_log_is_away_is_told_once(world: World, receiver: Receiving) -> None:
    fail_log(world, **{"for": "6m"})
    world.deploy()
    world.roll_out(told())
    assert receiver.kinds == GOOD
    assert_each_once_and_true(world, receiver)
    assert unlogged(world) is None


def test_a_log_that_nobody_may_read_is_written_all_the_same(world: World, receiver: Receiving) -> None:
    world.local.fault_of({"kind": "error", "method": "ListLogEntries", "code": "PERMISSION_DENIED"})
    world.deploy()
    world.begin(told())
    for _ in range(30):
        check(world)
    world.local.clear_faults()
    assert receiver.kinds == GOOD
    assert_each_once_and_true(world, receiver)
    assert unlogged(world) is None


def test_a_release_leaves_nothing_untold(world: World, receiver: Receiving) -> None:
    world.deploy(ERROR_SHARE="0.5")
    world.roll_out(told())
    release_service(world.outside, SERVICE)
    assert receiver.kinds == ["started", "step", "rolled_back"]


def test_what_is_missing_is_said_before_the_first_step(world: World) -> None:
    world.deploy()
    begun = world.begin(told(notices=["env:NO_SUCH_VARIABLE"]))
    assert begun.opened
    assert begun.warnings[-1].startswith("the notice to env:NO_SUCH_VARIABLE: the environment variable")


def test_nothing_is_asked_of_anybody_where_nobody_is_to_be_told(world: World) -> None:
    world.deploy()
    world.outside = replace(world.outside, notices=Killing("demo", "local-1"))
    assert world.roll_out().rollout.phase is Phase.PROMOTED
