"""Services with few users or none: probes and the request log as evidence, and cold starts."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import a_policy
from world import SERVICE, World, a_world

from controller.core.assessment import Assessment
from controller.core.evidence import Source
from controller.core.policy import Policy
from controller.core.rollout import Phase
from controller.emulator.settings import SimulatedLogs
from controller.engine.audit import transitions_of
from controller.engine.loop import Ending
from controller.engine.reconcile import Pass
from controller.engine.replay import replay
from controller.ports import DeniedError

QUIET = 10 / 3600
"""Ten requests an hour."""
PORTAL: dict[str, Any] = {
    "steps": ["50%"],
    "hold": {"at_least": "10m", "at_most": "2h", "requests": 10},
    "bake": {"at_least": "10m", "at_most": "2h", "requests": 10},
    "probes": [{"path": "/healthz", "every": "1m", "warm_up": 1}],
    "request_logs": "on",
}


def quiet_world(rps: float = QUIET, **settings: Any) -> Any:
    return a_world(rps=rps, **{"simulated_front": True, "simulated_logs": SimulatedLogs.ALL, **settings})


@pytest.fixture
def world() -> Iterator[World]:
    with quiet_world() as world:
        world.pin()
        yield world


def portal(**fields: Any) -> Policy:
    return a_policy(**{**PORTAL, **fields})


def others(seen: Pass, source: Source) -> list[Assessment]:
    return [each for each in seen.observation.others if each.source is source] if seen.observation else []


# --- probes ---


def test_with_probes_a_good_candidate_is_promoted_though_it_starts_cold(world: World) -> None:
    candidate = world.deploy(START_SECONDS="12")
    followed = world.roll_out(portal())
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.PROMOTED), followed.rollout.reason
    assert world.serving() == {candidate: 100}


def test_with_probes_a_candidate_that_fails_each_request_meets_no_user(world: World) -> None:
    world.deploy(ERROR_SHARE="1")
    followed = world.roll_out(portal())
    assert followed.rollout.phase is Phase.ROLLED_BACK
    assert max(percent for _, percent in world.phases) == 0


def test_without_any_user_probes_alone_show_that_a_candidate_breaks_in_the_middle() -> None:
    with quiet_world(rps=0) as world:
        world.pin()
        stable, candidate = world.newest(), world.deploy()

        def break_it(seen: Pass) -> None:
            if seen.rollout and seen.rollout.percent == 50 and seen.rollout.observed_at:
                world.local.behave(candidate, error_share=1.0)

        followed = world.roll_out(portal(), break_it)
        assert followed.rollout.phase is Phase.ROLLED_BACK
        assert "probes: candidate 100 % failed of" in followed.rollout.reason
        assert world.serving() == {stable: 100}


def test_without_any_user_probes_alone_promote_a_good_candidate() -> None:
    with quiet_world(rps=0) as world:
        world.pin()
        candidate = world.deploy()
        assert world.roll_out(portal()).rollout.phase is Phase.PROMOTED
        assert world.serving() == {candidate: 100}


def test_a_candidate_that_breaks_under_users_alone_is_taken_back() -> None:
    with quiet_world(rps=60 / 3600) as world:
        world.pin()
        stable = world.newest()
        world.deploy(ERROR_SHARE="1", PROBE_ERROR_SHARE="0")
        followed = world.roll_out(portal())
        assert followed.rollout.phase is Phase.ROLLED_BACK, followed.rollout.reason
        assert "errors: candidate 100 % errors" in followed.rollout.reason
        assert world.serving() == {stable: 100}


def test_without_probes_and_users_it_is_held_with_a_reason() -> None:
    with quiet_world(rps=0) as world:
        world.pin()
        world.deploy()
        followed = world.roll_out(portal(probes=[]))
        assert (followed.ending, followed.rollout.phase) == (Ending.HELD, Phase.PAUSED)
        assert "no request reached the candidate" in followed.rollout.reason


def test_probes_are_no_users(world: World) -> None:
    world.users(0)
    world.deploy()
    world.roll_out(portal())
    weighed = [seen.assessment for seen in world.seen if seen.assessment]
    assert weighed
    assert {(each.stable.requests, each.candidate.requests) for each in weighed} == {(0, 0)}
    logged = [each for seen in world.seen for each in others(seen, Source.LOGS)]
    assert {(each.stable.requests, each.candidate.requests) for each in logged} == {(0, 0)}


class DiedError(Exception):
    pass


def test_another_controller_goes_on_with_the_probes_of_the_one_before(world: World) -> None:
    world.deploy()
    begun, first = world.begin(portal()), list[int]()

    def die_after_five(seen: Pass) -> None:
        if any(each.minutes >= 5 for each in others(seen, Source.PROBES)):
            raise DiedError

    def die_at_once(seen: Pass) -> None:
        first.extend(each.minutes for each in others(seen, Source.PROBES))
        raise DiedError

    for act in (die_after_five, die_at_once):
        with pytest.raises(DiedError):
            world.follow(begun, act)
        world.wait(5)
    assert first[0] >= 5


# --- the request log ---


def failing_in_the_middle(world: World, candidate: str, when: list[datetime]) -> Callable[[Pass], None]:
    """Let the candidate fail from the middle of its first step on; note when."""

    def act(seen: Pass) -> None:
        rollout = seen.rollout
        if not (rollout and rollout.percent == 50 and rollout.observed_at and seen.observation) or when:
            return
        if seen.observation.now - rollout.observed_at > timedelta(minutes=5):
            world.local.behave(candidate, error_share=1.0)
            when.append(world.local.now())

    return act


@pytest.mark.parametrize(("logs", "least", "most"), [("on", 0, 45), ("off", 180, 600)])
def test_with_the_request_log_harm_is_undone_within_seconds(logs: str, least: float, most: float) -> None:
    with quiet_world(rps=2, log_delay=timedelta(seconds=10)) as world:
        world.pin()
        world.wait(900)  # of which log and metrics are compared before the log decides anything
        stable, candidate, when = world.newest(), world.deploy(), list[datetime]()
        policy = portal(probes=[], request_logs=logs, hold={"at_least": "30m"})
        followed = world.roll_out(policy, failing_in_the_middle(world, candidate, when))
        assert followed.rollout.phase is Phase.ROLLED_BACK, followed.rollout.reason
        assert least <= (world.local.now() - when[0]).total_seconds() <= most
        assert ("logged errors" in followed.rollout.reason) == (logs == "on")
        assert world.serving() == {stable: 100}


def test_a_log_that_is_not_whole_is_said_to_be_and_decides_nothing() -> None:
    with quiet_world(rps=2, simulated_logs=SimulatedLogs.FAILURES) as world:
        world.pin()
        world.deploy()
        followed = world.roll_out(portal(probes=[]))
        assert followed.rollout.phase is Phase.PROMOTED
        problems = {each.problem for seen in world.seen for each in others(seen, Source.LOGS)}
        told = "the request logs cannot be read: they are excluded from the log"
        assert any(problem.startswith(told) for problem in problems)


@pytest.mark.parametrize(
    "knobs", [{}, {"ERROR_SHARE": "1", "PROBE_ERROR_SHARE": "0"}], ids=["good", "harmful to users"]
)
def test_what_was_decided_on_probes_and_the_log_is_decided_again_the_same(knobs: dict[str, Any]) -> None:
    with quiet_world(rps=2) as world:
        world.pin()
        world.deploy(**knobs)
        followed = world.roll_out(portal())
        assert followed.rollout.phase is (Phase.ROLLED_BACK if knobs else Phase.PROMOTED)
        again = list(replay(world.outside, transitions_of(world.outside.audit_log.read_entries(SERVICE))))
        assert len(again) > 3
        assert [(each.differs, each.problem) for each in again] == [(False, "")] * len(again)


@pytest.mark.parametrize("fields", [{"probes": []}, {"request_logs": "off"}], ids=["log", "probes"])
def test_without_the_permission_to_read_logs_nothing_begins_and_it_is_named(fields: dict[str, Any]) -> None:
    with quiet_world(rps=2) as world:
        world.pin()
        world.deploy()
        world.local.fault("error", method="ListLogEntries", code="PERMISSION_DENIED")
        before = world.service().generation
        with pytest.raises(DeniedError, match=r"logging\.logEntries\.list"):
            world.begin(portal(**fields))
        assert world.service().generation == before


def test_a_log_that_is_away_for_a_while_leaves_the_metrics_to_decide() -> None:
    with quiet_world(rps=20) as world:
        world.pin()
        stable = world.newest()
        world.deploy(ERROR_SHARE="0.5", PROBE_ERROR_SHARE="0")
        begun = world.begin(portal(probes=[]))
        world.local.fault("error", method="ListLogEntries", code="UNAVAILABLE")
        followed = world.follow(begun)
        assert followed.rollout.phase is Phase.ROLLED_BACK
        assert followed.rollout.reason.startswith("errors: ")
        assert world.serving() == {stable: 100}


@pytest.mark.parametrize("steps", [["50%"], ["100%"]])
def test_a_log_of_errors_alone_sends_nobody_back_before_the_metrics_are_there(steps: list[str]) -> None:
    with quiet_world(rps=20, simulated_logs=SimulatedLogs.FAILURES) as world:
        world.local.behave(world.newest(), error_share=0.01)
        world.pin()
        candidate = world.deploy(ERROR_SHARE="0.01")
        followed = world.roll_out(portal(probes=[], steps=steps, hold={"requests": 100}))
        assert followed.rollout.phase is Phase.PROMOTED, followed.rollout.reason
        assert world.serving() == {candidate: 100}


def test_each_answer_to_a_probe_is_kept_once_however_many_controllers_there_are(world: World) -> None:
    world.deploy()
    begun = world.begin(portal())
    writes: list[int] = []
    for _ in range(6):
        with pytest.raises(DiedError):
            world.follow(begun, die_in_the_step)
        world.wait(60)
        writes.append(len(world.outside.probe_log.read_entries(SERVICE)))
    assert writes == sorted(writes)
    assert writes[-1] - writes[0] <= len(writes)


def die_in_the_step(seen: Pass) -> None:
    if (
        seen.rollout
        and seen.rollout.percent == 50
        and seen.rollout.observed_at
        and others(seen, Source.PROBES)
    ):
        raise DiedError
