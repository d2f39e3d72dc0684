"""The log of our own requests: what was asked of each revision, whoever asked it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from controller.core.probe_evidence import Answer, Asked, Pair, pair_as_plain, parse_pair
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.ports import EVERY_SERVICE, ROLLOUT_LABEL, AuditEntry, CanaryError, Severity

log = structlog.get_logger()

STABLE = "stable_revision"
MOST_ASKED = 3_000
"""Entries of all services together that are read at once."""
OVERLAP = timedelta(minutes=5)
"""So much of the log is read again, for what another controller has put there late."""

Place = tuple[str, str]
"""A service, and a revision of it."""


def entry_of_pair(rollout: Rollout, pair: Pair, controller: str) -> AuditEntry:
    """Return a pair as an entry of the log; `controller` tells it from the same one of another."""
    failed = not pair.candidate.ok or (pair.stable is not None and not pair.stable.ok)
    answers = f"candidate {_said(pair.candidate)}, stable {_said(pair.stable)}"
    return AuditEntry(
        insert_id=f"{rollout.id}-{pair.time.timestamp():.6f}-{controller}",
        time=pair.time,
        service=rollout.service,
        revision=rollout.candidate,
        severity=Severity.WARNING if failed else Severity.INFO,
        message=f"{pair.name}: {answers}",
        labels={ROLLOUT_LABEL: rollout.id},
        payload={**pair_as_plain(pair), STABLE: rollout.stable},
    )


def entry_of_answer(place: Place, name: str, asked: Asked) -> AuditEntry:
    """Return the answer of a revision that serves all users, outside any rollout."""
    service, revision = place
    at, answer = asked
    return AuditEntry(
        insert_id=f"{revision}-{uuid4().hex}",
        time=at,
        service=service,
        revision=revision,
        severity=Severity.INFO if answer.ok else Severity.WARNING,
        message=f"{name}: {_said(answer)}",
        payload=pair_as_plain(Pair(at, name, answer)),
    )


def _said(answer: Answer | None) -> str:
    if answer is None:
        return "not asked"
    return f"{answer.status} in {answer.seconds:.2f} s" if answer.ok else answer.problem


def asked_in(entries: Iterable[AuditEntry]) -> Iterator[tuple[Place, Asked]]:
    """Yield what was asked of which revision; what is no answer is left out: anybody may write into a log."""
    for entry in entries:
        pair = parse_pair(entry.time, entry.payload)
        if pair is None:
            continue
        yield (entry.service, entry.revision), (pair.moment, pair.candidate)
        stable = entry.payload.get(STABLE)
        if pair.stable and isinstance(stable, str):
            yield (entry.service, stable), (pair.moment, pair.stable)


def asked_lately(outside: Outside, service: str, since: datetime) -> dict[str, list[Asked]]:
    """Return what was asked of each revision of a service; raises CanaryError."""
    asked: dict[str, list[Asked]] = {}
    for (_, revision), answer in asked_in(outside.probe_log.read_entries(service, "", since, MOST_ASKED)):
        asked.setdefault(revision, []).append(answer)
    return asked


@dataclass
class AskedProbes:
    """What was asked of all services lately, so that it is not taken for their users."""

    known: dict[str, list[tuple[Place, Asked]]] = field(default_factory=dict)
    """By the ids of the entries."""
    read_until: datetime | None = None
    unkept: list[AuditEntry] = field(default_factory=list)

    def recall(self, outside: Outside, since: datetime, service: str = EVERY_SERVICE) -> None:
        """Read what others have asked since then, of one service or of all, and forget what is older."""
        start = max(since, self.read_until - OVERLAP) if self.read_until else since
        now = outside.clock.now()
        try:
            entries = outside.probe_log.read_entries(service, "", start, MOST_ASKED)
        except CanaryError as error:
            log.warning("answers to earlier probes cannot be read, and count as users", error=str(error))
            return
        self.read_until = now
        self._take(entries)
        self.known = {
            name: asked for name, asked in self.known.items() if any(at >= since for _, (at, _) in asked)
        }

    def note(self, place: Place, name: str, asked: Asked) -> None:
        """Remember what was asked just now, for others, too."""
        entry = entry_of_answer(place, name, asked)
        self._take([entry])
        self.unkept.append(entry)

    def keep(self, outside: Outside) -> None:
        """Put what was asked into the log, all at once; a log that fails stops nothing."""
        try:
            if self.unkept:
                outside.probe_log.write_entries(self.unkept)
        except CanaryError as error:
            log.warning("answers to probes cannot be kept", error=str(error))
            self.unkept = self.unkept[-MOST_ASKED:]
            return
        self.unkept = []

    def of(self, place: Place) -> list[Asked]:
        """Return what was asked of a revision."""
        return [asked for entry in self.known.values() for where, asked in entry if where == place]

    def _take(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            self.known[entry.insert_id] = list(asked_in([entry]))
