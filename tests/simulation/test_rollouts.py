"""Whole rollouts through the real engine and gateways, against the local Cloud Run over gRPC."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from builders import a_policy
from world import QUICK, SERVICE, World, a_world

from controller.core.evidence import MINUTE, floor_minute
from controller.core.limits import ShareComparison
from controller.core.opening import OpeningRefused
from controller.core.policy import Policy
from controller.core.record import ANNOTATION
from controller.core.rollout import Event, Phase, Refuse, Stay
from controller.core.traffic import Target
from controller.emulator.settings import EtagMode
from controller.engine.begin import Begun, rejected
from controller.engine.evidence import EvidenceCache, assess_rollout
from controller.engine.loop import Ending
from controller.engine.reconcile import Pass, look
from controller.ports import NotFoundError, PermanentError, RecordUnreadableError


@pytest.fixture(params=list(EtagMode))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A service with one revision, pinned; on a Cloud Run that ignores etags, and on one that does not."""
    with a_world(etag=request.param) as world:
        world.pin()
        yield world


def at(phase: Phase, percent: int, action: object) -> object:
    """Do something once, when the rollout is seen in force at this phase and share."""
    done: list[object] = []

    def act(seen: Pass) -> None:
        rollout = seen.rollout
        assert rollout is not None
        if not done and (rollout.phase, rollout.percent) == (phase, percent) and rollout.observed_at:
            done.append(action())  # type: ignore[operator]

    return act


# --- ends ---


def test_a_good_candidate_is_promoted_step_by_step(world: World) -> None:
    candidate = world.deploy()
    followed = world.roll_out()
    assert followed.ending is Ending.OVER
    assert world.phases == [
        (Phase.CHECKING, 0),
        (Phase.STEPPING, 10),
        (Phase.STEPPING, 50),
        (Phase.BAKING, 100),
        (Phase.PROMOTED, 100),
    ]
    assert world.serving() == {candidate: 100}
    assert world.tags() == set()


def test_a_candidate_with_errors_is_rolled_back(world: World) -> None:
    world.deploy(ERROR_SHARE="0.08")
    rollout = world.roll_out().rollout
    assert rollout.phase is Phase.ROLLED_BACK
    assert "errors: candidate" in rollout.reason
    assert world.serving() == {rollout.stable: 100}
    assert world.tags() == set()


def test_a_slower_candidate_is_rolled_back(world: World) -> None:
    world.deploy(LATENCY_MS="64")
    rollout = world.roll_out().rollout
    assert rollout.phase is Phase.ROLLED_BACK
    assert "latency: candidate" in rollout.reason
    assert world.serving() == {rollout.stable: 100}


def test_a_candidate_that_crashes_at_its_start_fails_and_stable_is_untouched(world: World) -> None:
    world.deploy(CRASH="1")
    rollout = world.roll_out().rollout
    assert rollout.phase is Phase.FAILED
    assert world.serving() == {rollout.stable: 100}
    assert all(percent == 0 for _, percent in world.phases)


def test_a_candidate_that_is_slow_to_start_is_waited_for(world: World) -> None:
    world.deploy(START_SECONDS="90")
    assert world.roll_out().rollout.phase is Phase.PROMOTED
    assert world.phases[0] == (Phase.WAITING, 0)


def test_a_candidate_that_is_not_ready_in_time_fails(world: World) -> None:
    world.deploy(START_SECONDS="200")
    rollout = world.roll_out(a_policy(**QUICK, ready_within="1m")).rollout
    assert rollout.phase is Phase.FAILED
    assert "not ready within 1 minutes" in rollout.reason


@pytest.mark.scenario(38)
def test_no_step_is_shorter_than_its_minimum_or_reads_minutes_of_another(world: World) -> None:
    world.deploy()
    rollout = world.roll_out().rollout
    assert [window.percent for window in rollout.windows] == [10, 50, 100]
    for window, least in zip(rollout.windows, (3, 3, 5), strict=True):
        assert window.end is not None
        assert window.end - window.start >= least * MINUTE + rollout.policy.metrics_delay
    for earlier, later in zip(rollout.windows, rollout.windows[1:], strict=False):
        assert earlier.end is not None
        assert later.start - earlier.end >= rollout.policy.settle


