"""Harm between rollouts in the audit trail, so that who asks later finds what was reported."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

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


def log_harm(
    outside: Outside, found: Iterable[tuple[Rollout, ServiceHealth]], known: Collection[str]
) -> Collection[str]:
    """Put harm into the audit log, all at once; returns the ids of what is there, as far as is known.

    A log that fails stops nothing. A rollback for harm is a transition, and logged as one.
    """
    now = outside.clock.now()
    entries = [
        _entry(rollout, health, now) for rollout, health in found if health.is_harmful and not health.back_to
    ]
    news = [entry for entry in entries if entry.insert_id not in known]
    try:
        if news:
            outside.audit_log.write_entries(news)
    except CanaryError as error:
        log.warning("the audit log cannot be written; harm is reported all the same", error=str(error))
        return [entry.insert_id for entry in entries if entry not in news]
    return [entry.insert_id for entry in entries]


def harm_of(entries: Sequence[AuditEntry]) -> list[HarmSeen]:
    """Return the harm in entries of the audit log; where it lasted, once an hour."""
    return [_seen(entry) for entry in entries if entry.labels.get(EVENT_LABEL) == HARM]


def _seen(entry: AuditEntry) -> HarmSeen:
    reason, at = str(entry.payload.get("reason", entry.message)), str(entry.payload.get("at", ""))
    try:
        time = datetime.fromisoformat(at).astimezone(UTC)
    except ValueError:  # anybody may write into a log
        time = entry.time
    return HarmSeen(time, entry.labels.get(ROLLOUT_LABEL, ""), entry.revision, reason)


def _entry(rollout: Rollout, health: ServiceHealth, now: datetime) -> AuditEntry:
    """Return the entry; it is the same one for an hour, as a check does not know of the checks before."""
    verdict, hour = health.verdict, now.replace(minute=0, second=0, microsecond=0)
    reason = f"{verdict.reason}; not rolled back: {health.why_not}" if health.why_not else verdict.reason
    return AuditEntry(
        insert_id=f"harm-{rollout.id}-{health.revision}-{hour:%Y%m%d%H}",
        time=hour,
        service=rollout.service,
        revision=health.revision,
        severity=Severity.ERROR,
        message=f"{rollout.service}: {health.revision} harms its users: {reason}",
        labels={ROLLOUT_LABEL: rollout.id, EVENT_LABEL: HARM, "phase": rollout.phase.value},
        payload={"at": now.isoformat(timespec="seconds"), "reason": reason, "minutes": verdict.minutes},
    )
