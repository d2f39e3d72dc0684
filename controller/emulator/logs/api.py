"""google.logging.v2.LoggingServiceV2: ListLogEntries and WriteLogEntries."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from google.cloud.logging_v2 import types
from google.protobuf import json_format

from controller.emulator.calls import Call, Methods, unary
from controller.emulator.errors import invalid
from controller.emulator.logs.filter import parse_log_filter
from controller.emulator.logs.store import Entry, HttpRequest, Logs, Severity

LARGEST_PAGE = 1000
DEFAULT_PAGE = 50
LONGEST_FILTER = 20_000
MOST_RESOURCES = 100
FURTHEST_AHEAD = timedelta(hours=24)
IS_DESCENDING = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}
ListLogEntriesResponse: Any = types.ListLogEntriesResponse.pb()


class LoggingApi:
    """Answers from the ring of entries, and adds to it."""

    def __init__(self, store: Logs) -> None:
        self._store = store

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        return {
            "google.logging.v2.LoggingServiceV2": {
                "ListLogEntries": unary(
                    self._list,
                    types.ListLogEntriesRequest.deserialize,
                    ListLogEntriesResponse.SerializeToString,
                ),
                "WriteLogEntries": unary(
                    self._write,
                    types.WriteLogEntriesRequest.deserialize,
                    types.WriteLogEntriesResponse.serialize,
                ),
            }
        }

    def _list(self, call: Call, request: types.ListLogEntriesRequest) -> Any:
        _check(request)
        size = request.page_size or DEFAULT_PAGE
        offset, read_at = _place(request.page_token, call.now)
        found = self._found(request, read_at)
        answer = ListLogEntriesResponse()
        for entry in found[offset : offset + size]:
            _show(answer.entries.add(), entry, self._store.project)
        if len(found) > offset + size:
            answer.next_page_token = f"{offset + size}@{read_at.isoformat()}"
        return answer

    def _found(self, request: types.ListLogEntriesRequest, read_at: datetime) -> list[Entry]:
        matches = parse_log_filter(request.filter)
        unique: dict[tuple[datetime, str], Entry] = {}
        for entry in self._store.all():
            if entry.receive_timestamp <= read_at and matches(entry):
                unique.setdefault((entry.timestamp, entry.insert_id), entry)
        return [unique[key] for key in sorted(unique, reverse=IS_DESCENDING[request.order_by])]

    def _write(self, call: Call, request: types.WriteLogEntriesRequest) -> types.WriteLogEntriesResponse:
        entries = [self._written(types.LogEntry.pb(entry), request, call.now) for entry in request.entries]
        if not request.dry_run:
            for entry in entries:
                self._store.add(entry)
        return types.WriteLogEntriesResponse()

    def _written(self, entry: Any, request: types.WriteLogEntriesRequest, now: datetime) -> Entry:
        log_name = entry.log_name or request.log_name
        prefix, _, log_id = log_name.partition("/logs/")
        if not log_id or not prefix.startswith("projects/"):
            raise invalid(f"'{log_name}' is not of the form projects/PROJECT/logs/LOG_ID.", "log_name")
        timestamp = now
        if entry.HasField("timestamp"):
            timestamp = entry.timestamp.ToDatetime(now.tzinfo)
        if timestamp > now + FURTHEST_AHEAD:
            raise invalid("Log entry timestamps may not be more than 24 hours in the future.", "timestamp")
        resource = (
            entry.resource
            if entry.HasField("resource")
            else types.WriteLogEntriesRequest.pb(request).resource
        )
        return Entry(
            unquote(log_id),
            timestamp,
            now,
            entry.insert_id or self._store.new_id(),
            Severity(entry.severity),
            resource.type or "global",
            {"project_id": prefix.removeprefix("projects/"), **resource.labels},
            {**request.labels, **entry.labels},
            _request_of(entry) if entry.HasField("http_request") else None,
            entry.text_payload,
            json_format.MessageToDict(entry.json_payload) if entry.HasField("json_payload") else None,
            entry.trace,
            entry.span_id,
        )


def _check(request: types.ListLogEntriesRequest) -> None:
    if not 0 < len(request.resource_names) <= MOST_RESOURCES:
        raise invalid(f"resource_names must have 1 to {MOST_RESOURCES} names.", "resource_names")
    if not 0 <= request.page_size <= LARGEST_PAGE:
        raise invalid(
            f"page_size must be between 0 and {LARGEST_PAGE}, not {request.page_size}.", "page_size"
        )
    if request.order_by not in IS_DESCENDING:
        raise invalid('order_by must be "timestamp asc" or "timestamp desc".', "order_by")
    if len(request.filter) > LONGEST_FILTER:
        raise invalid(f"filter has more than {LONGEST_FILTER} characters.", "filter")


def _place(token: str, now: datetime) -> tuple[int, datetime]:
    """Return where a page begins and when the first page was read, so that all pages agree."""
    if not token:
        return 0, now
    try:
        offset, read_at = token.split("@")
        return int(offset), datetime.fromisoformat(read_at)
    except ValueError:
        raise invalid(f"Invalid page token '{token}'.", "page_token") from None


def _request_of(entry: Any) -> HttpRequest:
    http = entry.http_request
    return HttpRequest(
        http.request_method,
        http.request_url,
        http.status,
        http.latency.ToTimedelta(),
        http.request_size,
        http.response_size,
        http.user_agent,
        http.remote_ip,
        http.protocol,
    )


def _show(target: Any, entry: Entry, project: str) -> None:
    owner = entry.resource_labels.get("project_id", project)
    target.log_name = f"projects/{owner}/logs/{entry.log_id.replace('/', '%2F')}"
    target.timestamp.FromDatetime(entry.timestamp)
    target.receive_timestamp.FromDatetime(entry.receive_timestamp)
    target.severity = entry.severity.value
    target.insert_id = entry.insert_id
    target.resource.type = entry.resource_type
    target.resource.labels.update(entry.resource_labels)
    target.labels.update(entry.labels)
    target.trace, target.span_id = entry.trace, entry.span_id
    if entry.http_request is not None:
        _show_request(target.http_request, entry.http_request)
    if entry.json is not None:
        target.json_payload.update(entry.json)
    elif entry.text:
        target.text_payload = entry.text


def _show_request(target: Any, request: HttpRequest) -> None:
    target.request_method, target.request_url = request.method, request.url
    target.status = request.status
    target.latency.FromTimedelta(request.latency)
    target.request_size, target.response_size = request.request_size, request.response_size
    target.user_agent, target.remote_ip, target.protocol = (
        request.user_agent,
        request.remote_ip,
        request.protocol,
    )