def test_without_any_user_it_is_held_and_never_promoted_or_rolled_back(world: World) -> None:
    world.users(0)
    world.deploy()
    followed = world.roll_out()
    assert followed.ending is Ending.HELD
    assert followed.rollout.percent == 10
    assert "no request reached the candidate" in followed.rollout.reason


@pytest.mark.scenario(39)
def test_a_shared_fault_of_both_revisions_asks_a_person(world: World) -> None:
    world.local.behave(world.newest(), error_share=0.4, latency_ms=40.0)
    world.deploy(ERROR_SHARE="0.4")
    followed = world.roll_out()
    assert followed.ending is Ending.HELD
    assert "not blamed" in followed.rollout.reason


@pytest.mark.scenario(24)
def test_harm_that_begins_in_the_bake_is_rolled_back(world: World) -> None:
    candidate = world.deploy()
    harm = at(Phase.BAKING, 100, lambda: world.local.behave(candidate, error_share=0.5, latency_ms=40.0))
    rollout = world.roll_out(act=harm).rollout
    assert (Phase.BAKING, 100) in world.phases
    assert rollout.phase is Phase.ROLLED_BACK
    assert world.serving() == {rollout.stable: 100}


# --- what goes before and after ---


@pytest.mark.scenario(3)
def test_two_rollouts_in_a_row_the_seconds_stable_is_the_firsts_candidate(world: World) -> None:
    first = world.deploy()
    world.roll_out()
    second = world.deploy()
    rollout = world.roll_out().rollout
    assert (rollout.stable, rollout.candidate) == (first, second)
    assert world.serving() == {second: 100}


def test_a_service_that_follows_latest_is_pinned_and_follows_it_again_in_the_end() -> None:
    with a_world() as world:
        world.set_traffic((Target("", 100),))
        stable = world.newest()
        candidate = world.deploy(START_SECONDS="20")
        begun = world.begin()
        assert begun.rollout.stable == stable
        world.follow(begun)
        assert (Phase.STEPPING, 10) in world.phases
        assert [(t.revision, t.percent) for t in world.service().traffic] == [("", 100)]
        assert world.serving() == {candidate: 100}


def test_after_a_rollback_latest_stays_pinned_and_the_next_promotion_restores_it() -> None:
    with a_world() as world:
        world.set_traffic((Target("", 100),))
        stable = world.newest()
        world.deploy(START_SECONDS="20", ERROR_SHARE="0.3")
        assert world.roll_out().rollout.phase is Phase.ROLLED_BACK
        assert [(t.revision, t.percent) for t in world.service().traffic] == [(stable, 100)]
        world.deploy()
        assert world.roll_out().rollout.phase is Phase.PROMOTED
        assert [(t.revision, t.percent) for t in world.service().traffic] == [("", 100)]


@pytest.mark.scenario(25)
def test_a_rejected_revision_is_not_tried_again_by_itself_but_by_retry(world: World) -> None:
    candidate = world.deploy(ERROR_SHARE="0.3")
    first = world.roll_out().rollout
    again = world.begin()
    assert not again.opened
    assert world.follow(again).rollout == first
    world.local.behave(candidate, error_share=0.0, latency_ms=40.0)
    assert rejected(world.outside, SERVICE).candidate == candidate
    retried = world.begin(retry=True)
    assert retried.opened
    assert world.follow(retried).rollout.phase is Phase.PROMOTED


def test_there_is_nothing_to_retry_without_a_record_and_nothing_in_the_middle(world: World) -> None:
    with pytest.raises(OpeningRefused, match="no rollout on record"):
        rejected(world.outside, SERVICE)
    world.deploy()
    world.begin()
    with pytest.raises(OpeningRefused, match="still waiting"):
        rejected(world.outside, SERVICE)


@pytest.mark.scenario(1)
def test_a_service_with_one_revision_is_left_alone(world: World) -> None:
    before = world.service()
    assert "first revision" in world.nothing_to_do().why
    assert world.service() == before


