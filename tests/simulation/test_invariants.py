"""The invariants themselves: a controller that breaks one is found out, with what went before."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from builders import a_policy
from crowd import Crowd, a_crowd
from invariants import Violated

from controller.core.record import ANNOTATION, write_record
from controller.core.rollout import Event, Phase, Rollout
from controller.core.traffic import Split, split_between
from controller.engine.commands import Obeyed
from controller.ports import ServiceChange, TransientError

POLICY = {"steps": ["10%", "50%"], "hold": {"at_least": "2m"}, "bake": "2m"}
IN_A_STEP = timedelta(minutes=2)
Break = Callable[[Crowd, Rollout], None]


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    with a_crowd(7) as crowd:
        crowd.world.pin()
        crowd.world.set_annotations(team="payments")
        crowd.world.deploy()
        crowd.controller("canary", a_policy(**POLICY))
        yield crowd


def write(crowd: Crowd, rollout: Rollout | None, split: Split | None, **annotations: str) -> None:
    """Write to the service as a controller that has gone mad."""
    cloud_run = crowd.outside.cloud_run
    service = cloud_run.read_service("web")
    record = {ANNOTATION: write_record(rollout)} if rollout else {}
    cloud_run.write_service(
        ServiceChange("web", service.etag, {**service.annotations, **record, **annotations}, split)
    )


def two(rollout: Rollout, percent: int) -> Split:
    return split_between({rollout.stable: 100 - percent, rollout.candidate: percent}, {})


def moved_on(rollout: Rollout, step: int, phase: Phase = Phase.STEPPING) -> Rollout:
    return replace(rollout, phase=phase, step=step, by="controller", number=rollout.number + 1)


def take_more_than_the_step(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, replace(rollout, reason="more"), two(rollout, 60))


def write_no_record(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, None, two(rollout, 0))


def skip_a_step(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, moved_on(rollout, 2, Phase.BAKING), two(rollout, 100))


def shorten_a_step(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, moved_on(rollout, 1), two(rollout, 50))


def drop_an_annotation(crowd: Crowd, _: Rollout) -> None:
    write(crowd, None, None, team="mine")


def leave_an_end(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, replace(rollout, phase=Phase.ROLLED_BACK, reason="ended"), two(rollout, 0))
    write(crowd, replace(rollout, reason="not ended"), two(rollout, 10))


def leave_harm(crowd: Crowd, rollout: Rollout) -> None:
    crowd.world.local.fault_of({"kind": "error", "method": "UpdateService", "next": 1})
    with suppress(TransientError):  # the mad controller forgets it
        write(crowd, replace(rollout, phase=Phase.ROLLED_BACK), two(rollout, 0))
    for _ in range(3):
        crowd.outside.clock.sleep(15.0)
        crowd.outside.cloud_run.read_service("web")


def lose_a_command(crowd: Crowd, rollout: Rollout) -> None:
    crowd.observer.commands.obeyed("nobody", Event.PAUSE, Obeyed(rollout))


def forget_an_entry(crowd: Crowd, rollout: Rollout) -> None:
    write(crowd, replace(rollout, number=rollout.number + 1, reason="silent"), None)
    crowd.observer.trail.check_end(crowd.world.outside.audit_log.read_entries("web"))


BROKEN: dict[str, Break] = {
    "WritesAreOnRecord": take_more_than_the_step,
    "WritesAreOnRecord: a split was changed without its record": write_no_record,
    "StepsAreWhole: from step 0 to step 2": skip_a_step,
    "StepsAreWhole: step 0 lasted": shorten_a_step,
    "ForeignIsKept": drop_an_annotation,
    "EndsAreKept": leave_an_end,
    "HarmIsUndone": leave_harm,
    "CommandsAreKept": lose_a_command,
    "OneEntryEach": forget_an_entry,
}


@pytest.mark.parametrize("invariant", BROKEN)
def test_a_controller_that_breaks_an_invariant_is_found_out(crowd: Crowd, invariant: str) -> None:
    def go_mad(_: object) -> None:
        sight = crowd.observer.sight
        assert sight
        assert sight.rollout
        assert sight.rollout.phase is Phase.STEPPING
        BROKEN[invariant](crowd, sight.rollout)

    crowd.scheduler.spawn("mad", go_mad, IN_A_STEP)
    with pytest.raises(Violated, match=invariant) as violated:
        crowd.run(timedelta(hours=1))
    assert "seed 7, at 09:" in str(violated.value)
    assert "cloud_run.read_service web" in str(violated.value)


def test_a_sound_controller_breaks_none(crowd: Crowd) -> None:
    crowd.run(timedelta(hours=1))
    assert crowd.endings == ["over: promoted"]
    assert crowd.observer.checked > 50
