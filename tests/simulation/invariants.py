"""What must hold at every tick of every run, checked by an observer beside the controller.

To add one: write a class with what it looks at (`Invariant`), and put it into `Observer`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from scheduler import Call
from sight import Eye, Sight, share_due, split_due

from controller.core.record import ANNOTATION, RecordInvalid, parse_record
from controller.core.rollout import Event, Phase, Rollout
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import EtagMode
from controller.engine.commands import Obeyed
from controller.ports import AuditEntry, CanaryError

CONTROLLER_ITSELF = "controller"
"""Who a record names where no person asked."""
WRITE = "cloud_run.write_service"
PAUSE = "clock.sleep"
"""The call between two passes; inside of one, before a call is made again, it is for no whole seconds."""
PASSES_TO_UNDO = 2


class Violated(AssertionError):
    """An invariant that did not hold: which, when, and how."""


@dataclass(frozen=True)
class Change:
    """Two sights in a row, and the call between them, if there was one."""

    before: Sight
    after: Sight
    call: Call | None
    raced: bool
    """Somebody else wrote between the controller's last read and its write, and Cloud Run let it pass.

    Where etags are not compared, nothing can keep such a write from undoing the other.
    """

    @property
    def is_write(self) -> bool:
        """Whether somebody wrote."""
        return self.before.generation != self.after.generation

    @property
    def by_controller(self) -> bool:
        """Whether the controller wrote, and nobody else at the same time."""
        return self.is_write and self.after.by_controller and not self.raced

    @property
    def same_rollout(self) -> bool:
        """Whether both sights are of the same rollout."""
        before, after = self.before.rollout, self.after.rollout
        return before is not None and after is not None and before.id == after.id


class Invariant:
    """Something that must hold; each method objects by raising Violated."""

    def see(self, change: Change) -> None:
        """Look at a change of the service."""

    def before(self, call: Call, sight: Sight | None) -> None:
        """Look at what is about to be called."""

    def after(self, call: Call, error: Exception | None, sight: Sight | None) -> None:
        """Look at what was called."""

    def demand(self, condition: bool, text: str) -> None:
        """Object unless the condition holds."""
        if not condition:
            raise Violated(f"{type(self).__name__}: {text}")


class SplitIsWhole(Invariant):
    """The percents that are asked for, shown and in force add up to 100."""

    def see(self, change: Change) -> None:
        after = change.after
        if not change.before.in_force and not after.in_force:
            return  # a new service, which has never served anybody
        self.demand(sum(after.asked.values()) == 100, f"asked for {dict(after.asked)}")
        self.demand(after.shown == 100, f"{after.shown} % are shown as served")
        self.demand(sum(after.in_force.values()) == 100, f"in force is {dict(after.in_force)}")


class WritesAreOnRecord(Invariant):
    """Whatever the controller asks for goes with a record that says the same, and why."""

    def see(self, change: Change) -> None:
        if not change.by_controller:
            return
        before, after = change.before, change.after
        rollout = after.rollout
        if rollout is None:
            self.demand(not after.text, f"a record that cannot be read: {after.text[:200]}")
            released = bool(before.text)
            self.demand(released or before.asked == after.asked, "a split was changed without a record")
            return
        self.demand(bool(rollout.reason), "a record without a reason")
        if (before.asked, before.tags) != (after.asked, after.tags):
            again = rollout.phase.is_terminal and before.text == after.text
            self.demand(again or before.text != after.text, "a split was changed without its record")
        left = rollout.phase is Phase.SUPERSEDED and after.asked == before.asked
        self.demand(
            left or after.asked == split_due(rollout) or before.asked == after.asked,
            f"{rollout.phase} goes with {split_due(rollout)}, and {dict(after.asked)} was asked for",
        )
        self.demand(before.newest == after.newest, "the controller made a revision")


class NoMoreThanTheStep(Invariant):
    """The candidate never has more than the records in force allow, and nothing until it is ready."""

    def __init__(self) -> None:
        self._limit: dict[str, int] = {}

    def see(self, change: Change) -> None:
        before, after = change.before, change.after
        rollout = after.rollout
        asked = after.asked.get(rollout.candidate, 0) if rollout else 0
        if rollout and change.by_controller and asked > before.asked.get(rollout.candidate, 0):
            self.demand(rollout.candidate in after.ready, f"{rollout.candidate} is not ready to serve")
            self.demand(
                asked == share_due(rollout), f"asked for {asked} %, the step has {share_due(rollout)} %"
            )
        self._limit = {
            name: max(self._limit.get(name, 0), after.asked.get(name, 0))
            for name in {*self._limit, *after.asked}
        }
        for name, percent in after.in_force.items():
            first = before.in_force.get(name, 0) if not self._limit.get(name) else 0
            most = max(self._limit.get(name, 0), first)
            self.demand(percent <= most, f"{name} has {percent} % of the users, and may have {most} %")
        if after.calm and after.asked == after.in_force:
            self._limit = dict(after.asked)


class StepsAreWhole(Invariant):
    """Steps are taken in order, and none is shorter than its minimum, unless a person promotes."""

    def __init__(self) -> None:
        self._in_force_since: dict[tuple[str, int], timedelta] = {}

    def see(self, change: Change) -> None:
        before, after = change.before.rollout, change.after.rollout
        if before and after and change.same_rollout and change.by_controller:
            self._check(before, after, change.after.elapsed)
        if after and share_due(after) and change.after.in_force == split_due(after):
            self._in_force_since.setdefault((after.id, after.step), change.after.elapsed)

    def _check(self, before: Rollout, after: Rollout, elapsed: timedelta) -> None:
        forward = after.step > before.step or (before.phase, after.phase) == (Phase.BAKING, Phase.PROMOTED)
        if not forward or after.by != CONTROLLER_ITSELF:
            return
        steps = before.policy.steps
        following = before.step + 1
        if following < len(steps) and steps[following].traffic == 100:  # that is the bake
            following = len(steps)
        self.demand(after.step in {before.step, following}, f"from step {before.step} to step {after.step}")
        if before.step < 0:
            return
        hold = steps[before.step].hold if before.step < len(steps) else before.policy.bake
        least = hold.at_least + before.policy.settle
        since = self._in_force_since.get((before.id, before.step))
        if since is None:
            raise Violated(f"StepsAreWhole: step {before.step} was passed without being in force")
        self.demand(
            elapsed - since >= least, f"step {before.step} lasted {elapsed - since}; its least is {least}"
        )


class EndsAreKept(Invariant):
    """A rollout that has ended stays as it ended."""

    def __init__(self) -> None:
        self._ends: dict[str, Phase] = {}

    def see(self, change: Change) -> None:
        rollout = change.after.rollout
        if rollout is None or not change.is_write:
            return
        if change.raced:
            self._ends.pop(rollout.id, None)
        end = self._ends.get(rollout.id)
        self.demand(end in {None, rollout.phase}, f"{rollout.id} was {end}, and is {rollout.phase}")
        if rollout.phase.is_terminal:
            self._ends[rollout.id] = rollout.phase


class ForeignIsKept(Invariant):
    """The tags and annotations of others are as their owners left them."""

    def see(self, change: Change) -> None:
        if not change.by_controller:
            return
        ready, left = change.before.ready, change.after.foreign_tags
        # A tag on a revision that cannot serve makes Cloud Run refuse any split: it may be taken away.
        tags = {tag: name for tag, name in change.before.foreign_tags.items() if tag in left or name in ready}
        for what, was, now in (
            ("tags", tags, left),
            ("annotations", change.before.foreign_annotations, change.after.foreign_annotations),
        ):
            self.demand(was == now, f"the {what} of the owner were {was}, and are {now}")


@dataclass
class _Undoing:
    """The passes of a controller that has found harm and wants the candidate to have no users."""

    passes: int = 0
    passes_that_worked: int = 0
    failing: bool = False


@dataclass
class HarmIsUndone(Invariant):
    """Two passes of an API that works after a rollback is decided, the candidate is asked to have nothing."""

    passes: list[int] = field(default_factory=list)
    """How many passes each rollback took, those that failed too."""
    _undoing: dict[tuple[str, str], _Undoing] = field(default_factory=dict)
    """By controller and rollout."""

    def before(self, call: Call, sight: Sight | None) -> None:
        if call.name != WRITE or sight is None or sight.rollout is None:
            return
        wanted = _record_in(call)
        if wanted and wanted.phase is Phase.ROLLED_BACK and share_due(sight.rollout):
            self._undoing.setdefault((call.actor, wanted.id), _Undoing())

    def after(self, call: Call, error: Exception | None, sight: Sight | None) -> None:
        rollout = sight.rollout if sight else None
        for (actor, rollout_id), undoing in list(self._undoing.items()):
            if sight is None or rollout is None or rollout.id != rollout_id:
                del self._undoing[actor, rollout_id]
                continue
            if rollout.phase.is_terminal or not sight.asked.get(rollout.candidate):
                self.passes.append(undoing.passes + 1)
                del self._undoing[actor, rollout_id]
                continue
            if actor != call.actor:
                continue
            undoing.failing = undoing.failing or isinstance(error, CanaryError)
            if call.name == PAUSE and float(call.arguments[0]).is_integer():
                undoing.passes += 1
                undoing.passes_that_worked += not undoing.failing
                undoing.failing = False
                self.demand(
                    undoing.passes_that_worked < PASSES_TO_UNDO,
                    f"{actor} has found harm, and {rollout.candidate} still has {dict(sight.asked)}",
                )

    def forget(self, actor: str) -> None:
        """Forget a controller that was killed."""
        for key in [key for key in self._undoing if key[0] == actor]:
            del self._undoing[key]


@dataclass
class CommandsAreKept(Invariant):
    """What a person asked for is on record, or was answered, or failed loudly; and a rollback stays."""

    records: list[Rollout] = field(default_factory=list)
    rolled_back: set[str] = field(default_factory=set)
    """The rollouts that a person has rolled back."""

    def see(self, change: Change) -> None:
        rollout = change.after.rollout
        if rollout and change.is_write:
            self.records.append(rollout)

    def obeyed(self, person: str, event: Event, outcome: Obeyed) -> None:
        """Check what a person was told; each has a name of their own."""
        if outcome.answer or not outcome.in_force or outcome.rollout is None:
            return
        found = [rollout for rollout in self.records if rollout.by == person]
        self.demand(bool(found), f"{person} was told that {event} took effect, and it is not on record")
        if event is Event.ROLLBACK:
            self.rolled_back.add(outcome.rollout.id)

    def check_end(self) -> None:
        """Check that every rollback by a person has won."""
        last = {rollout.id: rollout for rollout in self.records}
        for rollout_id in self.rolled_back:
            phase = last[rollout_id].phase
            self.demand(
                phase is Phase.ROLLED_BACK, f"{rollout_id} was rolled back by a person, and is {phase}"
            )


Transition = tuple[str, int, Phase]
"""A rollout, the number of its transition, and the phase that it led to."""


@dataclass
class OneEntryEach(Invariant):
    """The audit trail has exactly one entry for each transition that the record went through."""

    transitions: list[tuple[Transition, int]] = field(default_factory=list)
    """In order, each with the candidate's percent."""

    def see(self, change: Change) -> None:
        rollout = change.after.rollout
        if rollout is None or not change.is_write:
            return
        transition = (rollout.id, rollout.number, rollout.phase)
        if not self.transitions or self.transitions[-1][0] != transition:
            self.transitions.append((transition, share_due(rollout)))

    def check_end(self, entries: Sequence[AuditEntry]) -> None:
        """Check the whole trail, once nothing is under way any more."""
        told: Counter[Transition] = Counter()
        for entry in entries:
            after = entry.payload["after"]
            told[str(after["id"]), int(after["number"]), Phase(after["phase"])] += 1
        made = Counter(transition for transition, _ in self.transitions)
        missing, surplus = sorted((made - told).elements()), sorted((told - made).elements())
        self.demand(not missing, f"no entry in the audit trail for {missing}")
        self.demand(not surplus, f"entries in the audit trail that are too many: {surplus}")


