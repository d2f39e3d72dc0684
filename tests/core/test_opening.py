from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import CANDIDATE, ID, NOW, STABLE, a_policy, a_revision, a_rollout, a_service, a_split

from controller.core.change import Change
from controller.core.decision import Command
from controller.core.observation import ServiceState
from controller.core.opening import NothingToDo, Opening, OpeningRefused, open_rollback, open_rollout
from controller.core.pause_ahead import PAUSED, pause_ahead
from controller.core.record import parse_record, write_record
from controller.core.rollout import Event, Pause, Phase, Rollout, moved
from controller.core.traffic import LATEST, Target

NEWER = "web-00003-ghi"
REVISIONS = [a_revision(CANDIDATE), a_revision(STABLE, created_at=NOW - timedelta(days=1))]


def opened(
    service: ServiceState | None = None, revisions: Any = None, **fields: Any
) -> Opening | NothingToDo:
    return open_rollout(service or a_service(), revisions or REVISIONS, a_policy(), NOW, "ada", **fields)


def an_opening(*args: Any, **fields: Any) -> Opening:
    opening = opened(*args, **fields)
    assert isinstance(opening, Opening)
    return opening


def test_the_newest_revision_is_the_candidate_and_the_serving_one_is_stable() -> None:
    opening = an_opening()
    rollout = opening.rollout
    assert (rollout.candidate, rollout.stable, rollout.phase) == (CANDIDATE, STABLE, Phase.WAITING)
    assert rollout.percent == 0
    assert Target(STABLE, 100) in opening.split
    assert opening.warnings == ()


def test_latest_is_pinned_at_once_so_that_a_deploy_gets_no_users() -> None:
    service = a_service((Target(LATEST, 100),), latest_ready=STABLE)
    opening = an_opening(service)
    assert [target for target in opening.split if target.percent] == [Target(STABLE, 100)]
    assert opening.rollout.follows_latest


def test_that_a_service_followed_latest_is_remembered_over_a_rollback() -> None:
    before = a_rollout(Phase.ROLLED_BACK, observed_at=NOW, follows_latest=True)
    service = a_service(latest_ready=NEWER, latest_created=NEWER)
    opening = an_opening(service, [a_revision(NEWER), *REVISIONS], previous=before)
    assert opening.rollout.follows_latest


def test_foreign_tags_are_kept() -> None:
    blue = Target(CANDIDATE, 0, "blue")
    assert blue in an_opening(a_service(a_split(100, 0, blue))).split


def test_an_unknown_revision_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OpeningRefused, match=f"did you mean {CANDIDATE}"):
        opened(candidate="web-00002-dfe")


def test_a_third_serving_revision_is_refused() -> None:
    service = a_service((Target(STABLE, 50), Target(NEWER, 50)))
    with pytest.raises(OpeningRefused, match="more than two revisions"):
        opened(service)


def test_a_candidate_that_serves_everybody_is_refused_with_the_way_out() -> None:
    with pytest.raises(OpeningRefused, match="deployed without --no-traffic") as refused:
        opened(a_service(a_split(0, 100)))
    assert f"--to-revisions={STABLE}=100" in str(refused.value)


def test_the_first_revision_of_a_service_is_nothing_to_do() -> None:
    opening = opened(a_service(a_split(0, 100)), [a_revision(CANDIDATE)])
    assert isinstance(opening, NothingToDo)


def test_a_promoted_revision_is_nothing_to_do() -> None:
    before = a_rollout(Phase.PROMOTED, 3, observed_at=NOW)
    opening = opened(a_service(a_split(0, 100)), previous=before)
    assert isinstance(opening, NothingToDo)


def test_a_stable_that_is_not_ready_is_refused() -> None:
    with pytest.raises(OpeningRefused, match="no way back"):
        opened(None, [a_revision(CANDIDATE), a_revision(STABLE, ready=False)])


def test_session_affinity_is_warned_of() -> None:
    opening = an_opening(None, [a_revision(CANDIDATE, session_affinity=True), a_revision(STABLE)])
    assert "session affinity is on" in opening.warnings[0]


def test_a_share_that_the_candidate_has_already_is_warned_of_and_taken_back() -> None:
    opening = an_opening(a_service(a_split(90, 10)))
    assert "serves 10 % of the users already" in opening.warnings[0]
    assert Target(STABLE, 100) in opening.split


