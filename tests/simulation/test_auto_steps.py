"""Rollouts whose steps are chosen from the traffic of the last hour, over gRPC."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from builders import a_policy
from world import QUICK, SERVICE, World, a_world

from controller.core.record import ANNOTATION, parse_record
from controller.core.rollout import Phase, Rollout
from controller.engine.begin import measure_traffic

AUTO = a_policy(steps="auto", bake="5m")


@pytest.fixture
def world() -> Iterator[World]:
    """A service whose users have come for an hour, and a candidate for them."""
    with a_world(rps=20) as world:
        world.pin()
        world.wait(timedelta(minutes=70).total_seconds())
        yield world


def record_of(world: World) -> Rollout:
    return parse_record(world.service().annotations[ANNOTATION])


def test_the_record_holds_the_steps_that_were_chosen(world: World) -> None:
    world.deploy()
    begun = world.begin(AUTO)
    policy = record_of(world).policy
    assert policy.auto is None
    assert [step.traffic for step in policy.steps] == [1, 5, 25, 50]
    (warning,) = begun.warnings
    assert warning.startswith("steps chosen for 2")
    assert "1% for 5m, 5% for" in warning


def test_a_good_candidate_is_promoted_in_the_steps_that_were_chosen(world: World) -> None:
    candidate = world.deploy()
    world.roll_out(AUTO)
    shares = [percent for phase, percent in world.phases if phase is Phase.STEPPING]
    assert shares == [1, 5, 25, 50]
    assert world.serving() == {candidate: 100}


def test_a_candidate_that_fails_harms_about_as_many_as_was_said(world: World) -> None:
    stable = world.newest()
    candidate = world.deploy(ERROR_SHARE="1")
    begun = world.begin(AUTO)
    followed = world.follow(begun)
    assert followed.rollout.phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}
    world.wait(600)
    now = world.outside.clock.now().replace(second=0, microsecond=0)
    read = world.outside.metrics.read_minutes(SERVICE, [candidate], now - timedelta(hours=1), now)
    assert 0 < sum(minute.sample.having(["5xx"]) for minute in read.of[candidate]) <= 90
    assert "fails about 70 requests" in begun.warnings[0]


def test_a_service_without_users_gets_the_usual_steps_and_a_warning(world: World) -> None:
    world.users(0)
    world.wait(timedelta(minutes=70).total_seconds())
    world.deploy()
    begun = world.begin(AUTO)
    assert [step.traffic for step in record_of(world).policy.steps] == [5, 25, 50]
    assert begun.warnings[0].startswith("stable had no request in the last hour")


def test_whoever_begins_again_goes_on_with_the_steps_on_record(world: World) -> None:
    world.deploy()
    chosen = world.begin(AUTO).rollout
    world.users(1)
    world.wait(timedelta(minutes=70).total_seconds())
    again = world.begin(AUTO)
    assert not again.opened
    assert again.rollout.policy == chosen.policy


def test_what_is_out_of_reach_is_said_before_a_rollout_with_steps_of_its_own(world: World) -> None:
    world.users(0.01)
    world.wait(timedelta(minutes=70).total_seconds())
    world.deploy()
    (warning,) = world.begin(a_policy(**QUICK)).warnings
    assert "what steps 1, 2 must show is out of reach: with 10%, 50 requests to each revision" in warning


def test_the_traffic_is_that_of_the_revision_that_serves(world: World) -> None:
    traffic = measure_traffic(world.outside, SERVICE, AUTO)
    assert traffic is not None
    assert traffic.a_minute == pytest.approx(1200, rel=0.05)
    assert traffic.errors < 0.001
