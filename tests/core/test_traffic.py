import pytest
from builders import CANDIDATE, STABLE
from hypothesis import given
from hypothesis import strategies as st

from controller.core.traffic import (
    LATEST,
    LONGEST_TAG_AND_SERVICE,
    SplitInvalid,
    Target,
    check_split,
    follows_latest,
    same_split,
    shares_of,
    split_between,
    tag_for,
    tags_of,
    without_tags,
)


def test_a_share_of_latest_belongs_to_the_latest_revision() -> None:
    split = (Target(LATEST, 60), Target(STABLE, 40))
    assert shares_of(split, CANDIDATE) == {CANDIDATE: 60, STABLE: 40}


def test_entries_of_one_revision_are_added_up() -> None:
    split = (Target(STABLE, 90), Target(STABLE, 10, "blue"), Target(CANDIDATE, 0, "green"))
    assert shares_of(split, CANDIDATE) == {STABLE: 100}


def test_a_split_with_tags_apart_equals_one_with_tags_on_the_shares() -> None:
    assert same_split(
        (Target(STABLE, 100, "blue"),), (Target(STABLE, 100), Target(STABLE, 0, "blue")), CANDIDATE
    )


def test_a_lost_tag_makes_a_split_another() -> None:
    assert not same_split((Target(STABLE, 100, "blue"),), (Target(STABLE, 100),), CANDIDATE)


def test_removing_our_tag_keeps_the_share_it_stood_on() -> None:
    split = (Target(STABLE, 95, "ours"), Target(CANDIDATE, 5), Target(CANDIDATE, 0, "theirs"))
    assert without_tags(split, ["ours", ""]) == (
        Target(STABLE, 95),
        Target(CANDIDATE, 5),
        Target(CANDIDATE, 0, "theirs"),
    )


def test_an_entry_that_was_only_our_tag_goes_with_it() -> None:
    assert without_tags((Target(STABLE, 100), Target(CANDIDATE, 0, "ours")), ["ours"]) == (
        Target(STABLE, 100),
    )


@pytest.mark.scenario(47)
@pytest.mark.parametrize(
    ("split", "words"),
    [
        ((Target(STABLE, 90),), "90 %, not 100 %"),
        ((Target(STABLE, 110), Target(CANDIDATE, -10)), "not 100 %"),
        ((Target(STABLE, 90), Target("stranger", 10)), "unknown revisions: stranger"),
        ((Target(STABLE, 90), Target(LATEST, 10)), "unknown revisions"),
        ((Target(STABLE, 100, "x"), Target(CANDIDATE, 0, "x")), "tag twice: x"),
    ],
)
def test_a_split_that_must_not_be_sent_is_refused(split: tuple[Target, ...], words: str) -> None:
    with pytest.raises(SplitInvalid, match=words):
        check_split(split, {STABLE, CANDIDATE})


def test_only_a_share_makes_a_service_follow_latest() -> None:
    assert follows_latest((Target(LATEST, 100),))
    assert not follows_latest((Target(STABLE, 100), Target(LATEST, 0, "next")))


@given(
    stable=st.integers(0, 100),
    tags=st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.sampled_from([STABLE, CANDIDATE, LATEST])
    ),
)
def test_a_written_split_adds_up_and_keeps_every_tag(stable: int, tags: dict[str, str]) -> None:
    split = split_between({STABLE: stable, CANDIDATE: 100 - stable}, tags)
    check_split(split, {STABLE, CANDIDATE})
    assert tags_of(split) == tags


@given(length=st.integers(1, 49))
def test_our_tag_and_the_service_fit_what_cloud_run_allows(length: int) -> None:
    service = "s" * length
    tags = {tag_for(role, "1f2e3d4c", service) for role in ("canary", "stable")}
    assert all(not tag or len(tag) + length <= LONGEST_TAG_AND_SERVICE for tag in tags)
    assert len(tags) == 2 or tags == {""}