def test_a_newer_candidate_keeps_the_stable_of_the_rollout_that_it_takes_over() -> None:
    running = a_rollout(Phase.STEPPING, 1)
    service = a_service(a_split(75, 25), latest_created=NEWER, latest_ready=NEWER)
    opening = an_opening(service, [a_revision(NEWER), *REVISIONS], previous=running)
    assert (opening.rollout.stable, opening.rollout.candidate) == (STABLE, NEWER)
    assert [target for target in opening.split if target.percent] == [Target(STABLE, 100)]


# --- asked on an address of its own ---

ASKING: list[tuple[dict[str, Any], str]] = [
    ({"smoke": "/healthz"}, "smoke"),
    ({"probes": "/healthz"}, "probes"),
    ({"smoke": "/", "probes": "/healthz"}, "smoke and probes"),
]
CROWDED = "w" * 49


@pytest.mark.parametrize(("policy", "named"), ASKING)
def test_a_policy_that_asks_the_candidate_is_refused_without_a_default_url(
    policy: dict[str, Any], named: str
) -> None:
    service = a_service(has_default_url=False)
    with pytest.raises(OpeningRefused, match="the default URL of web is disabled") as refused:
        open_rollout(service, REVISIONS, a_policy(**policy), NOW, "ada")
    assert f"take {named} out of the policy" in str(refused.value)
    assert "gcloud run services update web --default-url" in str(refused.value)


@pytest.mark.parametrize(("policy", "named"), ASKING)
def test_a_policy_that_asks_the_candidate_is_refused_where_no_tag_has_room(
    policy: dict[str, Any], named: str
) -> None:
    with pytest.raises(OpeningRefused, match="leaves no room for the tag") as refused:
        open_rollout(a_service(name=CROWDED), REVISIONS, a_policy(**policy), NOW, "ada")
    assert f"take {named} out of the policy" in str(refused.value)


def test_a_policy_that_asks_nothing_needs_no_address() -> None:
    assert an_opening(a_service(has_default_url=False)).rollout.phase is Phase.WAITING
    assert an_opening(a_service(name=CROWDED)).rollout.candidate_tag == ""


# --- begun paused ---


def marked(**fields: Any) -> ServiceState:
    """A service that followed LATEST, was paused ahead by eve, and got a new revision since."""
    before = a_service((Target(LATEST, 100),), latest_ready=STABLE)
    change = pause_ahead(before, "eve")
    assert isinstance(change, Change)
    assert change.split is not None
    annotations = change.applied_to({"team": "checkout"})
    return a_service(change.split, annotations=annotations, **fields)


def test_after_a_pause_ahead_it_begins_paused_by_whoever_asked_for_it() -> None:
    rollout = an_opening(marked()).rollout
    assert (rollout.phase, rollout.paused_phase, rollout.pause) == (
        Phase.PAUSED,
        Phase.WAITING,
        Pause.PERSON,
    )
    assert (rollout.by, rollout.percent, rollout.held) == ("eve", 0, False)
    assert "paused by eve" in rollout.reason


def test_that_latest_was_followed_before_the_pause_is_remembered() -> None:
    assert an_opening(marked()).rollout.follows_latest


def test_a_mark_that_cannot_be_read_begins_paused_all_the_same() -> None:
    rollout = an_opening(a_service(annotations={PAUSED: "{"})).rollout
    assert (rollout.phase, rollout.by) == (Phase.PAUSED, "somebody")


def test_what_begins_paused_goes_on_where_it_would_have_begun() -> None:
    rollout = an_opening(marked()).rollout
    assert parse_record(write_record(rollout)) == rollout
    resumed = moved(rollout, Event.RESUME, NOW, "so", "ada")
    assert isinstance(resumed, Rollout)
    assert resumed.phase is Phase.WAITING


# --- the first revision that works ---

BROKEN = a_revision(STABLE, ready=False, failed=True, created_at=NOW - timedelta(days=1))


def test_the_first_revision_that_works_is_a_candidate_without_stable() -> None:
    service = a_service(a_split(0, 100))
    opening = an_opening(service, [a_revision(CANDIDATE), BROKEN])
    assert (opening.rollout.candidate, opening.rollout.stable) == (CANDIDATE, "")
    assert [target for target in opening.split if target.percent] == [Target(CANDIDATE, 100)]
    assert all(target.revision for target in opening.split)
    assert "judged by ceilings alone" in opening.warnings[0]
    assert parse_record(write_record(opening.rollout)) == opening.rollout


