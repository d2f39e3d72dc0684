"""The log of simulated revisions: each request once, at its instants, from an instance that was started."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from itertools import groupby

import pytest

from contracts.conftest import Google, a_google, to
from contracts.logs.log_entries import listed

from .simulated import LOGGED, counted, instances, requests, starts

COLD = {"START_SECONDS": "5", "LATENCY_MS": "40", "LATENCY_SPREAD": "0"}
MINUTE = timedelta(minutes=1)


@pytest.fixture
def logged() -> Iterator[Google]:
    """Google with simulated revisions all of whose requests are logged."""
    yield from a_google(LOGGED)


def statuses(google: Google, revision: str) -> Counter[int]:
    return Counter(entry.request.status for entry in requests(google, revision) if entry.request)


def test_each_request_that_is_counted_is_logged_once_in_order_of_receipt(logged: Google) -> None:
    logged.two_revisions(ERROR_SHARE="0.2")
    logged.update(traffic=[to("web-one", 70), to("web-two", 30)])
    logged.settle()
    logged.local.users("web", 20)
    began = logged.local.now()
    logged.local.advance(5 * MINUTE)
    logged.local.users("web", 0)
    ended = logged.local.now()
    for revision in ("web-one", "web-two"):
        assert statuses(logged, revision) == counted(logged, revision)
        for entry in requests(logged, revision):
            assert entry.request is not None
            assert began <= entry.timestamp < entry.received <= ended
            assert entry.received - entry.timestamp == entry.request.latency
        assert instances(requests(logged, revision)) == instances(starts(logged, revision))
    entries = sorted(requests(logged) + requests(logged, "web-two"), key=lambda entry: entry.number)
    assert entries == sorted(entries, key=lambda entry: entry.received)
    each_minute = groupby(entries, lambda entry: (entry.received - began) // MINUTE)
    assert all(1000 < len(list(group)) < 1400 for _, group in each_minute)


def test_a_list_shows_what_has_ended_by_then_and_the_next_one_the_rest(logged: Google) -> None:
    logged.create(revision="web-one")
    logged.settle()
    logged.local.users("web", 5)
    seen: set[str] = set()
    for _ in range(20):
        logged.local.advance(timedelta(seconds=7))
        since = (logged.local.now() - timedelta(seconds=7)).isoformat()
        found = listed(logged, f'log_id("run.googleapis.com/requests") receiveTimestamp>"{since}"')
        assert len(found) > 10
        seen |= {entry.insert_id for entry in found}
    assert len(seen) == sum(counted(logged).values()) == len(requests(logged))


def test_the_request_that_starts_an_instance_waits_for_it_in_the_log_and_not_in_the_metric(
    logged: Google,
) -> None:
    logged.create(revision="web-one", **COLD)
    logged.settle()
    logged.local.advance(17 * MINUTE)
    logged.local.users("web", 2)
    logged.local.advance(2 * MINUTE)
    latencies = {
        entry.timestamp: entry.request.latency.total_seconds()
        for entry in requests(logged)
        if entry.request is not None
    }
    first, *others = (latencies[timestamp] for timestamp in sorted(latencies))
    assert 5.4 < first < 7
    assert set(others) == {0.04}
    started = starts(logged)[1]
    assert started.timestamp == min(latencies)
    assert instances(requests(logged)) == instances([started])
    logged.local.advance(4 * MINUTE)
    end = logged.local.now()
    (series,) = logged.series("request_latencies", end - 10 * MINUTE, end)
    assert all(point.value.distribution_value.mean == pytest.approx(40) for point in series.points)


def test_instances_that_the_load_starts_have_their_first_request_too(logged: Google) -> None:
    logged.create(revision="web-one", LATENCY_MS="8000", LATENCY_SPREAD="0", START_SECONDS="30")
    logged.settle()
    logged.local.advance(MINUTE)
    logged.local.users("web", 20)
    logged.local.advance(5 * MINUTE)
    waited = [
        entry for entry in requests(logged) if entry.request and entry.request.latency.total_seconds() > 30
    ]
    assert len(waited) == len(starts(logged)) - 1 >= 1
    assert instances(waited) == instances(starts(logged)[1:])
    assert all("Reason: AUTOSCALING - " in str(entry.payload) for entry in starts(logged)[1:])


def test_by_default_failures_alone_are_logged_and_name_their_instance(google: Google) -> None:
    google.create(revision="web-one", ERROR_SHARE="0.1")
    google.settle()
    google.local.users("web", 20)
    google.local.advance(5 * MINUTE)
    assert statuses(google, "web-one") == {500: counted(google)[500]}
    assert instances(requests(google)) == instances(starts(google))
    assert "Reason: DEPLOYMENT_ROLLOUT - " in str(starts(google)[0].payload)
