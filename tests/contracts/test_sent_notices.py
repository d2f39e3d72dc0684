"""Notices as they leave: to real servers, in little time, and with nothing secret in what is said of them."""

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import replace
from threading import Event as Flag
from threading import Timer
from typing import Any

import pytest
from builders import NOW, a_policy, a_rollout
from receivers import GitHubStandIn, Got, Reply, a_receiver, a_silent_receiver, badly

from controller.core.notices import Notice, notices_of
from controller.core.rollout import Event, Phase
from controller.core.trail import Transition, opening_of
from controller.gateways.notices import NoticeGateway

SAID_NOWHERE = "s3cr3t-t0k3n"
SECONDS = 5.0


def a_notice(*receivers: Any, phase: Phase = Phase.WAITING, **fields: Any) -> Notice:
    rollout = a_rollout(phase, -1, policy=a_policy(notices=list(receivers)), **fields)
    transition = opening_of(rollout, None)
    if phase is not Phase.WAITING:
        transition = Transition(NOW, Event.PASSED, rollout, rollout)
    (notice,) = notices_of(transition)
    return notice


def a_gateway(**fields: Any) -> NoticeGateway:
    return NoticeGateway("demo", "europe-west1", **{"seconds": SECONDS, "signed_in": signed_in, **fields})


def signed_in(_method: str, _url: str) -> Mapping[str, str]:
    return {"Authorization": "Bearer google"}


# --- apprise ---


def test_a_webhook_gets_title_body_link_and_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver() as receiver:
        monkeypatch.setenv("HOOK", f"{receiver.for_apprise}/{SAID_NOWHERE}")
        notice = a_notice("env:HOOK", phase=Phase.PROMOTED)
        assert a_gateway().send([notice]) == []
    (got,) = receiver.got
    assert got.path.strip("/") == SAID_NOWHERE
    assert got.json["title"] == notice.title
    assert got.json["message"].startswith(notice.body)
    assert got.json["message"].endswith("/run/detail/europe-west1/web/revisions?project=demo")
    assert got.json["type"] == "success"