class Observer:
    """Looks at the service after every call and at every move of the clock, and lets the invariants judge."""

    def __init__(self, local: LocalCloudRun) -> None:
        self._eye = Eye(local)
        self._enforced = local.settings.etag is EtagMode.ENFORCE
        self._seen: Sight | None = None
        self._stale = False
        self.harm = HarmIsUndone()
        self.commands = CommandsAreKept()
        self.trail = OneEntryEach()
        self.invariants: tuple[Invariant, ...] = (
            SplitIsWhole(),
            WritesAreOnRecord(),
            NoMoreThanTheStep(),
            StepsAreWhole(),
            EndsAreKept(),
            ForeignIsKept(),
            self.harm,
            self.commands,
            self.trail,
        )
        self.note: Callable[[str], None] = lambda _: None
        """Who is told of each transition."""
        self.checked = 0
        """How many times an invariant was checked."""
        self.was_deleted = False
        """Whether the service was deleted at some time, and what was on it with it."""
        self.by_hand = False
        """Whether the split that is asked for is not the controller's."""
        self.raced = 0
        """How many writes undid another that Cloud Run would not tell them of."""

    @property
    def is_whole(self) -> bool:
        """Whether all that the controller ever wrote was seen, and could be kept."""
        return not (self.raced or self.was_deleted or self._eye.log_is_cut)

    @property
    def sight(self) -> Sight | None:
        """What was last seen; None if there is no service."""
        return self._seen

    def before(self, call: Call) -> None:
        """See what an actor is about to do."""
        self._stale = (
            call.name == WRITE and self._seen is not None and call.arguments[0].etag != self._seen.etag
        )
        for invariant in self.invariants:
            invariant.before(call, self._seen)

    def after(self, call: Call, error: Exception | None) -> None:
        """See what an actor has done."""
        for invariant in self.invariants:
            invariant.after(call, error, self._seen)

    def look(self, elapsed: timedelta, call: Call | None) -> bool:
        """Look at the service; tell whether nothing is being changed there."""
        before, after = self._seen, self._eye.sight(elapsed)
        self._seen = after
        if after is None:
            self.was_deleted = True
            return True
        if after is before:
            return after.calm
        change = Change(before or after, after, call, self._is_race(before or after, after, call))
        if change.before.asked != after.asked:
            self.by_hand = not change.by_controller
        elif change.before.asked_of_latest != after.asked_of_latest and not change.by_controller:
            self.by_hand = True
        known = len(self.trail.transitions)
        for invariant in self.invariants:
            invariant.see(change)
        if after.rollout and len(self.trail.transitions) > known:
            share = share_due(after.rollout)
            self.note(f"-> {after.rollout.phase} at {share} %, by {after.rollout.by}: {after.rollout.reason}")
        self.checked += len(self.invariants)
        return after.calm

    def _is_race(self, before: Sight, after: Sight, call: Call | None) -> bool:
        """Tell whether the controller has undone what somebody wrote since it read, or may have."""
        writes = after.generation - before.generation
        raced = bool(call and call.name == WRITE and writes and (self._stale or writes > 1))
        self.raced += raced and after.by_controller
        if raced and after.by_controller and self._enforced:
            raise Violated("a stale etag was enforced, and yet something was undone")
        return raced


def _record_in(call: Call) -> Rollout | None:
    """Return the record that a write is to leave."""
    annotations: Mapping[str, Any] = call.arguments[0].annotations
    try:
        return parse_record(annotations[ANNOTATION])
    except (KeyError, RecordInvalid):
        return None
