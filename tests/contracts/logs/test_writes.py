"""What WriteLogEntries takes, fills in and refuses; logs that are listed and deleted."""

from datetime import timedelta
from typing import Any

import pytest
from google.api.monitored_resource_pb2 import MonitoredResource
from google.api_core import exceptions
from google.cloud.audit.audit_log_pb2 import AuditLog
from google.cloud.logging_v2.types import LogEntry, WriteLogEntriesPartialErrors, WriteLogEntriesRequest
from google.logging.type import http_request_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, timestamp_pb2

from contracts.conftest import SECONDS, Google
from controller.emulator.instants import stamp

from .log_entries import LOG, SECOND, a_line, a_request, an_entry, found, listed, write


def test_what_an_entry_does_not_say_the_request_says(google: Google) -> None:
    """Values of log_name, resource and labels are copied into entries that do not include their own."""
    own = MonitoredResource(type="global", labels={"project_id": "demo"})
    write(
        google,
        an_entry("plain", text_payload="x"),
        an_entry("own", log_name="projects/demo/logs/own", resource=own, labels={"a": "entry", "c": "entry"}),
        labels={"a": "request", "b": "request"},
    )
    by_id = {entry.insert_id: entry for entry in listed(google)}
    assert by_id["plain"].log_name == LOG
    assert by_id["plain"].resource.type == "cloud_run_revision"
    assert dict(by_id["plain"].labels) == {"a": "request", "b": "request"}
    assert by_id["own"].log_name == "projects/demo/logs/own"
    assert by_id["own"].resource.type == "global"
    assert dict(by_id["own"].labels) == {"a": "entry", "b": "request", "c": "entry"}


def test_time_and_insert_id_are_supplied_so_that_earlier_entries_sort_first(google: Google) -> None:
    """Entries earlier in the list will sort before the entries later in the list."""
    write(google, *(LogEntry(text_payload=str(number)) for number in range(30)))
    entries = listed(google)
    assert [entry.text_payload for entry in entries] == [str(number) for number in range(30)]
    assert len({entry.insert_id for entry in entries}) == 30
    assert {entry.timestamp for entry in entries} == {google.local.now()}


def test_an_entry_comes_back_as_it_was_written(google: Google) -> None:
    written = LogEntry(
        log_name=LOG,
        resource=MonitoredResource(type="global", labels={"project_id": "demo"}),
        insert_id="a",
        timestamp=google.local.now(),
        severity="NOTICE",
        labels={"k": "v"},
        trace="projects/demo/traces/t",
        span_id="s",
        trace_sampled=True,
        operation={"id": "o", "producer": "p", "first": True, "last": True},
        source_location={"file": "f.py", "line": 3, "function": "g"},
        http_request=http_request_pb2.HttpRequest(
            request_method="PUT",
            request_url="http://x/",
            request_size=1,
            status=201,
            response_size=2,
            user_agent="ua",
            remote_ip="1.2.3.4",
            server_ip="5.6.7.8",
            referer="r",
            latency=duration_pb2.Duration(seconds=1, nanos=5000),
            cache_lookup=True,
            cache_hit=True,
            cache_validated_with_origin_server=True,
            cache_fill_bytes=9,
            protocol="HTTP/2",
        ),
    )
    payload = struct_pb2.Struct()
    payload.update({"a": {"b": [1, 2.5, None, True, "x"]}})
    written.json_payload = payload
    write(google, written)
    (entry,) = listed(google)
    written.receive_timestamp = stamp(google.local.now())
    assert LogEntry.pb(entry) == LogEntry.pb(written)


