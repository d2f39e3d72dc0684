"""The scenarios of writes, races and interference."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import pytest
from google.cloud import run_v2
from scene import LeftError, Stage, Watch, a_stage, both, steps, suffer
from structlog.testing import capture_logs
from world import SERVICE, SimulatedClock

from controller.core.record import ANNOTATION
from controller.core.rollout import Event, Phase, Rollout
from controller.core.traffic import Target
from controller.core.trail import UNLOGGED, Transition, parse_transition
from controller.core.units import parse_duration
from controller.emulator.names import RevisionKey
from controller.emulator.settings import EtagMode
from controller.engine.loop import Ending
from controller.engine.reconcile import Memory, Pass, reconcile
from controller.ports import ConflictError, ServiceChange


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


GOLDEN = [
    ("waiting", "100/0"),
    ("checking", "100/0"),
    ("stepping", "95/5"),
    ("stepping", "75/25"),
    ("stepping", "50/50"),
    ("baking", "0/100"),
    ("promoted", "0/100"),
]


# --- writes ---


@pytest.mark.scenario(44)
def test_a_write_that_is_refused_leaves_the_step_as_it_is_and_is_tried_again(stage: Stage) -> None:
    stage.deploy()
    refuse = stage.when(
        Phase.STEPPING,
        5,
        lambda: suffer(stage, kind="error", method="UpdateService", code="INTERNAL", next=8),
    )
    with capture_logs() as logs:
        stage.follow(stage.begin(), refuse)
    assert stage.local.faults()[0]["struck"] == 8
    assert stage.story == GOLDEN
    assert any("writing service web" in str(entry.get("error")) for entry in logs)


@pytest.mark.scenario(44)
def test_a_write_whose_answer_is_lost_is_noticed_and_not_doubled() -> None:
    generations = []
    for lost in (False, True):
        with a_stage() as stage:
            stage.deploy()
            begun = stage.begin()
            if lost:
                suffer(stage, kind="lost-answer", method="UpdateService")
            stage.follow(begun)
            assert stage.story == GOLDEN
            generations.append(stage.service().generation)
    assert generations[0] == generations[1]


@pytest.mark.scenario(45)
def test_what_is_accepted_and_not_observed_yet_is_no_step_and_its_minutes_no_evidence(stage: Stage) -> None:
    stage.deploy()
    slow = stage.when(
        Phase.STEPPING,
        5,
        lambda: suffer(stage, kind="slow-operation", method="UpdateService", by="4m", next=1),
    )
    stage.roll_out(act=slow)
    second = [tick for tick in stage.ticks if tick.record and tick.record.percent == 25]
    unseen = [tick for tick in second if tick.split == "95/5"]
    assert unseen[-1].at - unseen[0].at > timedelta(minutes=3)
    assert all(tick.record and len(tick.record.windows) == 1 for tick in unseen)
    assert stage.record.windows[1].start >= unseen[-1].at + stage.record.policy.settle
    assert stage.story == GOLDEN


@pytest.mark.scenario(46)
def test_a_split_that_the_operation_fails_to_bring_about_is_not_asked_for_any_longer(stage: Stage) -> None:
    """The candidate is deleted between the read and the write that tags it: code 13, it stays asked for."""
    stable = stage.newest()
    candidate = stage.deploy()
    stage.deploy()
    begun = stage.begin(candidate=candidate)
    between = stage.interrupted()
    deleted: list[str] = []

    def delete(_: ServiceChange) -> None:
        if not deleted:
            deleted.append(candidate)
            name = f"{stage.parent}/services/web/revisions/{candidate}"
            stage.revisions.delete_revision(name=name)

    between.before = delete
    rollout = stage.follow(begun).rollout
    assert deleted == [candidate]
    assert (rollout.phase, stage.highest) == (Phase.FAILED, 0)
    service = stage.service()
    assert [(one.revision, one.percent) for one in service.traffic] == [(stable, 100)]
    stage.wait(10)
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(47)
@pytest.mark.parametrize("errors", ["0", "0.4"])
def test_every_list_that_is_written_is_whole_names_both_revisions_and_never_the_latest(
    stage: Stage, errors: str
) -> None:
    known = {stage.newest(), stage.deploy(ERROR_SHARE=errors)}
    between = stage.interrupted()
    changes: list[ServiceChange] = []
    between.before = changes.append
    stage.roll_out()
    splits = [change.split for change in changes if change.split is not None]
    assert len(splits) > 3
    for split in splits:
        assert sum(target.percent for target in split) == 100
        assert {target.revision for target in split} <= known


# --- other people ---


@pytest.mark.scenario(48)
def test_a_revision_deployed_in_the_middle_gets_no_user_from_the_list(stage: Stage) -> None:
    stage.set_traffic((Target("", 100),))
    stage.deploy(START_SECONDS="20")
    deploy = stage.when(Phase.STEPPING, 25, stage.deploy)
    stage.roll_out(steps(on_new_revision="ignore"), act=deploy)
    third = stage.newest()
    assert third != stage.record.candidate
    assert stage.story == GOLDEN
    assert all(third not in tick.served for tick in stage.ticks)


@pytest.mark.scenario(49)
@pytest.mark.parametrize("percent", [5, 50])
def test_traffic_that_somebody_edits_in_any_step_stays_as_they_edited_it(stage: Stage, percent: int) -> None:
    stable, candidate = stage.newest(), stage.deploy()
    edited = (Target(stable, 60), Target(candidate, 40))
    edit = stage.when(Phase.STEPPING, percent, lambda: stage.set_traffic(edited))
    followed = stage.roll_out(act=edit)
    assert followed.rollout.phase is Phase.SUPERSEDED
    assert followed.rollout.reason.startswith("traffic was changed by hand to ")
    stage.wait(3600)
    assert stage.serving() == {stable: 60, candidate: 40}


@pytest.mark.scenario(50)
@pytest.mark.parametrize("errors", ["0", "0.4"])
def test_stale_etags_come_to_the_same_whether_they_are_ignored_or_enforced(errors: str) -> None:
    told = []
    for mode in EtagMode:
        with a_stage(etag=mode) as stage:
            stage.deploy(ERROR_SHARE=errors)
            between = stage.interrupted()
            writes = iter(range(100))

            def annotate(_: ServiceChange, stage: Stage = stage, writes: Iterator[int] = writes) -> None:
                if next(writes) in {1, 3, 4}:
                    stage.set_annotations(**{f"note{next(writes)}": "x"})

            between.before = annotate
            stage.roll_out()
            told.append((stage.story, stage.tags()))
    assert told[0] == told[1]


# --- races of commands ---

Race = Callable[[Stage], object]


def captured(stage: Stage, command: Race) -> ServiceChange:
    """Return the write that somebody decides on and that is not sent yet."""
    between, outside = stage.interrupted(), stage.outside
    held: list[ServiceChange] = []

    def hold(change: ServiceChange) -> None:
        held.append(change)
        raise LeftError

    between.before = hold
    with suppress(LeftError):
        command(stage)
    stage.outside = outside
    between.before = lambda _: None
    return held[0]


LATE: dict[str, Race] = {
    "the loop's next step": lambda stage: stage.follow(stage.begin()),
    "a promotion": lambda stage: stage.command(Event.PROMOTE),
    "a promotion to all users": lambda stage: stage.command(Event.PROMOTE_FULL),
    "a pause": lambda stage: stage.command(Event.PAUSE),
}


@pytest.mark.scenario(53)
@pytest.mark.parametrize("mode", list(EtagMode))
@pytest.mark.parametrize("what", LATE)
def test_a_rollback_wins_against_a_write_that_comes_after_it(what: str, mode: EtagMode) -> None:
    with a_stage(etag=mode) as stage:
        stable = stage.newest()
        stage.deploy()
        stage.run_until(Phase.STEPPING, 25)
        late = [captured(stage, LATE[what])]
        between = stage.interrupted()

        def run_over(_: ServiceChange) -> None:
            while late:
                change = late.pop()
                with suppress(ConflictError):  # where etags are enforced
                    between.write_unseen(change)

        between.after = run_over
        obeyed = stage.command(Event.ROLLBACK)
        assert late == []
        assert (stage.record.phase, obeyed.in_force) == (Phase.ROLLED_BACK, True)
        stage.wait(10)
        assert stage.serving() == {stable: 100}
        assert stage.record.reason == "rolled back by ada"
        assert stage.follow(stage.begin()).rollout.phase is Phase.ROLLED_BACK


@pytest.mark.scenario(53)
def test_a_rollback_wins_against_a_deployment_at_the_same_time(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy()
    stage.run_until(Phase.STEPPING, 25)
    between = stage.interrupted()
    deployed: list[str] = []

    def deploy(_: ServiceChange) -> None:
        if not deployed:
            deployed.append(stage.deploy())

    between.before = deploy
    stage.command(Event.ROLLBACK)
    stage.wait(10)
    assert stage.record.phase is Phase.ROLLED_BACK
    assert stage.serving() == {stable: 100}
    assert stage.newest() == deployed[0]


# --- what is deleted ---


@pytest.mark.scenario(57)
def test_a_candidate_that_is_deleted_before_it_serves_ends_the_rollout(stage: Stage) -> None:
    stable = stage.newest()
    candidate = stage.deploy()
    stage.deploy()
    begun = stage.begin(candidate=candidate)
    stage.wait(10)
    stage.revisions.delete_revision(name=f"{stage.parent}/services/web/revisions/{candidate}")
    stage.wait(10)
    rollout = stage.follow(begun).rollout
    assert (rollout.phase, rollout.reason) == (Phase.FAILED, f"the candidate {candidate} was deleted")
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(57)
def test_a_service_that_is_deleted_in_the_middle_ends_the_following_without_a_write(stage: Stage) -> None:
    stage.deploy()
    name = f"{stage.parent}/services/web"

    between = stage.interrupted()
    writes: list[ServiceChange] = []

    def delete() -> None:
        stage.services.delete_service(name=name)
        stage.wait(10)
        between.before = writes.append

    begun = stage.begin()
    gone = stage.when(Phase.STEPPING, 25, delete)
    assert stage.follow(begun, gone).ending is Ending.DELETED
    assert writes == []
    assert not any(one.name == name for one in stage.services.list_services(parent=stage.parent))


# --- time ---


def step_by_step(stage: Stage) -> list[int]:
    """Return the shares of the windows; no more may have been weighed than the candidate answered."""
    most: dict[int | None, int] = {}
    for weighed in (seen.assessment for seen in stage.seen if seen.assessment):
        most[weighed.percent] = max(most.get(weighed.percent, 0), weighed.candidate.requests)
    key = RevisionKey("local-1", "web", stage.record.candidate)
    answered = stage.local.measure(lambda metrics: sum(metrics.totals()[key].values()))
    assert 0 < sum(most.values()) <= answered
    return [window.percent for window in stage.record.windows]


@pytest.mark.scenario(58)
@pytest.mark.parametrize("hours", [-1, 3])
def test_a_clock_that_is_set_skips_no_step_and_counts_no_minute_twice(stage: Stage, hours: int) -> None:
    stage.deploy()
    jump = stage.when(Phase.STEPPING, 25, lambda: stage.local.jump_clock(timedelta(hours=hours)))
    stage.roll_out(act=jump)
    assert stage.story == GOLDEN
    assert step_by_step(stage) == [5, 25, 50, 100]


@pytest.mark.scenario(58)
def test_a_machine_that_sleeps_for_three_hours_goes_on_where_it_was(stage: Stage) -> None:
    stage.deploy()
    sleep = stage.when(Phase.STEPPING, 25, lambda: stage.wait(3 * 3600))
    stage.roll_out(act=sleep)
    assert stage.story == GOLDEN
    assert step_by_step(stage) == [5, 25, 50, 100]


@pytest.mark.scenario(59)
def test_a_controller_that_comes_late_advances_one_step_a_pass_by_its_evidence(stage: Stage) -> None:
    stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    stage.wait(3 * 3600)
    late = len(stage.seen)

    def go_on(seen: Pass) -> None:
        if seen.decision and seen.decision.event == "evidence passed":
            assert seen.assessment is not None
            assert seen.assessment.minutes >= 3

    stage.follow(stage.begin(), go_on)
    shares = [seen.rollout.percent for seen in stage.seen[late:] if seen.rollout]
    assert sorted(set(shares)) == [25, 50, 100]
    assert shares == sorted(shares)
    assert stage.story == GOLDEN


@pytest.mark.scenario(59)
def test_a_controller_that_comes_late_to_a_bad_candidate_takes_it_back(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    stage.local.behave(candidate, error_share=0.3)
    stage.wait(3 * 3600)
    assert stage.follow(stage.begin()).rollout.phase is Phase.ROLLED_BACK
    assert stage.highest == 5


# --- the Admin API away ---

ADMIN_API = ("GetService", "ListServices", "UpdateService", "GetRevision", "ListRevisions")
SOON = timedelta(minutes=1)


def lose_the_admin_api(stage: Stage, duration: str = "1h") -> datetime:
    """Let no call of the controller to Cloud Run through for a while; return when it is back."""
    for method in ADMIN_API:
        suffer(stage, kind="partition", method=method, **{"for": duration})
    return stage.local.now() + parse_duration(duration)


@pytest.mark.scenario(54)
@pytest.mark.parametrize("methods", [ADMIN_API, ("GetRevision", "ListRevisions")])
def test_the_deadline_of_readiness_passes_although_the_admin_api_is_away(
    stage: Stage, methods: tuple[str, ...]
) -> None:
    stable = stage.newest()
    stage.deploy(START_SECONDS="200")
    begun = stage.begin(steps(ready_within="1m"))
    for method in methods:
        suffer(stage, kind="partition", method=method, **{"for": "2m"})
    followed = stage.follow(begun)
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.FAILED)
    assert "was not ready within 1 minutes" in followed.rollout.reason
    assert stage.story == [("waiting", "100/0"), ("failed", "100/0")]
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(54)
def test_a_candidate_that_broke_while_the_admin_api_was_away_fails_when_it_is_back(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy(START_SECONDS="inf")
    begun = stage.begin()
    back = lose_the_admin_api(stage, "10m")
    followed = stage.follow(begun)
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.FAILED)
    assert stage.story == [("waiting", "100/0"), ("failed", "100/0")]
    assert timedelta(0) <= followed.rollout.since - back < SOON
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(54)
def test_the_limit_of_a_step_passes_while_the_admin_api_is_away_for_an_hour_and_is_kept_when_it_is_back(
    stage: Stage,
) -> None:
    stable = stage.newest()
    stage.users(0)
    stage.deploy()
    begun = stage.begin(steps(hold={"at_least": "3m", "at_most": "10m"}, when_unsure="rollback"))
    back: list[datetime] = []
    away = stage.when(Phase.STEPPING, 5, lambda: back.append(lose_the_admin_api(stage)))
    stage.outside = replace(stage.outside, clock=SimulatedClock(stage.local))  # looked at with each pass only
    followed = stage.follow(begun, both(away, lambda _: stage.look()))
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.ROLLED_BACK)
    assert followed.rollout.reason.startswith("not decided within 10 minutes: ")
    assert timedelta(0) <= followed.rollout.since - back[0] < SOON
    assert stage.story[2:] == [("stepping", "95/5"), ("rolled_back", "100/0")]
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(54)
def test_harm_that_begins_while_the_admin_api_is_away_is_undone_when_it_is_back(stage: Stage) -> None:
    stable, candidate = stage.newest(), stage.deploy()
    back: list[datetime] = []

    def go_wrong() -> None:
        stage.local.behave(candidate, error_share=0.5)
        back.append(lose_the_admin_api(stage, "10m"))

    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, go_wrong))
    assert followed.rollout.phase is Phase.ROLLED_BACK
    assert timedelta(0) <= followed.rollout.since - back[0] < SOON
    assert stage.story[3:] == [("stepping", "75/25"), ("rolled_back", "100/0")]
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(54)
def test_a_rollback_that_cannot_be_written_is_on_record_and_in_force_when_the_admin_api_is_back(
    stage: Stage,
) -> None:
    stable = stage.newest()
    stage.deploy()
    stage.run_until(Phase.STEPPING, 25)
    between = stage.interrupted()
    back: list[datetime] = []

    def lose(_: ServiceChange) -> None:
        if not back:
            back.append(lose_the_admin_api(stage, "14m"))

    between.before = lose
    obeyed = stage.command(Event.ROLLBACK)
    assert obeyed.in_force
    assert stage.story[-2:] == [("stepping", "75/25"), ("rolled_back", "100/0")]
    assert stage.reasons[-1] == "rolled back by ada"
    assert timedelta(0) <= stage.record.since - back[0] < SOON
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(54)
def test_a_rollback_that_finds_no_admin_api_is_done_when_it_is_back_after_an_hour(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy()
    stage.run_until(Phase.STEPPING, 25)
    back = lose_the_admin_api(stage)
    assert stage.command(Event.ROLLBACK).in_force
    assert timedelta(0) <= stage.record.since - back < SOON
    assert stage.story[-2:] == [("stepping", "75/25"), ("rolled_back", "100/0")]
    assert stage.serving() == {stable: 100}


# --- one pass over all services ---


def another_service(stage: Stage, name: str, record: str) -> None:
    """Let there be a service beside ours that has this record."""
    template = run_v2.RevisionTemplate(containers=[{"image": "local", "command": ["sample"]}])
    service = run_v2.Service(template=template, annotations={ANNOTATION: record})
    stage.services.create_service(parent=stage.parent, service=service, service_id=name)
    stage.wait(10)


@pytest.mark.scenario(56)
def test_a_broken_record_and_a_broken_policy_stop_no_check_of_the_others(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.run_until(Phase.STEPPING, 5)
    record = json.loads(stage.service().annotations[ANNOTATION])
    policy = {**record["policy"], "steps": ["200%"]}
    broken = {"aaa": "{damaged", "bbb": json.dumps({**record, "service": "bbb", "policy": policy})}
    for name, text in broken.items():
        another_service(stage, name, text)
    before = [stage.services.get_service(name=f"{stage.parent}/services/{name}") for name in broken]
    codes = []
    for _ in range(45):
        said = stage.canary("check")
        codes.append(said.code)
        lines = [line for line in said.text.splitlines() if line.startswith((*broken, SERVICE))]
        assert [line.split()[0] for line in lines] == [*broken, SERVICE]
        assert all("cannot be read" in line for line in lines[:2])
        stage.look()
        stage.wait(60)
    assert set(codes) == {2}
    assert stage.story == GOLDEN
    assert stage.serving() == {candidate: 100}
    assert before == [stage.services.get_service(name=one.name) for one in before]


# --- what is told ---


def trail_of(stage: Stage) -> list[Transition]:
    return [parse_transition(entry.payload) for entry in stage.outside.audit_log.read_entries(SERVICE)]


def on_record(stage: Stage) -> list[Rollout]:
    """Each state that a rollout on record entered, as it was before it was in force."""
    first: dict[tuple[str, int], Rollout] = {}
    for tick in stage.ticks:
        if tick.record:
            first.setdefault((tick.record.id, tick.record.number), tick.record)
    return [replace(record, observed_at=None) for record in first.values()]


def hold_what_is_told_to_the_record(stage: Stage) -> None:
    """From now on, whenever the controller waits: nothing is told before it is on record."""

    def compare() -> None:
        assert all(told.after.number <= stage.record.number for told in trail_of(stage))

    stage.outside = replace(stage.outside, clock=Watch(stage.outside.clock, compare))


def another_controller(stage: Stage) -> Callable[[Pass], None]:
    memory = Memory()

    def act(_: Pass) -> None:
        stage.wait(1)
        with suppress(ConflictError):
            reconcile(stage.outside, SERVICE, memory)

    return act


def lose_answers(stage: Stage) -> None:
    suffer(stage, kind="lost-answer", method="UpdateService", every=2)
    suffer(stage, kind="lost-answer", method="WriteLogEntries", every=2)


def write_in_between(stage: Stage) -> None:
    """Let somebody write just before each second write of the controller, whose decision is void then."""
    writes = count()

    def annotate(_: ServiceChange) -> None:
        if (number := next(writes)) % 2 == 0:
            stage.set_annotations(note=f"{number}")

    stage.interrupted().before = annotate


TROUBLES: dict[str, Callable[[Stage], object]] = {
    "nothing": lambda _: None,
    "answers are lost": lose_answers,
    "somebody writes in between": write_in_between,
}


@pytest.mark.scenario(60)
@pytest.mark.parametrize("controllers", [1, 2])
@pytest.mark.parametrize("errors", ["0", "0.4"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_each_transition_is_told_once_after_its_write_and_as_it_was(
    trouble: str, errors: str, controllers: int
) -> None:
    with a_stage(etag=EtagMode.ENFORCE) as stage:
        stage.strict = controllers == 1  # two look twice as often
        stage.deploy(ERROR_SHARE=errors)
        begun = stage.begin(steps(steps=["50%"], hold={"at_least": "1m"}, bake="1m"))
        hold_what_is_told_to_the_record(stage)
        TROUBLES[trouble](stage)
        stage.follow(begun, another_controller(stage) if controllers == 2 else None)
        trail = trail_of(stage)
        assert [told.after for told in trail] == on_record(stage)
        assert [told.after.number for told in trail] == list(range(len(trail)))
        assert trail[0].before is None
        assert all(told.time == told.after.since for told in trail)
        assert UNLOGGED not in stage.service().annotations


@pytest.mark.scenario(60)
def test_a_decision_that_is_void_because_somebody_wrote_is_never_told(stage: Stage) -> None:
    """The traffic is edited just before the write of a step: there is no such step, and no word of it."""
    stable, candidate = stage.newest(), stage.deploy()
    stage.run_until(Phase.STEPPING, 25)
    late = captured(stage, LATE["the loop's next step"])
    assert '"step":2' in late.annotations[ANNOTATION]
    told = trail_of(stage)
    stage.set_traffic((Target(stable, 60), Target(candidate, 40)))
    stage.follow(stage.begin(candidate=candidate))
    *before, last = trail_of(stage)
    assert before == told
    assert (last.event, last.after.phase) == (Event.EDITED, Phase.SUPERSEDED)