@pytest.mark.scenario(13)
def test_what_is_foreign_is_kept_byte_for_byte(world: World) -> None:
    stable = world.newest()
    world.set_traffic((Target(stable, 100), Target(stable, 0, "blue"), Target("", 0, "next")))
    world.set_annotations(team="payments", example__com="x\ty")
    candidate = world.deploy()
    world.roll_out()
    service = world.service()
    kept = {(t.tag, t.revision) for t in service.traffic if t.tag}
    assert kept == {("blue", stable), ("next", "")}
    assert dict(service.annotations).items() >= {"team": "payments", "example/com": "x\ty"}.items()
    assert world.serving() == {candidate: 100}


# --- a controller that goes on with another's work ---


def test_a_rollout_begun_again_goes_on_where_it_stands(world: World) -> None:
    world.deploy()
    begun = world.begin()
    for _ in range(40):
        world.saw(look(world.outside, SERVICE))
    again = world.begin()
    assert (again.opened, again.rollout) == (False, begun.rollout)
    assert world.follow(again).rollout.phase is Phase.PROMOTED


def test_a_rollout_keeps_the_policy_that_it_began_with(world: World) -> None:
    world.deploy()
    begun = world.begin()
    again = world.begin(a_policy(steps=["1%"]))
    assert again.rollout.policy == begun.rollout.policy


@pytest.mark.scenario(59)
def test_a_controller_that_was_away_for_hours_looks_at_the_evidence_before_it_goes_on(world: World) -> None:
    world.deploy(ERROR_SHARE="0.2")
    begun = world.begin()

    def leave(seen: Pass) -> None:
        if seen.rollout and seen.rollout.percent == 10 and seen.rollout.observed_at:
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        world.follow(begun, leave)
    world.wait(3 * 3600)
    assert world.follow(world.begin()).rollout.phase is Phase.ROLLED_BACK
    assert max(percent for _, percent in world.phases) == 10


def test_what_a_controller_keeps_in_mind_is_what_another_reads_anew_to_the_bit(world: World) -> None:
    world.deploy(ERROR_SHARE="0.01")
    compared: list[int] = []

    def act(seen: Pass) -> None:
        if seen.assessment and seen.decision and seen.decision.event is None:
            anew = look(world.outside, SERVICE).assessment
            assert anew is not None
            both = [replace(each, guards=()) for each in (anew, seen.assessment)]
            assert both[0] == both[1]
            assert [test.limits for test in anew.guards] == [test.limits for test in seen.assessment.guards]
            compared.append(anew.minutes + anew.earlier_minutes)

    world.roll_out(act=act)
    assert max(compared) >= 10


def test_a_memory_that_does_not_fit_the_windows_is_given_up_and_all_is_read_anew(world: World) -> None:
    """Another controller, whose clock was behind, has opened a window in minutes that had passed already."""
    world.deploy()
    compared: list[int] = []

    def act(seen: Pass) -> None:
        rollout = seen.rollout
        if seen.assessment and rollout and rollout.window:
            ahead = floor_minute(world.local.now()) + 30 * MINUTE
            memory = EvidenceCache(rollout.id, ahead, seen.assessment)
            anew = assess_rollout(world.outside.metrics, rollout, EvidenceCache(), world.local.now())
            read = assess_rollout(world.outside.metrics, rollout, memory, world.local.now())
            assert read.stages == anew.stages
            assert [test.limits for test in read.guards] == [test.limits for test in anew.guards]
            assert memory.until != ahead
            compared.append(sum(stage.minutes for stage in read.stages))

    world.roll_out(act=act)
    assert max(compared) >= 10


def test_stables_past_is_known_before_the_first_minute(world: World) -> None:
    world.deploy()
    known: list[float] = []

    def act(seen: Pass) -> None:
        if seen.assessment and [stage.minutes for stage in seen.assessment.stages] == [1]:
            limit = seen.assessment.guards[0].limits[0]
            assert isinstance(limit, ShareComparison)
            known.append(limit.harm.stable.total)

    world.wait(600)
    world.roll_out(act=act)
    assert known[0] >= 10 * 60 * 15


