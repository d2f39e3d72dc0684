"""The scenarios of rollback, supersession and retry."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.cloud import run_v2
from scene import Stage, a_stage, steps
from world import SERVICE

from controller.core.opening import OpeningRefused
from controller.core.rollout import Event, Phase
from controller.core.traffic import Target
from controller.engine.commands import release_service
from controller.engine.loop import Ending
from controller.engine.reconcile import look


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


@pytest.mark.scenario(14)
@pytest.mark.parametrize("errors", ["0", "0.4"])
def test_a_rollback_with_nothing_in_flight_writes_nothing_however_often(stage: Stage, errors: str) -> None:
    stage.deploy(ERROR_SHARE=errors)
    stage.roll_out()
    with stage.stays_as_it_is():
        for _ in range(2):
            said = stage.canary("rollback", "web")
            assert (said.code, "Nothing to do: the rollout is over" in said.text) == (0, True)


@pytest.mark.scenario(14)
def test_a_rollback_where_there_never_was_a_rollout_writes_nothing(stage: Stage) -> None:
    with stage.stays_as_it_is():
        for _ in range(2):
            said = stage.canary("rollback", "web")
            assert (said.code, "Nothing to do: no rollout of web is on record" in said.text) == (0, True)


@pytest.mark.scenario(15)
@pytest.mark.parametrize("percent", [5, 25, 50])
def test_a_rollback_from_any_step_is_one_write_of_the_split(stage: Stage, percent: int) -> None:
    stable, candidate = stage.newest(), stage.deploy()
    stage.run_until(Phase.STEPPING, percent)
    written = len(stage.ticks)
    stage.command(Event.ROLLBACK)
    stage.look()
    asked = [tick.asked for tick in stage.ticks[written:]]
    assert [shares for n, shares in enumerate(asked) if n == 0 or shares != asked[n - 1]] == [{stable: 100}]
    assert stage.story[-1] == ("rolled_back", "100/0")
    assert stage.reasons[-1] == "rolled back by ada"
    assert stage.serving() == {stable: 100}
    assert candidate not in stage.ticks[-1].served
    assert stage.tags() == set()


@pytest.mark.scenario(16)
def test_after_two_candidates_that_never_are_ready_a_good_one_is_promoted(stage: Stage) -> None:
    stable = stage.newest()
    impatient = steps(ready_within="1m")
    for _ in range(2):
        bad = stage.deploy(START_SECONDS="200")
        rollout = stage.roll_out(impatient).rollout
        assert (rollout.candidate, rollout.phase) == (bad, Phase.FAILED)
        assert f"the candidate {bad} was not ready within 1 minutes" in rollout.reason
        assert stage.serving() == {stable: 100}
    assert stage.highest == 0
    good = stage.deploy()
    rollout = stage.roll_out(impatient).rollout
    assert (rollout.stable, rollout.candidate, rollout.phase) == (stable, good, Phase.PROMOTED)


# --- no stable, or a bad one ---

ALONE = [("waiting", "0/100"), ("checking", "0/100"), ("baking", "0/100")]


def a_first_revision_that_is_broken(stage: Stage) -> None:
    """Let the service be one whose first revision ever never came up, with users that wait for it."""
    stage.services.delete_service(name=f"{stage.parent}/services/{SERVICE}")
    stage.wait(10)
    stage.deploy(CRASH="1")
    stage.users(20)


@pytest.mark.scenario(17)
def test_after_a_first_revision_that_is_broken_the_next_is_promoted_by_its_ceilings(stage: Stage) -> None:
    a_first_revision_that_is_broken(stage)
    good = stage.deploy()
    begun = stage.begin()
    assert (begun.rollout.stable, begun.rollout.candidate) == ("", good)
    (warning,) = begun.warnings
    assert "is judged by ceilings alone, and there is none to go back to" in warning
    stage.follow(begun)
    assert stage.story == [*ALONE, ("promoted", "0/100")]
    assert stage.reasons[2] == "checks passed: no other was ever ready"
    assert stage.reasons[3].startswith("errors: candidate ")
    assert "stable" not in stage.reasons[3]
    assert stage.serving() == {good: 100}


@pytest.mark.scenario(17)
def test_after_a_first_revision_that_is_broken_a_bad_one_fails_and_a_good_one_is_promoted(
    stage: Stage,
) -> None:
    a_first_revision_that_is_broken(stage)
    bad = stage.deploy(ERROR_SHARE="0.5")
    stage.strict = False  # nobody else can serve
    rollout = stage.roll_out().rollout
    assert (rollout.candidate, rollout.phase) == (bad, Phase.FAILED)
    assert stage.story == [*ALONE, ("failed", "0/100")]
    assert stage.serving() == {bad: 100}
    stage.pin()
    good = stage.deploy()
    rollout = stage.roll_out().rollout
    assert (rollout.stable, rollout.candidate, rollout.phase) == (bad, good, Phase.PROMOTED)


@pytest.mark.scenario(18)
def test_a_good_candidate_beside_a_bad_stable_is_promoted_and_held_to_the_ceiling(stage: Stage) -> None:
    stable = stage.newest()
    stage.local.behave(stable, error_share=0.3)
    candidate = stage.deploy()
    followed = stage.roll_out()
    assert (followed.ending, followed.rollout.phase) == (Ending.OVER, Phase.PROMOTED)
    assert [split for _, split in stage.story] == [
        "100/0",
        "100/0",
        "95/5",
        "75/25",
        "50/50",
        "0/100",
        "0/100",
    ]
    for reason in stage.reasons[3:6]:
        assert "stable itself is above " in reason
        assert ", so the candidate is held to that" in reason
    assert stage.serving() == {candidate: 100}


# --- rollbacks to a revision, deadlines ---


@pytest.mark.scenario(21)
def test_a_rollback_to_an_earlier_revision_takes_no_steps_and_waits_for_no_evidence(stage: Stage) -> None:
    first = stage.newest()
    for _ in range(2):
        stage.deploy()
        stage.roll_out(steps(steps=["50%"], hold={"at_least": "1m"}, bake="1m"))
    last = stage.newest()
    assert stage.serving() == {last: 100}
    told, began, generation = len(stage.story), stage.local.now(), stage.service().generation
    said = stage.command(Event.ROLLBACK, to=first)
    stage.look()
    assert said.in_force
    assert stage.story[told:] == [("rolled_back", "100/0")]
    assert stage.reasons[-1] == f"rolled back to {first} by ada"
    assert stage.local.now() - began < timedelta(minutes=1)
    asked = [tick.asked for tick in stage.ticks if tick.generation > generation]
    assert asked
    assert all(shares == {first: 100} for shares in asked)
    assert stage.serving() == {first: 100}
    assert (stage.record.stable, stage.record.candidate) == (first, last)


@pytest.mark.scenario(22)
def test_a_deadline_that_ends_the_rollout_leaves_stable_alone(stage: Stage) -> None:
    stable, candidate = stage.newest(), stage.deploy(START_SECONDS="200")
    followed = stage.roll_out(steps(ready_within="1m", on_deadline="rollback"))
    assert followed.ending is Ending.OVER
    assert stage.story == [("waiting", "100/0"), ("failed", "100/0")]
    assert stage.reasons[-1].startswith(f"the candidate {candidate} was not ready within 1 minutes")
    assert stage.serving() == {stable: 100}
    stage.wait(300)  # it is ready now, and comes too late
    assert stage.follow(stage.begin()).rollout.phase is Phase.FAILED


@pytest.mark.scenario(22)
def test_a_deadline_that_is_reported_is_on_record_once_and_the_candidate_is_waited_for(stage: Stage) -> None:
    stable, candidate = stage.newest(), stage.deploy(START_SECONDS="200")
    stage.roll_out(steps(ready_within="1m", on_deadline="report"))
    assert stage.story == [
        ("waiting", "100/0"),
        ("waiting", "100/0"),
        ("checking", "100/0"),
        ("stepping", "95/5"),
        ("stepping", "75/25"),
        ("stepping", "50/50"),
        ("baking", "0/100"),
        ("promoted", "0/100"),
    ]
    late = f"the candidate {candidate} was not ready within 1 minutes"
    assert stage.reasons[1].startswith(late)
    assert stage.reasons[1].endswith("; it is waited for")
    begun, reported, ready, *_ = (tick.record for tick in stage.entries)
    assert begun
    assert reported
    assert ready
    assert timedelta(minutes=1) <= reported.since - begun.since < timedelta(minutes=2)
    assert ready.since - reported.since > timedelta(minutes=1)
    assert all(tick.asked == {stable: 100} for tick in stage.ticks if tick.record and not tick.record.percent)
    assert stage.serving() == {candidate: 100}


@pytest.mark.scenario(19)
def test_a_newer_revision_takes_the_place_of_the_one_under_way_against_the_same_stable(stage: Stage) -> None:
    first, second = stage.newest(), stage.deploy()
    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, stage.deploy))
    third = stage.newest()
    assert (followed.rollout.candidate, followed.rollout.phase) == (second, Phase.SUPERSEDED)
    assert followed.rollout.reason.startswith(f"a newer revision, {third}, was deployed")
    assert stage.serving() == {first: 100}
    begun = stage.begin()
    assert (begun.rollout.stable, begun.rollout.candidate) == (first, third)
    stage.follow(begun)
    assert stage.story == [
        ("waiting", "100/0"),
        ("checking", "100/0"),
        ("stepping", "95/5"),
        ("stepping", "75/25"),
        ("superseded", "100/0"),
        ("waiting", "100/0"),
        ("checking", "100/0"),
        ("stepping", "95/5"),
        ("stepping", "75/25"),
        ("stepping", "50/50"),
        ("baking", "0/100"),
        ("promoted", "0/100"),
    ]


@pytest.mark.scenario(20)
def test_while_the_newer_revision_is_not_ready_all_users_are_on_stable(stage: Stage) -> None:
    first = stage.newest()
    stage.deploy()

    def overtake() -> None:
        stage.deploy(START_SECONDS="150")
        stage.begin()

    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, overtake))
    assert followed.ending is Ending.REPLACED
    stage.run_until(Phase.STEPPING, 5)
    third = stage.newest()
    waiting = [tick for tick in stage.ticks if tick.record and tick.record.candidate == third]
    waiting = [tick for tick in waiting if tick.record and tick.record.phase is Phase.WAITING]
    assert waiting[-1].at - waiting[0].at > timedelta(minutes=1)
    assert all(tick.asked == {first: 100} for tick in waiting)
    assert all(tick.served == {first: 100} for tick in waiting[2:])


@pytest.mark.scenario(23)
def test_after_completion_no_deadline_and_no_error_changes_anything(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.roll_out(steps(ready_within="1m"))
    ended = stage.record
    stage.users(1)
    stage.local.behave(candidate, error_share=1.0)
    with stage.stays_as_it_is():
        for minutes in (10, 120):
            stage.wait(minutes * 60)
            look(stage.outside, "web")
            assert stage.follow(stage.begin()).rollout == ended
    assert stage.serving() == {candidate: 100}


@pytest.mark.scenario(24)
def test_harm_in_the_bake_goes_back_to_the_last_good_revision(stage: Stage) -> None:
    stable, candidate = stage.newest(), stage.deploy()
    harm = stage.when(Phase.BAKING, 100, lambda: stage.local.behave(candidate, error_share=0.5))
    followed = stage.roll_out(act=harm)
    assert stage.story[-2:] == [("baking", "0/100"), ("rolled_back", "100/0")]
    assert "errors: candidate" in followed.rollout.reason
    assert stage.serving() == {stable: 100}
    observed = [tick for tick in stage.ticks if tick.record and tick.record.observed_at]
    assert len(observed) > 10
    for tick in observed:
        assert tick.record is not None
        assert tick.served.get(candidate, 0) == tick.record.percent


@pytest.mark.scenario(25)
def test_a_rejected_candidate_that_was_mended_is_promoted_by_retry_alone(stage: Stage) -> None:
    candidate = stage.deploy(ERROR_SHARE="0.3")
    stage.roll_out()
    stage.local.behave(candidate, error_share=0.0)
    with stage.stays_as_it_is():
        stage.wait(3600)
        assert not stage.begin().opened
    again = stage.roll_out(retry=True, candidate=candidate)
    assert (again.rollout.candidate, again.rollout.phase) == (candidate, Phase.PROMOTED)
    assert stage.serving() == {candidate: 100}


@pytest.mark.scenario(26)
def test_traffic_sent_back_to_stable_in_the_middle_starts_nothing(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy()
    back = stage.when(Phase.STEPPING, 25, lambda: stage.set_traffic((Target(stable, 100),)))
    ended = stage.roll_out(act=back).rollout
    assert ended.phase is Phase.SUPERSEDED
    with stage.stays_as_it_is():
        begun = stage.begin()
        assert (begun.opened, begun.rollout) == (False, ended)
        assert stage.follow(begun).rollout == ended
    assert stage.serving() == {stable: 100}


@pytest.mark.scenario(26)
def test_the_stable_of_a_rollout_cannot_be_rolled_out_in_its_middle(stage: Stage) -> None:
    stable = stage.newest()
    stage.deploy()
    stage.run_until(Phase.STEPPING, 25)
    with stage.stays_as_it_is(), pytest.raises(OpeningRefused, match="is the stable of the rollout"):
        stage.begin(candidate=stable)


@pytest.mark.scenario(26)
def test_deploying_the_promoted_template_again_starts_nothing(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.roll_out()
    promoted = stage.record
    stage.deploy_again()
    assert stage.newest() == candidate
    begun = stage.begin()
    assert (begun.opened, begun.rollout) == (False, promoted)


@pytest.mark.scenario(27)
def test_a_change_of_labels_or_scaling_that_makes_no_revision_starts_no_rollout(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.roll_out()
    promoted = stage.record
    stage.set_labels(team="payments")
    stage.set_least_instances(2)
    assert stage.newest() == candidate
    begun = stage.begin()
    assert (begun.opened, begun.rollout) == (False, promoted)


@pytest.mark.scenario(27)
def test_a_change_of_labels_or_scaling_in_the_middle_ends_no_rollout(stage: Stage) -> None:
    candidate = stage.deploy()

    def edit() -> None:
        stage.set_labels(team="payments")
        stage.set_least_instances(2)

    followed = stage.roll_out(act=stage.when(Phase.STEPPING, 25, edit))
    assert followed.ending is Ending.OVER
    assert followed.rollout.phase is Phase.PROMOTED
    service = stage.service()
    assert (dict(service.labels), service.scaling.min_instance_count) == ({"team": "payments"}, 2)
    assert stage.serving() == {candidate: 100}


# --- release ---


def setting_of(stage: Stage) -> list[tuple[str, str, int, str]]:
    """The traffic of the service as its owner set it: kind, revision, percent and tag of each target."""
    kind = run_v2.TrafficTargetAllocationType
    return [
        (kind(one.type_).name.rpartition("_")[2], one.revision, one.percent, one.tag)
        for one in stage.service().traffic
    ]


@pytest.mark.scenario(28)
@pytest.mark.parametrize("after_promotion", ["as_found", "pinned"])
def test_a_service_that_followed_latest_follows_it_again_when_it_is_released(
    stage: Stage, after_promotion: str
) -> None:
    first = stage.newest()
    stage.set_traffic((Target("", 100), Target(first, 0, "blue")))
    stage.set_annotations(team="payments")
    before, annotations = setting_of(stage), dict(stage.service().annotations)
    stage.deploy(START_SECONDS="20")
    stage.roll_out(steps(after_promotion=after_promotion))
    assert release_service(stage.outside, SERVICE).done
    stage.wait(10)
    assert setting_of(stage) == before
    assert dict(stage.service().annotations) == annotations
    newest = stage.deploy()
    assert stage.serving() == {newest: 100}


@pytest.mark.scenario(28)
@pytest.mark.parametrize("errors", ["0", "0.5"])
def test_a_service_that_was_pinned_is_pinned_to_what_serves_when_it_is_released(
    stage: Stage, errors: str
) -> None:
    annotations = dict(stage.service().annotations)
    stable, candidate = stage.newest(), stage.deploy(ERROR_SHARE=errors)
    stage.roll_out()
    serves = candidate if errors == "0" else stable
    assert release_service(stage.outside, SERVICE).done
    stage.wait(10)
    assert setting_of(stage) == [("REVISION", serves, 100, "")]
    assert dict(stage.service().annotations) == annotations
    stage.deploy()
    assert stage.serving() == {serves: 100}
