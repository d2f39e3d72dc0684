"""When to pass again, and when to stop: following a rollout to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.core.decision import Command, needs_evidence
from controller.core.log_evidence import next_block
from controller.core.rollout import Phase, Rollout
from controller.engine.audit import LogMemory
from controller.engine.evidence import EvidenceCache
from controller.engine.outside import Outside
from controller.engine.patience import until_it_works
from controller.engine.reconcile import Memory, Pass, reconcile
from controller.ports import NotFoundError

UNOBSERVED_PAUSE = 3.0
"""Seconds between passes while a write is not in force yet, or the candidate not ready."""
PAUSE = 15.0
"""Seconds between passes otherwise; metrics come by the minute, people's commands at any time."""
SOON = timedelta(minutes=2)
"""How long a write may take to be in force before it is looked at less often."""
PATIENCE = timedelta(hours=2)
"""How long an API may be out of reach in the middle of a rollout, or not serve what was asked for."""
LOG_PATIENCE = timedelta(minutes=2)
"""How long an end waits for the audit log; what is not there yet stays on the service."""

OnPass = Callable[[Pass], None]


class Ending(StrEnum):
    """Why following a rollout stopped."""

    OVER = "over"
    HELD = "held"
    REPLACED = "replaced"
    REMOVED = "removed"
    DELETED = "deleted"
    UNSERVED = "unserved"


@dataclass(frozen=True)
class Followed:
    """How following ended, and the rollout as last seen."""

    ending: Ending
    rollout: Rollout


def follow(outside: Outside, rollout: Rollout, on_pass: OnPass, log: LogMemory | None = None) -> Followed:
    """Pass over the service until the rollout has ended, is held by its policy, or is another's.

    `log` is what this controller remembers of the opening, if it was the one that opened it.
    """
    passes = Passes(outside, rollout.service, PATIENCE, log=log)
    ended_at: datetime | None = None
    while True:
        try:
            seen = passes.next()
        except NotFoundError:
            return Followed(Ending.DELETED, rollout)
        if seen.rollout is None:
            return Followed(Ending.REMOVED, rollout)
        if seen.rollout.id != rollout.id:
            return Followed(Ending.REPLACED, rollout)
        rollout = seen.rollout
        on_pass(seen)
        now = outside.clock.now()
        ending = ending_of(rollout, now)
        ended_at = (ended_at or now) if ending else None
        if ending and ended_at and (not seen.unlogged or now - ended_at >= LOG_PATIENCE):
            return Followed(ending, rollout)
        outside.clock.sleep(_pause(rollout, now))


def ending_of(rollout: Rollout, now: datetime) -> Ending | None:
    """Return why nobody needs to wait for this rollout any longer; None where it goes on."""
    if rollout.is_over:
        return Ending.OVER
    if rollout.held and rollout.observed_at is not None:
        return Ending.HELD
    if rollout.phase.is_terminal and now - rollout.since > PATIENCE:
        return Ending.UNSERVED
    return None


class Passes:
    """Passes over one service that outlive lost races and outages, up to a limit."""

    def __init__(
        self,
        outside: Outside,
        service: str,
        patience: timedelta,
        *,
        reads_log: bool = True,
        log: LogMemory | None = None,
    ) -> None:
        self._outside = outside
        self._service = service
        self._patience = patience
        self._memory = Memory(EvidenceCache(reads_log=reads_log), log or LogMemory())

    def next(self, command: Command | None = None) -> Pass:
        """Return the next pass that works; raises the last error when patience is over."""

        def attempt() -> Pass:
            return reconcile(self._outside, self._service, self._memory, command)

        return until_it_works(self._outside, self._patience, attempt)


def _pause(rollout: Rollout, now: datetime) -> float:
    """Return how long to wait: shortly for what should be in force soon, longer for what does not come."""
    waiting = rollout.observed_at is None and rollout.phase is not Phase.PAUSED
    if waiting and now - rollout.since < SOON:
        return UNOBSERVED_PAUSE
    logs = rollout.policy.request_logs
    if logs and needs_evidence(rollout):
        return (next_block(now, logs.delay) - now).total_seconds()
    often = min((probe.every.total_seconds() for probe in rollout.policy.probes), default=PAUSE)
    return min(PAUSE, often)