# --- guards of the policy's own ---

FAILED = 'metric.type="run.googleapis.com/request_count" AND metric.labels.response_code="500"'
ALL_REQUESTS = 'metric.type="run.googleapis.com/request_count"'


def with_custom(**guard: str) -> Policy:
    return a_policy(**QUICK, guards={"errors": "off", "latency": "off", "custom": {"mine": guard}})


@pytest.mark.parametrize(("share", "phase"), [("0.08", Phase.ROLLED_BACK), ("0.002", Phase.PROMOTED)])
def test_a_custom_guard_alone_decides(world: World, share: str, phase: Phase) -> None:
    world.deploy(ERROR_SHARE=share)
    rollout = world.roll_out(with_custom(bad=FAILED, total=ALL_REQUESTS, ceiling="5%")).rollout
    assert rollout.phase is phase
    assert "mine: candidate" in rollout.reason


@pytest.mark.scenario(34)
def test_a_guard_on_a_metric_that_does_not_exist_is_refused_before_anything_moves(world: World) -> None:
    world.deploy()
    before = world.service()
    with pytest.raises(PermanentError, match=r"guards\.custom\.mine"):
        world.begin(with_custom(bad='metric.type="custom.googleapis.com/nowhere"', total=ALL_REQUESTS))
    assert world.service() == before


# --- other people ---


@pytest.mark.scenario(49)
def test_traffic_edited_by_hand_ends_the_rollout_and_is_not_overwritten(world: World) -> None:
    stable, candidate = world.newest(), world.deploy()
    edit = at(Phase.STEPPING, 10, lambda: world.set_traffic((Target(stable, 70), Target(candidate, 30))))
    followed = world.roll_out(act=edit)
    assert followed.rollout.phase is Phase.SUPERSEDED
    assert world.serving() == {stable: 70, candidate: 30}
    assert world.tags() == set()


@pytest.mark.scenario(19)
def test_a_newer_revision_supersedes_and_gets_the_same_stable(world: World) -> None:
    stable = world.newest()
    world.deploy()
    followed = world.roll_out(act=at(Phase.STEPPING, 10, world.deploy))
    assert followed.rollout.phase is Phase.SUPERSEDED
    assert world.serving() == {stable: 100}
    newest = world.newest()
    rollout = world.roll_out().rollout
    assert (rollout.stable, rollout.candidate, rollout.phase) == (stable, newest, Phase.PROMOTED)


def test_a_rollout_of_a_newer_revision_takes_the_place_of_a_running_one(world: World) -> None:
    stable = world.newest()
    first = world.deploy()
    begun: list[Begun] = []

    def overtake() -> None:
        world.deploy()
        begun.append(world.begin())

    followed = world.roll_out(act=at(Phase.STEPPING, 10, overtake))
    assert followed.ending in {Ending.REPLACED, Ending.OVER}
    assert begun
    assert begun[0].notes == (
        f"this takes the place of the rollout of {first}, stepping at 10 %, which is superseded",
    )
    assert world.serving().get(first, 0) == 0
    assert world.roll_out().rollout.stable == stable


def test_a_policy_may_let_a_newer_revision_wait_its_turn(world: World) -> None:
    first = world.deploy()
    policy = a_policy(**QUICK, on_new_revision="queue")
    followed = world.roll_out(policy, act=at(Phase.STEPPING, 10, world.deploy))
    assert followed.rollout.phase is Phase.PROMOTED
    assert world.serving() == {first: 100}
    second = world.begin(policy)
    assert (second.opened, second.rollout.stable) == (True, first)


@pytest.mark.scenario(11)
def test_a_third_serving_revision_is_refused_and_nothing_is_written(world: World) -> None:
    one, two = world.newest(), world.deploy()
    world.set_traffic((Target(one, 50), Target(two, 50)))
    world.deploy()
    before = world.service()
    with pytest.raises(OpeningRefused, match="more than two"):
        world.begin()
    assert world.service() == before


