"""Whatever the filter, it is read or refused, and what is read means what it says."""

import functools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from google.cloud.logging_v2 import types
from google.protobuf import json_format
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.emulator.clock import MANUAL_START
from controller.emulator.errors import ApiError
from controller.emulator.filter_syntax import Predicate
from controller.emulator.logs.entries import (
    REQUESTS,
    Entry,
    HttpRequest,
    JsonPayload,
    More,
    MoreOfRequest,
    Operation,
    Origin,
    ProtoPayload,
    Severity,
    SourceLocation,
)
from controller.emulator.logs.filter import parse_log_filter, times_in
from controller.emulator.logs.messages import show
from controller.emulator.logs.values import fold

SECOND = timedelta(seconds=1)


def entry_with(
    number: int, labels: dict[str, str], severity: int, payload: str | JsonPayload, status: int
) -> Entry:
    origin = Origin("demo", REQUESTS, "cloud_run_revision", {"service_name": "web"}, labels)
    return Entry(
        number,
        origin,
        MANUAL_START + number * SECOND,
        MANUAL_START + number * 2 * SECOND,
        Severity(severity),
        HttpRequest("GET", "http://web.localhost/", status, SECOND) if status else None,
        payload,
    )


ENTRIES = [
    entry_with(1, {"kind": "a"}, 200, "some text", 200),
    entry_with(2, {"kind": "b"}, 500, JsonPayload({"n": 2, "deep": [{"x": "some"}]}, 0), 0),
    entry_with(3, {}, 0, "", 503),
    entry_with(4, {"kind": "A"}, 400, JsonPayload({"n": "2", "none": None}, 0), 404),
]


FULL = [
    *ENTRIES,
    ENTRIES[0]._replace(
        request=HttpRequest(
            "POST", "http://api.localhost/x", 204, SECOND, 7, 9, "agent", more=MoreOfRequest("::1", "seven")
        ),
        payload=ProtoPayload(
            {
                "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
                "methodName": "Get",
                "status": {"code": 5, "message": "nowhere"},
            },
            0,
        ),
        more=More("id", "7", True, Operation("x", "web", first=True), SourceLocation("some.py", 7, "get")),
    ),
]
"""With every message that an entry can have."""
LogEntry: Any = types.LogEntry.pb()
OPERATORS = ["=", "!=", "<", "<=", ">", ">=", ":", "=~", "!~"]
VALUES = [
    "some",
    '"some"',
    "2",
    '"2"',
    "1e3",
    "true",
    "null",
    "5s",
    '"2026-01-05T09:00:00Z"',
    '""',
    "WARNING",
]


class Said(NamedTuple):
    """An expression, and what it means."""

    text: str
    means: Callable[[Entry], bool]


def of_payload(entry: Entry) -> dict[str, object]:
    return dict(entry.payload.fields) if isinstance(entry.payload, JsonPayload) else {}


def status_of(entry: Entry) -> int:
    return entry.request.status if entry.request else 0


COMPARISONS = [
    Said('labels.kind="a"', lambda entry: entry.origin.labels.get("kind") in {"a", "A"}),
    Said("labels.kind != a", lambda entry: entry.origin.labels.get("kind") == "b"),
    Said("labels.kind:*", lambda entry: "kind" in entry.origin.labels),
    Said("labels.kind=(b OR x)", lambda entry: entry.origin.labels.get("kind") == "b"),
    Said('labels.kind=(NOT "b")', lambda entry: entry.origin.labels.get("kind") != "b"),
    Said("severity>=WARNING", lambda entry: entry.severity >= 400),
    Said("severity<(450 INFO)", lambda entry: entry.severity < 200),
    Said("httpRequest.status>=500", lambda entry: status_of(entry) >= 500),
    Said("httpRequest.status=0", lambda entry: status_of(entry) == 0),
    Said('textPayload:"SOME"', lambda entry: entry.payload == "some text"),
    Said("jsonPayload.n=2", lambda entry: "n" in of_payload(entry)),
    Said("jsonPayload.n>1", lambda entry: "n" in of_payload(entry)),
    Said("jsonPayload.n>12", lambda entry: of_payload(entry).get("n") == "2"),
    Said("jsonPayload.deep.x=~'^some$'", lambda entry: "deep" in of_payload(entry)),
    Said("some", lambda entry: entry.payload == "some text" or "deep" in of_payload(entry)),
    Said('timestamp>"2026-01-05T09:00:02Z"', lambda entry: entry.number > 2),
    Said('receiveTimestamp<="2026-01-05T09:00:04Z"', lambda entry: entry.number <= 2),
    Said('log_id("run.googleapis.com/requests")', lambda _: True),
]
BLANKS = st.sampled_from([" ", "\n", "  \t", " -- why\n"])