def test_the_first_revision_that_works_is_pinned_where_latest_was_followed() -> None:
    opening = an_opening(a_service((Target(LATEST, 100),)), [a_revision(CANDIDATE), BROKEN])
    assert opening.rollout.follows_latest
    assert [target for target in opening.split if target.percent] == [Target(CANDIDATE, 100)]


def test_where_no_revision_is_ready_nothing_begins() -> None:
    service = a_service((Target(LATEST, 100),), latest_ready="")
    with pytest.raises(OpeningRefused, match="no revision of web is ready"):
        opened(service, [a_revision(CANDIDATE, ready=False), BROKEN])


# --- a rollback while nothing is under way ---

BACK = Command(Event.ROLLBACK, "ada", "c1", ID, to=STABLE)


def bring_back(service: ServiceState, to: str = STABLE, previous: Any = None) -> Opening | NothingToDo:
    return open_rollback(service, a_revision(to), NOW, replace(BACK, to=to), previous)


def test_a_rollback_sends_all_users_at_once_and_is_over_when_it_is_served() -> None:
    opening = bring_back(a_service(a_split(0, 100, Target(CANDIDATE, 0, "blue"))))
    assert isinstance(opening, Opening)
    rollout = opening.rollout
    assert opening.split == (Target(STABLE, 100), Target(CANDIDATE, 0, "blue"))
    assert (rollout.phase, rollout.candidate, rollout.stable) == (Phase.ROLLED_BACK, CANDIDATE, STABLE)
    assert (rollout.is_over, rollout.obeyed) == (False, ("c1",))
    assert parse_record(write_record(rollout)) == rollout


def test_a_rollback_pins_latest_and_remembers_that_it_was_followed() -> None:
    opening = bring_back(a_service((Target(LATEST, 100),)))
    assert isinstance(opening, Opening)
    assert opening.split == (Target(STABLE, 100),)
    assert opening.rollout.follows_latest


@pytest.mark.parametrize("traffic", [a_split(100), a_split(100, 0, Target(CANDIDATE, 0, "blue"))])
def test_a_rollback_to_what_everybody_has_is_nothing_to_do(traffic: Any) -> None:
    assert isinstance(bring_back(a_service(traffic)), NothingToDo)


def test_a_rollback_from_several_revisions_is_a_rollback_from_the_one_with_the_most_users() -> None:
    service = a_service((Target(STABLE, 20), Target(CANDIDATE, 30), Target(NEWER, 50)))
    opening = bring_back(service)
    assert isinstance(opening, Opening)
    assert opening.rollout.candidate == NEWER
    assert [target for target in opening.split if target.percent] == [Target(STABLE, 100)]


def test_a_rollback_leaves_none_of_our_tags_and_keeps_the_policy() -> None:
    before = a_rollout(Phase.SUPERSEDED, 1, observed_at=NOW, policy=a_policy(steps=[7]))
    left = Target(CANDIDATE, 0, before.candidate_tag)
    opening = bring_back(a_service(a_split(0, 100, left)), previous=before)
    assert isinstance(opening, Opening)
    assert opening.split == (Target(STABLE, 100),)
    assert opening.rollout.policy == before.policy


# --- an edit by hand that is not in force yet ---


def test_a_rollout_begins_from_what_somebody_has_just_asked_for() -> None:
    """An owner sends all users back in an emergency; the pipeline's next rollout must not undo it."""
    service = a_service(
        a_split(100), a_split(0, 100), settled=False, latest_created=NEWER, latest_ready=NEWER
    )
    opening = an_opening(service, [a_revision(NEWER), *REVISIONS])
    assert (opening.rollout.candidate, opening.rollout.stable) == (NEWER, STABLE)
    assert [target for target in opening.split if target.percent] == [Target(STABLE, 100)]


def test_a_rollback_takes_back_what_somebody_has_just_asked_for() -> None:
    opening = bring_back(a_service(a_split(0, 100), a_split(100), settled=False))
    assert isinstance(opening, Opening)
    assert [target for target in opening.split if target.percent] == [Target(STABLE, 100)]


def test_an_opening_takes_away_the_tags_of_one_that_was_undone() -> None:
    lost = replace(a_rollout(), id="5a5a5a5a")
    left = (Target(STABLE, 0, lost.stable_tag), Target(CANDIDATE, 0, "blue"))
    opening = an_opening(a_service(a_split(100, 0, *left)), lost=[lost])
    assert {target.tag for target in opening.split if target.tag} == {"blue", opening.rollout.stable_tag}
