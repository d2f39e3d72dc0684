import json
from datetime import timedelta
from typing import Any

import pytest
from builders import CANDIDATE, NOW, a_policy, a_rollout
from hypothesis import given
from hypothesis import strategies as st

from controller.core.evidence import Window
from controller.core.record import (
    FORMAT,
    LONGEST_RECORD,
    RecordDamaged,
    RecordInvalid,
    RecordNewer,
    parse_record,
    write_record,
)
from controller.core.rollout import Phase


@pytest.mark.parametrize("phase", Phase)
def test_a_record_reads_back_as_it_was(phase: Phase) -> None:
    rollout = a_rollout(
        phase,
        step=2 if phase is Phase.BAKING else 1,
        policy=a_policy(steps=["5%", "30%"], bake="20m", guards={"errors": "3%"}),
        follows_latest=True,
        observed_at=NOW,
        windows=(Window(5, NOW, NOW + timedelta(minutes=7)), Window(30, NOW)),
        obeyed=("1f2e", "3d4c"),
        overdue=True,
        number=7,
    )
    assert parse_record(write_record(rollout)) == rollout


def test_a_record_is_small_and_the_same_each_time() -> None:
    rollout = a_rollout()
    assert write_record(rollout) == write_record(rollout)
    assert len(write_record(rollout)) < 4096
    assert "\n" not in write_record(rollout)


def mutated(**changes: Any) -> str:
    plain = json.loads(write_record(a_rollout())) | changes
    return json.dumps({key: value for key, value in plain.items() if value != "gone"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "longer"),
        ("[" * 60_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "no format version"),
        (mutated(format=True), "no format version"),
        (mutated(format=0), "no format version"),
        (mutated(extra=1), "unknown field 'extra'"),
        (mutated(phase="dancing"), "'phase' is invalid"),
        (mutated(step=9), "out of range"),
        (mutated(step=-1), "out of range"),
        (mutated(phase="paused"), "what was paused"),
        (mutated(paused_phase="stepping"), "what was paused"),
        (mutated(stable=CANDIDATE), "name its revisions"),
        (mutated(since="2026-03-02T09:00:00"), "no time zone"),
        (mutated(candidate="gone"), "'candidate' is invalid"),
        (mutated(policy={"version": 1, "steps": []}), "its policy is invalid"),
        (mutated(policy="gone"), "its policy is invalid"),
        ("x" * (LONGEST_RECORD + 1), "longer"),
    ],
)
def test_a_damaged_record_is_told_with_its_fault(text: str, words: str) -> None:
    with pytest.raises(RecordDamaged, match=words):
        parse_record(text)


def test_a_newer_record_is_told_from_a_damaged_one() -> None:
    with pytest.raises(RecordNewer, match=f"format {FORMAT + 1}"):
        parse_record(mutated(format=FORMAT + 1, surprise={}))


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(RecordInvalid):
        parse_record(text)


@given(
    st.sampled_from(sorted(json.loads(write_record(a_rollout())))),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists),
)
def test_no_value_in_a_field_breaks_the_reader(field: str, value: Any) -> None:
    text = mutated(**{field: value})
    try:
        rollout = parse_record(text)
    except RecordInvalid:
        return
    assert parse_record(write_record(rollout)) == rollout
