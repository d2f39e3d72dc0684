"""Log entries are kept, found and shown as Cloud Logging does it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.cloud.logging_v2.types import ListLogEntriesResponse, LogEntry
from google.protobuf import json_format

from contracts.conftest import PARENT, SECONDS, Google, a_google, a_template
from controller.emulator.logs.entries import STDERR, SYSTEM, Severity
from controller.emulator.names import project_number
from controller.emulator.settings import RuntimeKind, Settings

from .log_entries import SECOND, WEB_ONE, a_line, a_request, an_entry, asked, found, listed, write

NO_INSTANCE = "The request was aborted because there was no available instance."


@pytest.fixture
def slow_google() -> Iterator[Google]:
    """Google where entries can be read ten seconds after their receipt."""
    yield from a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, log_delay=timedelta(seconds=10)))


@pytest.fixture
def tired_google() -> Iterator[Google]:
    """Google that looks at ten entries for a page."""
    yield from a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, log_scan_limit=10))


def pages(google: Google, text: str = "", **fields: Any) -> list[ListLogEntriesResponse]:
    pager = google.logs.list_log_entries(request=asked(text, **fields), timeout=SECONDS)
    return list(pager.pages)


def test_an_entry_written_twice_is_found_once(google: Google) -> None:
    """Duplicates (same project+timestamp+insert_id) are removed in a single query result."""
    now = google.local.now()
    write(google, an_entry("a", timestamp=now, text_payload="first"))
    write(google, an_entry("a", timestamp=now, text_payload="first"))
    write(google, an_entry("a", timestamp=now + SECOND))
    assert found(google) == ["a", "a"]


def test_the_same_insert_id_at_the_same_instant_is_one_entry_on_pages_of_one(google: Google) -> None:
    now = google.local.now()
    write(google, *(an_entry(identity, timestamp=now) for identity in "abcabc"))
    assert found(google, page_size=1) == ["a", "b", "c"]
    assert found(google, page_size=1, order_by="timestamp desc") == ["c", "b", "a"]


def test_entries_are_sorted_by_timestamp_either_way(google: Google) -> None:
    """Ordering: by timestamp, ties by insert_id."""
    now = google.local.now()
    for identity, seconds in (("b", 2), ("z", 3), ("a", 1), ("c", 3)):
        write(google, an_entry(identity, timestamp=now + seconds * SECOND))
    assert found(google) == ["a", "b", "c", "z"]
    assert found(google, order_by="timestamp desc") == ["z", "c", "b", "a"]
    assert found(google, order_by="timestamp desc", page_size=2) == ["z", "c", "b", "a"]


def test_a_page_has_50_entries_by_default_and_1000_at_most(google: Google) -> None:
    """page_size default 50, >1000 or <0 rejected."""
    write(google, *(an_entry(f"{number:04}") for number in range(1001)))
    assert [len(page.entries) for page in pages(google)][:2] == [50, 50]
    assert [len(page.entries) for page in pages(google, page_size=1000)] == [1000, 1]


def test_an_exactly_full_last_page_has_no_token(google: Google) -> None:
    write(google, *(an_entry(f"{number:04}") for number in range(4)))
    assert [(len(page.entries), bool(page.next_page_token)) for page in pages(google, page_size=2)] == [
        (2, True),
        (2, False),
    ]


def test_an_empty_page_with_a_token_does_not_mean_no_data(tired_google: Google) -> None:
    """An empty page with next_page_token ≠ no data: keep paging."""
    now = tired_google.local.now()
    entries = [an_entry(f"{number:02}", timestamp=now + number * SECOND) for number in range(25)]
    write(tired_google, *entries[:-1], an_entry("last", timestamp=now + 24 * SECOND, severity="ERROR"))
    assert [
        [entry.insert_id for entry in page.entries] for page in pages(tired_google, "severity=ERROR")
    ] == [
        [],
        [],
        ["last"],
    ]
    assert found(tired_google, "severity=ERROR", order_by="timestamp desc") == ["last"]


def test_a_page_never_ends_within_an_instant_for_want_of_looking(tired_google: Google) -> None:
    now = tired_google.local.now()
    write(tired_google, *(an_entry(f"{number:02}", timestamp=now) for number in range(25)))
    write(tired_google, an_entry("later", timestamp=now + SECOND))
    expected = [*(f"{number:02}" for number in range(25)), "later"]
    assert found(tired_google, page_size=3) == expected
    assert found(tired_google, page_size=3, order_by="timestamp desc") == expected[::-1]
    assert found(tired_google, 'insertId="later"') == ["later"]


def test_a_long_filter_looks_at_fewer_entries_a_page(tired_google: Google) -> None:
    now = tired_google.local.now()
    write(tired_google, *(an_entry(f"{number:02}", timestamp=now + number * SECOND) for number in range(10)))
    long_filter = " OR ".join(f'textPayload="{number}"' for number in range(50))
    assert len(pages(tired_google, long_filter)) == 5


def test_pages_show_what_could_be_read_when_the_first_was(google: Google) -> None:
    now = google.local.now()
    write(google, *(an_entry(identity, timestamp=now) for identity in "ac"))
    first = next(google.logs.list_log_entries(request=asked(page_size=1), timeout=SECONDS).pages)
    google.local.advance(SECOND)
    write(google, an_entry("b", timestamp=now))
    assert found(google, page_size=1, page_token=first.next_page_token) == ["c"]


def test_a_page_goes_on_where_it_was_though_the_oldest_entries_are_gone() -> None:
    for google in a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, log_capacity=4)):
        now = google.local.now()
        write(google, *(an_entry(identity, timestamp=now + n * SECOND) for n, identity in enumerate("abcd")))
        first = next(google.logs.list_log_entries(request=asked(page_size=2), timeout=SECONDS).pages)
        google.local.advance(SECOND)
        write(google, an_entry("e"), an_entry("f"))
        assert found(google, page_token=first.next_page_token) == ["c", "d"]


@pytest.mark.parametrize(
    "other",
    [
        {"filter": "severity=ERROR"},
        {"order_by": "timestamp desc"},
        {"resource_names": ["projects/other"]},
    ],
)
def test_a_page_token_is_good_for_its_own_query_only(google: Google, other: dict[str, Any]) -> None:
    write(google, an_entry("a"), an_entry("b"))
    first = next(google.logs.list_log_entries(request=asked(page_size=1), timeout=SECONDS).pages)
    request = {"resource_names": ["projects/demo"], "page_token": first.next_page_token, **other}
    with pytest.raises(exceptions.InvalidArgument, match="another filter, order or resource_names"):
        google.logs.list_log_entries(request=request, timeout=SECONDS)


def test_page_tokens_live_24_hours(google: Google) -> None:
    """Page tokens live 24 h."""
    write(google, an_entry("a"), an_entry("b"))
    first = next(google.logs.list_log_entries(request=asked(page_size=1), timeout=SECONDS).pages)
    google.local.advance(timedelta(hours=24))
    assert found(google, page_token=first.next_page_token) == ["b"]
    google.local.advance(SECOND)
    with pytest.raises(exceptions.InvalidArgument, match="older than 24 hours"):
        found(google, page_token=first.next_page_token)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"order_by": "severity"}, "order_by"),
        ({"page_token": "nonsense"}, "page token"),
        ({"page_token": "bm9uc2Vuc2V8fHw="}, "page token"),
        ({"filter": "a" * 20_001}, "20000 characters"),
        ({"resource_names": []}, "1 to 100 names"),
        ({"resource_names": ["projects/demo"] * 101}, "1 to 100 names"),
        ({"resource_names": ["demo"]}, "projects/PROJECT"),
    ],
)
def test_bad_requests_are_refused(google: Google, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        listed(google, **fields)


@pytest.mark.parametrize("name", ["folders/1", "organizations/1", "projects/demo/locations/x/buckets/y"])
def test_there_are_logs_of_projects_only(google: Google, name: str) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="projects only"):
        listed(google, resource_names=[name])


def test_a_list_shows_the_projects_it_names_and_nothing_of_others(google: Google) -> None:
    write(google, an_entry("mine"))
    write(google, an_entry("theirs"), log_name="projects/other/logs/audit")
    assert found(google) == ["mine"]
    assert found(google, resource_names=["projects/other"]) == ["theirs"]
    assert found(google, resource_names=["projects/none"]) == []
    assert sorted(found(google, resource_names=["projects/other", "projects/demo"])) == ["mine", "theirs"]


def test_the_number_of_a_project_is_as_good_as_its_id(google: Google) -> None:
    number = project_number("demo")
    write(google, an_entry("a"), log_name=f"projects/{number}/logs/audit")
    (entry,) = listed(google, resource_names=[f"projects/{number}"])
    assert entry.log_name == "projects/demo/logs/audit"


def test_entries_can_be_read_some_time_after_their_receipt(slow_google: Google) -> None:
    """Queryable after ~10-20 s in practice."""
    write(slow_google, an_entry("a"))
    slow_google.local.advance(timedelta(seconds=9))
    assert found(slow_google) == []
    slow_google.local.advance(SECOND)
    assert found(slow_google) == ["a"]


def test_the_timestamp_of_a_request_is_its_start_and_its_entry_is_written_at_its_end(google: Google) -> None:
    """timestamp = request START; the entry is written at the END."""
    a_request(google, latency=timedelta(seconds=60.369159))
    (entry,) = listed(google)
    shown = LogEntry.pb(entry)
    assert entry.receive_timestamp - entry.timestamp == timedelta(seconds=60.369159)
    assert shown.http_request.latency.ToTimedelta() == timedelta(seconds=60.369159)


def test_a_window_on_timestamp_misses_slow_requests_that_one_on_receive_timestamp_finds(
    google: Google,
) -> None:
    """A window query on `timestamp` misses still-running/slow requests that will appear later."""
    start = google.local.now()
    google.local.advance(timedelta(minutes=1))
    a_request(google, 504, latency=timedelta(minutes=2))
    since = f'>="{start.isoformat()}" httpRequest.status>=500'
    assert found(google, f"timestamp{since}") == []
    assert len(found(google, f"receiveTimestamp{since}")) == 1


@pytest.mark.parametrize(
    ("status", "failure", "severity"),
    [
        (200, "", "INFO"),
        (404, "", "WARNING"),
        (429, NO_INSTANCE, "WARNING"),
        (500, NO_INSTANCE, "ERROR"),
        (503, NO_INSTANCE, "ERROR"),
        (502, "", "ERROR"),
    ],
)
def test_failures_that_the_platform_made_have_a_text_and_those_of_the_application_have_none(
    google: Google, status: int, failure: str, severity: str
) -> None:
    """Platform-made failures add textPayload in the same request entry; app-made 5xx have no textPayload."""
    a_request(google, status, failure=failure)
    (entry,) = listed(google)
    assert (entry.http_request.status, entry.text_payload) == (status, failure)
    assert Severity(entry.severity).name == severity


def test_a_request_entry_names_its_revision_instance_and_trace(google: Google) -> None:
    """httpRequest{...}, labels{instanceId, + the service's user labels}, resource labels (5), trace."""
    logs = google.local._emulator.logs
    google.local._do(lambda: logs.origins.label(WEB_ONE, {"commit-sha": "abc"}))
    a_request(google, instance="i1", trace="0af7", user_agent="curl/8", response_size=5)
    (entry,) = listed(google)
    assert dict(entry.labels) == {"instanceId": "i1", "commit-sha": "abc"}
    assert dict(entry.resource.labels) == {
        "project_id": "demo",
        "location": "local-1",
        "service_name": "web",
        "revision_name": "web-one",
        "configuration_name": "web",
    }
    assert entry.trace == "projects/demo/traces/0af7"
    assert entry.log_name == "projects/demo/logs/run.googleapis.com%2Frequests"
    assert (entry.http_request.user_agent, entry.http_request.response_size) == ("curl/8", 5)


def test_bytes_that_are_no_utf_8_are_shown_as_question_marks(google: Google) -> None:
    broken = b"caf\xe9".decode("utf-8", "surrogateescape")
    a_request(google, user_agent=broken, url=f"http://web.localhost/{broken}", trace=broken)
    a_line(google, broken, STDERR)
    request, line = sorted(listed(google), key=lambda entry: entry.log_name)
    assert request.http_request.user_agent == "caf?"
    assert request.http_request.request_url == "http://web.localhost/caf?"
    assert line.text_payload == "caf?"


def test_the_answer_can_be_printed_as_the_json_of_googles_rest_api(google: Google) -> None:
    a_request(google, 503, failure=NO_INSTANCE, instance="i1", response_size=120)
    a_line(google, '{"severity": "ERROR", "count": 3, "share": 0.5}')
    a_line(google, "Starting new instance.", SYSTEM)
    answer = pages(google)[0]
    shown = json_format.MessageToDict(ListLogEntriesResponse.pb(answer))["entries"]
    request = next(one for one in shown if "httpRequest" in one)
    line = next(one for one in shown if "jsonPayload" in one)
    assert request["httpRequest"] | {"requestUrl": ""} == {
        "requestMethod": "GET",
        "requestUrl": "",
        "status": 503,
        "latency": "0.012s",
        "responseSize": "120",
        "remoteIp": "127.0.0.1",
        "protocol": "HTTP/1.1",
    }
    assert request["timestamp"] == "2026-01-05T08:59:59.988Z"
    assert request["severity"] == "ERROR"
    assert line["jsonPayload"] == {"count": 3, "share": 0.5}


def test_entries_carry_the_labels_that_users_gave_the_revision(google: Google) -> None:
    """Fact 3: "labels{instanceId, + the service's user labels e.g. commit-sha, managed-by}"."""
    template = a_template(revision="web-one", ERROR_SHARE="1")
    template.labels["commit-sha"] = "f00d"
    google.services.create_service(
        parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
    )
    google.settle()
    google.local.users("web", rps=1)
    google.local.advance(timedelta(minutes=1))
    assert listed(google, 'labels.commit-sha="f00d" AND httpRequest.status=500')


def test_failed_requests_of_simulated_revisions_are_logged(google: Google) -> None:
    google.create(revision="web-one", ERROR_SHARE="1", LATENCY_MS="2000", LATENCY_SPREAD="0")
    google.settle()
    google.local.users("web", rps=1)
    google.local.advance(timedelta(minutes=1))
    entries = listed(
        google,
        'log_id("run.googleapis.com/requests") httpRequest.status>=500 httpRequest.latency>"1.5s"',
    )
    assert entries
    assert {int(entry.severity) for entry in entries} == {500}
    assert {entry.resource.labels["revision_name"] for entry in entries} == {"web-one"}
    assert all(entry.receive_timestamp - entry.timestamp == timedelta(seconds=2) for entry in entries)
