"""The trail: transitions there and back again, and what of them fits beside a record."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import (
    CANDIDATE,
    ID,
    NOW,
    a_policy,
    a_rollout,
    a_sample,
    a_service,
    an_assessment,
    an_observation,
)

from controller.core.decision import Command, decide
from controller.core.evidence import Window
from controller.core.observation import Observation, unread
from controller.core.placement import wanted_split
from controller.core.rollout import Event, Phase, Rollout
from controller.core.trail import (
    LONGEST_UNLOGGED,
    Transition,
    TransitionInvalid,
    opening_of,
    parse_transition,
    parse_unlogged,
    those_that_fit,
    transition_as_plain,
    transition_of,
    write_unlogged,
)

GOOD, BAD = a_sample(1000), a_sample(1000, 300)


def stepping() -> Rollout:
    begun = NOW - timedelta(minutes=10)
    return a_rollout(observed_at=begun, windows=(Window(5, begun),))


def seen_of(rollout: Rollout, **fields: Any) -> Observation:
    service = a_service(
        wanted_split(rollout, a_service()), annotations={"team": "checkout"}, addresses={"t": "http://x"}
    )
    return an_observation(service, **fields)


def decided(
    rollout: Rollout, command: Command | None = None, candidate: Any = GOOD, **fields: Any
) -> Transition:
    """The transition of a rollout whose candidate was seen like that."""
    assessment = an_assessment(GOOD, candidate, percent=5) if command is None else None
    seen = seen_of(rollout, assessment=assessment, **fields)
    return transition_of(rollout, seen, command, decide(rollout, seen, command))


def some_transitions() -> list[Transition]:
    rollout = stepping()
    back = Command(Event.ROLLBACK, "ada", "c1", ID, past=0, to="web-00000-old")
    return [
        opening_of(a_rollout(Phase.WAITING, -1), None),
        opening_of(a_rollout(Phase.WAITING, -1), replace(rollout, id="0ld", policy=a_policy(steps=[50]))),
        decided(rollout),
        decided(rollout, candidate=BAD),
        decided(rollout, back),
        decided(rollout, back, stable=None, candidate=None),
        decided(a_rollout(Phase.WAITING, -1), stable=unread("web-00001-abc", "denied")),
        decided(replace(a_rollout(Phase.CHECKING, -1), policy=a_policy(smoke="/healthz")), smoke=("/: 500",)),
    ]


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("number", range(8))
def test_a_transition_is_the_same_after_it_was_written_and_read(number: int) -> None:
    transition = some_transitions()[number]
    read = parse_transition(through_json(transition_as_plain(transition)))
    assert read == transition
    assert read.id == transition.id


def test_numbers_that_a_log_keeps_as_floating_point_change_nothing() -> None:
    def floating(value: Any) -> Any:
        match value:
            case bool():
                return value
            case int():
                return float(value) if value % 2 else value
            case dict():
                return {name: floating(each) for name, each in value.items()}
            case list():
                return [floating(each) for each in value]
            case _:
                return value

    transition = some_transitions()[2]
    plain = through_json(transition_as_plain(transition))
    plain["evidence"], plain["verdict"] = floating(plain["evidence"]), floating(plain["verdict"])
    assert parse_transition(plain) == transition


def test_the_policy_is_written_once_where_it_is_the_same() -> None:
    _, superseded, passed, *_ = some_transitions()
    assert "policy" not in transition_as_plain(passed)["before"]
    assert transition_as_plain(superseded)["before"]["policy"]["steps"] == ["50%"]


def test_what_others_wrote_on_the_service_is_not_told() -> None:
    observation = transition_as_plain(some_transitions()[2])["observation"]
    assert (observation["service"]["annotations"], observation["service"]["addresses"]) == ({}, {})


def test_the_verdict_and_its_numbers_are_told() -> None:
    plain = transition_as_plain(some_transitions()[3])
    assert plain["event"] == "harm shown"
    assert plain["verdict"]["value"] == "fail"
    assert plain["evidence"]["candidate"]["codes"] == {"200": 2100, "500": 900}


def test_only_a_command_that_was_obeyed_is_told() -> None:
    rollout = stepping()
    command = Command(Event.PROMOTE, "ada", "c1", ID)
    edited = replace(seen_of(rollout), service=a_service(wanted_split(a_rollout(step=2), a_service())))
    decision = decide(rollout, edited, command)
    assert decision.event is Event.EDITED
    assert transition_of(rollout, edited, command, decision).command is None
    assert decided(rollout, command).command == command


# --- names ---


def test_the_same_transition_has_the_same_id_and_every_other_another() -> None:
    rollout = stepping()
    one, again = decided(rollout), decided(rollout)
    assert one.id == again.id
    others = [replace(one, after=replace(one.after, reason="else")), decided(rollout, candidate=BAD)]
    assert len({each.id for each in (one, *others)}) == 3


def test_ids_sort_in_the_order_of_what_happened() -> None:
    transitions = [
        replace(decided(stepping()), after=replace(stepping(), number=number)) for number in (2, 9, 10, 1200)
    ]
    ids = [transition.id for transition in transitions]
    assert sorted(ids) == ids


def test_the_split_being_seen_is_no_transition_and_changes_no_id() -> None:
    rollout = a_rollout()
    seen = decide(rollout, seen_of(rollout))
    assert seen.rollout.observed_at is not None
    assert (seen.event, seen.rollout.number) == (None, rollout.number)


def test_every_transition_has_a_number_of_its_own() -> None:
    rollout = stepping()
    assert [each.after.number for each in some_transitions()[2:5]] == [rollout.number + 1] * 3


# --- beside the record ---


def test_what_waits_to_be_logged_is_the_same_after_it_was_written_and_read() -> None:
    transitions = some_transitions()
    assert parse_unlogged(write_unlogged(transitions)) == tuple(transitions)


def test_nothing_is_nothing() -> None:
    assert write_unlogged([]) == ""
    assert parse_unlogged("") == ()


def test_the_oldest_go_first_when_there_are_too_many() -> None:
    transitions = [
        replace(transition, after=replace(transition.after, number=number))
        for number, transition in enumerate([decided(stepping())] * 60)
    ]
    kept = parse_unlogged(write_unlogged(those_that_fit(transitions)))
    assert 5 < len(kept) < 60
    assert list(kept) == transitions[-len(kept) :]


def with_reason(length: int) -> Transition:
    transition = opening_of(a_rollout(Phase.WAITING, -1), None)
    return replace(transition, after=replace(transition.after, reason="r" * length))


def test_whatever_is_written_can_be_read_up_to_the_last_character() -> None:
    room = LONGEST_UNLOGGED - len(write_unlogged([with_reason(0)]))
    for length in (room - 1, room):
        text = write_unlogged([with_reason(length)])
        assert len(text) == LONGEST_UNLOGGED - room + length
        assert parse_unlogged(text) == (with_reason(length),)
        assert those_that_fit([with_reason(length)])
    assert those_that_fit([with_reason(room + 1)]) == ()


def test_one_that_is_too_long_alone_hides_no_newer_one() -> None:
    short = with_reason(3)
    assert those_that_fit([with_reason(LONGEST_UNLOGGED), short]) == (short,)


@pytest.mark.parametrize("text", ["x", "{}", "null", "1", "[" * 5000, " " * (LONGEST_UNLOGGED + 1)])
def test_what_is_no_list_of_transitions_is_refused(text: str) -> None:
    with pytest.raises(TransitionInvalid):
        parse_unlogged(text)


@pytest.mark.parametrize("other", ["1", "[]", "{}", '{"after": {}, "before": null}'])
def test_what_is_no_transition_hides_none_beside_it(other: str) -> None:
    text = f"[{other},{write_unlogged([with_reason(3)])[1:-1]}]"
    refused, read = parse_unlogged(text)
    assert isinstance(refused, TransitionInvalid)
    assert read == with_reason(3)


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        for name in path[:-1]:
            plain = plain[name]
        del plain[path[-1]]

    return change


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        for name in path[:-1]:
            plain = plain[name]
        plain[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        without("after"),
        without("after", "policy"),
        without("time"),
        put(None, "after"),
        put("yes", "before"),
        put(99, "after", "format"),
        put("later", "after", "phase"),
        put("2026-03-02T09:00:00", "time"),
        put("noon", "time"),
        put("evidence vanished", "event"),
        put("candidate failed", "command", "event"),
        put({}, "observation"),
        put([], "verdict"),
    ],
)
def test_what_is_no_transition_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    plain = through_json(transition_as_plain(some_transitions()[4]))
    change(plain)
    with pytest.raises(TransitionInvalid):
        parse_transition(plain)


def test_what_is_refused_is_refused_in_one_printable_line() -> None:
    plain = through_json(transition_as_plain(some_transitions()[4]))
    plain["after"]["\x1b[31mred"] = 1
    with pytest.raises(TransitionInvalid) as refused:
        parse_transition(plain)
    assert str(refused.value).isprintable()
    assert CANDIDATE not in str(refused.value)
