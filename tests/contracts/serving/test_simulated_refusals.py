"""Simulated revisions with more requests than their instances can take at most."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.cloud import run_v2

from contracts.conftest import Google, a_google
from controller.emulator.logs.entries import Severity

from .simulated import ANSWERING, answer, counted, requests

MINUTE = timedelta(minutes=1)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with simulated revisions that answer HTTP."""
    yield from a_google(ANSWERING)


def deploy(google: Google) -> None:
    """Deploy a revision whose instance answers one request a second, and go on to a whole minute."""
    template = google.template(revision="web-one", LATENCY_MS="1000", LATENCY_SPREAD="0")
    template.max_instance_request_concurrency = 1
    template.scaling = run_v2.RevisionScaling(max_instance_count=1)
    google.create_as(run_v2.Service(template=template))
    google.local.advance(MINUTE)


def pending(google: Google) -> list[int]:
    now = google.local.now()
    (series,) = google.series("pending_queue/pending_requests", now - 10 * MINUTE, now)
    return [point.value.int64_value for point in series.points]


def test_what_finds_no_room_is_refused_logged_as_a_warning_and_not_counted(google: Google) -> None:
    """Fact: "429 "no available instance" ... are NOT in request_count by its definition"."""
    deploy(google)
    google.local.users("web", 3)
    google.local.advance(10 * MINUTE)
    assert set(counted(google)) == {200}
    assert counted(google)[200] == pytest.approx(610, abs=5)
    entries = requests(google)
    assert len(entries) == pytest.approx(1190, rel=0.1)
    for entry in entries:
        assert entry.request is not None
        assert (entry.request.status, entry.severity) == (429, Severity.WARNING)
        assert entry.payload == "The request was aborted because there was no available instance."
        assert "instanceId" not in entry.origin.labels
    assert pending(google)[0] == 10
    statuses = [answer(google).status for _ in range(60)]
    assert 20 < statuses.count(429) < 58
    google.local.users("web", 0)
    google.local.advance(5 * MINUTE)
    assert pending(google)[0] == 0


def test_a_moment_with_many_requests_makes_them_wait_and_nobody_is_refused(google: Google) -> None:
    deploy(google)
    google.local.users("web", 0.8)
    google.local.advance(30 * MINUTE)
    assert not requests(google)
