"""The fields of a log entry that a filter can name: how each is read, and what it is compared as."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import lru_cache
from operator import attrgetter
from typing import Any

from controller.emulator.filter_syntax import Token, parts_of, syntax_error
from controller.emulator.logs.entries import (
    NOTHING_MORE,
    Entry,
    HttpRequest,
    JsonPayload,
    MoreOfRequest,
    Operation,
    Origin,
    ProtoPayload,
    SourceLocation,
)
from controller.emulator.logs.values import (
    as_text,
    duration,
    fold,
    instant,
    leaves,
    number,
    severity,
    truth,
    values_at,
)

NO_REQUEST = HttpRequest("", "", 0, timedelta(), remote_ip="", protocol="")
NO_MORE_OF_REQUEST = MoreOfRequest()
NO_OPERATION = Operation()
NO_PLACE = SourceLocation()


class Kind(Enum):
    """What a field is compared as."""

    TEXT = auto()
    ORIGIN = auto()
    """A text of the origin, which many entries have in common: `read` takes that instead of the entry."""
    NUMBER = auto()
    SEVERITY = auto()
    INSTANT = auto()
    DURATION = auto()
    TRUTH = auto()
    DYNAMIC = auto()
    """What a payload holds: `read` returns each value that the path leads to."""
    OBJECT = auto()
    """A message or a map: it can be searched, and be there or not."""


PARSE: Mapping[Kind, Callable[[str], Any]] = {
    Kind.NUMBER: number,
    Kind.SEVERITY: severity,
    Kind.INSTANT: instant,
    Kind.DURATION: duration,
    Kind.TRUTH: truth,
}


@dataclass(frozen=True)
class Field:
    """A field; `read` returns None where an entry has no such label."""

    read: Callable[[Any], Any]
    kind: Kind
    name: str = ""

    def read_entry(self, entry: Entry) -> Any:
        """Return the value that an entry has."""
        return self.read(entry.origin if self.kind is Kind.ORIGIN else entry)


def field_of(token: Token) -> Field:
    """Return the field that a path names; refuse one that no entry can have.

    The names of fields can be written in both of protobuf's ways, and in any case; keys of labels and
    payloads cannot.
    """
    parts = parts_of(token)
    names = [part.replace("_", "").lower() for part in parts]
    if (field := _FIELDS.get(".".join(names))) is not None:
        return field
    if names[0] == "labels":
        return _label(lambda origin: origin.labels, ".".join(parts[1:]))
    if names[:2] == ["resource", "labels"]:
        return _label(lambda origin: origin.resource_labels, ".".join(parts[2:]))
    if names[0] == "jsonpayload":
        return Field(_in_payload(JsonPayload, parts[1:]), Kind.DYNAMIC)
    if names[0] == "protopayload":
        return Field(_in_payload(ProtoPayload, parts[1:]), Kind.DYNAMIC)
    raise syntax_error(f"unknown field '{token.text}'", token.position)


def _label(labels: Callable[[Origin], Mapping[str, str]], key: str) -> Field:
    return Field(lambda origin: labels(origin).get(key), Kind.ORIGIN)


def _in_payload(
    kind: type[JsonPayload | ProtoPayload], path: tuple[str, ...]
) -> Callable[[Entry], list[Any]]:
    def read(entry: Entry) -> list[Any]:
        payload = entry.payload
        return values_at(payload.fields, path) if isinstance(payload, kind) else []

    return read


def searchable(entry: Entry) -> str:
    """Return all that a search without a field looks at, folded: every field but times and durations."""
    texts = [entry.insert_id, entry.severity.name, entry.trace]
    if (request := entry.request) is not None:
        texts += (request.method, request.url, str(request.status), request.user_agent, request.remote_ip)
        texts += (request.protocol, str(request.request_size), str(request.response_size))
        texts += map(as_text, request.more or ())
    if isinstance(entry.payload, str):
        texts.append(entry.payload)
    else:
        texts += map(as_text, leaves(entry.payload.fields))
    if entry.more is not NOTHING_MORE:
        texts += map(as_text, leaves(entry.more))
    return _searchable_origin(entry.origin) + fold("\0".join(texts))


@lru_cache(maxsize=1024)
def _searchable_origin(origin: Origin) -> str:
    labels = [*origin.resource_labels.values(), *origin.labels.values()]
    return fold("\0".join([origin.log_name, origin.log_id, origin.resource_type, *labels, ""]))


def _request(name: str, kind: Kind) -> Field:
    index = HttpRequest._fields.index(name)
    return Field(lambda entry: (entry.request or NO_REQUEST)[index], kind)


def _more_of_request(name: str, kind: Kind) -> Field:
    index = MoreOfRequest._fields.index(name)
    return Field(
        lambda entry: ((entry.request and entry.request.more) or NO_MORE_OF_REQUEST)[index],
        kind,
    )


def _operation(index: int, kind: Kind) -> Field:
    return Field(lambda entry: (entry.more.operation or NO_OPERATION)[index], kind)


def _place(index: int, kind: Kind) -> Field:
    return Field(lambda entry: (entry.more.source_location or NO_PLACE)[index], kind)


_FIELDS: Mapping[str, Field] = {
    "timestamp": Field(lambda entry: entry.timestamp, Kind.INSTANT, "timestamp"),
    "receivetimestamp": Field(lambda entry: entry.received, Kind.INSTANT),
    "severity": Field(lambda entry: entry.severity, Kind.SEVERITY),
    "insertid": Field(lambda entry: entry.insert_id, Kind.TEXT),
    "logname": Field(attrgetter("log_name"), Kind.ORIGIN),
    "textpayload": Field(lambda entry: entry.payload if isinstance(entry.payload, str) else "", Kind.TEXT),
    "trace": Field(lambda entry: entry.trace, Kind.TEXT),
    "spanid": Field(lambda entry: entry.more.span_id, Kind.TEXT),
    "tracesampled": Field(lambda entry: entry.more.trace_sampled, Kind.TRUTH),
    "resource": Field(lambda entry: [entry.origin.resource_type, entry.origin.resource_labels], Kind.OBJECT),
    "resource.type": Field(attrgetter("resource_type"), Kind.ORIGIN),
    "resource.labels": Field(lambda entry: entry.origin.resource_labels, Kind.OBJECT),
    "labels": Field(lambda entry: entry.origin.labels, Kind.OBJECT),
    "jsonpayload": Field(
        lambda entry: entry.payload.fields if isinstance(entry.payload, JsonPayload) else None, Kind.OBJECT
    ),
    "protopayload": Field(
        lambda entry: entry.payload.fields if isinstance(entry.payload, ProtoPayload) else None, Kind.OBJECT
    ),
    "httprequest": Field(lambda entry: entry.request, Kind.OBJECT),
    "httprequest.requestmethod": _request("method", Kind.TEXT),
    "httprequest.requesturl": _request("url", Kind.TEXT),
    "httprequest.status": _request("status", Kind.NUMBER),
    "httprequest.latency": _request("latency", Kind.DURATION),
    "httprequest.requestsize": _request("request_size", Kind.NUMBER),
    "httprequest.responsesize": _request("response_size", Kind.NUMBER),
    "httprequest.useragent": _request("user_agent", Kind.TEXT),
    "httprequest.remoteip": _request("remote_ip", Kind.TEXT),
    "httprequest.protocol": _request("protocol", Kind.TEXT),
    "httprequest.serverip": _more_of_request("server_ip", Kind.TEXT),
    "httprequest.referer": _more_of_request("referer", Kind.TEXT),
    "httprequest.cachelookup": _more_of_request("cache_lookup", Kind.TRUTH),
    "httprequest.cachehit": _more_of_request("cache_hit", Kind.TRUTH),
    "httprequest.cachevalidatedwithoriginserver": _more_of_request("cache_validated", Kind.TRUTH),
    "httprequest.cachefillbytes": _more_of_request("cache_fill_bytes", Kind.NUMBER),
    "operation": Field(lambda entry: entry.more.operation, Kind.OBJECT),
    "operation.id": _operation(0, Kind.TEXT),
    "operation.producer": _operation(1, Kind.TEXT),
    "operation.first": _operation(2, Kind.TRUTH),
    "operation.last": _operation(3, Kind.TRUTH),
    "sourcelocation": Field(lambda entry: entry.more.source_location, Kind.OBJECT),
    "sourcelocation.file": _place(0, Kind.TEXT),
    "sourcelocation.line": _place(1, Kind.NUMBER),
    "sourcelocation.function": _place(2, Kind.TEXT),
}
