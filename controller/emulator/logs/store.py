"""The store behind Logging: requests, lines of instances, platform events, and what others wrote."""

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from itertools import islice
from typing import Any

from controller.emulator.names import RevisionKey

REQUESTS = "run.googleapis.com/requests"
STDOUT = "run.googleapis.com/stdout"
STDERR = "run.googleapis.com/stderr"
SYSTEM = "run.googleapis.com/varlog/system"
_NO_LABELS: Mapping[str, str] = {}


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


@dataclass(frozen=True, slots=True)
class HttpRequest:
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One log entry. Of a request, `timestamp` is its start and `receive_timestamp` its end."""

    log_id: str
    timestamp: datetime
    receive_timestamp: datetime
    insert_id: str
    severity: Severity = Severity.DEFAULT
    resource_type: str = "cloud_run_revision"
    resource_labels: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    http_request: HttpRequest | None = None
    text: str = ""
    json: Mapping[str, Any] | None = None
    trace: str = ""
    span_id: str = ""


class Logs:
    """A bounded ring of entries, in the order in which they were received."""

    def __init__(self, project: str, capacity: int, rng: random.Random) -> None:
        self.project = project
        self.dropped = 0
        self._rng = rng
        self._ring: deque[Entry] = deque(maxlen=capacity)
        self._labels: dict[RevisionKey, Mapping[str, str]] = {}

    def add(self, entry: Entry) -> None:
        """Keep an entry, dropping the oldest if there is no room."""
        if len(self._ring) == self._ring.maxlen:
            self.dropped += 1
        self._ring.append(entry)

    def add_request(
        self,
        key: RevisionKey,
        request: HttpRequest,
        started: datetime,
        ended: datetime,
        *,
        instance: str = "",
        failure: str = "",
        trace: str = "",
    ) -> None:
        """Keep the entry of a request; `failure` is the text of a failure that the platform made."""
        self.add(
            Entry(
                REQUESTS,
                started,
                ended,
                self.new_id(),
                severity_of(request.status),
                resource_labels=self.resource_labels(key),
                labels={"instanceId": instance} if instance else _NO_LABELS,
                http_request=request,
                text=failure,
                trace=f"projects/{self.project}/traces/{trace}" if trace else "",
            )
        )

    def add_line(self, key: RevisionKey, log_id: str, text: str, at: datetime, *, instance: str = "") -> None:
        """Keep a line that an instance printed, or an event of the platform."""
        severity = {STDERR: Severity.DEFAULT, SYSTEM: Severity.INFO}.get(log_id, Severity.DEFAULT)
        labels = {"instanceId": instance} if instance else _NO_LABELS
        self.add(
            Entry(
                log_id,
                at,
                at,
                self.new_id(),
                severity,
                resource_labels=self.resource_labels(key),
                labels=labels,
                text=text,
            )
        )

    def resource_labels(self, key: RevisionKey) -> Mapping[str, str]:
        """Return the five labels of a revision's resource; one mapping serves all its entries."""
        if key not in self._labels:
            self._labels[key] = {
                "project_id": self.project,
                "location": key.location,
                "service_name": key.service,
                "revision_name": key.revision,
                "configuration_name": key.service,
            }
        return self._labels[key]

    def new_id(self) -> str:
        """Return an insert id that no other entry has."""
        return f"{self._rng.getrandbits(80):020x}"

    def all(self) -> Iterable[Entry]:
        """Return the entries, in order of receipt."""
        return self._ring

    def tail(self, key: RevisionKey, lines: int) -> list[str]:
        """Return the last lines that instances of a revision printed, and events of the platform."""
        texts = (
            entry.text
            for entry in reversed(self._ring)
            if entry.log_id != REQUESTS and entry.resource_labels.get("revision_name") == key.revision
        )
        return list(islice(texts, lines))[::-1]


def severity_of(status: int) -> Severity:
    """Return the severity of a request's entry: ERROR for 5xx, WARNING for 4xx, else INFO."""
    if status >= 500:  # noqa: PLR2004 - the classes of HTTP
        return Severity.ERROR
    return Severity.WARNING if status >= 400 else Severity.INFO  # noqa: PLR2004
