"""The request log of real traffic: what users, probes and refusals leave behind, as the gateway reads it."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud import run_v2

from contracts.conftest import SECONDS, Google, a_google
from contracts.serving.served import all_instances, ask, in_flight, wait_until
from contracts.serving.test_traffic_shifts import SETTINGS
from controller.core.policy_probes import Probe
from controller.core.request_log import RequestLog
from controller.gateways.probes import HttpProbes

from .request_log_entries import read

pytestmark = pytest.mark.processes


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with real processes and a clock that only the test moves."""
    yield from a_google(SETTINGS)


@pytest.fixture
def impatient_google() -> Iterator[Google]:
    """The same, where a request soon gives up waiting for an instance."""
    yield from a_google(replace(SETTINGS, pending_seconds=0.3))


def release(google: Google, **env: str) -> None:
    """Deploy a revision that answers one request at a time, in one instance."""
    template = google.template(revision="web-one", **{"LATENCY_SPREAD": "0", **env})
    template.scaling.max_instance_count = 1
    template.max_instance_request_concurrency = 1
    google.create_as(run_v2.Service(template=template))
    wait_until(lambda: not google.revision("web-one").reconciling)
    google.settle()


def logged(google: Google, count: int) -> RequestLog:
    """Return the log when it has so many requests: the front writes an entry after the answer."""
    wait_until(lambda: len(read(google).requests) >= count)
    return read(google)


def test_each_answer_is_in_the_log_once_with_its_instance_and_latency(google: Google) -> None:
    release(google, LATENCY_MS="20", ERROR_SHARE="0.5")
    statuses = [ask(google)[0] for _ in range(12)]
    log = logged(google, 12)
    assert sorted(one.status for one in log.requests) == sorted(statuses)
    (instance,) = {one.instance for one in log.requests}
    assert instance
    assert all(one.latency >= 20 for one in log.requests)
    assert not any(one.refusal or one.is_probe for one in log.requests)


def test_the_start_of_the_instance_that_answers_is_in_the_log(google: Google) -> None:
    release(google, LATENCY_MS="0")
    assert ask(google)[0] == 200
    log = logged(google, 1)
    assert [(one.revision, one.instance) for one in log.starts] == [("web-one", log.requests[0].instance)]
    google.local.advance(timedelta(minutes=16))
    wait_until(lambda: not all_instances(google))
    assert ask(google)[0] == 200
    again = logged(google, 2)
    assert [one.instance for one in again.starts] == [one.instance for one in again.requests]
    assert len({one.instance for one in again.starts}) == 2


def test_a_request_that_finds_no_room_has_no_instance_and_the_words_of_the_platform(
    impatient_google: Google,
) -> None:
    google = impatient_google
    release(google, LATENCY_MS="600000")
    with closing(http.client.HTTPConnection(google.local.front_address, timeout=SECONDS)) as user:
        user.request("GET", "/", headers={"Host": "web.localhost"})
        wait_until(lambda: in_flight(google) == 1)
        assert ask(google)[0] == 429
    log = logged(google, 1)
    (refused,) = [one for one in log.requests if one.status == 429]
    assert refused.instance == ""
    assert refused.refusal == "The request was aborted because there was no available instance."


def test_probes_are_told_from_users(google: Google) -> None:
    release(google, LATENCY_MS="0")
    port = google.local.front_address.rpartition(":")[2]
    probes = HttpProbes(google.local.now)
    assert all(probes.ask(f"http://web.localhost:{port}", Probe(path=path)).ok for path in ("/", "/ready"))
    ask(google)
    assert sorted(one.is_probe for one in logged(google, 3).requests) == [False, True, True]
