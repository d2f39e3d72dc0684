"""What others do, and what the network does, in the middle of a rollout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from builders import a_policy
from scene import both
from world import QUICK, SERVICE, World, a_world

from controller.core.evidence import Sample
from controller.core.observation import RevisionState, ServiceState
from controller.core.opening import OpeningRefused
from controller.core.policy_guards import Guards
from controller.core.record import ANNOTATION, parse_record
from controller.core.rollout import Event, Phase, Refuse
from controller.core.traffic import Target
from controller.emulator.settings import EtagMode
from controller.engine.begin import Begun
from controller.engine.commands import LATE_WRITE, obey
from controller.engine.loop import Ending
from controller.engine.reconcile import Pass
from controller.ports import (
    PLAIN,
    CloudRun,
    DeniedError,
    Metrics,
    Minutes,
    ServiceChange,
    ServiceMinutes,
    TransientError,
)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as world:
        world.pin()
        yield world


@dataclass
class Faulty(CloudRun, Metrics):
    """The real gateways behind a bad line: what is to fail is put into `faults`, by the name of the call."""

    cloud_run: CloudRun
    metrics: Metrics
    faults: dict[str, Callable[[], None]] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def _strike(self, where: Mapping[str, Callable[[], None]], call: str) -> None:
        if fault := where.get(call):
            fault()

    def read_service(self, service: str) -> ServiceState:
        self._strike(self.faults, "read_service")
        return self.cloud_run.read_service(service)

    def list_services(self) -> Sequence[ServiceState]:
        return self.cloud_run.list_services()

    def read_revision(self, service: str, revision: str) -> RevisionState | None:
        self._strike(self.faults, "read_revision")
        if revision in self.missing:
            return None
        return self.cloud_run.read_revision(service, revision)

    def list_revisions(self, service: str) -> Sequence[RevisionState]:
        return self.cloud_run.list_revisions(service)

    def write_service(self, change: ServiceChange) -> None:
        self._strike(self.faults, "write_service")
        self.cloud_run.write_service(change)
        self._strike(self.after, "write_service")

    def try_service(self, change: ServiceChange) -> None:
        self.cloud_run.try_service(change)

    def read_minutes(
        self,
        service: str,
        revisions: Sequence[str],
        start: datetime,
        end: datetime,
        guards: Guards = PLAIN,
    ) -> Minutes:
        self._strike(self.faults, "read_minutes")
        return self.metrics.read_minutes(service, revisions, start, end, guards)

    def read_services(
        self, start: datetime, end: datetime, services: Sequence[str] = (), *, latencies: bool = True
    ) -> ServiceMinutes:
        self._strike(self.faults, "read_services")
        return self.metrics.read_services(start, end, services, latencies=latencies)

    def read_totals(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], Sample]:
        self._strike(self.faults, "read_totals")
        return self.metrics.read_totals(start, end)


def on_a_bad_line(world: World) -> Faulty:
    faulty = Faulty(world.outside.cloud_run, world.outside.metrics)
    world.outside = replace(world.outside, cloud_run=faulty, metrics=faulty)
    return faulty


def once(error: Exception) -> Callable[[], None]:
    errors = [error]

    def strike() -> None:
        if errors:
            raise errors.pop()

    return strike


def always(error: Exception) -> Callable[[], None]:
    def strike() -> None:
        raise error

    return strike


def until(phase: Phase, percent: int) -> Callable[[Pass], None]:
    """Stop following when the rollout is in force at this phase and share, as if it was killed."""

    def act(seen: Pass) -> None:
        rollout = seen.rollout
        assert rollout is not None
        here = (rollout.phase, rollout.percent) == (phase, percent)
        if here and (rollout.observed_at or phase is Phase.CHECKING):
            raise KilledError

    return act


class KilledError(Exception):
    pass


def run_until(world: World, phase: Phase, percent: int, begun: Begun | None = None) -> None:
    with pytest.raises(KilledError):
        world.follow(begun or world.begin(), until(phase, percent))


LOST = TransientError("the reply was lost")


# --- lost replies and failing calls ---


@pytest.mark.scenario(44)
def test_a_write_whose_reply_is_lost_is_noticed_and_not_doubled(world: World) -> None:
    world.deploy()
    faulty = on_a_bad_line(world)
    faulty.after["write_service"] = once(LOST)
    begun = world.begin()
    assert begun.rollout.phase is Phase.WAITING
    run_until(world, Phase.STEPPING, 10, begun)
    faulty.after["write_service"] = once(LOST)
    assert world.commanded(Event.PROMOTE).percent == 50
    faulty.after["write_service"] = once(LOST)
    assert world.commanded(Event.ROLLBACK).phase is Phase.ROLLED_BACK
    assert world.serving() == {begun.rollout.stable: 100}


@pytest.mark.scenario(31)
def test_metrics_that_cannot_be_read_hold_for_a_bounded_time_and_say_so(world: World) -> None:
    world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    faulty.faults["read_minutes"] = always(TransientError("Cloud Monitoring cannot be reached"))
    followed = world.follow(world.begin())
    assert followed.ending is Ending.HELD
    assert "Cloud Monitoring cannot be reached" in followed.rollout.reason
    assert followed.rollout.percent == 10


def test_a_metrics_outage_that_ends_is_got_over(world: World) -> None:
    candidate = world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    strikes = iter(range(20))

    def outage() -> None:
        if next(strikes, None) is not None:
            raise LOST

    faulty.faults["read_minutes"] = outage
    assert world.follow(world.begin()).rollout.phase is Phase.PROMOTED
    assert world.serving() == {candidate: 100}


def test_a_rollback_needs_neither_metrics_nor_revisions(world: World) -> None:
    stable = world.newest()
    world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    for call in ("read_minutes", "read_revision"):
        faulty.faults[call] = always(DeniedError("not allowed"))
    assert world.commanded(Event.ROLLBACK).phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}


def test_without_metrics_nothing_begins_and_nothing_is_written(world: World) -> None:
    world.deploy()
    before = world.service()
    on_a_bad_line(world).faults["read_minutes"] = always(DeniedError("monitoring.timeSeries.list"))
    with pytest.raises(DeniedError, match="monitoring"):
        world.begin()
    assert world.service() == before


@pytest.mark.parametrize("call", ["read_service", "read_revision"])
def test_the_admin_api_away_for_minutes_is_waited_for(world: World, call: str) -> None:
    world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    begun, back = world.begin(), world.outside.clock.now().timestamp() + 20 * 60

    def away() -> None:
        if world.outside.clock.now().timestamp() < back:
            raise LOST

    faulty.faults[call] = away
    assert world.follow(begun).rollout.phase is Phase.PROMOTED


def test_a_limit_is_kept_although_the_revisions_cannot_be_read(world: World) -> None:
    world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    faulty.faults["read_revision"] = always(LOST)
    followed = world.follow(world.begin())
    assert followed.ending is Ending.HELD
    assert "cannot be read: the reply was lost" in followed.rollout.reason


# --- races ---


@pytest.mark.scenario(53)
def test_a_pause_that_a_late_write_of_the_loop_runs_over_is_given_again(world: World) -> None:
    """The loop has read before the pause and writes after it, on a Cloud Run that ignores etags."""
    world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.STEPPING, 10)
    overtaken = dict(world.service().annotations)
    late = [overtaken]

    def run_over() -> None:
        if late and Phase.PAUSED in world.service().annotations[ANNOTATION]:
            world.replace_annotations(late.pop())

    faulty.faults["read_service"] = run_over
    paused = world.commanded(Event.PAUSE)
    assert not late
    assert paused.phase is Phase.PAUSED
    assert '"phase":"paused"' in world.service().annotations[ANNOTATION]


@pytest.mark.scenario(53)
def test_a_rollback_that_a_late_write_undoes_when_it_is_in_force_is_given_again() -> None:
    """A controller read before the rollback, and its write lands after all saw it served."""
    with a_world(etag=EtagMode.IGNORE) as world:
        world.pin()
        stable = world.newest()
        world.deploy()
        run_until(world, Phase.STEPPING, 50)
        before = world.outside.cloud_run.read_service(SERVICE)
        late = [ServiceChange(SERVICE, before.etag, before.annotations, before.traffic)]
        landed: list[datetime] = []
        begun = world.local.now()

        def land(seen: Pass) -> None:
            assert seen.rollout is not None
            if late and seen.rollout.observed_at is not None and seen.rollout.phase is Phase.ROLLED_BACK:
                world.wait(LATE_WRITE.total_seconds() / 2)
                world.outside.cloud_run.write_service(late.pop())
                undone = world.service()
                assert parse_record(undone.annotations[ANNOTATION]).phase is Phase.STEPPING
                assert [target.percent for target in undone.traffic if target.percent] == [50, 50]
                landed.append(world.local.now())

        obeyed = obey(world.outside, SERVICE, Event.ROLLBACK, "ada", both(world.saw, land))
        assert landed
        assert landed[0] - begun > LATE_WRITE / 2
        assert (obeyed.answer, obeyed.in_force) == (None, True)
        rollout = parse_record(world.service().annotations[ANNOTATION])
        assert (rollout.phase, rollout.reason) == (Phase.ROLLED_BACK, "rolled back by ada")
        assert rollout.since > landed[0]
        assert world.serving() == {stable: 100}
        assert world.tags() == set()
        assert world.follow(world.begin()).rollout == rollout


@pytest.mark.scenario(55)
def test_a_change_of_an_unrelated_annotation_between_read_and_write_survives(world: World) -> None:
    world.deploy()
    faulty = on_a_bad_line(world)
    begun = world.begin()
    reads = iter(range(100))

    def annotate() -> None:
        if next(reads) in {1, 5, 9, 13}:
            world.set_annotations(**{f"n{len(world.service().annotations)}": "kept"})

    faulty.faults["read_service"] = annotate
    run_until(world, Phase.STEPPING, 10, begun)
    assert [v for k, v in world.service().annotations.items() if k.startswith("n")].count("kept") >= 2


def test_a_promotion_goes_no_further_than_the_step_it_was_asked_past(world: World) -> None:
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    assert world.commanded(Event.PROMOTE).percent == 50
    assert world.commanded(Event.PROMOTE).phase is Phase.BAKING


# --- beginnings on top of something else ---


def test_begun_again_without_a_name_it_goes_on_with_an_older_candidate(world: World) -> None:
    older = world.deploy()
    newest = world.deploy()
    world.set_traffic((Target(newest, 100),))
    run_until(world, Phase.STEPPING, 10, world.begin(candidate=older))
    again = world.begin()
    assert (again.opened, again.rollout.candidate) == (False, older)
    assert world.serving() == {newest: 90, older: 10}


def test_the_stable_of_a_running_rollout_cannot_become_a_candidate(world: World) -> None:
    stable = world.newest()
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    with pytest.raises(OpeningRefused, match="canary rollback"):
        world.begin(candidate=stable)


def test_an_edit_by_hand_that_no_controller_saw_stands_when_another_rollout_begins(world: World) -> None:
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    by_hand = world.deploy()
    world.set_traffic((Target(by_hand, 100),))
    candidate = world.deploy()
    begun = world.begin(candidate=candidate)
    assert begun.rollout.stable == by_hand
    world.wait(10)
    assert world.serving() == {by_hand: 100}


def test_a_rollout_that_takes_anothers_place_leaves_none_of_its_tags(world: World) -> None:
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    world.deploy()
    rollout = world.roll_out().rollout
    assert rollout.phase is Phase.PROMOTED
    assert world.tags() == set()


def test_the_newer_build_begins_even_while_the_older_is_on_its_way_back(world: World) -> None:
    stable = world.newest()
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    newer = world.deploy()
    with pytest.raises(KilledError):
        world.follow(world.begin(candidate=world.seen[-1].rollout.candidate), kill_at_once)  # type: ignore[union-attr]
    assert len(world.serving()) == 2
    begun = world.begin()
    assert (begun.rollout.candidate, begun.rollout.stable) == (newer, stable)


def kill_at_once(_: Pass) -> None:
    raise KilledError


def test_a_promoted_candidate_that_somebody_took_back_is_not_called_promoted(world: World) -> None:
    stable = world.newest()
    world.deploy()
    world.roll_out()
    world.set_traffic((Target(stable, 100),))
    with pytest.raises(OpeningRefused, match="traffic was changed since"):
        world.begin()


def test_a_candidate_with_most_of_the_users_is_refused(world: World) -> None:
    stable, candidate = world.newest(), world.deploy()
    world.set_traffic((Target(stable, 10), Target(candidate, 90)))
    with pytest.raises(OpeningRefused, match="serves 90 % of the users already"):
        world.begin()


def test_a_service_whose_first_revision_is_broken_is_refused() -> None:
    with a_world() as world:
        world.services.delete_service(name=f"{world.parent}/services/{SERVICE}")
        world.wait(10)
        world.deploy(CRASH="1")
        with pytest.raises(OpeningRefused, match="no revision of web is ready"):
            world.begin()


# --- ends ---


def test_a_record_removed_in_the_middle_ends_the_following_and_says_so(world: World) -> None:
    world.deploy()
    begun = world.begin()
    run_until(world, Phase.STEPPING, 10, begun)
    world.replace_annotations({})
    assert world.follow(begun).ending is Ending.REMOVED


def test_an_end_that_cloud_run_refuses_is_asked_for_again_and_given_up_in_the_end(world: World) -> None:
    """Stable is deleted in the bake, so there is nothing left to go back to."""
    stable, candidate = world.newest(), world.deploy()
    faulty = on_a_bad_line(world)
    run_until(world, Phase.BAKING, 100)
    world.set_traffic((Target(candidate, 100),))
    world.revisions.delete_revision(name=f"{world.parent}/services/{SERVICE}/revisions/{stable}")
    splits: list[object] = []
    faulty.after["write_service"] = lambda: splits.append(world.service().traffic)
    commanded = world.command(Event.ROLLBACK)
    assert commanded.rollout is not None
    assert (commanded.rollout.phase, commanded.in_force) == (Phase.ROLLED_BACK, False)
    assert world.follow(world.begin()).ending is Ending.UNSERVED
    assert len(splits) > 10
    assert world.serving() == {candidate: 100}


def test_while_something_else_reconciles_a_served_step_is_not_rolled_back(world: World) -> None:
    world.deploy()
    slow: list[str] = []

    def deploy_slowly(seen: Pass) -> None:
        rollout = seen.rollout
        if rollout and rollout.percent == 10 and not rollout.observed_at and len(slow) < 3:
            slow.append(world.deploy(START_SECONDS="150"))

    policy = a_policy(**QUICK, on_new_revision="queue")
    assert world.roll_out(policy, deploy_slowly).rollout.phase is Phase.PROMOTED
    assert len(slow) == 3


def test_a_promotion_needs_a_way_back(world: World) -> None:
    stable = world.newest()
    world.deploy()
    run_until(world, Phase.CHECKING, 0)
    faulty = on_a_bad_line(world)
    faulty.missing.add(stable)
    answer = world.command(Event.PROMOTE_FULL).answer
    assert isinstance(answer, Refuse)
    assert "no way back" in answer.why


# --- what a review found ---


def test_a_command_is_not_obeyed_by_the_rollout_that_begins_next(world: World) -> None:
    stable = world.newest()
    world.deploy()
    run_until(world, Phase.STEPPING, 10)
    begun: list[Begun] = []

    def begin_the_next(seen: Pass) -> None:
        world.saw(seen)
        if seen.rollout and seen.rollout.is_over and not begun:
            world.deploy()
            begun.append(world.begin())

    obeyed = obey(world.outside, SERVICE, Event.ROLLBACK, "ada", begin_the_next)
    assert obeyed.rollout is not None
    assert (obeyed.rollout.id != begun[0].rollout.id, obeyed.rollout.phase) == (True, Phase.ROLLED_BACK)
    assert not world.begin().rollout.phase.is_terminal
    assert world.serving() == {stable: 100}


def test_latest_does_not_come_back_while_a_newer_revision_is_starting(world: World) -> None:
    world.set_traffic((Target("", 100),))
    stable = world.newest()
    world.command(Event.PAUSE)
    world.deploy(START_SECONDS="60")
    assert "stays pinned" in world.command(Event.RESUME).done
    world.wait(120)
    assert world.serving() == {stable: 100}


def test_a_queued_revision_that_is_starting_gets_nobody_when_the_one_before_is_promoted(world: World) -> None:
    world.set_traffic((Target("", 100),))
    candidate = world.deploy(START_SECONDS="20")
    begun = world.begin(a_policy(**QUICK, on_new_revision="queue"))
    deployed: list[str] = []

    def deploy_at_the_end(seen: Pass) -> None:
        if seen.rollout and seen.rollout.phase is Phase.BAKING and not deployed:
            deployed.append(world.deploy(START_SECONDS="600"))

    assert world.follow(begun, deploy_at_the_end).rollout.phase is Phase.PROMOTED
    world.wait(900)
    assert world.serving() == {candidate: 100}


def test_the_first_revision_that_works_is_stable_for_the_next_while_it_bakes() -> None:
    with a_world() as world:
        world.services.delete_service(name=f"{world.parent}/services/{SERVICE}")
        world.wait(10)
        world.deploy(CRASH="1")
        first = world.deploy()
        run_until(world, Phase.BAKING, 100)
        world.deploy()
        assert world.begin().rollout.stable == first


def test_checks_end_although_somebody_took_our_tags_away(world: World) -> None:
    stable = world.newest()
    world.deploy()
    run_until(world, Phase.CHECKING, 0)
    begun = world.begin()
    faulty = on_a_bad_line(world)
    faulty.faults["read_revision"] = always(LOST)
    world.set_traffic((Target(stable, 100),))
    assert world.follow(begun).rollout.phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}


def test_a_tag_on_a_deployment_that_failed_keeps_nobody_from_being_sent_back(world: World) -> None:
    stable = world.newest()
    candidate = world.deploy()
    begun = world.begin(a_policy(**QUICK, on_new_revision="ignore"))
    run_until(world, Phase.STEPPING, 10, begun)
    broken = world.deploy(CRASH="1")
    kept = tuple(Target(t.revision, t.percent, t.tag) for t in world.service().traffic)
    world.set_traffic((*kept, Target(broken, 0, "b-43")))
    assert world.serving() == {stable: 90, candidate: 10}
    assert world.commanded(Event.ROLLBACK).phase is Phase.ROLLED_BACK
    assert world.serving() == {stable: 100}
