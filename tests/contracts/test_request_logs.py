"""Request logs: exactly the requests and instance starts that were asked for, each once."""

from itertools import pairwise
from typing import Any

import pytest
from builders import NOW
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.logging_v2.types import ListLogEntriesResponse, LogEntry
from google.logging.type import http_request_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from contracts.bare_server import a_channel
from contracts.conftest import Google
from controller.core.request_log import RequestLog
from controller.gateways.log_budget import LogBudget
from controller.gateways.request_logs import PROBE_AGENT, REQUESTS, SYSTEM, RequestLogGateway

from .request_log_entries import (
    BOTH,
    HOUR,
    MINUTE,
    SECOND,
    STARTING,
    a_request,
    a_resource,
    a_start,
    an_http_request,
    gateway,
    ids,
    log,
    log_name,
    read,
)


def test_a_request_is_read_as_it_was_logged(google: Google) -> None:
    now = google.local.now()
    http = an_http_request(503, milliseconds=60_369.159)
    log(google, a_request("a", http, timestamp=now - MINUTE, labels={"instanceId": "i1"}))
    (found,) = read(google).requests
    assert (found.id, found.revision, found.instance) == ("a", "web-one", "i1")
    assert (found.started_at, found.received_at) == (now - MINUTE, now)
    assert (found.status, found.latency) == (503, 60_369.159)
    assert (found.refusal, found.is_probe) == ("", False)


def test_exactly_the_requests_received_in_the_window_are_read(google: Google) -> None:
    start = google.local.now()
    for number in range(5):
        log(google, a_request(f"r{number}"))
        google.local.advance(SECOND)
    assert ids(read(google, start + SECOND, start + 4 * SECOND)) == ["r1", "r2", "r3"]
    instants = [start + number * SECOND / 2 for number in range(11)]
    one_by_one = [name for window in pairwise(instants) for name in ids(read(google, *window))]
    assert one_by_one == ["r0", "r1", "r2", "r3", "r4"]


def test_a_slow_request_is_found_by_its_end(google: Google) -> None:
    """Monitoring facts 3: timestamp is the start, and the entry is written at the end."""
    began = google.local.now()
    google.local.advance(HOUR)
    slow = an_http_request(504, milliseconds=3_600_000)
    log(google, a_request("slow", slow, timestamp=began), a_request("quick"))
    found = read(google, google.local.now() - SECOND)
    assert [(one.id, one.latency) for one in found.requests] == [("quick", 12), ("slow", 3_600_000)]
    assert read(google, began, began + MINUTE) == RequestLog()


def test_requests_come_in_order_of_receipt(google: Google) -> None:
    log(google, a_request("c"), a_request("b"))
    google.local.advance(SECOND)
    log(google, a_request("a", timestamp=google.local.now() - MINUTE))
    assert ids(read(google)) == ["b", "c", "a"]


def test_an_entry_that_is_written_twice_is_read_once(google: Google) -> None:
    """Monitoring facts 3: the same project, timestamp and insert_id make duplicates."""
    now = google.local.now()
    for _ in range(2):
        log(google, a_request("a", timestamp=now), a_request("a", timestamp=now - SECOND))
    assert [one.started_at for one in read(google).requests] == [now - SECOND, now]


def test_no_other_revision_service_region_log_or_resource_is_read(google: Google) -> None:
    log(google, a_request("own"), a_request("second", resource=a_resource(revision_name="web-two")))
    others = [
        a_resource(revision_name="web-three"),
        a_resource(revision_name="WEB-ONE"),
        a_resource(service_name="Web"),
        a_resource(location="Local-1"),
        a_resource(service_name="shop"),
        a_resource(location="local-2"),
        MonitoredResource(type="global", labels=a_resource().labels),
    ]
    log(google, *(a_request(f"other{number}", resource=one) for number, one in enumerate(others)))
    log(google, a_request("printed"), log_id="run.googleapis.com/stdout")
    assert ids(read(google)) == ["own", "second"]


def test_nothing_is_asked_where_nothing_can_be_found(google: Google) -> None:
    google.local.fault("partition")
    now = google.local.now()
    assert gateway(google).read_requests("web", [], now, now + SECOND, share=0.5) == RequestLog(share=0.5)
    assert read(google, now, now) == RequestLog()