@pytest.mark.parametrize(
    "address",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "gchat://workspace/key/token",
        "https://chat.googleapis.com/v1/spaces/workspace/messages?key=key&token=token",
        "workflows://prod-1.logic.azure.com:443/643e69f83c8944/signature",
        "mailtos://user:password@example.com?to=team@example.com",
        "pagerduty://integration@api/source/component",
        "jsons://example.com/hook",
    ],
)
def test_the_addresses_that_the_documentation_names_are_known(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", address)
    assert a_gateway().lacking(a_policy(notices="env:HOOK").notices) == []


def test_an_address_that_is_none_is_said_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", f"nosuch://{SAID_NOWHERE}")
    (problem,) = a_gateway().lacking(a_policy(notices="env:HOOK").notices)
    assert problem.startswith("the notice to env:HOOK: what stands there is no address that apprise knows")
    assert SAID_NOWHERE not in problem


# --- CloudEvents ---


def test_an_http_address_gets_a_structured_cloudevent(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver() as receiver:
        monkeypatch.setenv("EVENTS", f"{receiver.address}/in?key={SAID_NOWHERE}")
        notice = a_notice({"cloudevents": "env:EVENTS"})
        assert a_gateway().send([notice]) == []
    (got,) = receiver.got
    assert got.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    event = got.json
    assert {name: event[name] for name in ("specversion", "id", "type", "subject", "datacontenttype")} == {
        "specversion": "1.0",
        "id": notice.id,
        "type": "cloud-run-canary.rollout.started",
        "subject": notice.rollout.id,
        "datacontenttype": "application/json",
    }
    assert event["source"] == "//run.googleapis.com/projects/demo/locations/europe-west1/services/web"
    assert event["time"] == "2026-03-02T08:30:00Z"
    assert event["data"]["title"] == notice.title
    assert event["data"]["link"].startswith("https://console.cloud.google.com/run/")


def test_a_local_cloud_run_has_no_console_to_link_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver() as receiver:
        monkeypatch.setenv("EVENTS", receiver.address)
        a_gateway(has_console=False).send([a_notice({"cloudevents": "env:EVENTS"})])
    assert receiver.got[0].json["data"]["link"] == ""


def test_a_topic_gets_the_same_event(monkeypatch: pytest.MonkeyPatch) -> None:
    def published(got: Got) -> tuple[int, Any]:
        return (200, {"messageIds": ["1"]}) if got.path == "/v1/projects/p/topics/news:publish" else (404, {})

    notice = a_notice({"cloudevents": "projects/p/topics/news"})
    with a_receiver(published) as receiver:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", receiver.address.removeprefix("http://"))
        assert a_gateway().send([notice]) == []
    (message,) = receiver.got[0].json["messages"]
    assert json.loads(b64decode(message["data"]))["id"] == notice.id
    assert message["attributes"] == {"content-type": "application/cloudevents+json; charset=utf-8"}


def test_a_topic_that_is_not_there_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver(lambda _: (404, {})) as receiver:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", receiver.address.removeprefix("http://"))
        (problem,) = a_gateway().send([a_notice({"cloudevents": "projects/p/topics/news"})])
    assert problem == (
        "the notice to cloudevents projects/p/topics/news: Pub/Sub answered with 404; there is no such topic;"
        " create it, or mend its name in the policy"
    )


# --- GitHub ---


def test_a_rollout_is_one_deployment_whose_status_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    github = GitHubStandIn(SAID_NOWHERE, frozenset({"c0ffee"}))
    with a_receiver(github.reply) as receiver:
        monkeypatch.setenv("GITHUB_API_URL", receiver.address)
        monkeypatch.setenv("GITHUB_TOKEN", SAID_NOWHERE)
        monkeypatch.setenv("COMMIT_SHA", "c0ffee")
        for phase in (Phase.WAITING, Phase.PROMOTED):
            assert a_gateway().send([a_notice({"github": "o/r"}, phase=phase)]) == []
        other = a_notice(
            {"github": {"repository": "o/r", "ref": "c0ffee"}}, phase=Phase.ROLLED_BACK, id="0ther"
        )
        monkeypatch.delenv("COMMIT_SHA")
        assert a_gateway().send([other]) == []
        later = replace(a_notice({"github": "o/r"}, phase=Phase.SUPERSEDED), id="later")
        assert a_gateway().send([later]) == [], "who finds the deployment need not know what was deployed"
    assert github.states() == [["in_progress", "success", "inactive"], ["failure"]]
    assert [each["task"] for each in github.deployments] == [f"canary:{later.rollout.id}", "canary:0ther"]
    assert {each["environment"] for each in github.deployments} == {"production"}
    assert all("/run/detail/" in status["log_url"] for each in github.statuses.values() for status in each)


@pytest.mark.parametrize(
    ("token", "ref", "said"),
    [
        ("wr0ng", "c0ffee", "GitHub answered with 401; the token is not valid"),
        (SAID_NOWHERE, "dead", "GitHub answered with 422; there is no such commit"),
        ("", "c0ffee", "the environment variable GITHUB_TOKEN is not set; set it"),
        (SAID_NOWHERE, "", "the environment variable COMMIT_SHA is not set; set it"),
    ],
)
def test_what_github_refuses_is_said(
    token: str, ref: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_receiver(GitHubStandIn(SAID_NOWHERE, frozenset({"c0ffee"})).reply) as receiver:
        monkeypatch.setenv("GITHUB_API_URL", receiver.address)
        monkeypatch.setenv("GITHUB_TOKEN", token)
        monkeypatch.setenv("COMMIT_SHA", ref)
        (problem,) = a_gateway().send([a_notice({"github": "o/r"})])
    assert problem.startswith(f"the notice to github o/r, production: {said}")


def test_an_answer_that_is_not_githubs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver(lambda _: (200, {"hello": "world"})) as receiver:
        monkeypatch.setenv("GITHUB_API_URL", receiver.address)
        monkeypatch.setenv("GITHUB_TOKEN", SAID_NOWHERE)
        (problem,) = a_gateway().send([a_notice({"github": {"repository": "o/r", "ref": "main"}})])
    assert problem.endswith("GitHub's list of deployments cannot be read")


# --- secrets ---


def secret_manager(value: bytes) -> Reply:
    def reply(got: Got) -> tuple[int, Any]:
        if got.headers.get("Authorization") != "Bearer google":
            return 401, {}
        if got.path != "/v1/projects/demo/secrets/hook/versions/latest:access":
            return 404, {}
        return 200, {"payload": {"data": b64encode(value).decode()}}

    return reply


def test_a_secret_is_read_once_when_it_is_needed() -> None:
    with (
        a_receiver() as receiver,
        a_receiver(secret_manager(f"{receiver.for_apprise}\n".encode())) as manager,
    ):
        gateway = a_gateway(secret_manager=manager.address)
        notice = a_notice("secret:hook")
        assert manager.got == []
        assert gateway.send([notice, notice]) == []
        assert len(receiver.got) == 2
        assert len(manager.got) == 1


def test_a_secret_is_read_anew_when_what_was_known_did_not_do() -> None:
    value = b"nosuch://old"
    with a_receiver() as receiver:

        def reply(got: Got) -> tuple[int, Any]:
            return secret_manager(value)(got)

        with a_receiver(reply) as manager:
            gateway = a_gateway(secret_manager=manager.address)
            assert len(gateway.send([a_notice("secret:hook")])) == 1
            value = receiver.for_apprise.encode()
            assert gateway.send([a_notice("secret:hook")]) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("secret:other", b"x", "other/versions/latest, answered with 404; there is no such secret"),
        ("secret:hook", b"", "the secret projects/demo/secrets/hook/versions/latest is empty"),
        ("secret:hook", b"\xff\xfe", "gave no text"),
    ],
)
def test_a_secret_that_is_missing_is_said_before_it_is_needed(name: str, value: bytes, said: str) -> None:
    with a_receiver(secret_manager(value)) as manager:
        (problem,) = a_gateway(secret_manager=manager.address).lacking(a_policy(notices=name).notices)
    assert problem.startswith(f"the notice to {name}: ")
    assert said in problem


def test_a_variable_that_is_missing_is_said_before_it_is_needed() -> None:
    receivers = a_policy(notices=["env:NO_SUCH_VARIABLE", {"cloudevents": "https://example.com/"}]).notices
    (problem,) = a_gateway().lacking(receivers)
    assert problem == (
        "the notice to env:NO_SUCH_VARIABLE: the environment variable NO_SUCH_VARIABLE is not set; set it"
        " where the controller runs"
    )


# --- what goes wrong ---


def test_one_that_fails_keeps_no_other_from_its_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_receiver(badly) as bad, a_receiver() as good:
        monkeypatch.setenv("BAD", f"{bad.for_apprise}/{SAID_NOWHERE}")
        monkeypatch.setenv("EVENTS", f"{bad.address}/{SAID_NOWHERE}")
        monkeypatch.setenv("GOOD", good.for_apprise)
        problems = a_gateway().send([a_notice("env:BAD", {"cloudevents": "env:EVENTS"}, "env:GOOD")])
    by_apprise, event = problems
    assert by_apprise.startswith("the notice to env:BAD: the service cannot be reached or refused it; try")
    assert event == "the notice to cloudevents env:EVENTS: whoever gets the events answered with 500"
    assert len(bad.got) == 2, "neither is tried again"
    assert len(good.got) == 1


def test_one_that_hangs_is_waited_for_a_little_and_keeps_no_other_from_its_notices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with a_silent_receiver() as silent, a_receiver() as good:
        monkeypatch.setenv("SILENT", silent.for_apprise)
        monkeypatch.setenv("EVENTS", silent.address)
        monkeypatch.setenv("GOOD", good.for_apprise)
        gateway = a_gateway(seconds=0.5)
        notice = a_notice("env:SILENT", {"cloudevents": "env:EVENTS"}, "env:GOOD")
        begun = time.monotonic()
        first, second = gateway.send([notice, notice]), gateway.send([notice])
        taken = time.monotonic() - begun
    assert [problem.partition(": ")[2][:27] for problem in first] == ["it was not done in 0.5 s, o"] * 2
    assert [problem.partition(": ")[2][:27] for problem in second] == ["it was not done in 0.5 s, o"] * 2
    assert taken < SECONDS
    assert len(good.got) == 3


def test_one_that_did_not_answer_once_gets_all_in_order_when_it_answers_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Flag()

    def reply(_: Got) -> tuple[int, Any]:
        answers.wait(SECONDS)
        return 200, {}

    with a_receiver(reply) as receiver:
        monkeypatch.setenv("EVENTS", receiver.address)
        gateway = a_gateway(seconds=1.0)
        phases = (Phase.WAITING, Phase.PROMOTED, Phase.FAILED)
        first, *others = [a_notice({"cloudevents": "env:EVENTS"}, phase=phase) for phase in phases]
        assert len(gateway.send([first])) == 1
        Timer(0.1, answers.set).start()
        assert [gateway.send([notice]) for notice in others] == [[], []]
    assert receiver.kinds == ["started", "promoted", "failed"]


def test_what_is_too_much_for_one_that_hangs_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_silent_receiver() as silent:
        monkeypatch.setenv("EVENTS", silent.address)
        gateway = a_gateway(seconds=0.05)
        notice = a_notice({"cloudevents": "env:EVENTS"})
        *tried, (left_out,) = [gateway.send([notice]) for _ in range(5)]
    assert all("it was not done in 0.05 s" in problem for (problem,) in tried)
    assert left_out.endswith("env:EVENTS: it is left out, as 4 before it are not done yet")


def test_user_and_password_of_an_address_are_sent_as_such_and_never_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[Any] = []
    look_up = socket.getaddrinfo

    def noted(host: Any, *others: Any, **fields: Any) -> Any:
        looked_up.append(host)
        return look_up(host, *others, **fields)

    with a_receiver() as receiver:
        address = receiver.address.replace("://", f"://ada:{SAID_NOWHERE}%40@")
        monkeypatch.setenv("EVENTS", f"{address}/in")
        monkeypatch.setattr(socket, "getaddrinfo", noted)
        assert a_gateway().send([a_notice({"cloudevents": "env:EVENTS"})]) == []
    (got,) = receiver.got
    assert (got.path, got.headers["Host"]) == ("/in", receiver.address.removeprefix("http://"))
    assert b64decode(got.headers["Authorization"].removeprefix("Basic ")).decode() == f"ada:{SAID_NOWHERE}@"
    assert set(looked_up) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"http://ada:{SAID_NOWHERE}@receiver.test/", "does not begin with https://"),
        (f"http://127.{SAID_NOWHERE}.test/", "does not begin with https://"),
        (f"ftp://{SAID_NOWHERE}/", "does not begin with https://"),
        (f"https://[{SAID_NOWHERE}", "cannot be read"),
        (f"https://receiver.test:{SAID_NOWHERE}/", "cannot be read"),
    ],
)
def test_what_is_no_address_of_https_is_asked_of_nobody(
    address: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTS", address)
    monkeypatch.setattr(socket, "getaddrinfo", None)
    (problem,) = a_gateway().send([a_notice({"cloudevents": "env:EVENTS"})])
    assert problem == f"the notice to cloudevents env:EVENTS: the address of whoever gets the events {said}"


def test_nothing_secret_is_in_any_log_or_problem(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with a_receiver() as good, a_receiver(badly) as bad, socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        addresses = {
            "GOOD": f"{good.for_apprise}/{SAID_NOWHERE}?+X-Key={SAID_NOWHERE}",
            "BAD": f"json://{SAID_NOWHERE}:{SAID_NOWHERE}@{bad.address.removeprefix('http://')}/{SAID_NOWHERE}",
            "NOBODY": f"json://{nobody}/{SAID_NOWHERE}",
            "NONE": f"nosuch://{SAID_NOWHERE}/{SAID_NOWHERE}",
            "NO_ADDRESS": SAID_NOWHERE,
            "BROKEN": f"mailto://{SAID_NOWHERE}",
        }
        events = {
            "EVENTS": f"{bad.address}/{SAID_NOWHERE}",
            "LOST": f"http://{nobody}/{SAID_NOWHERE}",
            "ODD": f"http://{SAID_NOWHERE} x/\x01",
            "FILE": f"file:///{SAID_NOWHERE}",
        }
        for name, value in {**addresses, **events}.items():
            monkeypatch.setenv(name, value)
        receivers: list[Any] = [f"env:{name}" for name in addresses]
        receivers += [{"cloudevents": f"env:{name}"} for name in events]
        gateway = a_gateway()
        with caplog.at_level(1):
            problems = gateway.send([a_notice(*receivers)])
            lacking = gateway.lacking(a_policy(notices=receivers).notices)
    assert len(problems) == len(receivers) - 1
    assert len(good.got) == 1
    written = capfd.readouterr()
    for text in (caplog.text, written.out, written.err, *problems, *lacking):
        assert SAID_NOWHERE not in text


PROGRAM = """
from builders import a_policy, a_rollout
from controller.core.notices import notices_of
from controller.core.rollout import Phase
from controller.core.trail import opening_of
from controller.gateways.notices import NoticeGateway

policy = a_policy(notices=["env:SILENT", {"cloudevents": "env:EVENTS"}])
notices = notices_of(opening_of(a_rollout(Phase.WAITING, -1, policy=policy), None))
print(NoticeGateway("demo", "europe-west1", seconds=0.2).send(notices))
"""


@pytest.mark.processes
def test_the_process_ends_though_somebody_still_hangs() -> None:
    with a_silent_receiver() as silent:
        places = {
            "SILENT": silent.for_apprise,
            "EVENTS": silent.address,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.stderr == ""
    assert ended.stdout.count("it was not done in 0.2 s") == 2
