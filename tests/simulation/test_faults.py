"""Whole rollouts while the local Cloud Run makes things go wrong for the controller."""

from collections.abc import Iterator
from typing import Any

import pytest
from builders import a_policy
from world import CONTROLLER, QUICK, World, a_world

from controller.core.rollout import Event, Phase
from controller.engine.loop import Ending


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as world:
        world.pin()
        yield world


def suffer(world: World, **fault: Any) -> None:
    """Let something go wrong for the controller alone."""
    world.local.fault_of({"principal": CONTROLLER, **fault})


SURVIVED: dict[str, dict[str, Any]] = {
    "every fourth read of the service is unavailable": {
        "kind": "error", "method": "GetService", "every": 4,
    },
    "every seventh call of any method is refused for its quota": {
        "kind": "error", "code": "RESOURCE_EXHAUSTED", "every": 7,
    },
    "the writes fail three times": {
        "kind": "error", "method": "UpdateService", "code": "INTERNAL", "next": 3,
    },
    "every other write is carried out and its answer lost": {
        "kind": "lost-answer", "method": "UpdateService", "every": 2,
    },
    "every fifth call takes two minutes": {"kind": "delay", "by": "2m", "every": 5},
    "nothing gets through for half an hour": {"kind": "partition", "for": "30m"},
    "every operation takes four minutes longer": {"kind": "slow-operation", "by": "4m"},
    "the clock jumps forward ten minutes": {"kind": "clock-jump", "by": "10m", "next": 1},
    "the clock jumps back ten minutes": {"kind": "clock-jump", "by": "-10m", "next": 1},
    "somebody annotates the service between read and write": {
        "kind": "foreign-write", "method": "GetService", "when": "after", "annotations": {"note": "x"},
        "every": 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("what", SURVIVED)
def test_a_good_candidate_is_promoted_although(world: World, what: str) -> None:
    candidate = world.deploy()
    begun = world.begin()
    suffer(world, **SURVIVED[what])
    followed = world.follow(begun)
    assert followed.ending is Ending.OVER
    assert followed.rollout.phase is Phase.PROMOTED, followed.rollout.reason
    assert world.serving() == {candidate: 100}
    assert world.local.faults()[0]["struck"] > 0


@pytest.mark.parametrize("what", SURVIVED)
def test_a_bad_candidate_is_taken_back_although(world: World, what: str) -> None:
    stable = world.newest()
    world.deploy(ERROR_SHARE="0.4")
    begun = world.begin()
    suffer(world, **SURVIVED[what])
    followed = world.follow(begun)
    assert followed.rollout.phase is Phase.ROLLED_BACK, followed.rollout.reason
    assert world.serving() == {stable: 100}


METRICS: dict[str, dict[str, Any]] = {
    "they come ten minutes later than usual": {"kind": "late-metrics", "by": "10m"},
    "they are missing for ten minutes": {"kind": "missing-metrics", "for": "10m"},
    "the answers are incomplete for ten minutes": {"kind": "incomplete-metrics", "for": "10m"},
}


@pytest.mark.parametrize("what", METRICS)
@pytest.mark.parametrize(("errors", "end"), [("0", Phase.PROMOTED), ("0.4", Phase.ROLLED_BACK)])
def test_a_patient_policy_waits_for_the_metrics_when(
    world: World, what: str, errors: str, end: Phase
) -> None:
    world.deploy(ERROR_SHARE=errors)
    begun = world.begin(a_policy(**QUICK, metrics_delay="15m"))
    world.local.fault_of(METRICS[what])
    followed = world.follow(begun)
    assert followed.rollout.phase is end, followed.rollout.reason


@pytest.mark.scenario(37)
@pytest.mark.parametrize("fault", [{"kind": "missing-metrics"}, {"kind": "late-metrics", "by": "10m"}])
def test_metrics_that_do_not_come_in_time_promote_nobody(world: World, fault: dict[str, Any]) -> None:
    candidate = world.deploy()
    begun = world.begin()
    world.local.fault_of(fault)
    followed = world.follow(begun)
    assert followed.ending is Ending.HELD
    assert world.serving()[candidate] == 10


@pytest.mark.scenario(49)
def test_traffic_that_somebody_edits_just_before_a_write_is_theirs(world: World) -> None:
    stable = world.newest()
    world.deploy()
    begun = world.begin()
    suffer(world, kind="foreign-write", method="UpdateService", traffic={stable: 100}, next=1)
    suffer(world, kind="foreign-write", method="GetService", traffic={stable: 100}, every=40)
    followed = world.follow(begun)
    assert followed.rollout.phase is Phase.SUPERSEDED, followed.rollout.reason
    world.wait(10)
    assert world.serving() == {stable: 100}


def test_a_rollback_by_hand_gets_through_a_shaking_line(world: World) -> None:
    stable = world.newest()
    world.deploy()
    world.begin()
    suffer(world, kind="error", every=4)
    suffer(world, kind="lost-answer", method="UpdateService", next=2)
    assert world.commanded(Event.ROLLBACK).phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}
