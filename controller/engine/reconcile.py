"""One pass over a service: gather, decide, apply."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.counts import EvidenceInvalid
from controller.core.decision import Command, Decision, decide, needs_evidence, needs_smoke_test
from controller.core.evidence import (
    MINUTE,
    Evidence,
    Minute,
    Window,
    arrange_evidence,
    final_until,
    floor_minute,
)
from controller.core.observation import Observation, ServiceState
from controller.core.record import ANNOTATION, RecordInvalid, parse_record, write_record
from controller.core.rollout import Event, Rollout
from controller.core.traffic import LATEST, Split, SplitInvalid, check_split, shares_of
from controller.ports import (
    CanaryError,
    Clock,
    CloudRun,
    ConflictError,
    Metrics,
    PermanentError,
    Probes,
    RecordUnreadableError,
    ServiceChange,
)

log = structlog.get_logger()

RACE_PAUSE = 1.0
"""Seconds until a decision that somebody else made void is made again."""


@dataclass(frozen=True)
class Outside:
    """All that a pass touches."""

    cloud_run: CloudRun
    metrics: Metrics
    clock: Clock
    probes: Probes


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


HISTORY = timedelta(minutes=30)
"""How much of stable's past is read, for better bets on the first minutes."""


@dataclass
class EvidenceCache:
    """What a controller keeps of a rollout from pass to pass: final minutes, and how they were assessed.

    They never change, so a new minute costs one minute. Without it all is read and assessed again, with the
    same result.
    """

    rollout: str = ""
    until: datetime | None = None
    stable: list[Minute] = field(default_factory=list)
    candidate: list[Minute] = field(default_factory=list)
    windows: tuple[Window, ...] = ()
    assessment: Assessment | None = None

    def turn_to(self, rollout: Rollout) -> None:
        """Forget what is of another rollout."""
        if self.rollout != rollout.id:
            self.rollout, self.until, self.windows, self.assessment = rollout.id, None, (), None
            self.stable, self.candidate = [], []


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


def assess_rollout(outside: Outside, rollout: Rollout, cache: EvidenceCache) -> Assessment:
    """Return the assessment of all windows of the rollout, up to the newest minute that is final."""
    cache.turn_to(rollout)
    until = final_until(outside.clock.now(), rollout.policy.metrics_delay)
    if cache.until is not None and until <= cache.until:
        until = cache.until
        if cache.assessment and cache.windows == rollout.windows:
            return cache.assessment
    try:
        _read_minutes(outside.metrics, rollout, cache, until)
    except (CanaryError, EvidenceInvalid) as error:
        log.warning("metrics unreadable", service=rollout.service, error=str(error))
        return assess(rollout.policy, Evidence(problem=str(error)))
    evidence = arrange_evidence(rollout.windows, cache.stable, cache.candidate, until)
    cache.assessment = assess(rollout.policy, evidence, cache.assessment)
    cache.windows = rollout.windows
    return cache.assessment


def _read_minutes(metrics: Metrics, rollout: Rollout, cache: EvidenceCache, until: datetime) -> None:
    """Read the minutes that have become final since the last time."""
    begun = floor_minute(rollout.windows[0].start)
    start = begun - HISTORY if cache.until is None else cache.until
    if until < begun + MINUTE or until <= start:
        return
    pair: Sequence[str] = (rollout.stable, rollout.candidate)
    custom = rollout.policy.guards.custom
    minutes = metrics.read_minutes(rollout.service, pair, start, until, custom=custom)
    cache.stable.extend(minutes.get(rollout.stable, ()))
    cache.candidate.extend(minutes.get(rollout.candidate, ()))
    cache.until = until


def apply(cloud_run: CloudRun, service: ServiceState, rollout: Rollout, split: Split | None) -> None:
    """Write record and split together, and make sure that they are what is there now.

    The service is read again just before the write, because the API may not compare etags: whoever wrote
    since the decision makes it void. Raises ConflictError then, and nothing is written.
    """
    fresh = cloud_run.read_service(service.name)
    if fresh.annotations != service.annotations or fresh.traffic != service.traffic:
        raise ConflictError(f"{service.name} was changed by somebody else in the meantime")
    if split is not None:
        _check(split, rollout, fresh)
    record = write_record(rollout)
    cloud_run.write_service(
        ServiceChange(service.name, fresh.etag, {**fresh.annotations, ANNOTATION: record}, split)
    )
    after = cloud_run.read_service(service.name)
    if after.annotations.get(ANNOTATION) != record:
        raise ConflictError(f"the write to {service.name} was overwritten by somebody else")
    if after.generation > fresh.generation + 1:
        log.warning("somebody wrote at the same time, and may have been overwritten", service=service.name)


def _check(split: Split, rollout: Rollout, service: ServiceState) -> None:
    """Refuse a split that no rollout may write: only an edit that stands may name other revisions."""
    known = {rollout.stable, rollout.candidate}
    if rollout.phase.is_terminal:
        known |= {LATEST, *shares_of(service.traffic, LATEST)}
    try:
        check_split(split, known)
    except SplitInvalid as invalid:
        raise PermanentError(f"refused to write a split of {service.name}: {invalid}") from None


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
