"""When to pass again, and when to stop: following a rollout to its end, and seeing a command through."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from controller.core.decision import Command
from controller.core.rollout import Event, Phase, Refuse, Rollout, Stay
from controller.engine.reconcile import EvidenceCache, Outside, Pass, reconcile
from controller.ports import ConflictError, PermanentError, TransientError

log = structlog.get_logger()

UNOBSERVED_PAUSE = 3.0
"""Seconds between passes while a write is not in force yet, or the candidate not ready."""
PAUSE = 15.0
"""Seconds between passes otherwise; metrics come by the minute, people's commands at any time."""
PATIENCE = timedelta(hours=2)
"""How long an API may be out of reach in the middle of a rollout."""
FIRST_PATIENCE = timedelta(seconds=20)
"""How long it may be out of reach before anything is known."""
EFFECT_PATIENCE = timedelta(minutes=5)
"""How long a command waits to be seen in force."""

OnPass = Callable[[Pass], None]


class Ending(StrEnum):
    """Why following a rollout stopped."""

    OVER = "over"
    HELD = "held"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Followed:
    """How following ended, and the rollout as last seen."""

    ending: Ending
    rollout: Rollout


def follow(outside: Outside, rollout: Rollout, on_pass: OnPass) -> Followed:
    """Pass over the service until the rollout has ended, is held by its policy, or is another's."""
    passes = _Passes(outside, rollout.service)
    while True:
        seen = passes.next()
        now = seen.rollout
        if now is None or now.id != rollout.id:
            return Followed(Ending.REPLACED, rollout)
        rollout = now
        on_pass(seen)
        if rollout.is_over:
            return Followed(Ending.OVER, rollout)
        if rollout.held and rollout.observed_at is not None:
            return Followed(Ending.HELD, rollout)
        outside.clock.sleep(_pause(rollout))


@dataclass(frozen=True)
class Obeyed:
    """What became of a command: an answer where it changed nothing, and whether it is in force."""

    rollout: Rollout
    answer: Stay | Refuse | None = None
    in_force: bool = True


def obey(outside: Outside, service: str, command: Command, on_pass: OnPass) -> Obeyed:
    """Write a person's command, and write it again until it is on record and in force."""
    passes = _Passes(outside, service)
    deadline = outside.clock.now() + EFFECT_PATIENCE
    written: Rollout | None = None
    while True:
        seen = passes.next(None if written else command)
        if seen.rollout is None or seen.decision is None:
            raise PermanentError(
                f"no rollout of {service} is on record; begin one with: canary rollout {service}"
            )
        if seen.decision.answer and written is None:
            return Obeyed(seen.rollout, seen.decision.answer)
        if written is None and seen.decision.event is command.event:
            written = seen.rollout
        on_pass(seen)
        if written and _is_lost(seen.rollout, written, command):
            log.warning("command overwritten, writing it again", service=service, command=command.event.value)
            written = None
        elif written and seen.rollout.observed_at is not None:
            return Obeyed(seen.rollout)
        if outside.clock.now() > deadline:
            return Obeyed(seen.rollout, in_force=False)
        outside.clock.sleep(UNOBSERVED_PAUSE)


def _is_lost(seen: Rollout, written: Rollout, command: Command) -> bool:
    """Tell whether the record went back behind the command."""
    if seen.id != written.id:
        return False
    undone = command.event is Event.ROLLBACK and seen.phase is not Phase.ROLLED_BACK
    return undone or seen.since < written.since


class _Passes:
    """Passes over one service that outlive lost races, and outages up to a limit."""

    def __init__(self, outside: Outside, service: str) -> None:
        self._outside = outside
        self._service = service
        self._cache = EvidenceCache()
        self._worked = False
        self._failing_since: datetime | None = None

    def next(self, command: Command | None = None) -> Pass:
        """Return the next pass that works; raises the last TransientError when patience is over."""
        while True:
            try:
                seen = reconcile(self._outside, self._service, self._cache, command)
            except ConflictError as conflict:
                log.info("lost a race, deciding again", service=self._service, reason=str(conflict))
                self._outside.clock.sleep(1)
            except TransientError as error:
                self._endure(error)
            else:
                self._worked, self._failing_since = True, None
                return seen

    def _endure(self, error: TransientError) -> None:
        now = self._outside.clock.now()
        self._failing_since = self._failing_since or now
        if now - self._failing_since > (PATIENCE if self._worked else FIRST_PATIENCE):
            raise error
        log.warning("trying again", service=self._service, error=str(error))
        self._outside.clock.sleep(UNOBSERVED_PAUSE)


def _pause(rollout: Rollout) -> float:
    waiting = rollout.observed_at is None and rollout.phase is not Phase.PAUSED
    return UNOBSERVED_PAUSE if waiting else PAUSE
