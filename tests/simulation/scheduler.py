"""Several actors in one simulated world: one runs at a time, and a seed says who is next.

Each actor is a thread, but only the one that holds the turn runs. The turn changes hands at calls to the
outside and at sleeps, in an order that is drawn. When all sleep, the clock of the local Cloud Run goes on to
the first who wakes. So a run is a function of its seed.
"""

import hashlib
import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Protocol, TypeVar

from world import SimulatedClock

from controller.emulator.server import LocalCloudRun
from controller.engine.outside import Outside

T = TypeVar("T")
NOTHING = timedelta()
PIECE = timedelta(seconds=1)
"""How far the clock moves at once while something is being changed, so that each state is seen."""
LINES_KEPT = 30


class Killed(BaseException):  # no part of the product may take it for an error to live with
    """The end of an actor in the middle of its work, as by SIGKILL."""


class Stopped(BaseException):
    """The end of an actor because the run is over."""


class Moment(StrEnum):
    """On which side of a call an actor is killed."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Kill:
    """The end of an actor at its `call`-th call to the outside, counted from 1."""

    call: int
    moment: Moment


@dataclass(frozen=True)
class Call:
    """One call of an actor to the outside."""

    actor: str
    name: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.name


class Watcher(Protocol):
    """Who looks at everything that happens."""

    def before(self, call: Call) -> None:
        """See what an actor is about to do."""

    def after(self, call: Call, error: Exception | None) -> None:
        """See what an actor has done."""

    def look(self, elapsed: timedelta, call: Call | None) -> bool:
        """Look at the world; tell whether nothing is being changed there."""


@dataclass
class Actor:
    """Somebody who acts: a controller, a person, an owner, or chance."""

    name: str
    wakes: timedelta
    thread: threading.Thread | None = None
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    calls: int = 0
    kill: Kill | None = None

    def kill_after(self, calls: int, moment: Moment) -> None:
        """Let it end at one of its next calls."""
        self.kill = Kill(self.calls + calls, moment)

    def end_if_killed(self, moment: Moment) -> None:
        if self.kill == Kill(self.calls, moment):
            self.kill = None
            raise Killed


class Trace:
    """What happened, in order: a digest of all of it, and the last lines, or all of them, to be read."""

    def __init__(self, *, whole: bool = False) -> None:
        self._digest = hashlib.blake2b(digest_size=8)
        self.lines: deque[str] = deque(maxlen=None if whole else LINES_KEPT)

    def add(self, now: datetime, actor: str, what: str, outcome: object) -> None:
        """Note that an actor did something, and what came of it."""
        text = str(outcome) if isinstance(outcome, Exception) else _text(outcome)
        self._digest.update(f"{now} {actor} {what} {text}\n".encode())
        if what != "clock.now":
            failed = f"{type(outcome).__name__}: {text}" if isinstance(outcome, Exception) else ""
            self.lines.append(f"{now:%d %H:%M:%S.%f} {actor:14} {what} {failed}".rstrip()[:400])

    @property
    def digest(self) -> str:
        """The same for two runs in which the same things happened."""
        return self._digest.hexdigest()


def _text(outcome: object) -> str:
    """Return a result as a text that is always the same: maps come from Cloud Run in any order."""
    if is_dataclass(outcome):
        return " ".join(_text(getattr(outcome, part.name)) for part in fields(outcome))
    if isinstance(outcome, Mapping):
        return repr(sorted(outcome.items()))
    return repr(outcome)


class Scheduler:
    """Lets actors act, one at a time, until all have ended or the time is up."""

    def __init__(self, local: LocalCloudRun, rng: random.Random, watcher: Watcher, trace: Trace) -> None:
        self._local = local
        self._rng = rng
        self._watcher = watcher
        self._trace = trace
        self._actors: list[Actor] = []
        self._running: Actor | None = None
        self._ended = threading.Semaphore(0)
        self._stopping = False
        self._failure: BaseException | None = None
        self._limit = NOTHING
        self._shown = local.now()
        """What the clock showed when `elapsed` was last counted."""
        self.latest = local.now()
        """The latest that the clock has shown, though it may have been set back since."""
        self.elapsed = NOTHING
        """How long the world has been running, whatever its clock shows."""

    def spawn(self, name: str, work: Callable[[Actor], None], after: timedelta = NOTHING) -> Actor:
        """Add an actor, who begins to work after so long."""
        actor = Actor(name, self.elapsed + after)
        actor.thread = threading.Thread(target=self._live, args=(actor, work), name=name, daemon=True)
        self._actors.append(actor)
        return actor

    def run(self, limit: timedelta) -> None:
        """Let all act until they have ended, at most for so long; raises what an actor has raised."""
        self._limit = self.elapsed + limit
        self._stopping, self._failure = False, None
        self._catch_up()
        for actor in self._actors:
            if actor.thread:
                actor.thread.start()
        self._watcher.look(self.elapsed, None)
        if first := self._guarded_next():
            self._hand_to(first)
            self._ended.acquire()
        self._stop_all()
        if self._failure:
            raise self._failure

    # --- what actors do ---

    def call(self, call: str, action: Callable[[], T], arguments: tuple[Any, ...] = ()) -> T:
        """Make a call to the outside as the actor whose turn it is, when it is its turn again."""
        actor = self._running
        if actor is None:
            return action()
        self._pass_on(actor)
        actor.calls += 1
        actor.end_if_killed(Moment.BEFORE)
        made = Call(actor.name, call, arguments)
        self._watched(partial(self._watcher.before, made))
        try:
            result = action()
        except Exception as error:
            self._done(made, error, error)
            actor.end_if_killed(Moment.AFTER)
            raise
        self._done(made, result, None)
        actor.end_if_killed(Moment.AFTER)
        return result

    def sleep(self, seconds: float) -> None:
        """Let the actor whose turn it is wait; others act meanwhile."""
        actor = self._running
        if actor is None:
            self._local.advance(timedelta(seconds=seconds))
            return
        actor.wakes = self.elapsed + timedelta(seconds=max(seconds, 1e-6))
        self._pass_on(actor)

    def note(self, what: str, outcome: object = None) -> None:
        """Put a line into the trace."""
        actor = self._running
        self._trace.add(self._local.now(), actor.name if actor else "-", what, outcome)

    # --- whose turn it is ---

    def _live(self, actor: Actor, work: Callable[[Actor], None]) -> None:
        actor.turn.acquire()
        try:
            if not self._stopping:
                work(actor)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again by run(), in the thread of the test
            self._failure = self._failure or error
        self._actors.remove(actor)
        following = None if self._stopping or self._failure else self._guarded_next()
        self._running = None
        if following:
            self._hand_to(following)
        else:
            self._ended.release()

    def _pass_on(self, actor: Actor) -> None:
        """Give the turn to whoever is next, and wait until it comes back."""
        if self._stopping:
            raise Stopped
        following = self._guarded_next()
        if following is not actor:
            if following:
                self._hand_to(following)
            else:
                self._ended.release()
            actor.turn.acquire()
            self._running = actor
        if self._stopping:
            raise Stopped

    def _hand_to(self, actor: Actor) -> None:
        self._running = actor
        actor.turn.release()

    def _guarded_next(self) -> Actor | None:
        try:
            return self._next()
        except BaseException as error:  # noqa: BLE001 -- raised again by run()
            self._failure = self._failure or error
            return None

    def _next(self) -> Actor | None:
        """Return who acts next, when the clock has moved to where somebody is awake; None at the end."""
        while self._actors and self.elapsed < self._limit:
            awake = [actor for actor in self._actors if actor.wakes <= self.elapsed]
            if awake:
                return awake[0] if len(awake) == 1 else self._rng.choice(awake)
            first = min(actor.wakes for actor in self._actors)
            self._advance(min(first, self._limit) - self.elapsed)
        return None

    def _stop_all(self) -> None:
        """Let every actor end where it is."""
        self._stopping = True
        for actor in list(self._actors):
            self._hand_to(actor)
            self._ended.acquire()
        self._running = None

    # --- time, and who watches ---

    def _advance(self, by: timedelta) -> None:
        self._local._do(partial(self._advance_in_pieces, by))

    def _advance_in_pieces(self, by: timedelta) -> None:
        """Move the clock; in small pieces while something is being changed. Runs in the emulator's thread."""
        clock = self._local._emulator.clock
        until = self.elapsed + by
        while self.elapsed < until:
            calm = self._watcher.look(self.elapsed, None)
            piece = until - self.elapsed if calm else min(PIECE, until - self.elapsed)
            clock.advance(piece)
            self.elapsed += piece
            self._shown = clock.now()
            self.latest = max(self.latest, self._shown)
        self._watcher.look(self.elapsed, None)

    def _catch_up(self) -> None:
        """Count the time that has passed inside a call, as when the clock jumps or an answer is late."""
        now = self._local.now()
        self.elapsed += max(NOTHING, now - self._shown)
        self._shown, self.latest = now, max(now, self.latest)

    def _done(self, made: Call, outcome: object, error: Exception | None) -> None:
        self._catch_up()
        self._trace.add(self._local.now(), made.actor, told(made), outcome)
        self._watched(partial(self._watcher.look, self.elapsed, made))
        self._watched(partial(self._watcher.after, made, error))

    def _watched(self, look: Callable[[], object]) -> None:
        """Let the watcher look; what it objects to ends the run, whatever the actor would make of it."""
        try:
            look()
        except Exception as objection:
            self._failure = self._failure or objection
            raise Stopped from objection


