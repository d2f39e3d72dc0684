"""One pass over a service: gather, decide, apply."""

from dataclasses import dataclass, replace

import structlog

from controller.core.assessment import Assessment
from controller.core.decision import Command, Decision, decide, needs_evidence, needs_smoke_test
from controller.core.observation import Observation, ServiceState
from controller.core.record import ANNOTATION, RecordInvalid, parse_record
from controller.core.rollout import Event, Rollout
from controller.engine.evidence import EvidenceCache, assess_rollout
from controller.engine.outside import Outside
from controller.engine.writing import apply
from controller.ports import RecordUnreadableError

log = structlog.get_logger()


@dataclass(frozen=True)
class Pass:
    """What one pass saw and did; `decision` is None where no rollout is on record."""

    service: ServiceState
    observation: Observation | None = None
    decision: Decision | None = None

    @property
    def rollout(self) -> Rollout | None:
        """The rollout as it stands after the pass."""
        return self.decision.rollout if self.decision else None

    @property
    def assessment(self) -> Assessment | None:
        """The evidence that was weighed, if any was."""
        return self.observation.assessment if self.observation else None


def reconcile(
    outside: Outside, service_name: str, cache: EvidenceCache, command: Command | None = None
) -> Pass:
    """Look at a service once, decide, and write what differs."""
    # gather
    service = outside.cloud_run.read_service(service_name)
    rollout = read_rollout(service)
    if rollout is None:
        return Pass(service)
    asked = command if command and command.id not in rollout.obeyed else None
    observation = gather(outside, service, rollout, cache, asked)
    # decide
    decision = decide(rollout, observation, command)
    # apply
    if decision.split is not None or decision.rollout != rollout:
        apply(outside.cloud_run, service, decision.rollout, decision.split)
        log.info("decided", **described(decision))
    return Pass(service, observation, decision)


def look(outside: Outside, service_name: str) -> Pass:
    """Return what a pass would see and decide, and write nothing."""
    service = outside.cloud_run.read_service(service_name)
    rollout = read_rollout(service)
    if rollout is None:
        return Pass(service)
    observation = gather(outside, service, rollout, EvidenceCache())
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
) -> Observation:
    """Read what a decision rests on, and no more: no failing read may stand in a rollback's way.

    A person's command needs no metrics; a rollback, and an end, need no revisions either. Metrics that
    cannot be read are a finding, never an error.
    """
    now = outside.clock.now()
    if rollout.phase.is_terminal or (command and command.event is Event.ROLLBACK):
        return Observation(now, service, stable=None, candidate=None)
    return Observation(
        now,
        service,
        stable=outside.cloud_run.read_revision(service.name, rollout.stable),
        candidate=outside.cloud_run.read_revision(service.name, rollout.candidate),
        assessment=None
        if command or not needs_evidence(rollout)
        else assess_rollout(outside, rollout, cache),
        smoke=None
        if command or not needs_smoke_test(rollout, service)
        else smoke_test(outside, rollout, service),
    )


def smoke_test(outside: Outside, rollout: Rollout, service: ServiceState) -> tuple[str, ...]:
    """Ask the candidate the policy's paths, and return its failures."""
    address = service.addresses.get(rollout.candidate_tag, "")
    if not address:
        return ("Cloud Run gives its tags no address (the service's default URL is disabled)",)
    return outside.probes.ask(address, rollout.policy.smoke)


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
