"""A rollout: its phases, what may happen in each of them, and the record of where it stands.

Rules:

- A rollout is a value. Nothing here reads a clock or the network; a change is a new value.
- `MOVES` says for every phase and every event what follows. It has no gaps: what cannot happen is said
  to be impossible, and raises IllegalMove if it is tried.
- A terminal phase is never left.
- What the users are to be served is a function of the rollout alone (`percent`, `stable`, `candidate`), so
  whoever reads the record knows what should be in force, and can bring it about.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from controller.core.evidence import Window
from controller.core.policy import Hold, Policy
from controller.core.traffic import ALL, tag_for


class IllegalMove(Exception):
    """An event that cannot happen in this phase: a mistake in the program, not in its use."""


class Phase(StrEnum):
    """Where a rollout stands."""

    WAITING = "waiting"
    CHECKING = "checking"
    STEPPING = "stepping"
    PAUSED = "paused"
    BAKING = "baking"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    SUPERSEDED = "superseded"

    @property
    def is_terminal(self) -> bool:
        """Tell whether nothing follows."""
        return self in TERMINAL


TERMINAL = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.FAILED, Phase.SUPERSEDED})


class Event(StrEnum):
    """What can happen to a rollout."""

    READY = "candidate is ready"
    BROKEN = "candidate failed"
    LATE = "candidate not ready in time"
    GONE = "candidate was deleted"
    CHECKED = "checks passed"
    UNFIT = "checks failed"
    REFUSED = "split was not taken over"
    PASSED = "evidence passed"
    HARMED = "harm shown"
    STUCK = "held past the limit"
    GAVE_UP = "unsure past the limit"
    EDITED = "traffic edited by hand"
    OVERTAKEN = "newer revision deployed"
    PROMOTE = "promote"
    PROMOTE_FULL = "promote --full"
    PAUSE = "pause"
    RESUME = "resume"
    ROLLBACK = "rollback"


COMMANDS = frozenset({Event.PROMOTE, Event.PROMOTE_FULL, Event.PAUSE, Event.RESUME, Event.ROLLBACK})


class Next(StrEnum):
    """Moves that depend on where in its steps a rollout is."""

    STEP = "the next step, or the bake after the last"
    BACK = "the phase that was paused"


@dataclass(frozen=True)
class Stay:
    """Nothing changes; `why` is said to the person who asked."""

    why: str


@dataclass(frozen=True)
class Refuse:
    """The command cannot be obeyed here; `why` says what to do instead."""

    why: str


@dataclass(frozen=True)
class Impossible:
    """The event cannot happen in this phase."""


Move = Phase | Next | Stay | Refuse | Impossible

NEVER = Impossible()
_NOT_PAUSED = Stay("it is not paused")
_NOT_READY = Refuse("the candidate is not ready to serve; wait until it is, or roll back")

_ALWAYS_OPEN: dict[Event, Move] = {
    Event.EDITED: Phase.SUPERSEDED,
    Event.OVERTAKEN: Phase.SUPERSEDED,
    Event.GONE: Phase.FAILED,
    Event.BROKEN: Phase.ROLLED_BACK,
    Event.REFUSED: Phase.ROLLED_BACK,
    Event.ROLLBACK: Phase.ROLLED_BACK,
}


def _moves(**named: Move) -> dict[Event, Move]:
    given = {Event[name]: move for name, move in named.items()}
    return {event: given.get(event, _ALWAYS_OPEN.get(event, NEVER)) for event in Event}


def _ended(words: str) -> dict[Event, Move]:
    return {event: Stay(words) if event in COMMANDS else NEVER for event in Event}


MOVES: dict[Phase, dict[Event, Move]] = {
    Phase.WAITING: _moves(
        READY=Phase.CHECKING,
        BROKEN=Phase.FAILED,
        LATE=Phase.FAILED,
        PROMOTE=_NOT_READY,
        PROMOTE_FULL=_NOT_READY,
        PAUSE=Phase.PAUSED,
        RESUME=_NOT_PAUSED,
    ),
    Phase.CHECKING: _moves(
        CHECKED=Next.STEP,
        UNFIT=Phase.ROLLED_BACK,
        PROMOTE=Next.STEP,
        PROMOTE_FULL=Phase.BAKING,
        PAUSE=Phase.PAUSED,
        RESUME=_NOT_PAUSED,
    ),
    Phase.STEPPING: _moves(
        PASSED=Next.STEP,
        HARMED=Phase.ROLLED_BACK,
        STUCK=Phase.PAUSED,
        GAVE_UP=Phase.ROLLED_BACK,
        PROMOTE=Next.STEP,
        PROMOTE_FULL=Phase.BAKING,
        PAUSE=Phase.PAUSED,
        RESUME=_NOT_PAUSED,
    ),
    Phase.PAUSED: _moves(
        PROMOTE=Next.STEP,
        PROMOTE_FULL=Phase.BAKING,
        PAUSE=Stay("it is paused already"),
        RESUME=Next.BACK,
    ),
    Phase.BAKING: _moves(
        PASSED=Phase.PROMOTED,
        HARMED=Phase.ROLLED_BACK,
        STUCK=Phase.PAUSED,
        GAVE_UP=Phase.ROLLED_BACK,
        PROMOTE=Phase.PROMOTED,
        PROMOTE_FULL=Stay("the candidate has all the traffic already"),
        PAUSE=Phase.PAUSED,
        RESUME=_NOT_PAUSED,
    ),
    Phase.PROMOTED: _ended("the rollout is over: the candidate was promoted"),
    Phase.ROLLED_BACK: _ended("the rollout is over: it was rolled back"),
    Phase.FAILED: _ended("the rollout is over: the candidate failed before it served"),
    Phase.SUPERSEDED: _ended("the rollout is over: it was superseded"),
}


@dataclass(frozen=True)
class Rollout:
    """One candidate on its way; times are aware.

    `step` counts from 0; -1 is before the first step, and the number of steps is the bake. `newest`
    is the newest revision when it began, so that a newer one is noticed.
    """

    id: str
    service: str
    stable: str
    candidate: str
    newest: str
    follows_latest: bool
    """Whether the service sent its users to LATEST before a rollout pinned them."""
    policy: Policy
    phase: Phase
    step: int
    started_at: datetime
    since: datetime
    """When this phase, or this step of it, was entered."""
    reason: str
    by: str
    observed_at: datetime | None = None
    """When the split of this phase was first seen served."""
    windows: tuple[Window, ...] = ()
    """When the candidate had which percent for certain: the times from which evidence is read."""
    paused_phase: Phase | None = None
    held: bool = False
    """Paused by the policy and not by a person."""
    obeyed: tuple[str, ...] = ()
    """The ids of the last commands that took effect, so that none is lost or obeyed twice."""

    @property
    def percent(self) -> int:
        """The candidate's share of the users, in whole percent."""
        match self.paused_phase or self.phase:
            case Phase.STEPPING:
                return self.policy.steps[self.step].traffic
            case Phase.BAKING | Phase.PROMOTED:
                return ALL
            case _:
                return 0

    @property
    def candidate_tag(self) -> str:
        """Our own tag of the candidate; empty if the service's name leaves no room."""
        return tag_for("canary", self.id, self.service)

    @property
    def stable_tag(self) -> str:
        """Our own tag of stable, which keeps the way back from being collected."""
        return tag_for("stable", self.id, self.service)

    @property
    def hold(self) -> Hold:
        """How long this step, or the bake, is to be judged."""
        steps = self.policy.steps
        return steps[self.step].hold if 0 <= self.step < len(steps) else self.policy.bake

    @property
    def window(self) -> Window | None:
        """The open window of evidence, if there is one."""
        return self.windows[-1] if self.windows and self.windows[-1].end is None else None

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended and what it ended with is served."""
        return self.phase.is_terminal and self.observed_at is not None


def rollout_id(service: str, candidate: str, started_at: datetime) -> str:
    """Return a short name that no other rollout of the service has."""
    text = f"{service}/{candidate}/{started_at.isoformat()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def command_id(event: Event, by: str, at: datetime) -> str:
    """Return a short name that no other command has."""
    return hashlib.sha256(f"{event}/{by}/{at.isoformat()}".encode()).hexdigest()[:8]


def moved(rollout: Rollout, event: Event, now: datetime, reason: str, by: str) -> Rollout | Stay | Refuse:
    """Return the rollout after the event, or why it stays as it is."""
    move = MOVES[rollout.phase][event]
    match move:
        case Impossible():
            raise IllegalMove(f"{event.name} in phase {rollout.phase}")
        case Stay() | Refuse():
            return move
        case Next.STEP if rollout.paused_phase is Phase.WAITING:
            return _NOT_READY
        case Phase.BAKING if rollout.paused_phase is Phase.WAITING:
            return _NOT_READY
        case Next.STEP if rollout.paused_phase is Phase.BAKING:
            entered = _entered(rollout, Phase.PROMOTED, rollout.step)
        case Phase.BAKING if rollout.paused_phase is Phase.BAKING:
            entered = _entered(rollout, Phase.BAKING, rollout.step)
        case Next.STEP:
            entered = _entered(rollout, Phase.STEPPING, rollout.step + 1)
        case Next.BACK:
            entered = _entered(rollout, rollout.paused_phase or Phase.STEPPING, rollout.step)
        case Phase.BAKING:
            entered = _entered(rollout, Phase.BAKING, len(rollout.policy.steps))
        case _:
            entered = _entered(rollout, move, rollout.step)
    closed = tuple(replace(w, end=now) if w.end is None else w for w in rollout.windows)
    pausing = entered.phase is Phase.PAUSED
    return replace(
        entered,
        windows=closed,
        since=now,
        observed_at=None,
        reason=reason,
        by=by,
        paused_phase=rollout.phase if pausing else None,
        held=pausing and event is Event.STUCK,
    )


def _entered(rollout: Rollout, phase: Phase, step: int) -> Rollout:
    """Put the rollout into a phase; a step of 100 %, or past the last one, is the bake."""
    steps = rollout.policy.steps
    if phase is Phase.STEPPING and (step >= len(steps) or steps[step].traffic == ALL):
        phase, step = Phase.BAKING, len(steps)
    return replace(rollout, phase=phase, step=step)


def observed(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout with its split seen served, and its evidence counting from the settle time on."""
    counts = rollout.phase in {Phase.STEPPING, Phase.BAKING}
    window = Window(rollout.percent, now + rollout.policy.settle)
    return replace(
        rollout, observed_at=now, windows=(*rollout.windows, window) if counts else rollout.windows
    )
