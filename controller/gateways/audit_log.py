"""The audit trail in Cloud Logging: an entry of the service's own log for each thing that happened to it."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog
from google.api.monitored_resource_pb2 import MonitoredResource
from google.api_core import exceptions as api
from google.cloud.logging_v2 import types
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from controller.gateways.calls import Caller
from controller.gateways.filters import quoted
from controller.gateways.google_errors import translated
from controller.ports import (
    EVERY_SERVICE,
    MOST_ENTRIES,
    ROLLOUT_LABEL,
    AuditEntry,
    AuditLog,
    EntryRefusedError,
    PermanentError,
    Severity,
)

log = structlog.get_logger()

LOG_ID = "cloud-run-canary"
PROBE_LOG_ID = "cloud-run-canary-probes"
"""Where the answers to probes are kept, in the same form."""
ENDPOINT = "Cloud Logging"
LARGEST_ENTRY = 256 * 1024
"""Bytes that Cloud Logging takes in one entry."""
LONGEST_LABEL = 4096
LARGEST_PAYLOAD = LARGEST_ENTRY - 32 * 1024
"""Bytes, which leaves room for labels and names."""
TEXT_LENGTHS = (16_384, 2_048, 256)
"""Characters that long texts are cut to, one after the other, until an entry is small enough."""
AT_ONCE = 30
"""Entries in one write; of the largest, so many still fit into the 10 MB of a request."""
LEVELS: Mapping[Severity, int] = {
    Severity.INFO: 200,
    Severity.NOTICE: 300,
    Severity.WARNING: 400,
    Severity.ERROR: 500,
}
"""As google.logging.type.LogSeverity numbers them, the lowest first."""
REFUSALS = (api.InvalidArgument, api.TooManyRequests)
"""What says, of what does not pass by itself, that an entry is wrong or too large."""
PAGE_SIZE = 1000
MOST_PAGES = 12
"""Of one reading. A project has 60 such calls a minute, for all its people and programs together."""


class LoggingGateway(AuditLog):
    """The audit trail of one project and region, or another log; `channel` leads to a local Cloud Run."""

    def __init__(
        self,
        project: str,
        region: str,
        sleep: Callable[[float], None],
        channel: grpc.Channel | None = None,
        log_id: str = LOG_ID,
    ) -> None:
        self._project = project
        self._region = region
        self._log_name = f"projects/{project}/logs/{log_id}"
        self._caller = Caller(ENDPOINT, sleep)
        with translated("opening Cloud Logging", ENDPOINT, "to sign in"):
            self._client = LoggingServiceV2Client(
                transport=LoggingServiceV2GrpcTransport(channel=channel) if channel else None
            )

    def write_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Keep the entries; those that are there already stay one."""
        for start in range(0, len(entries), AT_ONCE):
            request = types.WriteLogEntriesRequest(
                log_name=self._log_name,
                entries=[self._message(entry) for entry in entries[start : start + AT_ONCE]],
                partial_success=True,  # one that is refused must not keep the others out
            )
            try:
                self._caller.write(
                    self._client.write_log_entries,
                    request,
                    doing="writing the audit trail",
                    permission="logging.logEntries.create",
                )
            except PermanentError as error:
                if isinstance(error.__cause__, REFUSALS):
                    raise EntryRefusedError(str(error)) from error
                raise

    def try_entry(self, entry: AuditEntry) -> None:
        """Ask whether the entry would be kept; nothing is."""
        request = types.WriteLogEntriesRequest(
            log_name=self._log_name, entries=[self._message(entry)], dry_run=True
        )
        self._caller.write(
            self._client.write_log_entries,
            request,
            doing="trying to write the audit trail",
            permission="logging.logEntries.create",
        )

    def read_entries(
        self, service: str, rollout: str = "", since: datetime | None = None, limit: int = MOST_ENTRIES
    ) -> Sequence[AuditEntry]:
        """Return the newest entries of one service or of all, or of a rollout, oldest first, each once."""
        doing = f"reading the audit trail of {'all services' if service == EVERY_SERVICE else service}"
        request = types.ListLogEntriesRequest(
            resource_names=[f"projects/{self._project}"],
            filter=self._filter(service, rollout, since),
            order_by="timestamp desc",
            page_size=max(1, min(PAGE_SIZE, limit)),
        )
        pages = self._caller.pages(
            self._client.list_log_entries, request, doing=doing, permission="logging.logEntries.list"
        )
        found: dict[tuple[datetime, str], AuditEntry] = {}
        for number, page in enumerate(pages, 1):
            for message in page.entries:
                entry = _entry(types.LogEntry.pb(message))
                if _is_of(entry, service, rollout):
                    found[entry.time, entry.insert_id] = entry
            if len(found) >= limit:
                break
            if number == MOST_PAGES and page.next_page_token:
                log.warning("the audit trail was not read to its beginning", service=service, pages=number)
                break
        return [entry for _, entry in sorted(found.items(), key=lambda item: item[0])][-limit:]

    def _filter(self, service: str, rollout: str, since: datetime | None) -> str:
        wanted = {
            "logName": self._log_name,
            "resource.type": "cloud_run_revision",
            "resource.labels.location": self._region,
        }
        if service != EVERY_SERVICE:
            wanted["resource.labels.service_name"] = service
        parts = [f"{field}={quoted(value)}" for field, value in wanted.items()]
        if rollout:
            parts.append(f"labels.{quoted(ROLLOUT_LABEL)}={quoted(rollout)}")
        if since is not None:
            parts.append(f"timestamp>={quoted(since.astimezone(UTC).isoformat())}")
        return " AND ".join(parts)

    def _message(self, entry: AuditEntry) -> Any:
        labels = {
            "project_id": self._project,
            "location": self._region,
            "service_name": entry.service,
            "configuration_name": entry.service,
            "revision_name": entry.revision,
        }
        return types.LogEntry(
            insert_id=_plain(entry.insert_id, LONGEST_LABEL),
            timestamp=entry.time,
            severity=entry.severity.name,
            labels=_plain(entry.labels, LONGEST_LABEL),
            resource=MonitoredResource(type="cloud_run_revision", labels=labels),
            json_payload=_payload(entry),
        )


