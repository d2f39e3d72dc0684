"""One pass over all services that have a rollout on record: whoever drove it may be gone."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from controller.core.observation import ServiceState
from controller.core.record import ANNOTATION
from controller.engine.outside import Outside
from controller.engine.patience import AT_FIRST, until_it_works
from controller.engine.reconcile import Memory, Pass, look, reconcile, reconcile_service
from controller.ports import CanaryError, ConflictError, NotFoundError

log = structlog.get_logger()

FRESH = timedelta(seconds=10)
"""How long a list of services says how they are; a decision on an older one would take what has become of a
split since for one that is not taken over."""


@dataclass(frozen=True)
class Checked:
    """What the pass saw and did of one service, or the error that it ended with.

    Without either the service was deleted in the meantime.
    """

    service: str
    seen: Pass | None = None
    error: Exception | None = None


def sweep(outside: Outside, on_checked: Callable[[Checked], None]) -> None:
    """Pass once over each service with a record; one that fails never keeps the others from theirs."""
    services = until_it_works(outside, AT_FIRST, outside.cloud_run.list_services)
    listed_at = outside.clock.now()
    for service in services:
        if ANNOTATION in service.annotations:
            is_fresh = outside.clock.now() - listed_at < FRESH
            on_checked(_checked(outside, service, is_fresh=is_fresh))


def _checked(outside: Outside, service: ServiceState, *, is_fresh: bool) -> Checked:
    try:
        return Checked(service.name, _passed(outside, service, is_fresh=is_fresh))
    except NotFoundError:
        return Checked(service.name)
    except CanaryError as error:
        log.warning("a service could not be passed", service=service.name, error=str(error))
        return Checked(service.name, error=error)
    except Exception as error:
        log.exception("unexpected", service=service.name)
        return Checked(service.name, error=error)


def _passed(outside: Outside, service: ServiceState, *, is_fresh: bool) -> Pass:
    memory = Memory()
    try:
        if is_fresh:
            seen = reconcile_service(outside, service, memory)
        else:
            seen = reconcile(outside, service.name, memory)
    except ConflictError:  # it was changed since it was listed
        seen = _passed_again(outside, service.name, memory)
    if seen.unlogged and seen.rollout and seen.rollout.is_over:
        _passed_again(outside, service.name, memory)  # what is in the audit log now leaves the service
    return seen


def _passed_again(outside: Outside, service: str, memory: Memory) -> Pass:
    try:
        return reconcile(outside, service, memory)
    except ConflictError:  # somebody else drives it: say what has become of it
        return look(outside, service)
