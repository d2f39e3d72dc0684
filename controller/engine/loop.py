"""When to pass again, and when to stop: following a rollout to its end, and seeing a command through."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from controller.core.decision import Command
from controller.core.rollout import Event, Phase, Refuse, Rollout, Stay, command_id
from controller.engine.evidence import EvidenceCache
from controller.engine.outside import Outside
from controller.engine.reconcile import Pass, read_rollout, reconcile
from controller.engine.writing import RACE_PAUSE
from controller.ports import ConflictError, NoRolloutError, TransientError

log = structlog.get_logger()

UNOBSERVED_PAUSE = 3.0
"""Seconds between passes while a write is not in force yet, or the candidate not ready."""
PAUSE = 15.0
"""Seconds between passes otherwise; metrics come by the minute, people's commands at any time."""
SOON = timedelta(minutes=2)
"""How long a write may take to be in force before it is looked at less often."""
PATIENCE = timedelta(hours=2)
"""How long an API may be out of reach in the middle of a rollout, or not serve what was asked for."""
EFFECT_PATIENCE = timedelta(minutes=15)
"""How long a command waits for the API, and to be seen in force."""

OnPass = Callable[[Pass], None]


class Ending(StrEnum):
    """Why following a rollout stopped."""

    OVER = "over"
    HELD = "held"
    REPLACED = "replaced"
    REMOVED = "removed"
    UNSERVED = "unserved"


@dataclass(frozen=True)
class Followed:
    """How following ended, and the rollout as last seen."""

    ending: Ending
    rollout: Rollout


def follow(outside: Outside, rollout: Rollout, on_pass: OnPass) -> Followed:
    """Pass over the service until the rollout has ended, is held by its policy, or is another's."""
    passes = _Passes(outside, rollout.service, PATIENCE)
    while True:
        seen = passes.next()
        if seen.rollout is None:
            return Followed(Ending.REMOVED, rollout)
        if seen.rollout.id != rollout.id:
            return Followed(Ending.REPLACED, rollout)
        rollout = seen.rollout
        on_pass(seen)
        now = outside.clock.now()
        if ending := _ending(rollout, now):
            return Followed(ending, rollout)
        outside.clock.sleep(_pause(rollout, now))


def _ending(rollout: Rollout, now: datetime) -> Ending | None:
    if rollout.is_over:
        return Ending.OVER
    if rollout.held and rollout.observed_at is not None:
        return Ending.HELD
    if rollout.phase.is_terminal and now - rollout.since > PATIENCE:
        return Ending.UNSERVED
    return None


@dataclass(frozen=True)
class Obeyed:
    """What became of a command: an answer where it changed nothing, and whether it is in force."""

    rollout: Rollout
    answer: Stay | Refuse | None = None
    in_force: bool = True


def obey(outside: Outside, service: str, event: Event, by: str, on_pass: OnPass) -> Obeyed:
    """Give a person's command, and give it again until it is on record and in force.

    Raises NoRolloutError where there is nothing to command.
    """
    passes = _Passes(outside, service, EFFECT_PATIENCE)
    rollout = read_rollout(outside.cloud_run.read_service(service))
    if rollout is None:
        raise NoRolloutError(
            f"no rollout of {service} is on record; begin one with: canary rollout {service}"
        )
    now = outside.clock.now()
    command = Command(event, by, command_id(event, by, now), past=rollout.step)
    while True:
        seen = passes.next(command)
        if seen.rollout is None or seen.decision is None:
            raise NoRolloutError(f"the record of {service} was removed in the meantime")
        on_pass(seen)
        if seen.decision.answer:
            return Obeyed(seen.rollout, seen.decision.answer)
        if command.id in seen.rollout.obeyed and seen.rollout.observed_at is not None:
            return Obeyed(seen.rollout)
        if outside.clock.now() - now > EFFECT_PATIENCE:
            return Obeyed(seen.rollout, in_force=False)
        outside.clock.sleep(UNOBSERVED_PAUSE)


class _Passes:
    """Passes over one service that outlive lost races and outages, up to a limit."""

    def __init__(self, outside: Outside, service: str, patience: timedelta) -> None:
        self._outside = outside
        self._service = service
        self._patience = patience
        self._cache = EvidenceCache()
        self._failing_since: datetime | None = None

    def next(self, command: Command | None = None) -> Pass:
        """Return the next pass that works; raises the last error when patience is over."""
        while True:
            try:
                seen = reconcile(self._outside, self._service, self._cache, command)
            except (ConflictError, TransientError) as error:
                self._endure(error)
            else:
                self._failing_since = None
                return seen

    def _endure(self, error: ConflictError | TransientError) -> None:
        now = self._outside.clock.now()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self._patience:
            raise error
        log.warning("trying again", service=self._service, error=str(error))
        self._outside.clock.sleep(RACE_PAUSE if isinstance(error, ConflictError) else UNOBSERVED_PAUSE)


def _pause(rollout: Rollout, now: datetime) -> float:
    """Return how long to wait: shortly for what should be in force soon, longer for what does not come."""
    waiting = rollout.observed_at is None and rollout.phase is not Phase.PAUSED
    return UNOBSERVED_PAUSE if waiting and now - rollout.since < SOON else PAUSE
