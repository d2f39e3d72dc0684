"""Log entries as messages of the API, and back."""

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

from google.cloud.appengine_logging_v1.types import request_log
from google.cloud.audit import audit_log_pb2
from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError

from controller.emulator.errors import invalid
from controller.emulator.logs.entries import (
    NOTHING_MORE,
    Entry,
    HttpRequest,
    JsonPayload,
    More,
    MoreOfRequest,
    Operation,
    Origin,
    ProtoPayload,
    Severity,
    SourceLocation,
    bytes_of_value,
)

PROTO_PAYLOADS = frozenset(
    message.DESCRIPTOR.full_name for message in (audit_log_pb2.AuditLog, request_log.RequestLog.pb())
)
"""The only two types that Logging takes."""
LONGEST = timedelta(seconds=315_576_000_000)
"""What a Duration may be at most."""
UNREADABLE = (DecodeError, json_format.Error, TypeError, ValueError, RecursionError)
"""What reading a payload packed by somebody else ends with, if it is broken."""


def show(target: Any, entry: Entry) -> None:
    """Write an entry into a LogEntry message."""
    origin, more = entry.origin, entry.more
    target.log_name = origin.log_name
    target.timestamp.FromDatetime(entry.timestamp)
    target.receive_timestamp.FromDatetime(entry.received)
    target.severity = entry.severity
    target.insert_id = entry.insert_id
    target.resource.type = origin.resource_type
    target.resource.labels.update(origin.resource_labels)
    target.labels.update(origin.labels)
    target.trace = entry.trace
    if entry.request is not None:
        _show_request(target.http_request, entry.request)
    if more is not NOTHING_MORE:
        _show_more(target, more)
    match entry.payload:
        case str(text):
            if text:
                target.text_payload = text
        case ProtoPayload(fields):
            json_format.ParseDict(dict(fields), target.proto_payload)
        case JsonPayload(fields):
            target.json_payload.update(fields)


def _show_request(target: Any, request: HttpRequest) -> None:
    target.request_method, target.request_url, target.status = request.method, request.url, request.status
    target.latency.FromTimedelta(request.latency)
    target.request_size, target.response_size = request.request_size, request.response_size
    target.user_agent, target.remote_ip = request.user_agent, request.remote_ip
    target.protocol = request.protocol
    if (more := request.more) is not None:
        target.server_ip, target.referer = more.server_ip, more.referer
        target.cache_lookup, target.cache_hit = more.cache_lookup, more.cache_hit
        target.cache_validated_with_origin_server = more.cache_validated
        target.cache_fill_bytes = more.cache_fill_bytes


def _show_more(target: Any, more: More) -> None:
    target.span_id, target.trace_sampled = more.span_id, more.trace_sampled
    if (operation := more.operation) is not None:
        target.operation.id, target.operation.producer = operation.id, operation.producer
        target.operation.first, target.operation.last = operation.first, operation.last
    if (place := more.source_location) is not None:
        target.source_location.file, target.source_location.line = place.file, place.line
        target.source_location.function = place.function


def entry_of(message: Any, number: int, origin: Origin, timestamp: datetime, received: datetime) -> Entry:
    """Read a LogEntry message; the caller knows where it comes from and when. Raises ApiError."""
    return Entry(
        number,
        origin,
        timestamp,
        received,
        _severity(message.severity),
        _checked_request(message.http_request) if message.HasField("http_request") else None,
        _payload_of(message),
        message.trace,
        _more_of(message),
    )


def _severity(number: int) -> Severity:
    try:
        return Severity(number)
    except ValueError:
        raise invalid(f"{number} is not a severity.", "severity") from None


def _checked_request(http: Any) -> HttpRequest:
    try:
        return request_of(http)
    except (ValueError, OverflowError) as error:
        raise invalid(f"http_request.latency is no duration: {error}.", "http_request.latency") from None


def request_of(http: Any) -> HttpRequest:
    """Read a HttpRequest message; raises ValueError or OverflowError where its latency is no duration."""
    latency = http.latency.ToTimedelta()
    if abs(latency) > LONGEST:
        raise ValueError(f"{latency} is too long")
    more = MoreOfRequest(
        http.server_ip,
        http.referer,
        http.cache_lookup,
        http.cache_hit,
        http.cache_validated_with_origin_server,
        http.cache_fill_bytes,
    )
    return HttpRequest(
        http.request_method,
        http.request_url,
        http.status,
        latency,
        http.request_size,
        http.response_size,
        http.user_agent,
        http.remote_ip,
        http.protocol,
        more if any(more) else None,
    )


def operation_of(message: Any) -> Operation:
    """Read a LogEntryOperation message."""
    return Operation(message.id, message.producer, message.first, message.last)


def source_location_of(message: Any) -> SourceLocation:
    """Read a LogEntrySourceLocation message."""
    return SourceLocation(message.file, message.line, message.function)


def _more_of(message: Any) -> More:
    more = More(
        message.insert_id,
        message.span_id,
        message.trace_sampled,
        operation_of(message.operation) if message.HasField("operation") else None,
        source_location_of(message.source_location) if message.HasField("source_location") else None,
    )
    return NOTHING_MORE if more == NOTHING_MORE else more


def _payload_of(message: Any) -> str | JsonPayload | ProtoPayload:
    match message.WhichOneof("payload"):
        case "json_payload":
            try:
                fields = json_format.MessageToDict(message.json_payload)
                return JsonPayload(fields, bytes_of_value(fields))
            except (ValueError, json_format.Error) as error:  # NaN and infinity are no JSON
                raise invalid(f"json_payload cannot be kept as JSON: {error}.", "json_payload") from None
        case "proto_payload":
            return _proto_payload_of(message.proto_payload)
        case _:
            return str(message.text_payload)


def _proto_payload_of(payload: any_pb2.Any) -> ProtoPayload:
    if payload.TypeName() not in PROTO_PAYLOADS:
        raise invalid(
            f"proto_payload of the type '{payload.type_url}' is not supported; supported are "
            f"{' and '.join(sorted(PROTO_PAYLOADS))}.",
            "proto_payload",
        )
    try:
        fields = json_format.MessageToDict(payload)
        return ProtoPayload(fields, bytes_of_value(fields))
    except UNREADABLE as error:
        raise invalid(f"proto_payload cannot be read: {error}.", "proto_payload") from None


def log_id_of(log_name: str) -> tuple[str, str]:
    """Return project and log id of `projects/P/logs/ID`; ("", "") for any other form."""
    prefix, _, encoded = log_name.removeprefix("/").partition("/logs/")
    kind, _, project = prefix.partition("/")
    if kind != "projects" or not project or "/" in project or not encoded:
        return "", ""
    return project, unquote(encoded)
