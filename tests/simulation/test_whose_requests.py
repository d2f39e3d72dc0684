"""Whose requests they were: probes are no users, whoever asked, and count only where they were answered."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pytest
from scene import Stage, a_stage, steps
from test_health_checks import swept
from test_little_traffic import DiedError, others, portal, quiet_world
from world import SERVICE, World

from controller.core.evidence import Source
from controller.core.health import HealthValue
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.core.rollout import Event, Phase
from controller.engine import health
from controller.engine.begin import measure_traffic
from controller.engine.loop import Ending
from controller.engine.reconcile import Pass
from controller.engine.sweep import Checked, Memories, sweep
from controller.gateways.probes import HttpProbes
from controller.ports import Clock


@pytest.fixture
def world() -> Iterator[World]:
    with quiet_world(rps=0) as world:
        world.pin()
        yield world


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage(simulated_front=True) as stage:
        yield stage


def users_seen(world: World) -> set[tuple[int, int]]:
    weighed = [seen.assessment for seen in world.seen if seen.assessment and not seen.assessment.problem]
    return {(each.stable.requests, each.candidate.requests) for each in weighed}


# --- rollouts ---


def test_probes_that_cannot_be_asked_any_more_promote_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "value")
    candidate = world.deploy()
    probe = {"path": "/healthz", "every": "1m", "headers": {"X-Api-Key": "env:KEY"}}

    def act(seen: Pass) -> None:
        if seen.rollout and seen.rollout.percent == 50 and seen.rollout.observed_at:
            world.local.behave(candidate, error_share=1.0)
            monkeypatch.delenv("KEY", raising=False)

    followed = world.roll_out(portal(probes=[probe]), act)
    assert (followed.ending, followed.rollout.phase) == (Ending.HELD, Phase.PAUSED)


def test_probes_that_both_revisions_fail_promote_nobody(world: World) -> None:
    stable, candidate = world.newest(), world.deploy()

    def act(seen: Pass) -> None:
        if seen.rollout and seen.rollout.percent == 50 and seen.rollout.observed_at:
            for revision in (stable, candidate):
                world.local.behave(revision, error_share=1.0)

    followed = world.roll_out(portal(), act)
    assert (followed.ending, followed.rollout.phase) == (Ending.HELD, Phase.PAUSED)
    assert "no request reached the candidate" in followed.rollout.reason


def test_what_two_controllers_ask_at_the_same_time_is_no_user(world: World) -> None:
    world.deploy()
    swept_in = set[object]()

    def act(_: Pass) -> None:
        now = world.local.now()
        minute = now.replace(second=0, microsecond=0)
        if now.second >= 44 and minute not in swept_in:  # just before the next turn of the one who follows
            swept_in.add(minute)
            world.wait(61 - now.second)
            sweep(world.outside, lambda _: None)

    assert world.roll_out(portal(request_logs="off"), act).rollout.phase is Phase.PROMOTED
    assert len(swept_in) > 10
    assert users_seen(world) == {(0, 0)}


def test_what_a_controller_before_has_asked_is_no_user_though_the_log_fails_at_first(world: World) -> None:
    world.deploy()
    begun = world.begin(portal(request_logs="off"))

    def die_after_eight(seen: Pass) -> None:
        if any(each.minutes >= 8 for each in others(seen, Source.PROBES)):
            raise DiedError

    with pytest.raises(DiedError):
        world.follow(begun, die_after_eight)
    world.local.fault("error", method="ListLogEntries", code="RESOURCE_EXHAUSTED", next=1)
    assert world.follow(begun).rollout.phase is Phase.PROMOTED
    assert users_seen(world) == {(0, 0)}


def test_a_turn_that_was_asked_late_is_no_user(world: World) -> None:
    world.deploy()
    world.begin(portal(probes=[{"path": "/healthz", "every": "15m"}], request_logs="off"))
    for _ in range(14):
        sweep(world.outside, lambda checked: world.saw(checked.seen) if checked.seen else None)
        world.wait(600)
    assert users_seen(world) == {(0, 0)}


def test_probes_are_no_users_when_the_traffic_is_measured() -> None:
    policy = portal(request_logs="off")
    with quiet_world(rps=30 / 3600) as world:
        world.pin()
        world.deploy()
        world.roll_out(policy)
        world.wait(600)
        traffic = measure_traffic(world.outside, SERVICE, policy)
        assert traffic
        assert 0 < traffic.a_minute < 1.5


# --- services at rest ---


def hurried(stage: Stage, *probes: Mapping[str, Any], **health: str) -> str:
    """Promote a revision at once."""
    candidate = stage.deploy()
    on = stage.when(Phase.STEPPING, 5, lambda: stage.command(Event.PROMOTE_FULL))
    to_the_end = stage.when(Phase.BAKING, 100, lambda: stage.command(Event.PROMOTE))

    def act(seen: Pass) -> None:
        on(seen)
        to_the_end(seen)

    stage.roll_out(steps(health=health or "on", probes=list(probes)), act)
    assert stage.record.phase is Phase.PROMOTED
    return candidate


def test_what_the_revision_before_answered_is_not_held_against_its_fix(stage: Stage) -> None:
    probe = {"path": "/healthz", "every": "25m"}
    second, memories = hurried(stage, probe, on_harm="rollback"), Memories()
    stage.wait(600)
    swept(stage, memories)
    stage.command(Event.PAUSE)  # so harm is reported, and nobody is sent back
    stage.local.behave(second, probe_error_share=1.0)
    stage.wait(1560)
    found = swept(stage, memories).health
    assert found
    assert (found.is_harmful, found.back_to) == (True, "")
    stage.command(Event.RESUME)
    third = hurried(stage, probe, on_harm="rollback")
    for _ in range(3):
        swept(stage, memories)
        stage.wait(20)
    assert stage.serving() == {third: 100}


@pytest.mark.parametrize("lasting", [True, False])
def test_probes_hide_no_harm_to_users(*, lasting: bool) -> None:
    with a_stage(rps=20 / 3600, simulated_front=True) as stage:
        candidate = hurried(stage, {"path": "/healthz", "every": "30s"}, window="30m")
        stage.wait(1800)
        memories = Memories() if lasting else None
        stage.local.behave(candidate, error_share=1.0, probe_error_share=0.0)
        found = set[HealthValue]()
        for _ in range(90):
            stage.wait(60)
            health = swept(stage, memories).health
            found |= {health.verdict.value} if health else set()
        assert HealthValue.HARMFUL in found


def test_an_outage_of_some_seconds_is_no_harm(stage: Stage) -> None:
    candidate = hurried(stage, {"path": "/healthz", "every": "1m"}, on_harm="rollback")
    stage.wait(600)
    stage.local.behave(candidate, probe_error_share=1.0)
    clock = OverSoon(stage, candidate)
    seen: list[Checked] = []
    sweep(replace(stage.outside, clock=clock), seen.append)
    assert clock.slept  # it was asked again
    assert seen[0].health
    assert seen[0].health.verdict.value is HealthValue.GOOD
    assert stage.serving() == {candidate: 100}


class Led(HttpProbes):
    """Probes that lead to another address, whatever they are told."""

    def __init__(self, stage: Stage, elsewhere: str) -> None:
        super().__init__(stage.outside.clock.now)
        self._elsewhere = elsewhere

    def ask(self, address: str, probe: Probe) -> Answer:
        assert address != self._elsewhere
        return super().ask(self._elsewhere, probe)


def test_a_revision_that_hangs_is_harm_though_its_probes_take_all_the_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.5)
    probes = [{"path": path, "every": "1m", "expect": {"within": "300ms"}} for path in ("/healthz", "/other")]
    candidate = hurried(stage, *probes)
    stage.wait(600)
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes each connection, and answers none
        led = Led(stage, f"http://127.0.0.1:{mute.getsockname()[1]}")
        seen: list[Checked] = []
        sweep(replace(stage.outside, probes=led), seen.append)
    assert seen[0].health
    assert (seen[0].health.revision, seen[0].health.is_harmful) == (candidate, True)
    assert "timed out" in seen[0].health.verdict.reason


@dataclass
class OverSoon(Clock):
    """The clock of the stage; the revision works again while somebody waits."""

    stage: Stage
    revision: str
    slept: float = 0.0

    def now(self) -> datetime:
        return self.stage.outside.clock.now()

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.stage.local.behave(self.revision, probe_error_share=0.0)
        self.stage.outside.clock.sleep(seconds)