def test_a_revision_deployed_with_all_traffic_is_refused_with_the_way_out(world: World) -> None:
    candidate = world.deploy()
    world.set_traffic((Target(candidate, 100),))
    before = world.service()
    with pytest.raises(OpeningRefused, match="without --no-traffic"):
        world.begin()
    assert world.service() == before


@pytest.mark.parametrize("record", ["garbage", '{"format":99}', '{"format":1,"phase":"x"}'])
def test_a_record_that_cannot_be_read_is_never_overwritten(world: World, record: str) -> None:
    world.deploy()
    world.replace_annotations({ANNOTATION: record})
    before = world.service()
    for touch in (world.begin, lambda: world.command(Event.ROLLBACK), lambda: look(world.outside, SERVICE)):
        with pytest.raises(RecordUnreadableError, match="cannot be read"):
            touch()
    assert world.service() == before


def test_an_unknown_service_is_named(world: World) -> None:
    with pytest.raises(NotFoundError, match="no service 'wob'"):
        look(world.outside, "wob")


# --- commands ---


def test_promote_goes_one_step_and_full_to_the_bake(world: World) -> None:
    world.deploy()
    at_ten = at(Phase.STEPPING, 10, lambda: world.command(Event.PROMOTE))
    at_fifty = at(Phase.STEPPING, 50, lambda: world.command(Event.PROMOTE_FULL))

    def act(seen: Pass) -> None:
        at_ten(seen)  # type: ignore[operator]
        at_fifty(seen)  # type: ignore[operator]

    begun = world.outside.clock.now()
    rollout = world.roll_out(act=act).rollout
    assert rollout.phase is Phase.PROMOTED
    assert [window.percent for window in rollout.windows] == [10, 50, 100]
    first = rollout.windows[0]
    assert first.end is not None
    assert first.end - begun < timedelta(minutes=3)


@pytest.mark.scenario(15)
@pytest.mark.parametrize("percent", [10, 50])
def test_a_rollback_by_a_person_takes_effect_from_any_step(world: World, percent: int) -> None:
    stable = world.newest()
    world.deploy()
    followed = world.roll_out(act=at(Phase.STEPPING, percent, lambda: world.command(Event.ROLLBACK)))
    assert followed.rollout.phase is Phase.ROLLED_BACK
    assert followed.rollout.reason == "rolled back by ada"
    assert world.serving() == {stable: 100}
    assert world.tags() == set()


def test_a_pause_holds_until_it_is_resumed(world: World) -> None:
    candidate = world.deploy()
    paused = at(Phase.STEPPING, 10, lambda: world.command(Event.PAUSE))
    waited: list[Pass] = []

    def act(seen: Pass) -> None:
        paused(seen)  # type: ignore[operator]
        if seen.rollout and seen.rollout.phase is Phase.PAUSED:
            waited.append(seen)
            assert seen.service.shares_served[candidate] == 10
            if len(waited) == 200:
                world.command(Event.RESUME)

    assert world.roll_out(act=act).rollout.phase is Phase.PROMOTED
    assert len(waited) >= 200


def test_a_command_that_changes_nothing_says_so_and_writes_nothing(world: World) -> None:
    world.deploy()
    world.begin()
    before = world.service()
    assert isinstance(world.command(Event.RESUME).answer, Stay)
    assert isinstance(world.command(Event.RESUME).answer, Stay)
    after = world.service()
    assert after.traffic == before.traffic


@pytest.mark.scenario(6)
def test_a_candidate_that_is_not_ready_cannot_be_promoted(world: World) -> None:
    world.deploy(START_SECONDS="200")
    world.begin()
    assert isinstance(world.command(Event.PROMOTE_FULL).answer, Refuse)
    assert world.serving() == {world.begin().rollout.stable: 100}


@pytest.mark.scenario(14)
def test_a_rollback_with_nothing_in_flight_writes_nothing(world: World) -> None:
    world.deploy()
    world.roll_out()
    before = world.service()
    for _ in range(2):
        assert isinstance(world.command(Event.ROLLBACK).answer, Stay)
    assert world.service() == before
