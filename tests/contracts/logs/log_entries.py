"""Log entries in tests: written as others do, made as the local Cloud Run does, and found again."""

from datetime import datetime, timedelta
from typing import Any

from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry, WriteLogEntriesRequest
from google.protobuf import struct_pb2

from contracts.conftest import SECONDS, Google
from controller.emulator.logs.entries import STDOUT, HttpRequest
from controller.emulator.names import RevisionKey

LOG = "projects/demo/logs/canary.example.com%2Faudit"
WEB_ONE = RevisionKey("local-1", "web", "web-one")
SECOND = timedelta(seconds=1)


def write(google: Google, *entries: LogEntry, **fields: Any) -> None:
    resource = MonitoredResource(type="cloud_run_revision", labels={"service_name": "web"})
    asked = {"log_name": LOG, "resource": resource, **fields}
    google.logs.write_log_entries(request=WriteLogEntriesRequest(entries=entries, **asked), timeout=SECONDS)


def an_entry(identity: str, **fields: Any) -> LogEntry:
    payload = fields.pop("payload", None)
    if payload is not None:
        fields["json_payload"] = struct_pb2.Struct()
        fields["json_payload"].update(payload)
    return LogEntry(insert_id=identity, **fields)


def a_request(
    google: Google,
    status: int = 200,
    *,
    ended: datetime | None = None,
    latency: timedelta = timedelta(milliseconds=12),
    **fields: Any,
) -> None:
    """Log a request as the front does at its end."""
    ended = ended or google.local.now()
    about = {name: fields.pop(name) for name in ("instance", "failure", "trace") if name in fields}
    url = fields.pop("url", "http://web.localhost/")
    request = HttpRequest("GET", url, status, latency, **fields)
    logs = google.local._emulator.logs
    google.local._do(lambda: logs.add_request(WEB_ONE, request, ended - latency, ended, **about))


def a_line(google: Google, text: str, log_id: str = STDOUT) -> None:
    """Log a line as if an instance had printed it."""
    logs, now = google.local._emulator.logs, google.local.now()
    google.local._do(lambda: logs.add_line(WEB_ONE, log_id, text, now, instance="i1"))


def asked(text: str = "", **fields: Any) -> ListLogEntriesRequest:
    return ListLogEntriesRequest(**{"resource_names": ["projects/demo"], "filter": text, **fields})


def listed(google: Google, text: str = "", **fields: Any) -> list[LogEntry]:
    return list(google.logs.list_log_entries(request=asked(text, **fields), timeout=SECONDS))


def found(google: Google, text: str = "", **fields: Any) -> list[str]:
    return [entry.insert_id for entry in listed(google, text, **fields)]