def _is_of(entry: AuditEntry, service: str, rollout: str) -> bool:
    """Say whether an entry is what was asked for: Cloud Logging's own comparison takes A for a."""
    return service in (EVERY_SERVICE, entry.service) and (
        not rollout or entry.labels.get(ROLLOUT_LABEL) == rollout
    )


def _payload(entry: AuditEntry) -> Struct:
    """Return the message, which the Logs Explorer shows, and the payload, cut if it is too large."""
    fields = {"message": entry.message, "payload": entry.payload}
    whole = _struct(_plain(fields, sys.maxsize))
    if whole.ByteSize() <= LARGEST_PAYLOAD:
        return whole
    size = f"it had {whole.ByteSize()} bytes, and {ENDPOINT} takes {LARGEST_ENTRY} in an entry"
    for length in TEXT_LENGTHS:
        told = f"texts were cut to {length} characters: {size}"
        cut = _struct(_plain(fields, length) | {"cut": told})
        if cut.ByteSize() <= LARGEST_PAYLOAD:
            return cut
    told = f"the payload was left out: {size}"
    return _struct({"message": _plain(entry.message, TEXT_LENGTHS[-1]), "cut": told})


def _plain(value: Any, length: int) -> Any:
    """Return data that Cloud Logging keeps: no text longer than `length`, and none that is no UTF-8."""
    match value:
        case str():
            text = value.encode(errors="replace").decode()
            return text if len(text) <= length else f"{text[:length]} ... [cut: {len(text)} characters]"
        case Mapping():
            return {_plain(key, length): _plain(part, length) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part, length) for part in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _struct(fields: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(fields)
    return struct


def _entry(message: Any) -> AuditEntry:
    """Read an entry; one that somebody else wrote into the log has perhaps no payload, or another."""
    labels = message.resource.labels
    fields = _with_whole_numbers(MessageToDict(message.json_payload))
    payload = fields.get("payload")
    return AuditEntry(
        insert_id=message.insert_id,
        time=message.timestamp.ToDatetime(UTC),
        service=labels["service_name"],
        revision=labels["revision_name"],
        severity=_severity(message.severity),
        message=str(fields.get("message", message.text_payload)),
        labels=dict(message.labels),
        payload=payload if isinstance(payload, dict) else {},
        cut=str(fields.get("cut", "")),
    )


def _with_whole_numbers(value: Any) -> Any:
    """Return plain data whose numbers are int where they can be; Cloud Logging knows floating point only."""
    match value:
        case dict():
            return {key: _with_whole_numbers(part) for key, part in value.items()}
        case list():
            return [_with_whole_numbers(part) for part in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def _severity(number: int) -> Severity:
    """Return the severity, or the next lower one that there is here; DEFAULT counts as INFO."""
    known = [severity for severity in Severity if LEVELS[severity] <= number]
    return known[-1] if known else Severity.INFO
