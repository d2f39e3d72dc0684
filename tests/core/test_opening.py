from datetime import timedelta
from typing import Any

import pytest
from builders import CANDIDATE, NOW, STABLE, a_policy, a_revision, a_rollout, a_service, a_split

from controller.core.observation import ServiceState
from controller.core.opening import NothingToDo, Opening, OpeningRefused, open_rollout
from controller.core.rollout import Phase
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
