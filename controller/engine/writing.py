"""Writing: one change of a service, against everybody else who writes to it, over a line that may fail."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from controller.core.change import MOST_ANNOTATIONS, Change
from controller.core.observation import ServiceState
from controller.core.pause_ahead import PAUSED
from controller.core.record import ANNOTATION, write_record
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import LATEST, Split, SplitInvalid, check_split, same_split, shares_of
from controller.core.trail import UNLOGGED, Transition, those_that_fit, write_unlogged
from controller.engine.outside import Outside
from controller.ports import ConflictError, DeniedError, PermanentError, ServiceChange, TransientError

log = structlog.get_logger()

WRITE_ATTEMPTS = 6


def apply(
    outside: Outside,
    service: ServiceState,
    rollout: Rollout,
    split: Split | None,
    unlogged: Sequence[Transition] = (),
    *,
    opening: bool = False,
) -> None:
    """Write a rollout's record, its split, and what is not in the audit log yet, all in one.

    An opening takes the mark of a pause ahead away: it is in the record from then on.
    """
    if split is not None:
        _check(split, rollout, service)
    change, lost = _change(service, rollout, split, unlogged, opening=opening)
    if lost:
        log.warning("no room for transitions until they are logged", service=service.name, transitions=lost)
    if change.size_on(service.annotations) > MOST_ANNOTATIONS:
        _write_without_record(outside, service, rollout, split)
    else:
        write(outside, service, change)


def _change(
    service: ServiceState,
    rollout: Rollout,
    split: Split | None,
    unlogged: Sequence[Transition],
    *,
    opening: bool,
) -> tuple[Change, int]:
    """Return the change that says it all, and how many transitions it has no room for."""
    fitting = those_that_fit(unlogged)
    annotations = {ANNOTATION: write_record(rollout), UNLOGGED: write_unlogged(fitting) or None}
    if opening:
        annotations[PAUSED] = None
    change = Change(annotations, split)
    if change.size_on(service.annotations) > MOST_ANNOTATIONS:
        fitting, change = (), replace(change, annotations=annotations | {UNLOGGED: None})
    return change, len(unlogged) - len(fitting)


def try_to_apply(
    outside: Outside, service: ServiceState, rollout: Rollout, split: Split, unlogged: Sequence[Transition]
) -> None:
    """Let Cloud Run say whether it would take an opening as `apply` writes it; nothing is stored."""
    change, _ = _change(service, rollout, split, unlogged, opening=True)
    if change.size_on(service.annotations) > MOST_ANNOTATIONS:
        return  # which the writing itself says better
    annotations = change.applied_to(service.annotations)
    try:
        outside.cloud_run.try_service(ServiceChange(service.name, service.etag, annotations, split))
    except PermanentError as error:
        if isinstance(error, DeniedError) or "validate" not in str(error):
            raise
        # An API that does not try anything out says so in these words; it may take the write itself.
        log.warning("the write could not be tried beforehand", service=service.name, error=str(error))


def _write_without_record(
    outside: Outside, service: ServiceState, rollout: Rollout, split: Split | None
) -> None:
    """Send the users back where others have filled the annotations; raises PermanentError in any case."""
    going_back = split is not None and rollout.phase in {Phase.ROLLED_BACK, Phase.FAILED}
    if going_back:
        write(outside, service, Change(split=split))
    done = "its users were sent back, but that" if going_back else "the rollout"
    raise PermanentError(
        f"the annotations of {service.name} are full, so {done} cannot be recorded: {rollout.reason}. Remove"
        " what others have put there, or give the rollout up: set the traffic by hand and remove the"
        f" annotation {ANNOTATION}"
    )


def write(outside: Outside, service: ServiceState, change: Change) -> None:
    """Write a change, and make sure that it is what is there now.

    The service is read again just before the write, because the API may not compare etags: whoever wrote
    since the decision makes it void. Raises ConflictError then, and nothing is written. A write that fails
    is never sent again blindly, as it may have been applied: what it left is read first. That holds for one
    that was throttled, too: it is a single call, and users may be waiting for it.
    """
    wanted = change.applied_to(service.annotations)
    written: list[ServiceState] = []

    def attempt() -> None:
        fresh = outside.cloud_run.read_service(service.name)
        if written and _is_there(fresh, wanted, change.split):
            return  # it was applied, though the answer was lost
        if fresh.annotations != service.annotations or fresh.traffic != service.traffic:
            raise ConflictError(f"{service.name} was changed by somebody else in the meantime")
        written.append(fresh)
        outside.cloud_run.write_service(ServiceChange(service.name, fresh.etag, wanted, change.split))

    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(WRITE_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        sleep=outside.clock.sleep,
        before_sleep=lambda state: _warn(service, state),
        reraise=True,
    )
    retrying(attempt)
    _verify(outside, written[-1], change)


def _is_there(service: ServiceState, annotations: Mapping[str, str], split: Split | None) -> bool:
    return service.annotations == annotations and _asks_for(service, split)


def _asks_for(service: ServiceState, split: Split | None) -> bool:
    return split is None or same_split(service.traffic, split, service.latest_ready)


def _warn(service: ServiceState, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("a write failed, reading what it left", service=service.name, error=str(error))


def _verify(outside: Outside, before: ServiceState, change: Change) -> None:
    after = outside.cloud_run.read_service(before.name)
    ours = {key: after.annotations.get(key) for key in change.annotations}
    if ours != dict(change.annotations) or not _asks_for(after, change.split):
        raise ConflictError(f"the write to {before.name} was overwritten by somebody else")
    if after.generation > before.generation + 1:
        log.warning("somebody wrote at the same time, and may have been overwritten", service=before.name)


def _check(split: Split, rollout: Rollout, service: ServiceState) -> None:
    """Refuse a split that no rollout may write: only an edit that stands may name other revisions."""
    known = {rollout.stable, rollout.candidate} - {""}
    if rollout.phase.is_terminal:
        known |= {LATEST, *shares_of(service.traffic, LATEST)}
    try:
        check_split(split, known)
    except SplitInvalid as invalid:
        raise PermanentError(f"refused to write a split of {service.name}: {invalid}") from None