@st.composite
def groups(draw: st.DrawFn, inner: st.SearchStrategy[Said]) -> Said:
    """AND of ORs of perhaps negated parts, each in parentheses or not, as the precedence allows."""

    def part() -> Said:
        said = draw(inner)
        if draw(st.booleans()):
            return said
        negation = draw(st.sampled_from(["NOT ", "-", "NOT NOT NOT "]))
        return Said(f"{negation}{said.text}", lambda entry: not said.means(entry))

    def either() -> Said:
        parts = [part() for _ in range(draw(st.integers(1, 3)))]
        text = functools.reduce(lambda left, one: f"{left}{draw(BLANKS)}OR {one}", [p.text for p in parts])
        return Said(text, lambda entry: any(one.means(entry) for one in parts))

    parts = [either() for _ in range(draw(st.integers(1, 3)))]
    joints = st.sampled_from(["AND ", ""])
    text = functools.reduce(
        lambda left, one: f"{left}{draw(BLANKS)}{draw(joints)}{one}", [p.text for p in parts]
    )
    return Said(text, lambda entry: all(one.means(entry) for one in parts))


def in_parentheses(said: Said) -> Said:
    return Said(f"({said.text})", said.means)


EXPRESSIONS = groups(
    st.recursive(
        st.sampled_from(COMPARISONS),
        lambda inner: groups(inner).map(in_parentheses),
        max_leaves=12,
    )
)


@given(EXPRESSIONS)
def test_a_filter_means_what_it_says(said: Said) -> None:
    matches = parse_log_filter(said.text)
    assert [matches(entry) for entry in ENTRIES] == [said.means(entry) for entry in ENTRIES]


@given(EXPRESSIONS)
def test_no_entry_that_a_filter_lets_through_is_outside_of_its_times(said: Said) -> None:
    matches = parse_log_filter(said.text)
    first, last = times_in(matches)
    for entry in ENTRIES:
        assert first <= entry.timestamp <= last or not matches(entry)


PIECES = [
    *('"', "'", "(", ")", "=", "!=", "=~", "!~", ":", ":*", "<", ">=", ",", "-", "--", "*", " ", "\n", "\\"),
    *("AND", "OR", "NOT", "severity", "timestamp", "labels.", "jsonPayload.a", "httpRequest.latency"),
    *("log_id", "sample", "source", "insertId", "2026-01-05T09:00:00Z", "2026-01-05", "1e999", "-5", "5s"),
    *("httpRequest", "jsonPayload", "httpRequest:", "resource:", "labels:", "jsonPayload:"),
    *("ERROR", "true", "null", '"a.b"', "labels", "resource", "operation.id", "0.1", "[", "{9", "\u00df"),
]


@settings(max_examples=1000)
@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.text(max_size=80)))
@example('timestamp>="0001-01-01T00:00:00+14:00"')
@example('httpRequest.latency>"99999999999999999h"')
@example("httpRequest.status>" + "9" * 5000)
@example("severity>=1e999")
@example('labels."\\')
@example("jsonPayload=~x")
@example('httpRequest:"x"')
@example('textPayload=~"\\C"')
def test_a_filter_is_read_or_refused_and_nothing_else_happens(text: str) -> None:
    matches = read_or_refused(text)
    if isinstance(matches, ApiError):
        assert " at position " in matches.message
        return
    times_in(matches)
    for entry in FULL:
        assert matches(entry) in {True, False}


