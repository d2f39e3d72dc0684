"""A candidate that cannot scale, one that starts slowly, and users who do not come as they should."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from builders import a_policy
from world import World, a_world

from controller.core.rollout import Phase
from controller.emulator.settings import SimulatedLogs
from controller.engine.loop import Ending

_SOON = timedelta(minutes=2)
POLICY: dict[str, Any] = {
    "steps": ["50%"],
    "hold": {"at_least": "5m", "at_most": "30m"},
    "bake": "5m",
    "request_logs": "on",
    "guards": {"capacity": "on", "latency": "off"},
}


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(rps=10, simulated_logs=SimulatedLogs.ALL) as world:
        world.pin()
        yield world


def test_a_candidate_that_turns_users_away_for_want_of_instances_is_taken_back(world: World) -> None:
    """Five requests a second of half a second each need three instances; it may have one."""
    stable = world.newest()
    world.deploy(most=1, concurrency=1, LATENCY_MS="500")
    followed = world.roll_out(a_policy(**POLICY))
    assert followed.rollout.phase is Phase.ROLLED_BACK, followed.rollout.reason
    assert followed.rollout.reason.startswith(("capacity: ", "room: "))
    assert world.serving() == {stable: 100}


def test_without_the_guard_it_only_looks_quiet(world: World) -> None:
    world.deploy(most=1, concurrency=1, LATENCY_MS="500")
    followed = world.roll_out(a_policy(**POLICY | {"guards": {"latency": "off"}}))
    assert followed.rollout.phase is Phase.PROMOTED


@pytest.mark.parametrize(("seconds", "phase"), [("1", Phase.PROMOTED), ("20", Phase.ROLLED_BACK)])
def test_a_candidate_whose_instances_start_more_slowly_is_found_by_its_guard(
    seconds: str, phase: Phase
) -> None:
    """Each start is compared with those of stable; both have many, as they come and go."""
    with a_world(rps=0.02, idle_timeout=_SOON) as world:
        world.deploy(traffic=True, START_SECONDS="1")
        world.pin()
        world.deploy(START_SECONDS=seconds)
        guards = {"startup": {"ceilings": {"p95": "10s"}}, "latency": "off"}
        policy = a_policy(
            **{
                **POLICY,
                "guards": guards,
                "hold": {"at_least": "1h", "requests": 5},
                "bake": {"at_least": "10m", "requests": 5},
            }
        )
        followed = world.roll_out(policy)
        assert followed.rollout.phase is phase, followed.rollout.reason
        assert ("startup: " in followed.rollout.reason) or phase is Phase.PROMOTED
        assert followed.ending is Ending.OVER
