"""The store behind Logging: requests, lines of instances, platform events, and what others wrote."""

import json
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from controller.emulator.logs.entries import (
    REQUESTS,
    SYSTEM,
    Entry,
    HttpRequest,
    JsonPayload,
    Origin,
    ProtoPayload,
    Severity,
    bytes_of,
    clean,
    severity_of,
)
from controller.emulator.logs.lines import read_line
from controller.emulator.logs.origins import Origins
from controller.emulator.names import RevisionKey


@dataclass(slots=True)
class Dropped:
    """What had to go to make room."""

    entries: int = 0
    bytes: int = 0


class Logs:
    """A ring of entries in the order in which they were received, bounded by count and by bytes."""

    def __init__(self, project: str, capacity: int, most_bytes: int) -> None:
        self.project = project
        self.origins = Origins(project)
        self.dropped_by_log: dict[str, Dropped] = {}
        self.deletions: dict[str, datetime] = {}
        """By log name, the instant of the last deletion: what is older is gone, even if it comes later."""
        self._capacity = capacity
        self._most_bytes = most_bytes
        self._bytes = 0
        self._last_number = 0
        self._ring: deque[Entry] = deque()

    @property
    def dropped(self) -> int:
        """Return how many entries had to go to make room."""
        return sum(dropped.entries for dropped in self.dropped_by_log.values())

    @property
    def oldest(self) -> int:
        """Return the number of the oldest entry that is kept, or of the next one if there is none."""
        return self._ring[0].number if self._ring else self._last_number + 1

    @property
    def kept_bytes(self) -> int:
        """Return about how much memory the entries take."""
        return self._bytes

    def add(self, entry: Entry) -> None:
        """Keep an entry, dropping the oldest if there is no room."""
        self._ring.append(entry)
        self._bytes += bytes_of(entry)
        while self._bytes > self._most_bytes or len(self._ring) > self._capacity:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        entry = self._ring.popleft()
        size = bytes_of(entry)
        self._bytes -= size
        dropped = self.dropped_by_log.get(entry.origin.log_id)
        if dropped is None:
            dropped = self.dropped_by_log[entry.origin.log_id] = Dropped()
        dropped.entries += 1
        dropped.bytes += size

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
        if not (request.url.isascii() and request.user_agent.isascii() and trace.isascii()):
            request, trace = _cleaned(request), clean(trace)
        self._last_number += 1
        self.add(
            Entry(
                self._last_number,
                self.origins.of_instance(key, REQUESTS, instance),
                started,
                ended,
                severity_of(request.status),
                request,
                failure,
                f"projects/{self.project}/traces/{trace}" if trace else "",
            )
        )

    def add_line(
        self,
        key: RevisionKey,
        log_id: str,
        text: str,
        at: datetime,
        *,
        instance: str = "",
        severity: Severity = Severity.INFO,
    ) -> None:
        """Keep a line that an instance printed, or an event of the platform. A JSON object is taken apart.

        `severity` is that of an event; a line has the one that it tells itself.
        """
        self.add_line_of(self.origins.of_instance(key, log_id, instance), text, at, severity)

    def add_line_of(
        self, origin: Origin, text: str, at: datetime, severity: Severity = Severity.INFO
    ) -> None:
        """Keep a line, or an event, that comes from there."""
        number = self.next_number()
        if origin.log_id == SYSTEM:
            self.add(Entry(number, origin, at, at, severity, None, text))
        elif not text.startswith("{"):
            self.add(Entry(number, origin, at, at, Severity.DEFAULT, None, clean(text)))
        else:
            line = read_line(text, at)
            if line.labels:
                origin = self.origins.with_labels(origin, line.labels)
            self.add(
                Entry(
                    number,
                    origin,
                    line.time or at,
                    at,
                    line.severity,
                    line.request,
                    line.payload,
                    line.trace,
                    line.more,
                )
            )

    def next_number(self) -> int:
        """Return the number of the next entry; a number that is not used in the end leaves a gap."""
        self._last_number += 1
        return self._last_number

    def all(self) -> list[Entry]:
        """Return the entries that are not deleted, in order of receipt."""
        if not self.deletions:
            return list(self._ring)
        return [
            entry
            for entry in self._ring
            if (deleted := self.deletions.get(entry.origin.log_name)) is None or entry.timestamp >= deleted
        ]

    def after(self, number: int, most: int) -> list[Entry]:
        """Return the first entries after the one of that number, deleted ones too."""
        start = bisect_right(self._ring, number, key=lambda entry: entry.number)
        return list(islice(self._ring, start, start + most))

    def restore(self, entries: Iterable[Entry]) -> None:
        """Put entries of an earlier run, by number, into an empty store; go on counting behind them."""
        for entry in entries:
            self.add(entry)
            self._last_number = entry.number

    def delete(self, log_name: str, at: datetime) -> None:
        """Delete what a log has up to now; it comes back with the next entry."""
        self.deletions[log_name] = at

    def tail(self, key: RevisionKey, lines: int) -> list[str]:
        """Return the last lines that instances of a revision printed, and events of the platform."""
        wanted = {"location": key.location, "service_name": key.service, "revision_name": key.revision}
        texts = (
            _text_of(entry)
            for entry in reversed(self._ring)
            if entry.origin.log_id != REQUESTS and wanted.items() <= entry.origin.resource_labels.items()
        )
        return list(islice(texts, lines))[::-1]


def _cleaned(request: HttpRequest) -> HttpRequest:
    return request._replace(url=clean(request.url), user_agent=clean(request.user_agent))


def _text_of(entry: Entry) -> str:
    match entry.payload:
        case str(text):
            return text
        case JsonPayload(fields) | ProtoPayload(fields):
            return json.dumps(fields, ensure_ascii=False)
