"""Simulated revisions in tests: asked over HTTP, and what the store of metrics and the logs say of them."""

import http.client
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from contracts.conftest import SECONDS, SIMULATED, Google
from controller.emulator.logs.entries import REQUESTS, SYSTEM, Entry
from controller.emulator.settings import SimulatedLogs

ANSWERING = replace(SIMULATED, simulated_front=True)
LOGGED = replace(SIMULATED, simulated_logs=SimulatedLogs.ALL)


class Answer(NamedTuple):
    """What a user sees."""

    status: int
    text: str
    revision: str


def answer(google: Google, host: str = "web.localhost", method: str = "GET", agent: str = "curl") -> Answer:
    with closing(http.client.HTTPConnection(google.local.front_address, timeout=SECONDS)) as connection:
        body = b"x" * 1000 if method == "POST" else None
        connection.request(method, "/path?a=1", body, {"Host": host, "User-Agent": agent})
        got = connection.getresponse()
        return Answer(got.status, got.read().decode().strip(), got.getheader("X-Revision", ""))


def counted(google: Google, revision: str = "web-one") -> dict[int, int]:
    """Return the requests in the metrics, by status."""
    return google.local.measure(
        lambda metrics: next(
            (dict(codes) for key, codes in metrics.totals().items() if key.revision == revision), {}
        )
    )


def requests(google: Google, revision: str = "web-one") -> list[Entry]:
    """Return the entries of a revision's requests in order of receipt, as they are kept."""
    return _kept(google, REQUESTS, revision)


def starts(google: Google, revision: str = "web-one") -> list[Entry]:
    """Return what the system log says of a revision's instances."""
    return _kept(google, SYSTEM, revision)


def instances(entries: Sequence[Entry]) -> set[str]:
    """Return the ids of the instances that entries are of, "" for none."""
    return {entry.origin.labels.get("instanceId", "") for entry in entries}


def seconds_since(began: datetime, google: Google) -> float:
    return (google.local.now() - began).total_seconds()


def _kept(google: Google, log_id: str, revision: str) -> list[Entry]:
    emulator = google.local._emulator
    return [
        entry
        for entry in google.local._do(emulator.logs.all)
        if entry.origin.log_id == log_id and entry.origin.resource_labels["revision_name"] == revision
    ]