def read_or_refused(text: str) -> Predicate[Entry] | ApiError:
    try:
        return parse_log_filter(text)
    except ApiError as error:
        return error


WORDS = ["get", "web", "some", "http", "agent", "seven", "cloud_run_revision", "nowhere", "x", "/", ""]
MESSAGES = ["httpRequest", "resource", "resource.labels", "labels", "jsonPayload", "protoPayload"]
MESSAGES += ["operation", "sourceLocation"]


@given(st.sampled_from(MESSAGES), st.one_of(st.sampled_from(WORDS), st.text("abestw", max_size=3)))
def test_a_message_is_searched_in_all_its_texts(message: str, word: str) -> None:
    matches = parse_log_filter(f'{message}:"{word}"')
    for entry in FULL:
        assert matches(entry) == any(word in text.lower() for text in texts_in(entry, message))


@given(st.sampled_from(MESSAGES), st.sampled_from(OPERATORS), st.sampled_from(VALUES))
def test_a_message_can_be_searched_and_nothing_else(message: str, operator: str, value: str) -> None:
    matches = read_or_refused(f"{message}{operator}{value}")
    assert isinstance(matches, ApiError) == (operator != ":")
    if not isinstance(matches, ApiError):
        for entry in FULL:
            assert matches(entry) in {True, False}


@given(st.sampled_from(MESSAGES))
def test_a_message_is_there_or_not(message: str) -> None:
    matches = parse_log_filter(f"{message}:*")
    for entry in FULL:
        assert matches(entry) == bool(as_the_api_shows(entry, message))


@given(
    st.sampled_from(["jsonPayload.deep", "protoPayload.status"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(VALUES),
)
def test_an_object_in_a_payload_compares_with_nothing(path: str, operator: str, value: str) -> None:
    matches = parse_log_filter(f"{path}{operator}{value}")
    assert not any(matches(entry) for entry in FULL)


@given(st.sampled_from(["jsonPayload.deep", "protoPayload.status"]), st.sampled_from(WORDS))
def test_an_object_in_a_payload_is_searched_as_a_message_is(path: str, word: str) -> None:
    matches = parse_log_filter(f'{path}:"{word}"')
    for entry in FULL:
        assert matches(entry) == any(word in text.lower() for text in texts_in(entry, path))


def as_the_api_shows(entry: Entry, message: str) -> Any:
    """Return a message in an entry as JSON; None if the entry has none."""
    target = LogEntry()
    show(target, entry)
    found: Any = json_format.MessageToDict(target)
    for name in message.split("."):
        found = (found or {}).get(name)
    return found


def texts_in(entry: Entry, message: str) -> list[str]:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for name, one in value.items():
                if name != "latency":  # a search finds no times
                    yield from texts(one)
        elif isinstance(value, list):
            for one in value:
                yield from texts(one)

    return list(texts(as_the_api_shows(entry, message)))


@given(st.text(max_size=20))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(max_size=20).filter(lambda text: "\x00" not in text))
def test_a_quoted_text_is_found_as_it_is(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    entry = entry_with(1, {}, 0, text, 0)
    for symbol in ("=", ":"):
        assert parse_log_filter(f'textPayload{symbol}"{quoted}"')(entry)
    assert parse_log_filter(f'"{quoted}"')(entry)


@pytest.mark.parametrize("operator", ["=", "!=", "<", "<=", ">", ">=", ":"])
def test_every_operator_compares_a_text_with_itself(operator: str) -> None:
    assert parse_log_filter(f'textPayload{operator}"some text"')(ENTRIES[0]) is (
        operator in {"=", "<=", ">=", ":"}
    )
