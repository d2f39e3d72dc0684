"""Simulated revisions asked over HTTP: by their knobs, on the emulated clock."""

import http.client
import math
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from contracts.conftest import SECONDS, SIMULATED, Google, a_google, to
from controller.emulator.logs.entries import Severity
from controller.emulator.settings import SimulatedLogs

from .served import wait_until
from .simulated import ANSWERING, answer, counted, instances, requests, seconds_since, starts

EXACT = {"LATENCY_MS": "40", "LATENCY_SPREAD": "0"}
PROBE = "cloud-run-canary-probe/1"
UNTIL_IDLE = timedelta(minutes=17)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with simulated revisions that answer HTTP."""
    yield from a_google(ANSWERING)


def test_a_revision_answers_and_its_latency_passes_on_a_clock_that_stands_still(google: Google) -> None:
    google.create(revision="web-one", TEXT="one", **EXACT)
    google.settle()
    began = google.local.now()
    assert answer(google) == (200, "one", "web-one")
    assert seconds_since(began, google) == pytest.approx(0.04)
    (entry,) = requests(google)
    assert entry.request is not None
    assert entry.timestamp == began
    assert entry.request.latency == entry.received - began == timedelta(milliseconds=40)
    assert (entry.request.url, entry.request.user_agent) == ("http://web.localhost/path?a=1", "curl")
    assert instances([entry]) == instances(starts(google))
    assert counted(google) == {200: 1}


@pytest.mark.parametrize(("method", "text"), [("HEAD", ""), ("POST", "one"), ("DELETE", "one")])
def test_any_method_is_answered(google: Google, method: str, text: str) -> None:
    google.create(revision="web-one", TEXT="one", **EXACT)
    google.settle()
    assert answer(google, method=method) == (200, text, "web-one")


def test_requests_follow_the_split_and_tags_lead_to_their_revision(google: Google) -> None:
    google.two_revisions(**EXACT)
    google.update(traffic=[to("web-one", 70), to("web-two", 30, "green")])
    google.settle()
    assert answer(google, "green---web.localhost").revision == "web-two"
    seen = Counter(answer(google).revision for _ in range(1000))
    assert seen == {"web-one": 700, "web-two": 300}
    unknown = answer(google, "blue---web.localhost")
    assert unknown.status == 404
    assert "http://web.localhost:" in unknown.text


def test_requests_on_one_connection_are_answered_one_after_the_other(google: Google) -> None:
    google.create(revision="web-one", **EXACT)
    google.settle()
    began, (host, _, port) = google.local.now(), google.local.front_address.partition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        one = b"GET / HTTP/1.1\r\nHost: web.localhost\r\n"
        connection.sendall((one + b"\r\n") * 99 + one + b"Connection: close\r\n\r\n")
        with connection.makefile("rb") as answers:
            assert answers.read().count(b"HTTP/1.1 200 OK") == 100
    assert seconds_since(began, google) == pytest.approx(4.0)


def test_the_first_request_after_a_while_waits_for_a_cold_start(google: Google) -> None:
    google.create(revision="web-one", START_SECONDS="5", **EXACT)
    google.settle()
    google.local.advance(UNTIL_IDLE)
    began = google.local.now()
    assert answer(google).status == 200
    took = seconds_since(began, google)
    assert 5.4 < took < 7
    assert answer(google).status == 200
    assert seconds_since(began, google) == pytest.approx(took + 0.04)

    first, second = requests(google)
    assert first.request is not None
    assert first.request.latency.total_seconds() == pytest.approx(took)
    assert instances([first]) == instances([second]) == instances(starts(google)[1:])
    assert "Reason: AUTOSCALING - " in str(starts(google)[1].payload)
    google.local.advance(timedelta(minutes=4))
    end = google.local.now()
    (latencies,) = google.series("request_latencies", began, end)
    assert latencies.points[0].value.distribution_value.mean == pytest.approx(40)
    (startups,) = google.series("container/startup_latencies", began, end)
    assert startups.points[0].value.distribution_value.mean == pytest.approx((took - 0.04) * 1000)


def test_a_revision_may_fail_under_its_users_alone(google: Google) -> None:
    google.create(revision="web-one", ERROR_SHARE="1", PROBE_ERROR_SHARE="0", **EXACT)
    google.settle()
    assert answer(google, agent=PROBE).status == 200
    assert answer(google) == (500, "error", "web-one")
    google.local.behave("web-one", error_share=0.0, probe_error_share=1.0)
    assert answer(google, agent=PROBE).status == 500
    assert answer(google).status == 200
    google.local.behave("web-one", probe_error_share=None)
    assert answer(google, agent=PROBE).status == 200
    assert counted(google) == {200: 3, 500: 2}


def test_where_no_instance_comes_up_any_more_requests_are_refused_and_not_counted(google: Google) -> None:
    google.create(revision="web-one", **EXACT)
    google.settle()
    google.local.behave("web-one", start_seconds=math.inf)
    assert answer(google).status == 200  # the first instance is still there
    google.local.advance(UNTIL_IDLE)
    assert answer(google) == (503, "The request was aborted because there was no available instance.", "")
    entry = requests(google)[-1]
    assert (entry.severity, instances([entry])) == (Severity.ERROR, {""})
    assert counted(google) == {200: 1}


def test_an_answer_is_logged_behind_the_requests_of_users_that_ended_before() -> None:
    for google in a_google(replace(ANSWERING, simulated_logs=SimulatedLogs.ALL)):
        google.create(revision="web-one", **EXACT)
        google.settle()
        google.local.users("web", 10)
        google.local.advance(timedelta(seconds=30))
        answer(google, agent=PROBE)
        entries = requests(google)
        assert len(entries) > 200
        assert entries == sorted(entries, key=lambda entry: entry.received)
        assert entries[-1].request is not None
        assert entries[-1].request.user_agent == PROBE


def test_on_a_clock_that_runs_an_answer_takes_its_time() -> None:
    for google in a_google(replace(ANSWERING, speed=60)):
        created = google.create(revision="web-one", LATENCY_MS="1200", LATENCY_SPREAD="0")
        google.wait(created.name)
        began = google.local.now()
        while (got := answer(google)).status == 404:  # the split is not in force yet
            began = google.local.now()
        assert got.status == 200
        assert seconds_since(began, google) >= 1.2
        (entry,) = requests(google)
        assert entry.received - entry.timestamp >= timedelta(milliseconds=1200)


def test_who_leaves_before_the_answer_is_logged_as_gone() -> None:
    for google in a_google(replace(ANSWERING, speed=60)):
        created = google.create(revision="web-one", LATENCY_MS="3600000", LATENCY_SPREAD="0")
        google.wait(created.name)

        def leaves_and_is_counted(google: Google = google) -> bool:
            with closing(http.client.HTTPConnection(google.local.front_address, timeout=0.05)) as connection:
                connection.request("GET", "/", headers={"Host": "web.localhost"})
                with suppress(TimeoutError):
                    connection.getresponse()  # 404 as long as the split is not in force
            return bool(counted(google))

        wait_until(leaves_and_is_counted)
        assert set(counted(google)) == {499}
        entry = requests(google)[0]
        assert entry.payload == "The client closed the connection before the response was complete."


def test_nothing_listens_unless_it_is_asked_for() -> None:
    for google in a_google(SIMULATED):
        assert google.local._emulator.front is None
