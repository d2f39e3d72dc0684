"""One pass over a service: gather, decide, apply."""

from dataclasses import dataclass, field, replace

import structlog

from controller.core.assessment import Assessment
from controller.core.decision import Command, Decision, decide, needs_evidence, needs_smoke_test, needs_stable
from controller.core.observation import Observation, RevisionState, ServiceState, unread
from controller.core.record import ANNOTATION, RecordInvalid, parse_record
from controller.core.rollout import Event, Rollout
from controller.core.trail import UNLOGGED, transition_of
from controller.engine.audit import LogMemory, unlogged_of
from controller.engine.checks import check_candidate
from controller.engine.evidence import EvidenceCache, weigh
from controller.engine.outside import Outside
from controller.engine.telling import tell
from controller.engine.writing import apply
from controller.ports import CanaryError, RecordUnreadableError

log = structlog.get_logger()


@dataclass(frozen=True)
class Pass:
    """What one pass saw and did; `decision` is None where no rollout is on record."""

    service: ServiceState
    observation: Observation | None = None
    decision: Decision | None = None
    unlogged: bool = False
    """Whether the service still carries transitions, until they are in the audit log."""
    was_over: bool = False
    """Whether the rollout had ended before the pass, and what it ended with was in force."""

    @property
    def rollout(self) -> Rollout | None:
        """The rollout as it stands after the pass."""
        return self.decision.rollout if self.decision else None

    @property
    def assessment(self) -> Assessment | None:
        """The evidence that was weighed, if any was."""
        return self.observation.assessment if self.observation else None


@dataclass
class Memory:
    """What a controller keeps from pass to pass; without it all is read again, with the same result."""

    evidence: EvidenceCache = field(default_factory=EvidenceCache)
    log: LogMemory = field(default_factory=LogMemory)


def reconcile(outside: Outside, service_name: str, memory: Memory, command: Command | None = None) -> Pass:
    """Look at a service once, decide, and write what differs."""
    service = outside.cloud_run.read_service(service_name)
    return reconcile_service(outside, service, memory, command)


def reconcile_service(
    outside: Outside, service: ServiceState, memory: Memory, command: Command | None = None
) -> Pass:
    """Pass over a service that was read just now."""
    # gather
    rollout = read_rollout(service)
    if rollout is None:
        return Pass(service)
    asked = command if command and command.id not in rollout.obeyed else None
    observation = gather(outside, service, rollout, memory.evidence, asked)
    # decide
    decision = decide(rollout, observation, command)
    # apply
    waiting = unlogged_of(service)
    left = [transition for transition in waiting if transition.id not in memory.log.logged]
    made = transition_of(rollout, observation, command, decision) if decision.event else None
    if made:
        left.append(made)
    changes = decision.split is not None or decision.rollout != rollout
    after = decision.rollout
    rests = after.is_over or (after.held and after.observed_at is not None)
    cleared = rests and UNLOGGED in service.annotations and not left
    if changes or cleared:
        apply(outside, service, decision.rollout, decision.split, left)
        waiting = tuple(left)
    if decision.event:
        log.info("decided", **described(decision))
    tell(outside, memory.log, waiting, made)
    unlogged = bool(waiting) and not memory.log.denied
    return Pass(service, observation, decision, unlogged, was_over=rollout.is_over)


def look(outside: Outside, service_name: str) -> Pass:
    """Return what a pass would see and decide, and write nothing."""
    service = outside.cloud_run.read_service(service_name)
    rollout = read_rollout(service)
    if rollout is None:
        return Pass(service)
    observation = gather(outside, service, rollout, EvidenceCache(), asks=False)
    return Pass(service, observation, replace(decide(rollout, observation), rollout=rollout, event=None))


def read_rollout(service: ServiceState) -> Rollout | None:
    """Return the rollout on the service's record; raises RecordUnreadableError."""
    text = service.annotations.get(ANNOTATION)
    if not text:
        return None
    try:
        rollout = parse_record(text)
    except RecordInvalid as invalid:
        raise RecordUnreadableError(
            f"the record of {service.name} (annotation {ANNOTATION}) cannot be read: {invalid}. Nothing was"
            " changed. Use the version of canary that wrote it; or, to give the rollout up, set the traffic"
            " by hand and remove the annotation"
        ) from None
    if rollout.service != service.name:
        raise RecordUnreadableError(
            f"the record of {service.name} (annotation {ANNOTATION}) belongs to {rollout.service}; it was"
            " copied with that service's description. Remove the annotation"
        )
    return rollout


def gather(
    outside: Outside,
    service: ServiceState,
    rollout: Rollout,
    cache: EvidenceCache,
    command: Command | None = None,
    *,
    asks: bool = True,
) -> Observation:
    """Read what a decision rests on, and no more: no failing read may stand in a rollback's way.

    A person's command needs no metrics; a rollback, and an end, need no revisions either. A revision or
    metrics that cannot be read are a finding, never an error, so that a deadline is kept all the same. The
    policy's probes are asked where they are due, and it `asks`.
    """
    now = outside.clock.now()
    if rollout.phase.is_terminal or (command and command.event is Event.ROLLBACK):
        return Observation(now, service, stable=None, candidate=None)
    assessment: Assessment | None = None
    others: tuple[Assessment, ...] = ()
    if needs_evidence(rollout) and not command:
        assessment, others = weigh(outside, service, rollout, cache, now, asks=asks)
    return Observation(
        now,
        service,
        stable=_read_revision(outside, service, rollout.stable) if needs_stable(rollout) else None,
        candidate=_read_revision(outside, service, rollout.candidate),
        assessment=assessment,
        others=others,
        smoke=None
        if command or not asks or not needs_smoke_test(rollout, service, now)
        else check_candidate(outside, rollout, service),
    )


def _read_revision(outside: Outside, service: ServiceState, revision: str) -> RevisionState | None:
    try:
        return outside.cloud_run.read_revision(service.name, revision)
    except CanaryError as error:
        log.warning("revision unreadable", service=service.name, revision=revision, error=str(error))
        return unread(revision, str(error))


def described(decision: Decision) -> dict[str, object]:
    """Return a decision as the fields of a log entry."""
    rollout = decision.rollout
    return {
        "service": rollout.service,
        "rollout": rollout.id,
        "happened": decision.event.name.lower() if decision.event else "observed",
        "phase": rollout.phase.value,
        "candidate": rollout.candidate,
        "candidate_percent": rollout.percent,
        "reason": decision.reason,
        "by": rollout.by,
    }
