"""Two to five controllers at once, with people and owners in between, in an order that a seed draws."""

import random
from datetime import timedelta
from typing import Any

import pytest
from builders import a_policy
from crowd import Crowd, a_crowd
from world import CONTROLLER

from controller.core.rollout import Event, Phase
from controller.core.traffic import Target
from controller.emulator.settings import EtagMode

pytestmark = pytest.mark.repeats

FAST: dict[str, Any] = {
    "steps": ["10%", "50%"], "hold": {"at_least": "1m"}, "bake": "1m", "settle": "0s", "metrics_delay": "0s",
}  # fmt: skip
LONGEST = timedelta(hours=3)
TROUBLED = timedelta(minutes=20)
COMMANDS = (Event.PAUSE, Event.RESUME, Event.PROMOTE, Event.PROMOTE_FULL)


def begin(crowd: Crowd, **knobs: Any) -> random.Random:
    """Deploy a candidate, and let two to five controllers roll it out; return what draws the rest."""
    rng = random.Random(f"{crowd.seed} race")
    crowd.world.pin()
    crowd.world.deploy(**knobs)
    for number in range(rng.randint(2, 5)):
        after = timedelta(seconds=rng.choice([0, 0, 1, 2.5, 20]))
        crowd.controller(f"canary-{number}", a_policy(**FAST), after)
    return rng


def commands(crowd: Crowd, rng: random.Random, *events: Event) -> None:
    """Let people give commands in the first ten minutes, some of them at the same moment."""
    moment = rng.uniform(1, 600)
    for number, event in enumerate(events):
        after = moment if rng.random() < 0.5 else rng.uniform(1, 600)
        crowd.person(f"person-{number}", event, timedelta(seconds=after))


def phase(crowd: Crowd) -> Phase:
    sight = crowd.observer.sight
    assert sight
    assert sight.rollout
    return sight.rollout.phase


def told_once(crowd: Crowd) -> bool:
    """Check the audit trail, which can only be exact where no write undid another unnoticed."""
    if crowd.observer.is_whole:
        crowd.observer.trail.check_end(crowd.audit_trail())
    return True


@pytest.mark.scenario(51)
@pytest.mark.parametrize("etag", EtagMode)
@pytest.mark.parametrize("seed", range(4))
def test_many_controllers_end_as_one_would(seed: int, etag: EtagMode) -> None:
    with a_crowd(seed, etag=etag, visibility_delay=timedelta(0)) as crowd:
        begin(crowd)
        crowd.run(LONGEST)
        candidate = crowd.world.newest()
        assert phase(crowd) is Phase.PROMOTED
        assert crowd.world.serving() == {candidate: 100}
        assert crowd.world.tags() == set()
        assert set(crowd.endings) == {"over: promoted"}
        assert told_once(crowd)


@pytest.mark.scenario(51)
@pytest.mark.parametrize("etag", EtagMode)
@pytest.mark.parametrize("seed", range(10, 14))
def test_many_controllers_take_a_bad_candidate_back(seed: int, etag: EtagMode) -> None:
    with a_crowd(seed, etag=etag, visibility_delay=timedelta(0)) as crowd:
        begin(crowd, ERROR_SHARE="0.4")
        crowd.run(LONGEST)
        assert phase(crowd) is Phase.ROLLED_BACK
        assert crowd.world.serving() == {crowd.first: 100}
        assert crowd.world.tags() == set()
        assert told_once(crowd)


@pytest.mark.scenario(51, 53)
@pytest.mark.parametrize("etag", EtagMode)
@pytest.mark.parametrize("seed", range(20, 28))
def test_rollback_wins_over_whatever_others_ask_for(seed: int, etag: EtagMode) -> None:
    with a_crowd(seed, etag=etag, visibility_delay=timedelta(0)) as crowd:
        rng = begin(crowd)
        commands(crowd, rng, Event.ROLLBACK, rng.choice(COMMANDS), rng.choice(COMMANDS))
        crowd.run(TROUBLED)
        crowd.heal()
        crowd.run(LONGEST)
        crowd.observer.commands.check_end()
        over = "the rollout is over" in " ".join(crowd.endings) and phase(crowd) is Phase.PROMOTED
        assert over or phase(crowd) is Phase.ROLLED_BACK
        assert crowd.commands >= 3
        assert told_once(crowd)


@pytest.mark.scenario(51, 53)
@pytest.mark.parametrize("etag", EtagMode)
@pytest.mark.parametrize("seed", range(30, 36))
def test_no_command_is_lost_among_many_controllers(seed: int, etag: EtagMode) -> None:
    with a_crowd(seed, etag=etag, visibility_delay=timedelta(0)) as crowd:
        rng = begin(crowd)
        commands(crowd, rng, Event.PAUSE, Event.PROMOTE, Event.RESUME)
        crowd.run(TROUBLED)
        crowd.heal()
        crowd.run(LONGEST)
        assert phase(crowd) is Phase.PROMOTED
        assert crowd.world.serving() == {crowd.world.newest(): 100}
        assert told_once(crowd)


@pytest.mark.scenario(49, 51)
@pytest.mark.parametrize("etag", EtagMode)
@pytest.mark.parametrize("seed", range(40, 44))
def test_an_edit_by_hand_stands_among_many_controllers(seed: int, etag: EtagMode) -> None:
    with a_crowd(seed, etag=etag, visibility_delay=timedelta(0)) as crowd:
        rng = begin(crowd)
        split = (Target(crowd.world.newest(), 7), Target(crowd.first, 93))
        crowd.act("owner", lambda: crowd.world.set_traffic(split), timedelta(seconds=rng.uniform(20, 200)))
        crowd.run(LONGEST)
        if not crowd.observer.raced:
            assert phase(crowd) is Phase.SUPERSEDED
            assert crowd.world.serving() == {crowd.first: 93, crowd.world.newest(): 7}
        assert told_once(crowd)


@pytest.mark.parametrize("seed", range(50, 56))
def test_a_rollback_takes_two_passes_at_most_with_a_third_of_all_calls_failing(seed: int) -> None:
    with a_crowd(seed, visibility_delay=timedelta(0)) as crowd:
        begin(crowd, ERROR_SHARE="0.4")
        crowd.world.local.fault_of({"kind": "error", "principal": CONTROLLER, "every": 3})
        crowd.run(LONGEST)
        assert phase(crowd) is Phase.ROLLED_BACK
        assert crowd.world.serving() == {crowd.first: 100}
        assert crowd.observer.harm.passes
        assert max(crowd.observer.harm.passes) <= 2


def test_the_same_seed_gives_the_same_race() -> None:
    traces = []
    for _ in range(2):
        with a_crowd(3, visibility_delay=timedelta(0)) as crowd:
            commands(crowd, begin(crowd), Event.PAUSE, Event.RESUME)
            crowd.run(LONGEST)
            traces.append((crowd.trace.digest, list(crowd.trace.lines)))
    assert traces[0] == traces[1]
