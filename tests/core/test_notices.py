"""Notices: which transitions are news, of what kind, and what is said to whom."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import CANDIDATE, NOW, STABLE, a_policy, a_rollout

from controller.core.mistakes import PolicyInvalid
from controller.core.notices import Notice, Weight, console_link, kind_of, notices_of
from controller.core.policy import parse_policy, policy_as_plain
from controller.core.policy_choices import NoticeKind
from controller.core.policy_notices import WAYS
from controller.core.rollout import Event, Pause, Phase, Rollout
from controller.core.trail import Transition, opening_of
from controller.gateways.policy_files import PolicyFileInvalid, read_policy, read_policy_text

TOLD = a_policy(notices=["env:CHAT", {"github": "o/r"}])


def told(rollout: Rollout, event: Event | None, **fields: Any) -> Transition:
    before = a_rollout(Phase.STEPPING, policy=TOLD)
    return Transition(NOW, event, before, replace(rollout, policy=TOLD, **fields))


def paused(why: Pause) -> Rollout:
    return a_rollout(Phase.PAUSED, pause=why)


NEWS: list[tuple[Transition, NoticeKind, Weight, str]] = [
    (
        opening_of(a_rollout(Phase.WAITING, -1, policy=TOLD), None),
        NoticeKind.STARTED,
        Weight.INFO,
        f"web: rollout of {CANDIDATE} started",
    ),
    (
        told(a_rollout(Phase.STEPPING, 1), Event.PASSED),
        NoticeKind.STEP,
        Weight.INFO,
        f"web: {CANDIDATE} gets 25 % of the users",
    ),
    (
        told(a_rollout(Phase.BAKING, 3), Event.PASSED),
        NoticeKind.STEP,
        Weight.INFO,
        f"web: {CANDIDATE} gets all users, and bakes",
    ),
    (
        told(paused(Pause.LIMIT), Event.STUCK),
        NoticeKind.HELD,
        Weight.WARNING,
        f"web: {CANDIDATE} held at 5 %",
    ),
    (
        told(paused(Pause.GATE), Event.GATED),
        NoticeKind.HELD,
        Weight.WARNING,
        f"web: {CANDIDATE} waits at the gate of 5 %",
    ),
    (
        told(paused(Pause.PERSON), Event.PAUSE),
        NoticeKind.HELD,
        Weight.INFO,
        f"web: {CANDIDATE} paused at 5 %",
    ),
    (
        told(a_rollout(Phase.WAITING, -1), Event.OVERDUE),
        NoticeKind.HELD,
        Weight.WARNING,
        f"web: {CANDIDATE} is not ready in time, and is waited for",
    ),
    (
        told(a_rollout(Phase.ROLLED_BACK), Event.HARMED),
        NoticeKind.ROLLED_BACK,
        Weight.FAILURE,
        f"web: {CANDIDATE} rolled back, all users go to {STABLE}",
    ),
    (
        told(a_rollout(Phase.ROLLED_BACK), Event.ROLLBACK),
        NoticeKind.ROLLED_BACK,
        Weight.WARNING,
        f"web: {CANDIDATE} rolled back, all users go to {STABLE}",
    ),
    (
        told(a_rollout(Phase.PROMOTED, 3), Event.PASSED),
        NoticeKind.PROMOTED,
        Weight.SUCCESS,
        f"web: {CANDIDATE} promoted",
    ),
    (
        told(a_rollout(Phase.FAILED), Event.GONE),
        NoticeKind.FAILED,
        Weight.FAILURE,
        f"web: {CANDIDATE} failed",
    ),
    (
        told(a_rollout(Phase.SUPERSEDED), Event.EDITED),
        NoticeKind.SUPERSEDED,
        Weight.WARNING,
        f"web: rollout of {CANDIDATE} superseded",
    ),
]


@pytest.mark.parametrize(("transition", "kind", "weight", "title"), NEWS, ids=[each[3][5:] for each in NEWS])
def test_what_is_told(transition: Transition, kind: NoticeKind, weight: Weight, title: str) -> None:
    (notice,) = notices_of(transition)
    assert (notice.id, notice.time, notice.kind) == (transition.id, transition.time, kind)
    assert (notice.weight, notice.title) == (weight, title)
    assert notice.body.startswith("Because.\n")
    assert notice.rollout.id in notice.body
    assert notice.receivers == TOLD.notices


def test_every_kind_is_told_of_something() -> None:
    assert {kind for _, kind, _, _ in NEWS} == set(NoticeKind)


@pytest.mark.parametrize(
    ("phase", "event"),
    [(Phase.CHECKING, Event.READY), (Phase.WAITING, Event.RESUME), (Phase.CHECKING, Event.RESUME)],
)
def test_what_changes_nothing_for_users_is_no_news(phase: Phase, event: Event) -> None:
    transition = told(a_rollout(phase, -1), event)
    assert kind_of(transition) is None
    assert notices_of(transition) == ()


def test_nobody_is_told_who_is_not_named() -> None:
    assert notices_of(opening_of(a_rollout(Phase.WAITING, -1), None)) == ()


def test_a_receiver_gets_the_kinds_that_it_wants() -> None:
    policy = a_policy(notices=[{"to": "env:A", "on": ["held", "promoted"]}, {"to": "env:B", "on": "started"}])
    opened = opening_of(a_rollout(Phase.WAITING, -1, policy=policy), None)
    (notice,) = notices_of(opened)
    assert [receiver.to for receiver in notice.receivers] == ["env:B"]


def test_a_rollout_that_takes_the_place_of_another_is_news_of_both_to_the_receivers_of_each() -> None:
    other = replace(a_rollout(policy=a_policy(notices="env:OTHER")), id="0ther", candidate="web-00001-old")
    opened = opening_of(a_rollout(Phase.WAITING, -1, policy=TOLD), other)
    superseded, started = notices_of(opened)
    assert (superseded.kind, superseded.rollout) == (NoticeKind.SUPERSEDED, other)
    assert [receiver.to for receiver in superseded.receivers] == ["env:OTHER"]
    assert superseded.body.startswith(f"The rollout of {CANDIDATE} took its place.")
    assert (started.kind, started.rollout) == (NoticeKind.STARTED, opened.after)
    assert superseded.id != started.id
    assert [
        each.kind for each in notices_of(opening_of(opened.after, replace(other, phase=Phase.PROMOTED)))
    ] == [NoticeKind.STARTED]


@pytest.mark.parametrize(("by", "weight"), [("ada", Weight.WARNING), ("health check", Weight.FAILURE)])
def test_a_rollback_while_no_rollout_is_under_way_is_none_of_a_deployment(by: str, weight: Weight) -> None:
    (notice,) = notices_of(opening_of(a_rollout(Phase.ROLLED_BACK, -1, policy=TOLD, by=by), None))
    assert (notice.kind, notice.weight) == (NoticeKind.ROLLED_BACK, weight)
    assert [receiver.name for receiver in notice.receivers] == ["env:CHAT"]


def test_a_rollout_that_begins_paused_is_started_and_held() -> None:
    rollout = replace(paused(Pause.PERSON), step=-1, reason="paused by ada before it began", by="ada")
    started, held = notices_of(opening_of(replace(rollout, policy=TOLD), None))
    assert (started.kind, held.kind) == (NoticeKind.STARTED, NoticeKind.HELD)
    assert (held.weight, held.title) == (Weight.INFO, f"web: rollout of {CANDIDATE} begins paused")
    assert held.body.startswith("Paused by ada before it began.\nTo go on, or back: canary resume")
    assert (held.receivers, held.id) == (TOLD.notices, f"{started.id}-held")
    only = a_policy(notices={"to": "env:A", "on": ["held"]})
    assert notices_of(opening_of(replace(rollout, policy=only), None))[0].kind is NoticeKind.HELD


def test_what_strangers_wrote_cannot_forge_a_line() -> None:
    (notice,) = notices_of(told(a_rollout(Phase.FAILED), Event.BROKEN, reason="no\n\x1b[31mAll is well"))
    assert "\n" not in notice.title
    assert notice.body.splitlines()[0] == "No \\x1b[31mAll is well."


def test_a_held_rollout_is_told_with_what_to_do() -> None:
    (notice,) = notices_of(told(paused(Pause.LIMIT), Event.STUCK))
    assert "canary resume, promote or rollback web" in notice.body
    assert isinstance(notice, Notice)


def test_the_link_leads_to_the_service_in_the_console() -> None:
    assert console_link("demo", "europe-west1", "web") == (
        "https://console.cloud.google.com/run/detail/europe-west1/web/revisions?project=demo"
    )


# --- the policy ---


def test_the_examples_of_the_documentation_are_policies(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/notices.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    files = [tmp_path / f"{number}.yaml" for number in range(len(examples))]
    for file, example in zip(files, examples, strict=True):
        file.write_text(example)
    policies = [read_policy(file) for file in files]
    assert {
        way for policy in policies for each in policy.notices for way in WAYS if getattr(each, way)
    } == set(WAYS)
    for kind in NoticeKind:
        assert f"| `{kind}` |" in text


GOOD: list[Any] = [
    "env:SLACK_URL",
    "secret:slack",
    "secret:projects/p-1/secrets/s/versions/3",
    {"to": "env:A", "on": ["held"]},
    {"cloudevents": "https://events.example.com:8443/in"},
    {"cloudevents": "projects/p-1/topics/rollouts"},
    {"cloudevents": "env:EVENTS"},
    {"github": "owner/name"},
    {"github": {"repository": "owner/name", "ref": "v1.2", "environment": "prod", "token": "secret:gh"}},
]


@pytest.mark.parametrize("notices", [[], GOOD, *GOOD], ids=str)
def test_notices_are_read_and_written_back(notices: Any) -> None:
    policy = a_policy(notices=notices)
    assert parse_policy(policy_as_plain(policy)) == policy
    assert len(policy.notices) == (len(notices) if isinstance(notices, list) else 1)


BAD: list[tuple[Any, str, str]] = [
    ("https://hooks.slack.com/services/s3cret", "notices[0].to", "write env:NAME or secret:NAME"),
    ({"to": "slack://s3cret"}, "notices[0].to", "write env:NAME or secret:NAME"),
    ({"cloudevents": "https://u:s3cret@h/"}, "notices[0].cloudevents", "is a secret"),
    ({"cloudevents": "https://h/?key=s3cret"}, "notices[0].cloudevents", "is a secret"),
    ({"cloudevents": "http://h/"}, "notices[0].cloudevents", "expected https://"),
    ({"github": {"repository": "o/r", "token": "ghp_s3cret"}}, "notices[0].github.token", "env:NAME"),
    ({"github": {"repository": "o"}}, "notices[0].github.repository", "owner/name"),
    ({"github": {"repository": "o/r", "ref": "-x"}}, "notices[0].github.ref", "expected a commit"),
    ({"to": "env:A", "on": ["stpe"]}, "notices[0].on[0]", "did you mean 'step'?"),
    ({"to": "env:A", "on": []}, "notices[0].on", "at least one kind"),
    ({"to": "env:A", "on": {}}, "notices[0].on[0]", "a mapping"),
    ({"to": "env:A", "github": "o/r"}, "notices[0]", "expected one of to, cloudevents, github"),
    ({"on": ["step"]}, "notices[0]", "expected one of to, cloudevents, github"),
    (["env:A", "env:B", "env:A"], "notices[2]", "env:A is told already"),
    ([f"env:A{n}" for n in range(11)], "notices", "at most 10 receivers"),
    (7, "notices[0].to", "write env:NAME"),
    ({"https://h/s3cret": 1}, "notices[0]", "unknown field; known are to, cloudevents, github, on"),
    ({"github": {"repository": "o/r", "ghp_s3cret": 1}}, "notices[0].github", "unknown field; known are"),
    ({"github": {"repository": "o/r", "tokn": "env:A"}}, "notices[0].github", "did you mean 'token'?"),
]


@pytest.mark.parametrize(("notices", "path", "message"), BAD, ids=[each[1] + each[2] for each in BAD])
def test_a_mistake_in_them_is_named_and_no_secret_repeated(notices: Any, path: str, message: str) -> None:
    with pytest.raises(PolicyInvalid) as invalid:
        a_policy(notices=notices)
    assert str(invalid.value).startswith(f"{path}: ")
    assert message in str(invalid.value)
    assert "s3cret" not in str(invalid.value)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("https://h/s3cret:", ":3: notices[0]: has no value"),
        ("{s3cret: {on: null}}", ":3: notices[0]: has no value"),
        ("{s3cret: 1, s3cret: 2}", ":3: notices[0]: given twice"),
        ("{s3cret: !x 1}", ":3: notices[0]: the tag"),
        ("{to: env:A, on: null}", ":3: notices[0].on: has no value"),
    ],
)
def test_a_secret_in_place_of_a_name_is_not_repeated_of_a_file(entry: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyFileInvalid) as invalid:
        read_policy_text(f"version: 1\nnotices:\n  - {entry}\n", tmp_path)
    assert said in str(invalid.value)
    assert "s3cret" not in str(invalid.value)
