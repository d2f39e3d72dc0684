"""The commands of people: each is given again until it is on record and in force, so that none is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from controller.core.change import Change
from controller.core.decision import Command
from controller.core.observation import RevisionState, ServiceState
from controller.core.opening import NothingToDo, open_rollback
from controller.core.pause_ahead import pause_ahead, resume_ahead
from controller.core.release import release
from controller.core.rollout import Event, Phase, Refuse, Rollout, Stay, command_id
from controller.core.traffic import written
from controller.core.trail import UNLOGGED
from controller.engine.audit import LogMemory, log_transitions, unlogged_of
from controller.engine.begin import open_on
from controller.engine.loop import PATIENCE, UNOBSERVED_PAUSE, OnPass, Passes
from controller.engine.outside import Outside
from controller.engine.patience import AT_FIRST, until_it_works
from controller.engine.reconcile import read_rollout
from controller.engine.telling import tell
from controller.engine.writing import write
from controller.ports import (
    NoRolloutError,
    NotFoundError,
    NotServingError,
    PermanentError,
)

EFFECT_PATIENCE = timedelta(minutes=15)
"""How long a command waits for the API, and to be seen in force."""


LATE_WRITE = timedelta(seconds=20)
"""How long a command is watched on: a controller that read before it may write after it, as long as its write
is on the way, and Cloud Run may not compare etags."""


@dataclass(frozen=True)
class Obeyed:
    """What became of a command: an answer where it changed nothing, and whether it is in force.

    `rollout` is None where it was about no rollout; `done` says then what was done.
    """

    rollout: Rollout | None
    answer: Stay | Refuse | None = None
    in_force: bool = True
    done: str = ""


class _OverInTheMeantimeError(Exception):
    """The rollout that a command was about has ended before it took effect; `ours` was it at first."""

    def __init__(self, ours: Rollout) -> None:
        super().__init__()
        self.ours = ours


def obey(outside: Outside, service: str, event: Event, by: str, on_pass: OnPass, to: str = "") -> Obeyed:
    """Give a person's command, and give it again until it is on record and in force.

    `to` is the revision that a rollback goes to. A rollback waits out an outage; other commands give up soon.
    Raises NoRolloutError where there is nothing to command.
    """
    try:
        return _obey(outside, service, event, by, on_pass, to)
    except _OverInTheMeantimeError as over:
        # What a person wants of a rollout that is under way holds when it has just been promoted, too.
        back = to or (over.ours.stable if event is Event.ROLLBACK else "")
        return _obey(outside, service, event, by, on_pass, back)


def _obey(outside: Outside, service: str, event: Event, by: str, on_pass: OnPass, to: str) -> Obeyed:
    patience = PATIENCE if event is Event.ROLLBACK else AT_FIRST
    rollout = until_it_works(outside, patience, lambda: read_rollout(outside.cloud_run.read_service(service)))
    target = until_it_works(outside, patience, lambda: _target(outside, service, to)) if to else None
    command_of = partial(Command, event, by, command_id(event, by, outside.clock.now()), to=to)
    if rollout is None or rollout.phase.is_terminal:
        if event in {Event.PAUSE, Event.RESUME}:
            return _ahead(outside, service, event, by)
        if target:
            opened = _brought_back(outside, service, target, command_of)
            if isinstance(opened, NothingToDo):
                return Obeyed(None, Stay(opened.why))
            rollout = opened
    if rollout is None:
        raise NoRolloutError(
            f"no rollout of {service} is on record; begin one with: canary rollout {service}"
        )
    command = command_of(rollout=rollout.id, past=rollout.step)
    return _see_through(outside, rollout, command, on_pass)


def _see_through(outside: Outside, first: Rollout, command: Command, on_pass: OnPass) -> Obeyed:
    """Give the command until it is in force; `first` is the rollout that it is about as it was first seen."""
    patience = PATIENCE if command.event is Event.ROLLBACK else EFFECT_PATIENCE
    passes = Passes(outside, first.service, patience, reads_log=False)
    begun = outside.clock.now()
    recorded: datetime | None = None
    ours: Rollout | None = None
    while True:
        seen = passes.next(command)
        if seen.rollout is None or seen.decision is None:
            raise _removed(seen.service)
        on_pass(seen)
        if ours and recorded and seen.rollout.id != command.rollout:
            return Obeyed(ours)  # it took effect, and the next rollout has begun
        ours = seen.rollout
        if seen.decision.answer:
            if _is_over_since(first, ours, command):
                raise _OverInTheMeantimeError(first)
            return Obeyed(ours, seen.decision.answer)
        now = outside.clock.now()
        given = seen.decision.event is command.event  # for the first time, or again
        recorded = now if given else (recorded or now) if command.id in ours.obeyed else None
        if ours.observed_at is not None and recorded is not None and now - recorded >= LATE_WRITE:
            return Obeyed(ours)
        if now - begun > EFFECT_PATIENCE and recorded:
            return Obeyed(ours, in_force=False)
        outside.clock.sleep(UNOBSERVED_PAUSE)


def _is_over_since(first: Rollout, ours: Rollout, command: Command) -> bool:
    """Tell whether the rollout ended after it was first seen, so that the command means something else."""
    if first.phase.is_terminal or not ours.phase.is_terminal or ours.id != first.id:
        return False
    if command.event in {Event.PAUSE, Event.RESUME} or command.to:
        return True
    return command.event is Event.ROLLBACK and ours.phase is Phase.PROMOTED and bool(first.stable)


def _removed(service: ServiceState) -> PermanentError:
    return PermanentError(
        f"the record of {service.name} was removed in the meantime, so the command was not carried out; its"
        f" traffic is set to {written(service.shares_wanted)}. Set it by hand: gcloud run services"
        f" update-traffic {service.name}"
    )


def release_service(outside: Outside, service: str) -> Obeyed:
    """Take all that canary put on a service away, and set its traffic as it was."""

    def decide_release(state: ServiceState) -> Change | Stay | Refuse:
        return release(state, read_rollout(state))

    return _changed(outside, service, decide_release)


def _ahead(outside: Outside, service: str, event: Event, by: str) -> Obeyed:
    """Pause or resume while no rollout is under way."""

    def decide_ahead(state: ServiceState) -> Change | Stay | Refuse:
        rollout = read_rollout(state)
        if rollout and not rollout.phase.is_terminal:
            return Refuse("a rollout began in the meantime; give the command again")
        return pause_ahead(state, by) if event is Event.PAUSE else resume_ahead(state)

    return _changed(outside, service, decide_ahead)


def _changed(
    outside: Outside, service: str, decide_change: Callable[[ServiceState], Change | Stay | Refuse]
) -> Obeyed:
    """Decide a change that is about no rollout, and write it."""

    def attempt() -> Obeyed:
        state = outside.cloud_run.read_service(service)
        change = decide_change(state)
        if not isinstance(change, Change):
            return Obeyed(read_rollout(state), change)
        return _written(outside, state, change)

    obeyed = until_it_works(outside, EFFECT_PATIENCE, attempt)
    begun = outside.clock.now()
    while obeyed.done and outside.clock.now() - begun < LATE_WRITE:
        outside.clock.sleep(UNOBSERVED_PAUSE)
        again = until_it_works(outside, EFFECT_PATIENCE, attempt)
        if again.done:  # it was undone by a write that was on its way
            obeyed, begun = again, outside.clock.now()
    return obeyed


def _written(outside: Outside, state: ServiceState, change: Change) -> Obeyed:
    """Write a change that is about no rollout, when what was not logged yet is in the audit log."""
    memory, waiting = LogMemory(), unlogged_of(state)
    tell(outside, memory, waiting)
    log_transitions(outside, memory, waiting)
    write(outside, state, change)
    lost = UNLOGGED in change.annotations and not memory.logged.issuperset(each.id for each in waiting)
    note = "; some of its history could not be put into the audit log, and is lost" if lost else ""
    return Obeyed(None, done=change.done + note)


def _brought_back(
    outside: Outside, service: str, target: RevisionState, command_of: Callable[..., Command]
) -> Rollout | NothingToDo:
    """Roll back to an earlier revision while no rollout is under way; return the one to watch."""

    def attempt() -> Rollout | NothingToDo:
        state = outside.cloud_run.read_service(service)
        previous = read_rollout(state)
        command = command_of(rollout="")
        if previous and (command.id in previous.obeyed or not previous.phase.is_terminal):
            return previous  # it was written, though the answer was lost; or a rollout began in the meantime
        opening = open_rollback(state, target, outside.clock.now(), command, previous)
        if isinstance(opening, NothingToDo):
            return opening
        open_on(outside, state, opening, previous)
        return opening.rollout

    return until_it_works(outside, PATIENCE, attempt)


def _target(outside: Outside, service: str, revision: str) -> RevisionState:
    """Return the revision that a rollback is to go to; it must be able to serve."""
    found = outside.cloud_run.read_revision(service, revision)
    if found is None:
        raise NotFoundError(
            f"service {service} has no revision {revision!r}; see: gcloud run revisions list"
            f" --service={service}"
        )
    if not found.ready:
        raise NotServingError(f"revision {revision} is not ready to serve; choose another to go back to")
    return found
