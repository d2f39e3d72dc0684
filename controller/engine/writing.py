"""Writing: record and split together, against everybody else who writes to the service."""

import structlog

from controller.core.observation import ServiceState
from controller.core.record import ANNOTATION, write_record
from controller.core.rollout import Rollout
from controller.core.traffic import LATEST, Split, SplitInvalid, check_split, shares_of
from controller.ports import CloudRun, ConflictError, PermanentError, ServiceChange

log = structlog.get_logger()

RACE_PAUSE = 1.0
"""Seconds until a decision that somebody else made void is made again."""


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
