"""Receivers of notices on this machine: a server that keeps what it got, and one that is as GitHub is."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

POLL = 0.01
"""Seconds within which a server ends."""


@dataclass
class Got:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = Callable[[Got], tuple[int, Any]]


@dataclass
class Receiving:
    """An address of this machine, and what it got."""

    address: str = ""
    got: list[Got] = field(default_factory=list)

    @property
    def for_apprise(self) -> str:
        return self.address.replace("http://", "json://")

    @property
    def kinds(self) -> list[str]:
        """The kinds of the CloudEvents that it got."""
        return [each.json["data"]["kind"] for each in self.got]


def well(_: Got) -> tuple[int, Any]:
    return 200, {}


def badly(_: Got) -> tuple[int, Any]:
    return 500, {"error": "no"}


class _Handler(BaseHTTPRequestHandler):
    receiving: Receiving
    reply: Reply

    def __getattr__(self, name: str) -> Any:
        """Answer every method alike."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        got = Got(self.command, self.path, dict(self.headers), body)
        self.receiving.got.append(got)
        status, answer = type(self).reply(got)
        with suppress(OSError):  # whoever asked may have left
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def a_receiver(reply: Reply = well) -> Iterator[Receiving]:
    """Receive on this machine, and answer so."""
    receiving = Receiving()
    fields = {"receiving": receiving, "reply": staticmethod(reply)}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), fields)) as server:
        server.daemon_threads = True
        receiving.address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, args=[POLL], daemon=True).start()
        yield receiving
        server.shutdown()


@contextmanager
def a_silent_receiver() -> Iterator[Receiving]:
    """Receive, and never answer."""
    over = Event()

    def never(_: Got) -> tuple[int, Any]:
        over.wait()
        return 200, {}

    with a_receiver(never) as receiving:
        try:
            yield receiving
        finally:
            over.set()


@dataclass
class GitHubStandIn:
    """The few routes of GitHub's deployments that are used, with what GitHub refuses."""

    token: str
    refs: frozenset[str]
    deployments: list[dict[str, Any]] = field(default_factory=list)
    statuses: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def reply(self, got: Got) -> tuple[int, Any]:
        if got.headers.get("Authorization") != f"Bearer {self.token}":
            return 401, {"message": "Bad credentials"}
        parts = urlsplit(got.path)
        match got.method, parts.path.removeprefix("/repos/o/r/deployments").split("/"):
            case "GET", [""]:
                asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
                return 200, self._found(asked)
            case "POST", [""]:
                return self._made(got.json)
            case "POST", ["", number, "statuses"] if int(number) in self.statuses:
                assert got.json["state"] in {"in_progress", "success", "failure", "inactive"}
                self.statuses[int(number)].append(got.json)
                return 201, got.json
            case _:
                return 404, {"message": "Not Found"}

    def states(self) -> list[list[str]]:
        """The states that each deployment went through."""
        return [[status["state"] for status in self.statuses[each["id"]]] for each in self.deployments]

    def _found(self, asked: dict[str, str]) -> list[dict[str, Any]]:
        wanted = {name: asked[name] for name in ("task", "environment") if name in asked}
        return [each for each in reversed(self.deployments) if wanted.items() <= each.items()]

    def _made(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        if wanted["ref"] not in self.refs:
            return 422, {"message": "No ref found"}
        assert wanted["required_contexts"] == []
        assert wanted["auto_merge"] is False
        made = {**wanted, "id": len(self.deployments) + 1}
        self.deployments.append(made)
        self.statuses[made["id"]] = []
        return 201, made
