"""Harm between rollouts in the audit trail, so that who asks later finds what was reported."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from controller.core.rollout import Rollout
from controller.engine.health import ServiceHealth
from controller.engine.outside import Outside
from controller.ports import EVENT_LABEL, HARM, ROLLOUT_LABEL, AuditEntry, CanaryError, Severity

log = structlog.get_logger()


@dataclass(frozen=True)
class HarmSeen:
    """The users of a revision were harmed, after the rollout that brought it had ended."""

    time: datetime
    rollout: str
    revision: str
    reason: str


def log_harm(outside: Outside, found: Iterable[tuple[Rollout, ServiceHealth]]) -> None:
    """Put what is news of harm into the audit log, all at once; a log that fails stops nothing.

    A rollback for harm is a transition, and logged as one.
    """
    now = outside.clock.now()
    entries = [
        _entry(rollout, health, now) for rollout, health in found if health.is_news and not health.back_to
    ]
    if not entries:
        return
    try:
        outside.audit_log.write_entries(entries)
    except CanaryError as error:
        log.warning("the audit log cannot be written; harm is reported all the same", error=str(error))


def harm_of(entries: Sequence[AuditEntry]) -> list[HarmSeen]:
    """Return the harm in entries of the audit log; where it lasted, once an hour."""
    first: dict[str, HarmSeen] = {}
    for entry in entries:
        if entry.labels.get(EVENT_LABEL) == HARM:
            rollout = entry.labels.get(ROLLOUT_LABEL, "")
            reason = str(entry.payload.get("reason", entry.message))
            first.setdefault(entry.insert_id, HarmSeen(entry.time, rollout, entry.revision, reason))
    return list(first.values())


def _entry(rollout: Rollout, health: ServiceHealth, now: datetime) -> AuditEntry:
    """Return the entry; those of an hour have one id: a check does not know of the checks before."""
    verdict = health.verdict
    reason = f"{verdict.reason}; not rolled back: {health.why_not}" if health.why_not else verdict.reason
    return AuditEntry(
        insert_id=f"harm-{rollout.id}-{health.revision}-{now:%Y%m%d%H}",
        time=now,
        service=rollout.service,
        revision=health.revision,
        severity=Severity.ERROR,
        message=f"{rollout.service}: {health.revision} harms its users: {reason}",
        labels={ROLLOUT_LABEL: rollout.id, EVENT_LABEL: HARM, "phase": rollout.phase.value},
        payload={"revision": health.revision, "reason": reason, "minutes": verdict.minutes},
    )
