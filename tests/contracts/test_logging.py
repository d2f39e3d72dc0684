"""Log entries are kept, found and shown as Cloud Logging does it."""

from datetime import timedelta
from typing import Any

import pytest
from google.api.monitored_resource_pb2 import MonitoredResource
from google.api_core import exceptions
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry, WriteLogEntriesRequest
from google.protobuf import struct_pb2

from .conftest import SECONDS, Google

LOG = "projects/demo/logs/canary.example.com%2Faudit"


def write(google: Google, *entries: LogEntry) -> None:
    resource = MonitoredResource(type="cloud_run_revision", labels={"service_name": "web"})
    request = WriteLogEntriesRequest(log_name=LOG, resource=resource, entries=entries)
    google.logs.write_log_entries(request=request, timeout=SECONDS)


def an_entry(identity: str, **fields: Any) -> LogEntry:
    payload = fields.pop("payload", None)
    if payload is not None:
        fields["json_payload"] = struct_pb2.Struct()
        fields["json_payload"].update(payload)
    return LogEntry(insert_id=identity, **fields)


def found(google: Google, text: str = "", **fields: Any) -> list[str]:
    request = ListLogEntriesRequest(resource_names=["projects/demo"], filter=text, **fields)
    return [entry.insert_id for entry in google.logs.list_log_entries(request=request, timeout=SECONDS)]


def test_an_entry_written_twice_is_found_once(google: Google) -> None:
    now = google.local.now()
    write(google, an_entry("a", timestamp=now, text_payload="first"))
    write(google, an_entry("a", timestamp=now, text_payload="first"))
    write(google, an_entry("a", timestamp=now + timedelta(seconds=1)))
    assert found(google) == ["a", "a"]


def test_entries_are_sorted_by_timestamp_either_way(google: Google) -> None:
    now = google.local.now()
    for identity, seconds in (("b", 2), ("a", 1), ("c", 3)):
        write(google, an_entry(identity, timestamp=now + timedelta(seconds=seconds)))
    assert found(google) == ["a", "b", "c"]
    assert found(google, order_by="timestamp desc") == ["c", "b", "a"]
    assert found(google, order_by="timestamp desc", page_size=2) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('jsonPayload.phase="baking"', "b"),
        ('jsonPayload.phase="BAKING"', "b"),
        ("jsonPayload.split.candidate>=50", "b"),
        ('jsonPayload.phase:("bak" OR "step")', "ab"),
        ('jsonPayload.phase=("stepping" OR "baking") severity>=WARNING', "b"),
        ("jsonPayload.phase:*", "ab"),
        ('NOT jsonPayload.phase="baking"', "ac"),
        ('-jsonPayload.phase="baking"', "ac"),
        ('jsonPayload.phase!="baking"', "a"),
        ('jsonPayload.phase=~"^b"', "b"),
        ("severity=ERROR OR severity=INFO", "bc"),
        ('textPayload:"plain"', "c"),
        ('"plain"', "c"),
        ("plain", "c"),
        ('labels.kind="audit"', "a"),
        ('resource.labels.service_name="web" AND resource.type="cloud_run_revision"', "abc"),
        ('log_id("canary.example.com/audit")', "abc"),
        (f'logName="{LOG}"', "abc"),
        ("httpRequest.status=0", "abc"),
        ('severity=ERROR OR NOT severity=INFO AND NOT textPayload:"plain" OR severity=ERROR', "ab"),
        ('timestamp>="2026-01-05T09:00:01Z" -- from the second on', "bc"),
        ('receiveTimestamp<"2026-01-05T09:00:00Z"', ""),
    ],
)
def test_filters_choose_entries(google: Google, text: str, expected: str) -> None:
    now = google.local.now()
    second = timedelta(seconds=1)
    write(
        google,
        an_entry("a", timestamp=now, payload={"phase": "stepping"}, labels={"kind": "audit"}),
        an_entry(
            "b",
            timestamp=now + second,
            payload={"phase": "baking", "split": {"candidate": 50}},
            severity="ERROR",
        ),
        an_entry("c", timestamp=now + 2 * second, text_payload="plain text", severity="INFO"),
    )
    assert "".join(found(google, text)) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"filter": "severity>=LOUD"}, "'LOUD' is not a value of this field at position 11"),
        ({"filter": "colour=red"}, "unknown field 'colour' at position 1"),
        ({"filter": "severity=ERROR AND ("}, "the end of the filter at position 21"),
        ({"filter": 'textPayload=~"("'}, "invalid regular expression"),
        ({"page_size": 1001}, "page_size"),
        ({"order_by": "severity"}, "order_by"),
        ({"page_token": "nonsense"}, "page token"),
    ],
)
def test_bad_requests_are_refused(google: Google, fields: dict[str, Any], message: str) -> None:
    request = ListLogEntriesRequest(resource_names=["projects/demo"], **fields)
    with pytest.raises(exceptions.InvalidArgument, match=message.replace("(", r"\(")):
        google.logs.list_log_entries(request=request, timeout=SECONDS)


def test_entries_of_the_far_future_are_refused(google: Google) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="24 hours"):
        write(google, an_entry("a", timestamp=google.local.now() + timedelta(hours=25)))


def test_failed_requests_of_simulated_revisions_are_logged(google: Google) -> None:
    google.create(revision="web-one", ERROR_SHARE="1", LATENCY_MS="2000", LATENCY_SPREAD="0")
    google.settle()
    google.local.users("web", rps=1)
    google.local.advance(timedelta(minutes=1))
    request = ListLogEntriesRequest(
        resource_names=["projects/demo"],
        filter='log_id("run.googleapis.com/requests") httpRequest.status>=500 httpRequest.latency>"1.5s"',
    )
    entries = list(google.logs.list_log_entries(request=request, timeout=SECONDS))
    assert entries
    assert {int(entry.severity) for entry in entries} == {500}
    assert {entry.resource.labels["revision_name"] for entry in entries} == {"web-one"}
    assert all(entry.receive_timestamp - entry.timestamp == timedelta(seconds=2) for entry in entries)
