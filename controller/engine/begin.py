"""The beginning of a rollout: go on with the one on record, or open a new one."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from controller.core.evidence import final_until
from controller.core.opening import NothingToDo, OpeningRefused, open_rollout
from controller.core.policy import OnNewRevision, Policy
from controller.core.rollout import Rollout
from controller.engine.reconcile import Outside, apply, read_rollout
from controller.ports import ConflictError

log = structlog.get_logger()


@dataclass(frozen=True)
class Request:
    """What a person or a pipeline wants to roll out; without a candidate, the newest revision."""

    service: str
    policy: Policy
    by: str
    candidate: str = ""
    retry: bool = False


@dataclass(frozen=True)
class Begun:
    """A rollout that was opened just now, or found on record and to be gone on with."""

    rollout: Rollout
    opened: bool
    warnings: tuple[str, ...] = ()
    queued: bool = False
    """The wanted rollout has to wait for this one, which is another's."""


TRIES = 5
"""How often a beginning is decided anew when somebody else writes at the same time."""


def begin(outside: Outside, request: Request) -> Begun | NothingToDo:
    """Find or open the rollout that the request is about.

    Raises OpeningRefused, and what the ports raise; nothing is written then.
    """
    for _ in range(TRIES - 1):
        try:
            return _begin(outside, request)
        except ConflictError as conflict:
            log.info("lost a race, beginning again", service=request.service, reason=str(conflict))
            outside.clock.sleep(1)
    return _begin(outside, request)


def _begin(outside: Outside, request: Request) -> Begun | NothingToDo:
    service = outside.cloud_run.read_service(request.service)
    previous = read_rollout(service)
    wanted = request.candidate or service.latest_created
    if previous and not (request.retry and previous.phase.is_terminal):
        if not previous.phase.is_terminal and previous.candidate == wanted:
            return Begun(previous, opened=False)
        if not previous.phase.is_terminal and previous.policy.on_new_revision is not OnNewRevision.SUPERSEDE:
            return Begun(previous, opened=False, queued=True)
        if previous.phase.is_terminal and previous.candidate == wanted:
            return Begun(previous, opened=False)
    revisions = outside.cloud_run.list_revisions(request.service)
    now = outside.clock.now()
    opening = open_rollout(service, revisions, request.policy, now, request.by, request.candidate, previous)
    if isinstance(opening, NothingToDo):
        return opening
    _check_metrics(outside, opening.rollout)
    apply(outside.cloud_run, service, opening.rollout, opening.split)
    log.info("opened", service=service.name, rollout=opening.rollout.id, candidate=opening.rollout.candidate)
    return Begun(opening.rollout, opened=True, warnings=opening.warnings)


def _check_metrics(outside: Outside, rollout: Rollout) -> None:
    """Read the metrics once before anything is written: without them no step could ever pass."""
    until = final_until(outside.clock.now(), rollout.policy.metrics_delay)
    pair = (rollout.stable, rollout.candidate)
    outside.metrics.read_minutes(rollout.service, pair, until - timedelta(minutes=5), until)


def rejected(outside: Outside, service_name: str) -> Rollout:
    """Return the ended rollout that `retry` is about; raises OpeningRefused where there is none."""
    service = outside.cloud_run.read_service(service_name)
    previous = read_rollout(service)
    if previous is None:
        raise OpeningRefused(
            f"{service.name} has no rollout on record to retry; use: canary rollout {service.name}"
        )
    if not previous.phase.is_terminal:
        raise OpeningRefused(
            f"the rollout of {previous.candidate} is still {previous.phase}; follow it with: canary rollout"
            f" {service.name}"
        )
    return previous
