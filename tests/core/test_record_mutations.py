"""Records that somebody has tampered with: refused in one plain line, or everything works with them."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
from builders import CANDIDATE, NOW, STABLE, a_policy, a_rollout
from fuzz.targets import HOSTILE, assert_plain, check_record, records
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.evidence import Window
from controller.core.record import RecordInvalid, parse_record, write_record
from controller.core.rollout import Event, Pause, Phase, Rollout, moved

RECORDS = [json.loads(write_record(rollout)) for rollout in records()]
Place = tuple[str | int, ...]

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 100, 101, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf"),
    "", " ", "0", "-1", "100%", "\x1b[31m", "a\nb", "\u202eba", "\ud800", "../services/other",
    "x" * 5000, HOSTILE[:2000],
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2026-03-02T09:00:00",
    "2026-03-02T09:00:00+23:59",
    "2026-03-02T08:50:00-12:00", "1970-01-01T00:00:00Z", 0, 1772442000, "30d", "1ms", "waiting", "checking",
    "stepping", "paused", "baking", "promoted", "superseded", "person", "gate", "limit",
    STABLE, CANDIDATE,
    [], {}, [[]], [[[[{}]]]], {"x": {}}, ["x"] * 1000, [None],
]  # fmt: skip


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where every part of a JSON value is."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        yield (*place, name)
        yield from places(each, (*place, name))


def mutated(plain: Any, place: Place, change: Callable[[Any, str | int], None]) -> None:
    for name in place[:-1]:
        plain = plain[name]
    change(plain, place[-1])


def _double(holder: Any, name: str | int) -> None:
    """Twice as an element of a list; as a field, under another name."""
    if isinstance(name, int):
        holder.insert(name, deepcopy(holder[name]))
    else:
        holder[f"{name}\x1b[7m"] = deepcopy(holder[name])


def _delete(holder: Any, name: str | int) -> None:
    del holder[name]


def _many(holder: Any, name: str | int) -> None:
    holder[name] = [holder[name]] * 50


TIMES = [
    None, "2020-01-01T00:00:00Z", "2026-03-02T08:00:00Z", "2026-03-02T08:59:30+05:00", "2026-03-02T09:00:00Z",
    "2026-03-02T08:50:01.5-12:00", "2027-01-01T00:00:00Z", "2199-12-31T23:59:59.999999Z",
]  # fmt: skip
NEAR = st.sampled_from(TIMES[2:5])
WINDOW = st.fixed_dictionaries(
    {"percent": st.sampled_from([1, 5, 99, 100]), "start": NEAR, "end": st.none() | NEAR}
)
PLAUSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "phase": st.sampled_from([phase.value for phase in Phase]),
    "paused_phase": st.sampled_from([None, *(phase.value for phase in Phase)]),
    "pause": st.sampled_from([None, *(pause.value for pause in Pause)]),
    "step": st.integers(-1, 3),
    "stable": st.sampled_from(["", STABLE, CANDIDATE, "web"]),
    "newest": st.sampled_from(["", STABLE, CANDIDATE, "web-00003-fed"]),
    "service": st.sampled_from(["web", "w" * 49]),
    "started_at": st.sampled_from(TIMES),
    "since": st.sampled_from(TIMES),
    "observed_at": st.sampled_from(TIMES),
    "windows": st.lists(WINDOW, max_size=3),
    "overdue": st.booleans(),
    "number": st.integers(),
    "obeyed": st.lists(st.just("1f2e3d4c"), max_size=20),
    "follows_latest": st.booleans(),
}
"""Values that a field may have by itself, and yet perhaps not beside the others."""


@st.composite
def contradictory(draw: st.DrawFn) -> str:
    """A valid record with some fields from other states of a rollout."""
    plain = deepcopy(draw(st.sampled_from(RECORDS)))
    for name in draw(st.lists(st.sampled_from(sorted(PLAUSIBLE)), min_size=1, max_size=5)):
        plain[name] = draw(PLAUSIBLE[name])
    policies = [
        {"version": 1},
        {"steps": ["100%"]},
        {"steps": [{"traffic": "1%", "gate": "manual"}, "2%", "100%"]},
    ]
    plain["policy"] = draw(st.sampled_from([plain["policy"], *policies]))
    return json.dumps(plain)


@st.composite
def tampered(draw: st.DrawFn) -> str:
    """A valid record with up to three parts deleted, doubled, multiplied, retyped or replaced."""
    plain = deepcopy(draw(st.sampled_from(RECORDS)))
    for _ in range(draw(st.integers(1, 3))):
        if not (found := list(places(plain))):
            break
        part = draw(st.sampled_from(sorted(plain)))
        place = draw(st.sampled_from([place for place in found if place[0] == part]))
        value = deepcopy(draw(st.sampled_from(VALUES)))

        def put(holder: Any, name: str | int, value: Any = value) -> None:
            holder[name] = value

        def retype(holder: Any, name: str | int) -> None:
            holder[name] = str(holder[name])

        mutated(plain, place, draw(st.sampled_from([put, put, put, put, retype, _delete, _double, _many])))
    return json.dumps(plain)


@st.composite
def scratched(draw: st.DrawFn) -> str:
    """The text of a record with a few characters changed, lost or doubled."""
    text = json.dumps(draw(st.sampled_from(RECORDS)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text = (
            text[:at]
            + draw(st.sampled_from(["", "0", "9", "-", '"', "}", "\\", "\x00", text[at] * 2]))
            + text[at + 1 :]
        )
    return text


@settings(max_examples=300)
@given(contradictory() | tampered() | scratched())
def test_a_tampered_record_is_refused_in_one_plain_line_or_works(text: str) -> None:
    check_record(text)


def test_the_largest_rollout_with_the_longest_words_can_be_read_again() -> None:
    metric = 'metric.type="x" AND metric.labels.a="' + "y" * 1900 + '"'
    guard = {
        "bad": metric,
        "total": metric,
        "ceiling": "12.3456789%",
        "revision_label": f"metric.labels.{'a' * 60}",
    }
    hold = {"at_least": "29d", "at_most": "30d", "requests": 999_999_999}
    policy = a_policy(
        steps=[{"traffic": n, "hold": hold | {"requests": n}, "gate": "29d23h59m58s"} for n in range(1, 100)],
        guards={
            "custom": {f"g{'x' * 28}{n}": guard for n in range(8)},
            "errors": {"codes": list(range(400, 600))},
        },
        smoke=[f"/{'p' * 498}{n}" for n in range(10)],
    )
    instant = NOW.replace(microsecond=123456)
    rollout = a_rollout(
        policy=policy, step=50, windows=tuple(Window(99, instant, instant) for _ in range(500))
    )
    after = moved(rollout, Event.HARMED, instant, "\U0001f600" * 10_000, "\U0001f600" * 10_000)
    assert isinstance(after, Rollout)
    assert after.phase is Phase.ROLLED_BACK
    assert parse_record(write_record(after)) == after


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("candidate", "../../services/other", "does not name its revisions"),
        ("candidate", "web\x1b[2J", "does not name its revisions"),
        ("service", "web\nPromoted: all is well", "does not name its revisions"),
        ("id", "\x1b]0;gone\x07", "an id in it is none"),
        ("obeyed", ["x" * 5000], "an id in it is none"),
        ("since", "0001-01-01T00:00:00Z", "between the years 2020 and 2199"),
        ("started_at", "9999-12-31T23:59:59Z", "between the years 2020 and 2199"),
        ("windows", [{"percent": -1, "start": "2026-03-02T08:00:00Z"}], "windows of evidence are not sound"),
        (
            "windows",
            [{"percent": 10**9, "start": "2026-03-02T08:00:00Z"}],
            "windows of evidence are not sound",
        ),
        (
            "windows",
            [{"percent": 5, "start": "2026-03-02T08:00:00Z"}] * 2,
            "windows of evidence are not sound",
        ),
        ("windows", [], "windows of evidence are not sound"),
        ("format", 10**400, "it has format a very large number"),
        ("\x1b[2J", 1, "unknown field"),
        ("policy", {"\x1b[2J": 1}, "its policy is invalid"),
    ],
)
def test_a_field_that_no_rollout_can_have_is_named(field: str, value: Any, words: str) -> None:
    watched = a_rollout(Phase.STEPPING, windows=(Window(5, NOW),), observed_at=NOW)
    with pytest.raises(RecordInvalid, match=words) as caught:
        parse_record(json.dumps(json.loads(write_record(watched)) | {field: value}))
    assert_plain(str(caught.value))


def test_a_field_that_is_given_twice_is_refused() -> None:
    text = write_record(a_rollout())
    with pytest.raises(RecordInvalid, match="not JSON"):
        parse_record('{"phase":"promoted",' + text.removeprefix("{"))
