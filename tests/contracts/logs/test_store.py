"""What is kept of logs, how much of it, and what becomes of the lines that instances print."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from contracts.conftest import SECONDS, Google, a_google
from controller.emulator.calls import Call
from controller.emulator.clock import MANUAL_START
from controller.emulator.instants import instant_of
from controller.emulator.logs.entries import (
    DEEPEST,
    ENTRY_BYTES,
    REQUESTS,
    STDERR,
    STDOUT,
    SYSTEM,
    HttpRequest,
    Severity,
)
from controller.emulator.logs.listing import Listing
from controller.emulator.logs.rows import restore, rows_after
from controller.emulator.logs.store import Logs
from controller.emulator.names import RevisionKey
from controller.emulator.settings import RuntimeKind, Settings

from .log_entries import LOG, SECOND, WEB_ONE, a_line, a_request, an_entry, asked, found, listed, write

PREFIX = "logging.googleapis.com"
MEGABYTE = 1024 * 1024


def logs_of(capacity: int = 1000, most_bytes: int = MEGABYTE) -> Logs:
    return Logs("demo", capacity, most_bytes)


def print_to(logs: Logs, text: str, log_id: str = STDOUT) -> None:
    logs.add_line(WEB_ONE, log_id, text, MANUAL_START, instance="i1")


def request_to(logs: Logs, number: int = 0) -> None:
    request = HttpRequest("GET", "http://web.localhost/", 200, SECOND, response_size=60)
    ended = MANUAL_START + number * SECOND
    logs.add_request(WEB_ONE, request, ended - SECOND, ended, trace=f"{number:032x}")


def texts(logs: Logs) -> list[object]:
    return [entry.payload for entry in logs.all()]


def nested(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


def test_the_oldest_entries_go_first_when_there_are_too_many() -> None:
    logs = logs_of(capacity=3)
    for number in range(5):
        print_to(logs, f"line {number}", STDERR if number == 0 else STDOUT)
    assert texts(logs) == ["line 2", "line 3", "line 4"]
    assert logs.dropped == 2
    assert {log_id: dropped.entries for log_id, dropped in logs.dropped_by_log.items()} == {
        STDERR: 1,
        STDOUT: 1,
    }


def test_the_oldest_entries_go_first_when_they_are_too_large() -> None:
    logs = logs_of(most_bytes=10_000)
    for number in range(100):
        print_to(logs, str(number) * 1000)
    assert 2 <= len(logs.all()) <= 7
    assert texts(logs)[-1] == "99" * 1000
    assert logs.kept_bytes <= 10_000
    dropped = logs.dropped_by_log[STDOUT]
    assert dropped.entries == logs.dropped == 100 - len(logs.all())
    assert dropped.bytes >= dropped.entries * ENTRY_BYTES


def test_an_entry_that_is_too_large_by_itself_is_dropped_and_counted() -> None:
    logs = logs_of(most_bytes=10_000)
    print_to(logs, "x" * 20_000)
    assert (texts(logs), logs.dropped, logs.kept_bytes) == ([], 1, 0)


@pytest.mark.parametrize("line", ["x" * 10_000, json.dumps({"words": ["word"] * 1000})])
def test_printing_without_end_takes_no_more_memory(line: str) -> None:
    logs = logs_of(capacity=100_000, most_bytes=4 * MEGABYTE)
    tracemalloc.start()
    try:
        for number in range(600):
            print_to(logs, line.replace("x", str(number), 1))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert logs.dropped > 0
    assert held < 8 * MEGABYTE


def test_the_entry_of_a_request_takes_less_than_700_bytes() -> None:
    logs = logs_of(capacity=100_000, most_bytes=100 * MEGABYTE)
    tracemalloc.start()
    try:
        for number in range(5_000):
            request_to(logs, number)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held / 5_000 < 700


def test_dropping_is_told_by_a_revision_that_prints_too_much() -> None:
    for google in a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, log_bytes=100_000)):
        for _ in range(200):
            a_line(google, "x" * 5_000)
        assert 10 <= len(listed(google)) <= 20
        assert google.local._emulator.logs.dropped >= 180


def test_the_tail_is_that_of_one_revision_without_its_requests() -> None:
    logs = logs_of()
    request_to(logs)
    for text in ("one", '{"message": "two"}', "three"):
        print_to(logs, text)
    logs.add_line(RevisionKey("elsewhere", "web", "web-one"), STDOUT, "other", MANUAL_START)
    assert logs.tail(WEB_ONE, 2) == ['{"message": "two"}', "three"]
    assert logs.tail(WEB_ONE, 100) == ["one", '{"message": "two"}', "three"]


def test_a_json_line_becomes_fields_and_a_json_payload(google: Google) -> None:
    """Special keys are lifted out of jsonPayload."""
    now = google.local.now()
    a_line(
        google,
        json.dumps(
            {
                "severity": "warning",
                "message": "slow",
                "time": (now - SECOND).isoformat(),
                "httpRequest": {
                    "requestMethod": "GET",
                    "status": 503,
                    "latency": "1.5s",
                    "responseSize": "7",
                },
                f"{PREFIX}/trace": "projects/demo/traces/t",
                f"{PREFIX}/spanId": "s",
                f"{PREFIX}/trace_sampled": True,
                f"{PREFIX}/labels": {"team": "blue"},
                f"{PREFIX}/insertId": "chosen",
                f"{PREFIX}/operation": {"id": "o", "producer": "p", "first": True},
                f"{PREFIX}/sourceLocation": {"file": "f.py", "line": "12", "function": "g"},
                "count": 3,
            }
        ),
    )
    (entry,) = listed(google)
    assert dict(entry.json_payload) == {"message": "slow", "count": 3}
    assert Severity(entry.severity) is Severity.WARNING
    assert instant_of(entry.timestamp) == now - SECOND
    assert instant_of(entry.receive_timestamp) == now
    assert (entry.http_request.status, entry.http_request.response_size) == (503, 7)
    assert (entry.trace, entry.span_id, entry.trace_sampled) == ("projects/demo/traces/t", "s", True)
    assert dict(entry.labels) == {"instanceId": "i1", "team": "blue"}
    assert entry.insert_id == "chosen"
    assert (entry.operation.id, entry.operation.producer, entry.operation.first) == ("o", "p", True)
    place = entry.source_location
    assert (place.file, place.line, place.function) == ("f.py", 12, "g")


@pytest.mark.parametrize(
    "special",
    [
        {"severity": "LOUD"},
        {"severity": 500},
        {"time": "yesterday"},
        {"time": "2026-01-05T09:00:00"},
        {"time": "1999-01-01T00:00:00Z"},
        {"time": 5},
        {"httpRequest": "GET /"},
        {"httpRequest": {"status": "many"}},
        {"httpRequest": {"latency": "99999999999999s"}},
        {f"{PREFIX}/labels": {"a": 1}},
        {f"{PREFIX}/trace": 1},
        {f"{PREFIX}/trace_sampled": "yes"},
        {f"{PREFIX}/operation": []},
        {f"{PREFIX}/sourceLocation": {"line": "x"}},
    ],
)
def test_a_special_key_that_does_not_fit_stays_in_the_payload(
    google: Google, special: dict[str, object]
) -> None:
    a_line(google, json.dumps({"message": "m", **special}))
    (entry,) = listed(google)
    assert set(entry.json_payload) == {"message", *special}
    assert Severity(entry.severity) is Severity.DEFAULT
    assert entry.timestamp == google.local.now()


@pytest.mark.parametrize(
    "line",
    [
        "plain",
        '{"a": ',
        "{}x",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": "\\ud800"}',
        nested(DEEPEST + 1),
        nested(2000),
        '{"a": ' + "[" * 5000,
        '["list"]',
    ],
)
def test_what_is_no_json_object_stays_a_text(google: Google, line: str) -> None:
    a_line(google, line)
    (entry,) = listed(google)
    assert entry.text_payload == line
    assert entry.insert_id in found(google, "textPayload:*")


def test_the_deepest_object_that_is_kept_can_be_read(google: Google) -> None:
    a_line(google, nested(DEEPEST))
    assert len(found(google, f"jsonPayload.{'.'.join('a' * DEEPEST)}=1")) == 1


def test_lines_of_both_streams_have_the_default_severity_and_events_of_the_platform_are_info(
    google: Google,
) -> None:
    for log_id in (STDOUT, STDERR, SYSTEM):
        a_line(google, "text", log_id)
    by_log = {entry.log_name.rpartition("%2F")[2]: Severity(entry.severity) for entry in listed(google)}
    assert by_log == {"stdout": Severity.DEFAULT, "stderr": Severity.DEFAULT, "system": Severity.INFO}


@pytest.fixture
def another_google() -> Iterator[Google]:
    yield from a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0))


def test_rows_bring_every_entry_to_the_next_run(google: Google, another_google: Google) -> None:
    now = google.local.now()
    a_request(google, 503, failure="no instance", instance="i1", trace="t")
    a_line(google, '{"severity": "ERROR", "a": {"b": [1, null]}, "logging.googleapis.com/spanId": "s"}')
    write(google, an_entry("old"))
    google.local.advance(SECOND)
    google.logs.delete_log(log_name=LOG, timeout=SECONDS)
    write(google, an_entry("chosen", timestamp=now + SECOND, labels={"k": "v"}))
    before, after = google.local._emulator.logs, another_google.local._emulator.logs
    rows = rows_after(before, 0)
    another_google.local.advance(SECOND)
    another_google.local._do(lambda: restore(after, rows, before.deletions))

    assert listed(another_google) == listed(google)
    assert after.kept_bytes == pytest.approx(before.kept_bytes, rel=0.1)
    for one in (google, another_google):
        a_line(one, "next")
    assert listed(another_google) == listed(google)


def test_rows_are_asked_for_behind_the_last_one_that_is_kept() -> None:
    logs = logs_of(capacity=5)
    for number in range(8):
        request_to(logs, number)
    numbers = [number for number, _ in rows_after(logs, 0)]
    assert numbers == [4, 5, 6, 7, 8]
    assert logs.oldest == 4
    assert [number for number, _ in rows_after(logs, 6)] == [7, 8]
    assert [number for number, _ in rows_after(logs, 0, most=2)] == [4, 5]
    assert rows_after(logs, 8) == []


def test_a_store_restored_from_too_many_rows_keeps_the_last() -> None:
    logs = logs_of()
    for number in range(8):
        request_to(logs, number)
    smaller = logs_of(capacity=3)
    restore(smaller, rows_after(logs, 0))
    assert [entry.number for entry in smaller.all()] == [6, 7, 8]
    assert {entry.origin.log_id for entry in smaller.all()} == {REQUESTS}


def test_insert_ids_are_unique_and_sort_by_the_order_of_receipt() -> None:
    logs = logs_of(capacity=5_000, most_bytes=10 * MEGABYTE)
    for number in range(3_000):
        request_to(logs, number)
    identities = [entry.insert_id for entry in logs.all()]
    assert sorted(set(identities)) == identities


def test_other_work_has_its_turn_while_a_long_list_is_read() -> None:
    logs = logs_of(capacity=20_000, most_bytes=100 * MEGABYTE)
    for number in range(20_000):
        request_to(logs, number)

    async def turns_of_others() -> int:
        reading = asyncio.create_task(
            Listing(logs, Settings()).answer(
                Call(MANUAL_START + 20_000 * SECOND, "", "", None), asked("httpRequest.status=500")
            )
        )
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(turns_of_others()) >= 10
