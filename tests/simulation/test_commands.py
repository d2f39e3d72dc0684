"""Commands of people where they meet the unexpected: no rollout, the wrong revision, a race, an API away."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from builders import CANDIDATE
from google.cloud import run_v2
from scene import Interrupted, LeftError, Stage, Watch, a_stage, leave, steps, suffer
from world import SERVICE, a_world

from controller.core.decision import REFUSED_AFTER
from controller.core.observation import ServiceState
from controller.core.opening import NothingToDo
from controller.core.pause_ahead import PAUSED
from controller.core.record import ANNOTATION
from controller.core.rollout import Event, Pause, Phase, Refuse, Rollout, Stay
from controller.core.traffic import Target
from controller.core.trail import UNLOGGED
from controller.emulator.settings import EtagMode
from controller.engine.begin import Begun
from controller.engine.commands import LATE_WRITE, Obeyed, obey, release_service
from controller.engine.loop import Ending, Followed
from controller.engine.outside import Outside
from controller.engine.reconcile import Pass
from controller.engine.sweep import Checked, sweep
from controller.engine.watching import await_rollout, wait_until
from controller.ports import (
    CloudRun,
    NoRolloutError,
    NotFoundError,
    NotServingError,
    PermanentError,
    RecordUnreadableError,
    TransientError,
)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


def rollback_to(stage: Stage, revision: str) -> Obeyed:
    return obey(stage.outside, SERVICE, Event.ROLLBACK, "ada", stage.saw, revision)


def a_serving_revision(stage: Stage) -> str:
    """Deploy a revision for all users, without canary, and let it be seen."""
    revision = stage.deploy(traffic=True)
    stage.look()
    return revision


def latest_percent(stage: Stage) -> int:
    kind = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
    return sum(target.percent for target in stage.service().traffic if target.type_ == kind)


def ours(stage: Stage) -> set[str]:
    return {ANNOTATION, PAUSED, UNLOGGED} & set(stage.service().annotations)


def after_the_first_read(stage: Stage, action: Callable[[], object]) -> Outside:
    """Return what a person sees of the outside; something happens after the first read of the service."""
    left = [action]

    class Read(Interrupted):
        def read_service(self, service: str) -> ServiceState:
            state = stage.outside.cloud_run.read_service(service)
            if left:
                left.pop()()
            return state

    return replace(stage.outside, cloud_run=cast("CloudRun", Read(stage.outside.cloud_run)))


# --- rollback --to ---


@pytest.mark.parametrize("percent", [0, 5, 25])
def test_a_rollback_in_the_middle_goes_to_the_revision_that_is_named(stage: Stage, percent: int) -> None:
    oldest = stage.newest()
    stage.deploy()
    stage.pin()
    stage.deploy()
    if percent:
        stage.run_until(Phase.STEPPING, percent)
    else:
        stage.begin()
    obeyed = rollback_to(stage, oldest)
    assert obeyed.in_force
    assert stage.serving() == {oldest: 100}
    assert (stage.record.phase, stage.record.stable) == (Phase.ROLLED_BACK, oldest)
    assert not stage.tags()


def test_a_follower_sees_the_rollback_to_another_revision_as_its_end(stage: Stage) -> None:
    oldest = stage.newest()
    stage.deploy()
    stage.pin()
    stage.deploy()
    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, lambda: rollback_to(stage, oldest)))
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.ROLLED_BACK)
    assert stage.serving() == {oldest: 100}


def test_a_rollback_with_nothing_under_way_is_one_write_and_in_force(stage: Stage) -> None:
    oldest = stage.newest()
    bad = a_serving_revision(stage)
    obeyed = rollback_to(stage, oldest)
    assert obeyed.in_force
    assert stage.serving() == {oldest: 100}
    assert (stage.record.candidate, stage.record.stable, stage.record.by) == (bad, oldest, "ada")
    assert latest_percent(stage) == 0
    again = rollback_to(stage, oldest)
    assert isinstance(again.answer, Stay)


def test_after_a_promotion_an_older_revision_can_be_brought_back(stage: Stage) -> None:
    oldest = stage.newest()
    stage.deploy()
    stage.roll_out()
    rollback_to(stage, oldest)
    assert stage.serving() == {oldest: 100}
    # What was taken back is not rolled out again by itself.
    follow_up = stage.canary("rollout", SERVICE)
    assert follow_up.code == 3
    assert f"canary retry {SERVICE}" in follow_up.text
    assert stage.serving() == {oldest: 100}


def test_a_rollback_to_the_candidate_is_refused_and_nothing_is_written(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    with stage.stays_as_it_is():
        assert isinstance(rollback_to(stage, candidate).answer, Refuse)


def test_a_rollback_to_an_unknown_revision_is_refused_and_nothing_is_written(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    with stage.stays_as_it_is():
        with pytest.raises(NotFoundError, match="has no revision 'web-99999-zzz'; see: gcloud run"):
            rollback_to(stage, "web-99999-zzz")
        with pytest.raises(NotFoundError):
            obey(stage.outside, "nobody", Event.ROLLBACK, "ada", stage.saw, CANDIDATE)


def test_a_rollback_to_a_revision_that_is_not_ready_is_refused_and_nothing_is_written(stage: Stage) -> None:
    broken = stage.deploy(CRASH="1")
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    with stage.stays_as_it_is(), pytest.raises(NotServingError, match="not ready to serve"):
        rollback_to(stage, broken)


def test_a_rollback_whose_answers_are_lost_is_obeyed_once(stage: Stage) -> None:
    oldest = stage.newest()
    a_serving_revision(stage)
    suffer(stage, kind="lost-answer", method="UpdateService", next=1)
    rollback_to(stage, oldest)
    assert stage.serving() == {oldest: 100}
    assert stage.record.number == 0


@pytest.mark.parametrize("to_first", [False, True])
def test_a_rollback_that_meets_a_promotion_still_wins(stage: Stage, to_first: bool) -> None:
    first = stage.newest()
    stage.deploy()
    stage.run_until(Phase.BAKING, 100)
    other = after_the_first_read(stage, lambda: obey(stage.outside, SERVICE, Event.PROMOTE, "bob", stage.saw))
    obeyed = obey(other, SERVICE, Event.ROLLBACK, "ada", stage.saw, first if to_first else "")
    assert obeyed.in_force
    assert obeyed.answer is None
    assert stage.serving() == {first: 100}
    assert stage.record.reason == f"rolled back to {first} by ada"


def test_a_pause_that_meets_the_end_of_a_rollout_holds_for_the_next(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.BAKING, 100)
    other = after_the_first_read(stage, lambda: obey(stage.outside, SERVICE, Event.PROMOTE, "bob", stage.saw))
    assert obey(other, SERVICE, Event.PAUSE, "ada", stage.saw).done
    assert PAUSED in stage.service().annotations


def test_a_command_whose_record_is_removed_meanwhile_fails_and_says_what_is_asked_for(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.run_until(Phase.STEPPING, 5)

    def replace_service() -> None:
        stage.replace_annotations({})
        stage.set_traffic((Target(candidate, 100),))

    with pytest.raises(PermanentError, match=f"was removed in the meantime.*{candidate} 100 %") as caught:
        obey(after_the_first_read(stage, replace_service), SERVICE, Event.ROLLBACK, "ada", stage.saw)
    assert not isinstance(caught.value, NoRolloutError)


def test_a_pause_ahead_that_a_late_write_wipes_away_is_given_again(stage: Stage) -> None:
    kept = dict(stage.service().annotations)
    late = [stage.local.now() + LATE_WRITE / 2]

    def wipe() -> None:
        if late and stage.local.now() >= late[0]:
            late.clear()
            stage.replace_annotations(kept)

    watched = replace(stage.outside, clock=Watch(stage.outside.clock, wipe))
    assert obey(watched, SERVICE, Event.PAUSE, "ada", stage.saw).done
    assert not late
    assert PAUSED in stage.service().annotations


def test_a_rollback_with_nothing_under_way_takes_back_what_began_in_the_meantime() -> None:
    with a_stage(etag=EtagMode.ENFORCE) as stage:
        oldest = stage.newest()
        stage.deploy()
        stage.roll_out()
        newest = stage.deploy()
        begin_before_the_next_write(stage)
        assert rollback_to(stage, oldest).in_force
        assert stage.serving() == {oldest: 100}
        assert (stage.record.phase, stage.record.candidate) == (Phase.ROLLED_BACK, newest)


# --- pause and resume ahead ---


def test_on_a_service_that_follows_latest_a_pause_keeps_a_deployment_from_the_users() -> None:
    with a_world() as world:
        first = world.newest()
        world.command(Event.PAUSE)
        world.deploy()
        assert world.serving() == {first: 100}
        rollout = world.begin().rollout
        assert (rollout.phase, rollout.pause, rollout.follows_latest) == (Phase.PAUSED, Pause.PERSON, True)
        assert PAUSED not in world.service().annotations
        world.command(Event.RESUME)
        assert world.follow(world.begin()).rollout.phase is Phase.PROMOTED
        # LATEST is followed again, as it was before the pause.
        newest = world.deploy()
        assert world.serving() == {newest: 100}


def test_a_pause_and_its_end_leave_the_service_as_it_was() -> None:
    with a_world() as world:
        before = world.service()
        world.command(Event.PAUSE)
        world.wait(10)
        world.command(Event.RESUME)
        world.wait(10)
        after = world.service()
        assert (after.traffic, after.annotations) == (before.traffic, before.annotations)


def test_to_resume_after_a_deployment_leaves_the_traffic_pinned_and_says_why() -> None:
    with a_world() as world:
        first = world.newest()
        world.command(Event.PAUSE)
        second = world.deploy()
        obeyed = world.command(Event.RESUME)
        assert f"LATEST would send all users to {second}" in obeyed.done
        assert world.serving() == {first: 100}


def test_a_pause_ahead_whose_answer_is_lost_is_written_once(stage: Stage) -> None:
    suffer(stage, kind="lost-answer", method="UpdateService", next=1)
    before = stage.service().generation
    obeyed = stage.command(Event.PAUSE)
    assert obeyed.done
    assert PAUSED in stage.service().annotations
    assert stage.service().generation <= before + 1


def begin_before_the_next_write(stage: Stage) -> None:
    first: list[object] = []

    def begin_first(_: object) -> None:
        if not first:
            first.append(None)
            stage.begin()

    stage.interrupted().before = begin_first


def test_a_pause_that_meets_a_rollout_which_just_began_is_refused() -> None:
    with a_stage(etag=EtagMode.ENFORCE) as stage:
        stage.deploy()
        begin_before_the_next_write(stage)
        obeyed = stage.command(Event.PAUSE)
        assert isinstance(obeyed.answer, Refuse)
        assert "give the command again" in obeyed.answer.why
        assert PAUSED not in stage.service().annotations
        assert stage.record.phase is Phase.WAITING


def test_a_second_pause_and_a_second_resume_write_nothing(stage: Stage) -> None:
    stage.command(Event.PAUSE)
    with stage.stays_as_it_is():
        assert isinstance(stage.command(Event.PAUSE).answer, Stay)
    stage.command(Event.RESUME)
    with stage.stays_as_it_is():
        assert isinstance(stage.command(Event.RESUME).answer, Stay)


@pytest.mark.parametrize("event", [Event.PROMOTE, Event.PROMOTE_FULL, Event.ROLLBACK])
def test_where_there_was_never_a_rollout_there_is_nothing_to_command(stage: Stage, event: Event) -> None:
    with stage.stays_as_it_is(), pytest.raises(NoRolloutError, match="canary rollout web"):
        stage.command(event)


# --- release ---


def test_a_promoted_service_is_let_go_of_and_follows_latest_as_before() -> None:
    with a_world() as world:
        world.command(Event.PAUSE)
        world.deploy()
        world.begin()
        world.command(Event.RESUME)
        world.follow(world.begin())
        obeyed = release_service(world.outside, SERVICE)
        world.wait(10)
        assert obeyed.done
        assert not {ANNOTATION, PAUSED, UNLOGGED} & set(world.service().annotations)
        assert not world.tags()
        newest = world.deploy()
        assert world.serving() == {newest: 100}


def test_a_rejected_service_is_let_go_of_and_stays_pinned() -> None:
    with a_world() as world:
        stable = world.newest()
        world.command(Event.PAUSE)
        rejected = world.deploy(ERROR_SHARE="0.5")
        world.begin()
        world.command(Event.RESUME)
        assert world.follow(world.begin()).rollout.phase is Phase.ROLLED_BACK
        obeyed = release_service(world.outside, SERVICE)
        world.wait(10)
        assert f"LATEST would send all users to {rejected}" in obeyed.done
        assert world.serving() == {stable: 100}
        assert ANNOTATION not in world.service().annotations


@pytest.mark.parametrize(
    ("phase", "percent"), [(Phase.CHECKING, 0), (Phase.STEPPING, 5), (Phase.BAKING, 100)]
)
def test_a_rollout_under_way_is_not_let_go_of(stage: Stage, phase: Phase, percent: int) -> None:
    stage.deploy()
    if phase is Phase.CHECKING:
        stage.begin()
        stage.wait(10)
    else:
        stage.run_until(phase, percent)
    with stage.stays_as_it_is():
        answer = release_service(stage.outside, SERVICE).answer
    assert isinstance(answer, Refuse)
    assert "let it end first" in answer.why


def test_a_paused_rollout_is_not_let_go_of(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    stage.command(Event.PAUSE)
    with stage.stays_as_it_is():
        assert isinstance(release_service(stage.outside, SERVICE).answer, Refuse)


def test_an_edited_service_is_let_go_of_with_the_edit_as_it_is(stage: Stage) -> None:
    stable = stage.newest()
    candidate = stage.deploy()
    edit = (Target(stable, 40), Target(candidate, 60))
    stage.roll_out(act=stage.when(Phase.STEPPING, 5, lambda: stage.set_traffic(edit)))
    assert release_service(stage.outside, SERVICE).done
    stage.wait(10)
    assert stage.serving() == {stable: 40, candidate: 60}
    assert (ours(stage), stage.tags()) == (set(), set())


def test_a_release_needs_no_record_and_writes_nothing_without_one(stage: Stage) -> None:
    with stage.stays_as_it_is():
        assert isinstance(release_service(stage.outside, SERVICE).answer, Stay)


def test_a_release_that_cannot_tell_the_audit_log_says_what_is_lost(stage: Stage) -> None:
    suffer(stage, kind="error", method="WriteLogEntries", code="PERMISSION_DENIED")
    stage.deploy(ERROR_SHARE="0.5")
    stage.roll_out()
    assert UNLOGGED in stage.service().annotations
    assert "could not be put into the audit log" in release_service(stage.outside, SERVICE).done
    assert not ours(stage)


def test_a_release_tells_the_audit_log_what_it_does_not_know_yet(stage: Stage) -> None:
    suffer(stage, kind="error", method="WriteLogEntries", code="PERMISSION_DENIED")
    stage.deploy(ERROR_SHARE="0.5")
    stage.roll_out()
    stage.local.clear_faults()
    assert "audit log" not in release_service(stage.outside, SERVICE).done
    told = [entry.labels["event"] for entry in stage.outside.audit_log.read_entries(SERVICE)]
    assert told == ["opened", "ready", "checked", "harmed"]


def test_after_a_release_the_same_candidate_can_be_rolled_out_as_if_new(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.5")
    stage.roll_out()
    release_service(stage.outside, SERVICE)
    stage.wait(10)
    begun = stage.begin()
    assert begun.opened


def test_a_record_that_cannot_be_read_is_not_taken_away_by_a_release(stage: Stage) -> None:
    stage.replace_annotations({ANNOTATION: "damaged"})
    with stage.stays_as_it_is(), pytest.raises(RecordUnreadableError, match="Nothing was changed"):
        release_service(stage.outside, SERVICE)


# --- check ---


def checked(stage: Stage) -> dict[str, Checked]:
    seen: dict[str, Checked] = {}
    sweep(stage.outside, lambda one: seen.__setitem__(one.service, one))
    return seen


def another_service(stage: Stage, name: str, **annotations: str) -> None:
    container = {"image": "local", "command": ["sample"]}
    template = run_v2.RevisionTemplate(containers=[container])
    service = run_v2.Service(template=template, annotations=annotations)
    stage.services.create_service(parent=stage.parent, service=service, service_id=name)
    stage.wait(10)


def test_a_check_goes_on_where_a_controller_died_to_the_same_end(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    for _ in range(40):
        checked(stage)
        stage.wait(60)
    assert stage.record.phase is Phase.PROMOTED
    assert stage.serving() == {candidate: 100}


def test_a_check_of_a_bad_candidate_takes_it_back(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy(ERROR_SHARE="0.5")
    stage.run_until(Phase.STEPPING, 5)
    stage.wait(600)
    checked(stage)
    stage.wait(10)
    assert stage.serving() == {stable: 100}


def test_a_broken_record_never_keeps_the_others_from_their_pass(stage: Stage) -> None:
    another_service(stage, "aaa", **{ANNOTATION: "damaged"})
    another_service(stage, "bbb", **{ANNOTATION: stage_record_of_web(stage)})
    another_service(stage, "zzz")
    stage.wait(600)
    seen = checked(stage)
    assert set(seen) == {"aaa", "bbb", SERVICE}, "what has no record is left alone"
    assert isinstance(seen["aaa"].error, RecordUnreadableError)
    assert "belongs to web" in str(seen["bbb"].error)
    assert seen[SERVICE].error is None
    assert stage.record.percent == 25


def stage_record_of_web(stage: Stage) -> str:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    return str(stage.service().annotations[ANNOTATION])


def test_a_check_ends_with_the_code_of_the_worst_service_and_a_line_for_each(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    fine = stage.canary("check")
    assert (fine.code, len(fine.text.splitlines())) == (0, 1)
    another_service(stage, "broken", **{ANNOTATION: "damaged"})
    worst = stage.canary("check")
    assert worst.code == 2
    broken, web = (line for line in worst.text.splitlines() if line.startswith(("broken", "web")))
    assert "cannot be read" in broken
    assert "stepping" in web
    reports = [
        json.loads(line) for line in stage.canary("check", "--json").text.splitlines() if line[0] == "{"
    ]
    assert {report["service"] for report in reports} == {"broken", "web"}


def test_a_check_says_that_a_rollout_is_held_each_time_and_that_it_was_rolled_back_once(
    stage: Stage,
) -> None:
    stage.users(0)
    stage.deploy()
    held = stage.roll_out(steps(hold={"at_least": "1m", "at_most": "10m"}))
    assert (held.ending, held.rollout.phase) == (Ending.HELD, Phase.PAUSED)
    assert [stage.canary("check").code for _ in range(2)] == [4, 4]
    stage.command(Event.ROLLBACK)
    assert [stage.canary("check").code for _ in range(2)] == [0, 0]


def test_a_check_that_takes_a_candidate_back_says_so_until_it_is_in_force(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.5")
    stage.run_until(Phase.STEPPING, 5)
    stage.wait(600)
    assert stage.canary("check").code == 3
    stage.wait(10)
    assert [stage.canary("check").code for _ in range(2)] == [3, 0]


def test_a_check_says_that_an_end_does_not_come_into_force(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.5")
    stage.run_until(Phase.STEPPING, 5)
    stage.wait(600)
    suffer(stage, kind="slow-operation", by="1h")
    assert stage.canary("check").code == 3
    stage.wait(600)
    assert stage.canary("check").code == 7


def test_a_check_that_takes_long_decides_on_what_a_service_is_when_its_turn_comes(stage: Stage) -> None:
    """A split that came into force since the services were listed must not be taken for refused."""
    stage.deploy()
    begun = stage.begin()
    with suppress(LeftError):
        stage.follow(begun, leave_unobserved)
    assert (stage.record.phase, stage.record.observed_at) == (Phase.STEPPING, None)
    another_service(stage, "aaa", **{ANNOTATION: "damaged"})

    def take_long(checked: Checked) -> None:
        if checked.service == "aaa":
            stage.wait(REFUSED_AFTER.total_seconds())

    sweep(stage.outside, take_long)
    assert (stage.record.phase, stage.record.percent) == (Phase.STEPPING, 5)
    assert stage.record.observed_at


def leave_unobserved(seen: Pass) -> None:
    if seen.rollout and seen.rollout.phase is Phase.STEPPING and not seen.rollout.observed_at:
        leave()


def test_a_check_where_nothing_was_ever_rolled_out_says_what_to_do(stage: Stage) -> None:
    said = stage.canary("check")
    assert (said.code, said.text) == (
        0,
        "No service has a rollout on record; begin one with: canary rollout SERVICE\n",
    )


# --- status --wait ---


def waited(
    stage: Stage, phase: Phase | None = None, at_most: timedelta | None = None
) -> tuple[Followed | None, list[Rollout]]:
    seen: list[Rollout] = []
    return wait_until(stage.outside, SERVICE, phase, at_most, seen.append), seen


def test_a_wait_without_a_rollout_is_refused_with_what_to_do(stage: Stage) -> None:
    with pytest.raises(NoRolloutError, match="begin one with: canary rollout web"):
        waited(stage)


def test_a_wait_is_over_when_its_time_is_and_not_later(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    begun = stage.local.now()
    followed, seen = waited(stage, Phase.PROMOTED, timedelta(seconds=12))
    assert followed is None
    assert stage.local.now() - begun == timedelta(seconds=12)
    assert len(seen) == 1, "it says only what changes"


def test_the_rollout_of_a_candidate_is_waited_for_though_another_ended_before(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out()
    candidate, begun = stage.deploy(), list[Begun]()

    def begin_later() -> None:
        if not begun and stage.local.now() - ended > timedelta(minutes=2):
            begun.append(stage.begin())

    ended = stage.local.now()
    stage.outside = replace(stage.outside, clock=Watch(stage.outside.clock, begin_later))
    found = await_rollout(stage.outside, SERVICE, candidate, timedelta(minutes=5))
    assert begun
    assert isinstance(found, Rollout)
    assert found.candidate == candidate


def test_a_candidate_whose_rollout_never_begins_is_not_waited_for_without_an_end(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out()
    with pytest.raises(NoRolloutError, match="no rollout of web-none has begun in 10 minutes"):
        await_rollout(stage.outside, SERVICE, "web-none", None)


def test_a_candidate_that_serves_all_users_or_was_superseded_is_not_waited_for(stage: Stage) -> None:
    first = stage.newest()
    second = stage.deploy()
    nothing = await_rollout(stage.outside, SERVICE, first, None)
    assert isinstance(nothing, NothingToDo)
    third = stage.deploy()
    stage.roll_out()
    superseded = await_rollout(stage.outside, SERVICE, second, None)
    assert isinstance(superseded, Followed)
    assert (superseded.ending, stage.record.candidate) == (Ending.REPLACED, third)
    stage.command(Event.ROLLBACK, first)
    stage.wait(20)
    assert isinstance(await_rollout(stage.outside, SERVICE, first, None), NothingToDo)


def test_a_wait_of_no_time_looks_once(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    begun = stage.local.now()
    assert waited(stage, Phase.PROMOTED, timedelta(0))[0] is None
    found, _ = waited(stage, Phase.STEPPING, timedelta(0))
    assert found
    assert stage.local.now() == begun


def test_a_wait_writes_nothing(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    with stage.stays_as_it_is():
        waited(stage, Phase.PROMOTED, timedelta(minutes=1))


def test_a_wait_ends_where_the_record_is_removed(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    removed: list[object] = []

    def remove() -> None:
        if not removed:
            removed.append(None)
            stage.replace_annotations({})

    stage.outside = replace(stage.outside, clock=Watch(stage.outside.clock, remove))
    followed, _ = waited(stage, None, timedelta(minutes=5))
    assert followed
    assert followed.ending is Ending.REMOVED


def test_a_wait_gives_up_soon_where_nothing_can_be_read_at_first(stage: Stage) -> None:
    stage.deploy()
    stage.begin()
    suffer(stage, kind="partition", method="GetService")
    begun = stage.local.now()
    with pytest.raises(TransientError):
        waited(stage)
    assert stage.local.now() - begun < timedelta(minutes=3)


def test_a_wait_over_an_outage_takes_no_longer_than_its_time(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    begun = stage.local.now()

    def out_of_reach(_: Rollout) -> None:
        suffer(stage, kind="partition", method="GetService")

    with pytest.raises(TransientError):
        wait_until(stage.outside, SERVICE, None, timedelta(minutes=5), out_of_reach)
    assert stage.local.now() - begun < timedelta(minutes=8)


def test_a_wait_for_an_end_ends_with_what_it_was(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.5")
    stage.roll_out()
    assert stage.canary("status", SERVICE, "--wait").code == 3
    assert stage.canary("status", SERVICE, "--wait-for", "rolled_back").code == 0
    assert stage.canary("status", SERVICE, "--wait-for", "promoted").code == 3
    lines = stage.canary("status", SERVICE, "--wait", "--json").text.splitlines()
    assert [json.loads(line)["phase"] for line in lines] == ["rolled_back", "rolled_back"]
    assert json.loads(lines[-1])["ended"].startswith("Rolled back:")