def test_a_payload_of_googles_own_types_is_kept_and_found(google: Google) -> None:
    payload = any_pb2.Any()
    payload.Pack(AuditLog(method_name="google.cloud.run.v2.Services.UpdateService", service_name="run"))
    write(google, LogEntry(proto_payload=payload))
    (entry,) = listed(google, 'protoPayload.methodName:"UpdateService" protoPayload.serviceName="run"')
    audit = AuditLog()
    assert entry.proto_payload.Unpack(audit)
    assert audit.method_name == "google.cloud.run.v2.Services.UpdateService"
    assert listed(google, "UpdateService") == [entry]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"text_payload": "x" * 256 * 1024}, "exceeds maximum size of 256.0K"),
        ({"labels": {str(number): "" for number in range(65)}}, "64 labels at most, this one has 65"),
        ({"log_name": "organizations/1/logs/x"}, "projects/PROJECT/logs/LOG_ID"),
        ({"log_name": "projects/demo/logs/a b"}, "projects/PROJECT/logs/LOG_ID"),
        ({"log_name": "projects/demo/logs/" + "a" * 512}, "projects/PROJECT/logs/LOG_ID"),
        ({"severity": 5}, "5 is not a severity"),
        ({"proto_payload": any_pb2.Any(type_url="type.googleapis.com/a.B")}, "of the type 'type.googleapis"),
        (
            {"proto_payload": any_pb2.Any(type_url="t/google.cloud.audit.AuditLog", value=b"\xff")},
            "proto_payload cannot be read",
        ),
        (
            {"json_payload": struct_pb2.Struct(fields={"x": struct_pb2.Value(number_value=float("nan"))})},
            "cannot be kept as JSON",
        ),
        (
            {"http_request": http_request_pb2.HttpRequest(latency=duration_pb2.Duration(seconds=10**14))},
            "http_request.latency is no duration",
        ),
    ],
)
def test_bad_entries_are_refused(google: Google, entry: dict[str, object], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        write(google, LogEntry(**entry))
    assert found(google) == []


def test_64_labels_are_kept_and_long_ones_are_cut(google: Google) -> None:
    """Truncates label keys that exceed 512 B and values that exceed 64 KB, indicated by an ellipsis."""
    labels = {str(number): "" for number in range(62)} | {"k" * 600: "short", "long": "v" * 70_000}
    write(google, LogEntry(labels=labels))
    (entry,) = listed(google)
    assert len(entry.labels) == 64
    assert entry.labels["k" * 509 + "\u2026"] == "short"
    assert entry.labels["long"] == "v" * (64 * 1024 - 3) + "\u2026"


def test_a_request_above_10_mb_is_refused(google: Google) -> None:
    entries = [an_entry(str(number), text_payload="x" * 250_000) for number in range(43)]
    with pytest.raises(exceptions.InvalidArgument, match="larger than 10485760 bytes"):
        write(google, *entries)


def test_entries_of_the_far_future_and_of_the_far_past_are_refused(google: Google) -> None:
    """Timestamps ≤24 h in the future, and not further back than the retention period."""
    now = google.local.now()
    write(google, an_entry("a", timestamp=now + timedelta(hours=24)))
    write(google, an_entry("b", timestamp=now - timedelta(days=30)))
    assert found(google) == ["b", "a"]
    with pytest.raises(exceptions.InvalidArgument, match="24 hours"):
        write(google, an_entry("c", timestamp=now + timedelta(hours=24) + SECOND))
    with pytest.raises(exceptions.InvalidArgument, match="30 days"):
        write(google, an_entry("d", timestamp=now - timedelta(days=30) - SECOND))


def test_a_timestamp_that_is_none_is_refused(google: Google) -> None:
    entry = LogEntry()
    LogEntry.pb(entry).timestamp.CopyFrom(timestamp_pb2.Timestamp(seconds=2**60))
    with pytest.raises(exceptions.InvalidArgument, match="timestamp"):
        write(google, entry)


def test_one_bad_entry_refuses_all(google: Google) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        write(google, an_entry("a"), an_entry("b", severity=5))
    assert found(google) == []


def test_partial_success_writes_the_valid_entries_and_names_the_others(google: Google) -> None:
    """The response will include error details keyed by the entries' zero-based index."""
    with pytest.raises(exceptions.InvalidArgument) as refused:
        write(google, an_entry("a"), an_entry("b", severity=5), an_entry("c"), partial_success=True)
    assert found(google) == ["a", "c"]
    (packed,) = refused.value.details
    details = WriteLogEntriesPartialErrors.pb()()
    assert packed.Unpack(details)
    assert list(details.log_entry_errors) == [1]
    assert details.log_entry_errors[1].code == 3


def test_partial_success_without_a_valid_entry_is_a_plain_refusal(google: Google) -> None:
    """Failed requests for which no entries are written will not include per-entry errors."""
    with pytest.raises(exceptions.InvalidArgument) as refused:
        write(google, an_entry("b", severity=5), partial_success=True)
    assert "PartialErrors" not in str(refused.value.details)


def test_a_dry_run_checks_and_writes_nothing(google: Google) -> None:
    """If true, the request should expect normal response, but the entries won't be persisted."""
    write(google, an_entry("a"), dry_run=True)
    with pytest.raises(exceptions.InvalidArgument):
        write(google, an_entry("a", severity=5), dry_run=True)
    assert found(google) == []


def test_logs_that_have_entries_are_listed(google: Google) -> None:
    a_request(google)
    a_line(google, "hello")
    write(google, an_entry("a"))
    write(google, an_entry("b"), log_name="projects/other/logs/x")
    names = list(google.logs.list_logs(parent="projects/demo", timeout=SECONDS))
    expected = [
        LOG,
        "projects/demo/logs/run.googleapis.com%2Frequests",
        "projects/demo/logs/run.googleapis.com%2Fstdout",
    ]
    assert names == expected
    in_pages = google.logs.list_logs(request={"parent": "projects/demo", "page_size": 1}, timeout=SECONDS)
    assert list(in_pages) == expected


@pytest.mark.parametrize("wrong", [{"page_size": -1}, {"page_token": "x"}, {"page_token": "9" * 5000}])
def test_a_page_of_logs_that_cannot_be_is_refused(google: Google, wrong: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        google.logs.list_logs(request={"parent": "projects/demo", **wrong}, timeout=SECONDS)


def test_a_deleted_log_comes_back_with_its_next_entry(google: Google) -> None:
    """The log reappears if it receives new entries; entries received with an older timestamp are deleted."""
    before = google.local.now()
    write(google, an_entry("a"))
    a_line(google, "hello")
    google.local.advance(SECOND)
    google.logs.delete_log(log_name=LOG, timeout=SECONDS)
    assert found(google, f'logName="{LOG}"') == []
    assert LOG not in google.logs.list_logs(parent="projects/demo", timeout=SECONDS)
    assert [entry.text_payload for entry in listed(google)] == ["hello"]
    write(google, an_entry("late", timestamp=before), an_entry("new"))
    assert found(google, f'logName="{LOG}"') == ["new"]


def test_the_resource_of_a_revision_has_five_labels(google: Google) -> None:
    found_types = google.logs.list_monitored_resource_descriptors(timeout=SECONDS)
    by_type = {one.type: [label.key for label in one.labels] for one in found_types}
    assert sorted(by_type["cloud_run_revision"]) == [
        "configuration_name",
        "location",
        "project_id",
        "revision_name",
        "service_name",
    ]


def test_an_empty_write_is_answered(google: Google) -> None:
    google.logs.write_log_entries(request=WriteLogEntriesRequest(), timeout=SECONDS)
    assert found(google) == []
