"""The audit trail: transitions as entries of the audit log, and back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from controller.core.observation import ServiceState
from controller.core.rollout import Event, Phase
from controller.core.trail import (
    UNLOGGED,
    Transition,
    TransitionInvalid,
    parse_transition,
    parse_unlogged,
    transition_as_plain,
)
from controller.engine.outside import Outside
from controller.ports import (
    EVENT_LABEL,
    HARM,
    ROLLOUT_LABEL,
    AuditEntry,
    CanaryError,
    EntryRefusedError,
    PermanentError,
    Severity,
)

log = structlog.get_logger()

REST = timedelta(minutes=1)
"""How long the audit log is left alone after it failed: it must not slow down what matters more."""


@dataclass
class LogMemory:
    """What a controller knows of the audit log: what it has put there, and when to try again."""

    logged: frozenset[str] = frozenset()
    told: frozenset[str] = frozenset()
    """The transitions that this controller has sent notices of."""
    look_again_at: datetime | None = None
    """When to look again whether others have put there what they made."""
    again_at: datetime | None = None
    denied: bool = False
    """Whether nothing may be put there, so that waiting for it is of no use."""


def unlogged_of(service: ServiceState) -> tuple[Transition, ...]:
    """Return the transitions that wait on the service to be logged, but for those that cannot be read."""
    read: list[Transition] = []
    try:
        for each in parse_unlogged(service.annotations.get(UNLOGGED, "")):
            if isinstance(each, Transition):
                read.append(each)
            else:
                log.warning("a transition on the service is left out", service=service.name, error=str(each))
    except TransitionInvalid as invalid:
        log.warning("transitions on the service cannot be read", service=service.name, error=str(invalid))
    return tuple(read)


def log_transitions(outside: Outside, memory: LogMemory, transitions: Sequence[Transition]) -> None:
    """Put transitions into the audit log, and remember that they are there.

    A log that fails stops nothing: they stay on the service, and are logged by whoever passes next.
    """
    news = [transition for transition in transitions if transition.id not in memory.logged]
    now = outside.clock.now()
    if not news or (memory.again_at and now < memory.again_at):
        return
    try:
        outside.audit_log.write_entries([entry_of(transition) for transition in news])
    except EntryRefusedError as error:  # it would be refused each time
        log.warning("the audit log refuses an entry, which is left out", error=str(error))
    except CanaryError as error:
        if memory.again_at is None:
            log.warning("the audit log cannot be written; the rollout goes on", error=str(error))
        memory.again_at, memory.denied = now + REST, isinstance(error, PermanentError)
        return
    memory.again_at, memory.denied = None, False
    memory.logged = frozenset(transition.id for transition in transitions)


def entry_of(transition: Transition) -> AuditEntry:
    """Return a transition as an entry of the audit log."""
    after = transition.after
    happened = transition.event.name.lower() if transition.event else "opened"
    return AuditEntry(
        insert_id=transition.id,
        time=transition.time,
        service=after.service,
        revision=after.candidate,
        severity=_severity(transition),
        message=f"{after.service}: {after.phase} at {after.percent} %: {after.reason}",
        labels={ROLLOUT_LABEL: after.id, EVENT_LABEL: happened, "phase": after.phase.value},
        payload=transition_as_plain(transition),
    )


def transitions_of(entries: Iterable[AuditEntry]) -> list[Transition]:
    """Return the transitions among entries, but for those that cannot be read, in their order.

    Where two controllers wrote at the same moment, and the later write replaced the earlier, both stand in
    the log: the one that the rollout went on from is kept.
    """
    read: list[Transition] = []
    for entry in entries:
        if entry.labels.get(EVENT_LABEL) == HARM:
            continue
        if entry.cut:
            log.warning("an entry of the audit log is not whole", entry=entry.insert_id, missing=entry.cut)
            continue
        try:
            read.append(parse_transition(entry.payload))
        except TransitionInvalid as invalid:
            log.warning("an entry of the audit log cannot be read", entry=entry.insert_id, error=str(invalid))
    went_on = {(each.before.id, each.before.number, each.before.since) for each in read if each.before}
    by_number: dict[tuple[str, int], Transition] = {}
    for each in read:
        key = (each.after.id, each.after.number)
        is_on_the_way = (*key, each.after.since) in went_on
        if key not in by_number or is_on_the_way:
            by_number[key] = each
    # By what is on record: clocks differ, and are set back.
    return sorted(by_number.values(), key=lambda each: (each.after.started_at, each.after.number))


def _severity(transition: Transition) -> Severity:
    match transition.after.phase:
        case Phase.ROLLED_BACK | Phase.FAILED:
            return Severity.WARNING if transition.event is Event.ROLLBACK else Severity.ERROR
        case Phase.SUPERSEDED:
            return Severity.WARNING
        case Phase.PAUSED if transition.after.held:
            return Severity.WARNING
        case _:
            return Severity.NOTICE