def test_probes_are_told_from_users(google: Google) -> None:
    agents = {"own": PROBE_AGENT, "newer": f"{PROBE_AGENT}/2", "user": "Mozilla", "like": f"x {PROBE_AGENT}"}
    log(google, *(a_request(name, an_http_request(agent=agent)) for name, agent in agents.items()))
    assert [one.id for one in read(google).requests if one.is_probe] == ["newer", "own"]


def test_what_the_platform_says_is_made_fit_to_be_shown(google: Google) -> None:
    log(google, a_request("a", an_http_request(503), text_payload="no\n\x1b[2Jinstance" + "x" * 100_000))
    (found,) = read(google).requests
    assert found.refusal.startswith("no \\x1b[2Jinstancexxx")
    assert len(found.refusal) == 4000


HOSTILE = [
    'web" OR severity>=DEFAULT OR "',
    'web\\" OR severity>=DEFAULT -- ',
    "web\\",
    "web) OR (a",
    "*",
    "",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_name_reaches_beyond_its_quotes(google: Google, hostile: str) -> None:
    own = a_resource(service_name=hostile, revision_name=hostile)
    log(google, a_request("own", resource=own), a_request("web", an_http_request(agent=hostile)))
    window = google.local.now() - MINUTE, google.local.now() + SECOND
    assert ids(gateway(google).read_requests(hostile, [hostile], *window)) == ["own"]
    assert gateway(google).read_requests("web", [hostile], *window) == RequestLog()


def test_instance_starts_are_read_apart_from_requests(google: Google) -> None:
    texts = [STARTING, "Default STARTUP TCP probe succeeded", f"not: {STARTING}", STARTING.lower()]
    log(google, *map(a_start, texts))
    assert read(google) == RequestLog()
    log(google, *map(a_start, texts), log_id=SYSTEM)
    found = read(google, share=0.000_000_001)
    assert [(one.revision, one.instance, one.at) for one in found.starts] == [
        ("web-one", "i1", google.local.now())
    ]
    assert found.requests == ()


def test_instance_starts_come_in_order(google: Google) -> None:
    for names in (["i3", "i2"], ["i1"]):
        log(google, *(a_start(labels={"instanceId": name}) for name in names), log_id=SYSTEM)
        google.local.advance(SECOND)
    assert [one.instance for one in read(google).starts] == ["i2", "i3", "i1"]


def of(status: int = 200, **latency: int) -> Any:
    return http_request_pb2.HttpRequest(status=status, latency=duration_pb2.Duration(**latency))


FAR = timestamp_pb2.Timestamp(seconds=2**60)
STRANGE: dict[str, dict[str, Any]] = {
    "no request": {"http_request": None},
    "no status": {"http_request": of(0)},
    "a status of two digits": {"http_request": of(99)},
    "a status of four digits": {"http_request": of(2000)},
    "a negative status": {"http_request": of(-200)},
    "no latency": {"http_request": http_request_pb2.HttpRequest(status=200)},
    "a negative latency": {"http_request": of(seconds=-1)},
    "a latency of a day": {"http_request": of(seconds=86_400)},
    "a latency of ages": {"http_request": of(seconds=2**62)},
    "no revision": {"resource": MonitoredResource(labels={"location": "local-1", "service_name": "web"})},
    "no resource": {"resource": None},
    "no receipt": {"receive_timestamp": None},
    "no start": {"timestamp": None},
    "a start that is no date": {"timestamp": FAR},
    "a receipt that is no date": {"receive_timestamp": FAR},
    "another log": {"log_name": "projects/demo/logs/x"},
    "no log": {"log_name": ""},
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
def test_an_entry_that_makes_no_sense_is_left_out(strange: dict[str, Any]) -> None:
    usual = {"log_name": log_name(REQUESTS), "timestamp": NOW, "receive_timestamp": NOW}
    answer = ListLogEntriesResponse(
        entries=[a_request("strange", **usual), a_request("good", **usual), a_start(log_name="")]
    )
    spoilt = ListLogEntriesResponse.pb(answer).entries[0]
    for field, value in strange.items():
        spoilt.ClearField(field)
        spoilt.MergeFrom(LogEntry.pb()(**{field: value}))
    with a_channel(lambda _: ListLogEntriesResponse.serialize(answer)) as (_, channel):
        logs = RequestLogGateway("demo", "local-1", lambda _: None, channel, LogBudget(lambda: NOW))
        found = logs.read_requests("web", BOTH, NOW - MINUTE, NOW)
    assert ids(found) == ["good"]
    assert found.starts == ()
