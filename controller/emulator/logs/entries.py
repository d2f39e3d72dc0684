"""Log entries as they are kept: as small as a hundred thousand of them in memory ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import quote

REQUESTS = "run.googleapis.com/requests"
STDOUT = "run.googleapis.com/stdout"
STDERR = "run.googleapis.com/stderr"
SYSTEM = "run.googleapis.com/varlog/system"

REVISION = "cloud_run_revision"
"""The resource type of all four."""
JOB = "cloud_run_job"
"""The resource type of what the tasks of jobs print, and of what the platform says of them."""

ENTRY_BYTES = 320
"""What an entry takes, its payload aside; measured."""
REQUEST_BYTES = 320
"""What the request of an entry takes, its texts aside; measured."""
DEEPEST = 25
"""Objects in objects in a payload; in a message each level takes three of the hundred that can be read."""
VALUE_BYTES = 80
"""What a number, or the frame of a text or an object, takes in a payload."""
_MANY_BITS, _FEW_BITS = 0x9E3779B97F4A7C15, 0xFFFFFFFF


class Severity(IntEnum):
    """Of an entry, with Google's numbers."""

    DEFAULT = 0
    DEBUG = 100
    INFO = 200
    NOTICE = 300
    WARNING = 400
    ERROR = 500
    CRITICAL = 600
    ALERT = 700
    EMERGENCY = 800


class MoreOfRequest(NamedTuple):
    """What few requests have."""

    server_ip: str = ""
    referer: str = ""
    cache_lookup: bool = False
    cache_hit: bool = False
    cache_validated: bool = False
    cache_fill_bytes: int = 0


class HttpRequest(NamedTuple):
    """What a request entry tells of the request. The latency includes waiting for an instance."""

    method: str
    url: str
    status: int
    latency: timedelta
    request_size: int = 0
    response_size: int = 0
    user_agent: str = ""
    remote_ip: str = "127.0.0.1"
    protocol: str = "HTTP/1.1"
    more: MoreOfRequest | None = None


class Operation(NamedTuple):
    """A longer doing that several entries tell of."""

    id: str = ""
    producer: str = ""
    first: bool = False
    last: bool = False


class SourceLocation(NamedTuple):
    """The place in a program that logged."""

    file: str = ""
    line: int = 0
    function: str = ""


class More(NamedTuple):
    """What few entries have."""

    insert_id: str = ""
    span_id: str = ""
    trace_sampled: bool = False
    operation: Operation | None = None
    source_location: SourceLocation | None = None


NOTHING_MORE = More()


class JsonPayload(NamedTuple):
    """An object."""

    fields: Mapping[str, Any]
    bytes: int
    """What it takes in memory, about."""


class ProtoPayload(NamedTuple):
    """A message of one of Google's own types, as an object with its `@type`."""

    fields: Mapping[str, Any]
    bytes: int


def log_name(project: str, log_id: str) -> str:
    """Return the resource name of a log, its id encoded for URLs."""
    return f"projects/{project}/logs/{quote(log_id, safe='')}"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where entries come from: one object serves all the entries of an instance in a log."""

    project: str
    log_id: str
    resource_type: str
    resource_labels: Mapping[str, str]
    labels: Mapping[str, str]

    @cached_property
    def log_name(self) -> str:
        """Return the resource name of the log."""
        return log_name(self.project, self.log_id)


class Entry(NamedTuple):
    """One log entry. Of a request, `timestamp` is its start and `received` its end."""

    number: int
    """Counts the entries of a store, in the order in which they were received."""
    origin: Origin
    timestamp: datetime
    received: datetime
    severity: Severity
    request: HttpRequest | None
    payload: str | JsonPayload | ProtoPayload
    """The text "" = none."""
    trace: str = ""
    more: More = NOTHING_MORE

    @property
    def insert_id(self) -> str:
        """Return the id that the writer chose, or one that follows from the number.

        It sorts by the number, as Google promises, and ends in bits that look random.
        """
        return self.more.insert_id or f"{self.number:012x}{self.number * _MANY_BITS >> 16 & _FEW_BITS:08x}"


_INFO, _WARNING, _ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR


_SEVERITIES = {4: _WARNING, 5: _ERROR}
"""By the class of HTTP's status."""


def severity_of(status: int) -> Severity:
    """Return the severity of a request's entry: ERROR for 5xx, WARNING for 4xx, else INFO."""
    return _SEVERITIES.get(status // 100, _INFO)


def clean(text: str) -> str:
    """Return a text that can be sent: bytes that are no UTF-8 become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bytes_of(entry: Entry) -> int:
    """Return about how much memory an entry takes; the same whenever it is asked."""
    payload, request = entry.payload, entry.request
    size = ENTRY_BYTES + (len(payload) if isinstance(payload, str) else payload.bytes)
    if request is not None:
        size += REQUEST_BYTES + len(request.url) + len(request.user_agent)
    if entry.more is not NOTHING_MORE:
        size += ENTRY_BYTES
    return size


def bytes_of_value(value: Any, levels: int = DEEPEST) -> int:
    """Return about how much memory a value in a payload takes; raises ValueError where it is too deep."""
    if isinstance(value, str):
        return VALUE_BYTES + len(value)
    if not isinstance(value, dict | list):
        return VALUE_BYTES
    if not levels:
        raise ValueError(f"it has more than {DEEPEST} levels")
    size = VALUE_BYTES * 2
    for one in value.values() if isinstance(value, dict) else value:
        size += bytes_of_value(one, levels - 1)
    return size + sum(VALUE_BYTES + len(key) for key in value) if isinstance(value, dict) else size
