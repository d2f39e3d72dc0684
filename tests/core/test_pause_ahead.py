"""Pauses ahead: a mark on the service while no rollout is under way."""

import json
from dataclasses import replace
from typing import Any

import pytest
from builders import CANDIDATE, STABLE, a_service, a_split

from controller.core.change import Change
from controller.core.observation import ServiceState
from controller.core.pause_ahead import (
    PAUSED,
    PauseAhead,
    pause_ahead,
    read_pause_ahead,
    resume_ahead,
    with_latest,
)
from controller.core.plain_text import LONGEST_NAME
from controller.core.rollout import Stay
from controller.core.traffic import LATEST, Target

BLUE = Target(STABLE, 0, "blue")
NEXT = Target(LATEST, 0, "next")


def following(ready: str = STABLE, *tags: Target, **fields: Any) -> ServiceState:
    """A service whose users go to LATEST, which is the revision `ready`."""
    return a_service((Target(LATEST, 100), *tags), latest_ready=ready, latest_created=ready, **fields)


def changed(service: ServiceState, change: Change | Stay) -> ServiceState:
    """The service after the change, when it is in force."""
    assert isinstance(change, Change)
    split = service.traffic if change.split is None else change.split
    annotations = change.applied_to(service.annotations)
    return replace(service, traffic=split, served=split, annotations=annotations)


def paused(service: ServiceState) -> ServiceState:
    return changed(service, pause_ahead(service, "ada"))


def test_a_pause_pins_latest_where_the_users_are_and_keeps_the_tags() -> None:
    after = paused(following(STABLE, BLUE, NEXT))
    assert after.traffic == (Target(STABLE, 100), BLUE, NEXT)
    assert read_pause_ahead(after) == PauseAhead("ada", follows_latest=True)


def test_a_service_that_does_not_follow_latest_keeps_its_traffic_untouched() -> None:
    change = pause_ahead(a_service(a_split(60, 40)), "ada")
    assert isinstance(change, Change)
    assert change.split is None
    assert read_pause_ahead(changed(a_service(a_split(60, 40)), change)) == PauseAhead("ada", False)


def test_latest_that_is_no_revision_yet_is_not_pinned() -> None:
    change = pause_ahead(following(""), "ada")
    assert isinstance(change, Change)
    assert change.split is None


def test_a_part_of_the_users_on_latest_is_pinned_with_the_others() -> None:
    mixed = a_service((Target(LATEST, 30), Target(STABLE, 70)), latest_ready=CANDIDATE)
    assert paused(mixed).shares_wanted == {CANDIDATE: 30, STABLE: 70}


def test_annotations_of_others_stay_over_a_pause_and_its_end() -> None:
    service = following(annotations={"team": "checkout"})
    between = paused(service)
    assert between.annotations["team"] == "checkout"
    assert changed(between, resume_ahead(between)) == service


def test_a_second_pause_changes_nothing_whoever_asks() -> None:
    assert isinstance(pause_ahead(paused(following()), "bob"), Stay)


def test_without_a_pause_there_is_nothing_to_resume() -> None:
    assert resume_ahead(following()) == Stay("it is not paused")


def test_to_resume_follows_latest_again_where_that_moves_nobody() -> None:
    between = paused(following(STABLE, BLUE, NEXT))
    after = changed(between, resume_ahead(between))
    assert after.traffic == (Target(LATEST, 100), BLUE, NEXT)
    assert PAUSED not in after.annotations


def test_to_resume_never_sends_users_to_what_was_deployed_meanwhile() -> None:
    between = replace(paused(following(STABLE)), latest_ready=CANDIDATE, latest_created=CANDIDATE)
    change = resume_ahead(between)
    assert isinstance(change, Change)
    assert change.split is None
    assert CANDIDATE in change.done
    assert PAUSED not in change.applied_to(between.annotations)


def test_to_resume_leaves_traffic_as_it_was_edited_meanwhile() -> None:
    between = paused(following(STABLE))
    edited = replace(between, traffic=a_split(50, 50))
    change = resume_ahead(edited)
    assert isinstance(change, Change)
    assert change.split is None


def test_to_resume_does_not_follow_latest_where_it_did_not_before() -> None:
    between = paused(a_service(a_split(0, 100)))
    change = resume_ahead(between)
    assert isinstance(change, Change)
    assert change.split is None


@pytest.mark.parametrize(
    "text",
    ["", "yes", "[]", "null", "7", '"ada"', "{}", '{"by": "ada"}', "[" * 10_000, '{"follows_latest": true}'],
)
def test_a_mark_that_cannot_be_read_is_still_a_pause(text: str) -> None:
    service = following(annotations={PAUSED: text})
    assert read_pause_ahead(service) == PauseAhead("somebody", follows_latest=False)
    assert isinstance(pause_ahead(service, "ada"), Stay)
    change = resume_ahead(service)
    assert isinstance(change, Change)
    assert (change.applied_to(service.annotations), change.split) == ({}, None)


@pytest.mark.parametrize("follows", ["true", 1, None, [True]])
def test_only_a_plain_true_says_that_latest_was_followed(follows: Any) -> None:
    text = json.dumps({"by": "ada", "follows_latest": follows})
    mark = read_pause_ahead(following(annotations={PAUSED: text}))
    assert mark == PauseAhead("ada", follows_latest=False)


def test_a_name_of_any_length_is_kept_short() -> None:
    text = json.dumps({"by": "a" * 5000, "follows_latest": False})
    mark = read_pause_ahead(following(annotations={PAUSED: text}))
    assert mark
    assert len(mark.by) == LONGEST_NAME


@pytest.mark.parametrize("split", [a_split(99, 1), a_split(100, 0), ()])
def test_latest_takes_the_place_of_nothing_but_itself(split: tuple[Target, ...]) -> None:
    assert with_latest(a_service(split, latest_ready=CANDIDATE)) is None
