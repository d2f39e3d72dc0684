"""What real requests meet while traffic moves from one revision to another, on a clock moved by hand."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud import run_v2

from contracts.conftest import Google, a_google, percents, to

from .pools import FAST
from .served import ask, in_flight, wait_until

pytestmark = pytest.mark.processes

RECONCILED, PROPAGATED = timedelta(seconds=3), timedelta(seconds=2)
SETTINGS = replace(FAST, speed=0, reconcile_delay=RECONCILED, propagation_delay=PROPAGATED)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with real processes and a clock that only the test moves."""
    yield from a_google(SETTINGS)


def released(google: Google, revision: str, traffic: list[run_v2.TrafficTarget], **env: str) -> None:
    """Deploy a revision and return when the data plane follows."""
    template = google.template(revision=revision, **env)
    if traffic:
        google.update(template=template, traffic=traffic)
    else:
        google.create_as(run_v2.Service(template=template))
    wait_until(lambda: not google.revision(revision).reconciling)
    google.settle()


def test_the_old_revision_answers_until_the_new_split_has_reached_the_data_plane(google: Google) -> None:
    """Fact 3 [D]: "Traffic routing adjustments are **not instantaneous**"."""
    released(google, "web-one", [], TEXT="one", LATENCY_MS="0")
    released(google, "web-two", [to("web-one", 100)], TEXT="two", LATENCY_MS="0")
    google.update(traffic=[to("web-two", 100)])
    google.local.advance(RECONCILED)
    assert percents(google.get()) == {"web-two": 100}
    assert {ask(google)[1] for _ in range(20)} == {"one"}
    google.local.advance(PROPAGATED - timedelta(milliseconds=1))
    assert {ask(google)[1] for _ in range(20)} == {"one"}
    google.local.advance(timedelta(milliseconds=1))
    assert {ask(google)[1] for _ in range(20)} == {"two"}


def test_a_request_that_is_being_processed_is_completed_by_the_old_revision(google: Google) -> None:
    """Fact 3 [D]: "all requests currently being processed will continue to completion"."""
    released(google, "web-one", [], TEXT="one", LATENCY_MS="2000", LATENCY_SPREAD="0")
    released(google, "web-two", [to("web-one", 100)], TEXT="two", LATENCY_MS="0")
    answers: list[tuple[int, str, str]] = []
    user = threading.Thread(target=lambda: answers.append(ask(google)))
    user.start()
    wait_until(lambda: in_flight(google) == 1)
    google.update(traffic=[to("web-two", 100)])
    google.settle()
    assert ask(google)[:2] == (200, "two")
    assert in_flight(google) == 1
    user.join()
    assert answers == [(200, "one", "")]