def told(call: Call) -> str:
    """Return a call as a line of the trace."""
    words = " ".join(str(argument) for argument in call.arguments if isinstance(argument, str | float | int))
    return f"{call.name} {words}".strip()


class ScheduledClock(SimulatedClock):
    """The clock of actors: who sleeps lets others act."""

    scheduler: Scheduler | None = None

    def sleep(self, seconds: float) -> None:
        if self.scheduler is None:
            super().sleep(seconds)
        else:
            self.scheduler.sleep(seconds)


class _Watched:
    """A port of which every call goes through the scheduler, whatever its methods are."""

    def __init__(self, name: str, port: object, scheduler: Scheduler) -> None:
        self._name = name
        self._port = port
        self._scheduler = scheduler

    def __getattr__(self, method: str) -> Callable[..., Any]:
        action = getattr(self._port, method)

        def call(*arguments: Any, **named: Any) -> Any:
            return self._scheduler.call(
                f"{self._name}.{method}", partial(action, *arguments, **named), arguments
            )

        return call


def watched(outside: Outside, scheduler: Scheduler) -> Outside:
    """Return the same outside, of which every call may be the turn of somebody else."""
    ports: dict[str, Any] = {
        port.name: _Watched(port.name, getattr(outside, port.name), scheduler) for port in fields(outside)
    }
    return replace(outside, **ports)
