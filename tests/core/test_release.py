"""Releases: all that canary put on a service is taken away, and no user is moved by it."""

from dataclasses import replace
from typing import Any

import pytest
from builders import CANDIDATE, NOW, STABLE, a_rollout, a_service, a_split

from controller.core.change import Change
from controller.core.observation import ServiceState
from controller.core.pause_ahead import PAUSED, pause_ahead
from controller.core.record import ANNOTATION, write_record
from controller.core.release import release
from controller.core.rollout import TERMINAL, Phase, Refuse, Rollout, Stay
from controller.core.traffic import LATEST, Split, Target, follows_latest, shares_of, tags_of
from controller.core.trail import UNLOGGED

BLUE = Target(STABLE, 0, "blue")
UNDER_WAY = sorted(set(Phase) - TERMINAL)


def ended(phase: Phase, *, latest: bool = False) -> Rollout:
    return a_rollout(phase, 3, observed_at=NOW, follows_latest=latest)


def with_record(rollout: Rollout, traffic: Split, **fields: Any) -> ServiceState:
    annotations = {"team": "checkout", ANNOTATION: write_record(rollout), UNLOGGED: "[]"}
    return a_service(traffic, annotations=annotations, **fields)


def released(service: ServiceState, rollout: Rollout | None) -> tuple[ServiceState, str]:
    """The service after its release, and what was said of it; no user is moved."""
    change = release(service, rollout)
    assert isinstance(change, Change)
    split = service.traffic if change.split is None else change.split
    assert shares_of(split, service.latest_ready) == service.shares_wanted
    after = replace(service, traffic=split, annotations=change.applied_to(service.annotations))
    return after, change.done


def test_all_of_ours_goes_and_nothing_of_others() -> None:
    rollout = ended(Phase.PROMOTED)
    ours = (Target(CANDIDATE, 0, rollout.candidate_tag), Target(STABLE, 0, rollout.stable_tag))
    after, _ = released(with_record(rollout, a_split(0, 100, BLUE, *ours)), rollout)
    assert after.annotations == {"team": "checkout"}
    assert after.traffic == a_split(0, 100, BLUE)


def test_traffic_that_is_as_it_should_be_is_not_written() -> None:
    rollout = ended(Phase.PROMOTED)
    change = release(with_record(rollout, a_split(0, 100, BLUE)), rollout)
    assert isinstance(change, Change)
    assert change.split is None


def test_latest_is_followed_again_after_a_promotion_that_left_it_pinned() -> None:
    rollout = ended(Phase.PROMOTED, latest=True)
    after, said = released(with_record(rollout, a_split(0, 100, BLUE)), rollout)
    assert after.traffic == (Target(LATEST, 100), BLUE)
    assert "follows LATEST again" in said


def test_a_rejected_revision_gets_no_user_by_a_release() -> None:
    rollout = ended(Phase.ROLLED_BACK, latest=True)
    after, said = released(with_record(rollout, a_split(100)), rollout)
    assert after.traffic == a_split(100)
    assert f"LATEST would send all users to {CANDIDATE}" in said


def test_an_edit_by_hand_stands_after_a_release() -> None:
    rollout = ended(Phase.SUPERSEDED, latest=True)
    after, _ = released(with_record(rollout, a_split(30, 70, BLUE)), rollout)
    assert after.traffic == a_split(30, 70, BLUE)


def test_a_service_that_never_followed_latest_stays_pinned() -> None:
    rollout = ended(Phase.PROMOTED)
    after, said = released(with_record(rollout, a_split(0, 100)), rollout)
    assert not follows_latest(after.traffic)
    assert f"traffic stays as it is: {CANDIDATE} 100 %" in said


def test_a_pause_ahead_is_taken_away_and_latest_followed_again() -> None:
    service = a_service((Target(LATEST, 100), BLUE))
    change = pause_ahead(service, "ada")
    assert isinstance(change, Change)
    assert change.split is not None
    marked = replace(service, traffic=change.split, annotations=change.applied_to({}))
    after, _ = released(marked, None)
    assert (after.traffic, after.annotations) == (service.traffic, {})


@pytest.mark.parametrize("key", [PAUSED, UNLOGGED])
def test_a_leftover_alone_is_taken_away(key: str) -> None:
    after, _ = released(a_service(annotations={key: "?"}), None)
    assert after.annotations == {}


def test_a_service_without_anything_of_ours_is_left_alone() -> None:
    service = a_service((Target(LATEST, 100),), annotations={"team": "checkout"})
    assert isinstance(release(service, None), Stay)


@pytest.mark.parametrize("phase", UNDER_WAY)
def test_a_rollout_under_way_is_not_let_go_of(phase: Phase) -> None:
    rollout = a_rollout(phase, observed_at=NOW)
    answer = release(with_record(rollout, a_split(95, 5)), rollout)
    assert isinstance(answer, Refuse)
    assert "canary rollback web" in answer.why


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_an_end_that_is_not_in_force_yet_is_not_let_go_of_and_says_how_it_will_be(phase: Phase) -> None:
    rollout = a_rollout(phase, 3)
    answer = release(with_record(rollout, a_split(95, 5)), rollout)
    assert isinstance(answer, Refuse)
    assert "canary rollout web" in answer.why


def test_a_first_revision_that_failed_is_let_go_of() -> None:
    rollout = replace(ended(Phase.FAILED, latest=True), stable="")
    after, _ = released(with_record(rollout, a_split(0, 100)), rollout)
    assert after.traffic == (Target(LATEST, 100),)


def test_a_release_happens_once() -> None:
    rollout = ended(Phase.PROMOTED, latest=True)
    after, _ = released(with_record(rollout, a_split(0, 100)), rollout)
    assert isinstance(release(after, None), Stay)
    assert tags_of(after.traffic) == {}
