"""Watching a rollout that somebody else drives, until it is where one waits for it."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from controller.core.opening import NothingToDo
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import ALL
from controller.engine.loop import PATIENCE, Ending, Followed, ending_of
from controller.engine.outside import Outside
from controller.engine.patience import AT_FIRST, until_it_works
from controller.engine.reconcile import read_rollout
from controller.ports import NoRolloutError, NotFoundError

LOOK_PAUSE = 5.0
"""Seconds between two looks; each is one read."""
APPEARANCE = timedelta(minutes=10)
"""How long the rollout of a candidate may take to begin, as the job that begins it takes time to start."""


def wait_until(
    outside: Outside,
    service: str,
    phase: Phase | None,
    at_most: timedelta | None,
    on_change: Callable[[Rollout], None],
) -> Followed | None:
    """Look until the rollout on record is in this phase, or has come to where it ends or is held.

    A phase is reached when its split is in force. A rollout that a person paused, or that stands at a gate,
    is waited for. Returns None where `at_most` is over before. Raises NoRolloutError where there is nothing
    to wait for, and what the ports raise where the API is out of reach for long.
    """
    until = None if at_most is None else outside.clock.now() + at_most
    looks = _looks(outside, service, until)
    last = next(looks)
    if not isinstance(last, Rollout):
        raise NoRolloutError(
            f"no rollout of {service} is on record; begin one with: canary rollout {service}"
        )
    on_change(last)
    while (ending := _reached(last, phase, outside.clock.now())) is None:
        left = _left(outside, until, timedelta(seconds=LOOK_PAUSE))
        if left <= timedelta():
            return None
        outside.clock.sleep(left.total_seconds())
        seen = next(looks)
        if isinstance(seen, Ending):
            return Followed(seen, last)
        if seen.id != last.id:
            return Followed(Ending.REPLACED, last)
        if seen != last:
            on_change(seen)
        last = seen
    return Followed(ending, last)


def await_rollout(
    outside: Outside, service: str, candidate: str, at_most: timedelta | None
) -> Rollout | Followed | NothingToDo | None:
    """Look until the rollout of a candidate is on record, which may still be about to begin.

    Or return that it was superseded, where a newer revision's is there, or that there is nothing to wait for.
    Returns None where `at_most` is over before; raises NoRolloutError where nothing begins for long.
    """
    begun = outside.clock.now()
    until = None if at_most is None else begun + at_most
    for found in _looks(outside, service, until):
        if isinstance(found, Rollout) and found.candidate == candidate:
            return found
        if end := _without_record(outside, service, found, candidate):
            return end
        if outside.clock.now() - begun > APPEARANCE:
            break
        left = _left(outside, until, timedelta(seconds=LOOK_PAUSE))
        if left <= timedelta():
            return None
        outside.clock.sleep(left.total_seconds())
    minutes = APPEARANCE // timedelta(minutes=1)
    raise NoRolloutError(
        f"no rollout of {candidate} has begun in {minutes} minutes, and none is on record; if a job was to"
        " begin it, look at: gcloud run jobs executions list"
    )


def _without_record(
    outside: Outside, service: str, found: Rollout | Ending, candidate: str
) -> Followed | NothingToDo | None:
    """Return what is known of a candidate that has no record; None where its rollout may yet begin."""
    under_way = isinstance(found, Rollout) and not found.is_over
    if not under_way and outside.cloud_run.read_service(service).shares_served == {candidate: ALL}:
        return NothingToDo(f"{candidate} serves all users, and no rollout of it is on record")
    if not isinstance(found, Rollout):
        return None
    ours, theirs = (outside.cloud_run.read_revision(service, name) for name in (candidate, found.candidate))
    if ours and theirs and ours.created_at < theirs.created_at:
        return Followed(Ending.REPLACED, found)
    return None


def _left(outside: Outside, until: datetime | None, most: timedelta) -> timedelta:
    return most if until is None else min(most, until - outside.clock.now())


def _looks(outside: Outside, service: str, until: datetime | None) -> Iterator[Rollout | Ending]:
    """Yield the rollout on record each time it is asked for, or what became of it."""
    known = False
    while True:
        limit = _left(outside, until, PATIENCE if known else AT_FIRST)
        try:
            state = until_it_works(outside, limit, lambda: outside.cloud_run.read_service(service))
        except NotFoundError:
            if not known:
                raise
            yield Ending.DELETED
            continue
        known = True
        yield read_rollout(state) or Ending.REMOVED


def _reached(rollout: Rollout, phase: Phase | None, now: datetime) -> Ending | None:
    if rollout.observed_at is not None and rollout.phase is phase:
        return Ending.HELD
    return ending_of(rollout, now)
