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
from controller.core.plain_text import LONGEST_NAME, plain, plain_parts
from controller.core.policy import Policy
from controller.core.policy_fields import Gate
from controller.core.policy_steps import Hold
from controller.core.traffic import ALL, tag_for

LONGEST_REASON = 1000
WINDOWS_KEPT = 50
"""So that a record never outgrows what `parse_record` reads, whatever a revision says of itself."""


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
    OVERDUE = "candidate not ready in time, and waited for"
    GONE = "candidate was deleted"
    CHECKED = "checks passed"
    UNFIT = "checks failed"
    REFUSED = "split was not taken over"
    PASSED = "evidence passed"
    GATED = "gate reached"
    OPENED = "gate opened by time"
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


class Pause(StrEnum):
    """Why a rollout is paused."""

    PERSON = "person"
    GATE = "gate"
    LIMIT = "limit"


class Next(StrEnum):
    """Moves that depend on where in its steps a rollout is."""

    STEP = "the next step, or the bake after the last"
    BACK = "the phase that was paused, or past its gate"


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
_PAUSED_ALREADY = Stay("it is paused already")
_NOT_READY = Refuse("the candidate is not ready to serve; wait until it is, or roll back")
NO_WAY_BACK = Refuse(
    "no other revision was ever ready, so there is none to go back to; deploy one that works"
)

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
        OVERDUE=Phase.WAITING,
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
        GATED=Phase.PAUSED,
        HARMED=Phase.ROLLED_BACK,
        STUCK=Phase.PAUSED,
        GAVE_UP=Phase.ROLLED_BACK,
        PROMOTE=Next.STEP,
        PROMOTE_FULL=Phase.BAKING,
        PAUSE=Phase.PAUSED,
        RESUME=_NOT_PAUSED,
    ),
    Phase.PAUSED: _moves(
        OPENED=Next.STEP,
        HARMED=Phase.ROLLED_BACK,
        PROMOTE=Next.STEP,
        PROMOTE_FULL=Phase.BAKING,
        PAUSE=Phase.PAUSED,
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
    Phase.FAILED: _ended("the rollout is over: the candidate failed"),
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
    """Empty where no other revision was ever ready: there is nothing to compare with, or to go back to."""
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
    pause: Pause | None = None
    overdue: bool = False
    """It was reported that the candidate is not ready in time."""
    number: int = 0
    """How many transitions there were since it was opened."""
    obeyed: tuple[str, ...] = ()
    """The ids of the last commands that took effect, so that none is lost or obeyed twice."""

    @property
    def percent(self) -> int:
        """The candidate's share of the users, in whole percent."""
        if not self.stable:
            return ALL
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
    def at_gate(self) -> bool:
        """Tell whether it waits for a person's consent."""
        return self.pause is Pause.GATE

    @property
    def held(self) -> bool:
        """Tell whether the policy's time ran out, so that a person has to look."""
        return self.pause is Pause.LIMIT

    @property
    def gate(self) -> Gate | None:
        """The gate of this step, if it has one."""
        steps = self.policy.steps
        return steps[self.step].gate if 0 <= self.step < len(steps) else None

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
    if isinstance(move, Impossible):
        raise IllegalMove(f"{event.name} in phase {rollout.phase}")
    entered = _after(rollout, event, move)
    if isinstance(entered, Stay | Refuse):
        return entered
    pausing = entered.phase is Phase.PAUSED
    return replace(
        entered,
        # Where it only waits for a person the candidate keeps its share, and is watched on.
        windows=rollout.windows if event in WATCHED_ON else _closed(rollout.windows, now),
        since=now,
        observed_at=None,
        reason=plain_parts(reason, LONGEST_REASON),
        by=plain(by, LONGEST_NAME),
        paused_phase=rollout.paused_phase or rollout.phase if pausing else None,
        pause=_PAUSES.get(event) if pausing else None,
        overdue=event is Event.OVERDUE or (pausing and rollout.overdue),
        number=rollout.number + 1,
    )


WATCHED_ON = frozenset({Event.GATED, Event.STUCK})
"""The pauses that no person has asked for."""
_PAUSES = {Event.PAUSE: Pause.PERSON, Event.GATED: Pause.GATE, Event.STUCK: Pause.LIMIT}


def _after(rollout: Rollout, event: Event, move: Phase | Next | Stay | Refuse) -> Rollout | Stay | Refuse:
    """Return the rollout in the phase and step that the move leads to."""
    match move:
        case Stay() | Refuse():
            return move
        case Next():
            return _onwards(rollout, move)
        case Phase.PAUSED if rollout.pause is Pause.PERSON:
            return _PAUSED_ALREADY
        case Phase.ROLLED_BACK if event is Event.BROKEN and rollout.paused_phase is Phase.WAITING:
            return _entered(rollout, Phase.FAILED, rollout.step)
        case Phase.ROLLED_BACK if not rollout.stable:
            return NO_WAY_BACK if event in COMMANDS else _entered(rollout, Phase.FAILED, rollout.step)
        case Phase.BAKING if rollout.paused_phase is Phase.WAITING:
            return _NOT_READY
        case Phase.BAKING:
            return _entered(rollout, Phase.BAKING, len(rollout.policy.steps))
        case _:
            return _entered(rollout, move, rollout.step)


def _onwards(rollout: Rollout, move: Next) -> Rollout | Refuse:
    paused = rollout.paused_phase
    if move is Next.BACK and not rollout.at_gate:
        return _entered(rollout, paused or Phase.STEPPING, rollout.step)
    if paused is Phase.WAITING:
        return _NOT_READY
    if paused is Phase.BAKING:
        return _entered(rollout, Phase.PROMOTED, rollout.step)
    return _entered(rollout, Phase.STEPPING, rollout.step + 1)


def _closed(windows: tuple[Window, ...], now: datetime) -> tuple[Window, ...]:
    kept = windows[-WINDOWS_KEPT:]
    return tuple(replace(window, end=now) if window.end is None else window for window in kept)


def _entered(rollout: Rollout, phase: Phase, step: int) -> Rollout:
    """Put the rollout into a phase; a step of 100 %, or past the last one, is the bake.

    So is any step where the candidate has no stable beside it.
    """
    steps = rollout.policy.steps
    if phase is Phase.STEPPING and (not rollout.stable or step >= len(steps) or steps[step].traffic == ALL):
        phase, step = Phase.BAKING, len(steps)
    return replace(rollout, phase=phase, step=step)


def observed(rollout: Rollout, now: datetime) -> Rollout:
    """Return the rollout with its split seen served, and its evidence counting from the settle time on."""
    counts = rollout.phase in {Phase.STEPPING, Phase.BAKING}
    # Clocks differ and are set back: windows never overlap.
    begun = max([now, *(window.end for window in rollout.windows if window.end)])
    window = Window(rollout.percent, begun + rollout.policy.settle)
    return replace(
        rollout, observed_at=now, windows=(*rollout.windows, window) if counts else rollout.windows
    )
