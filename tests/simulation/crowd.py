"""Everybody around one service, on a scheduler: controllers, people who give commands, owners, and chance."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from google.api_core.exceptions import GoogleAPICallError
from invariants import Observer, Violated
from scheduler import Actor, Killed, ScheduledClock, Scheduler, Trace, watched
from world import SERVICE, World, a_world

from controller.core.opening import NothingToDo, OpeningRefused
from controller.core.policy import Policy
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.core.rollout import Event, Phase
from controller.emulator.server import LocalCloudRun
from controller.engine.begin import Request, begin
from controller.engine.commands import obey, release_service
from controller.engine.loop import Ending, follow
from controller.engine.outside import Outside
from controller.engine.reconcile import read_rollout
from controller.ports import AuditEntry, CanaryError, NotFoundError, Probes

AT_ONCE = timedelta()
ANOTHER_COMES = 20.0
"""Seconds until another controller takes the place of one that was killed."""
STARTED_AGAIN = 300.0
"""Seconds until a controller is started again that has given up."""
MOST_STARTS = 40
LOG = 500_000
"""Entries that Cloud Logging keeps; users who meet errors write many."""
RESUMED_AFTER = 60.0
"""Seconds between two looks of the person who resumes what is paused, once all is healed."""
MOST_LOOKS = 300
"""A clock that was set back keeps writes from being in force for hours."""


@dataclass
class DrawnProbes(Probes):
    """The candidate's own address, at which nothing listens in a simulation: its answers are drawn before."""

    problem: str = ""

    def ask(self, address: str, probe: Probe) -> Answer:
        del address, probe
        return Answer(not self.problem, 500 if self.problem else 200, 0.0, self.problem)

    def warm_up(self, address: str, probe: Probe, number: int) -> None:
        del address, probe, number

    def lacking(self, probe: Probe) -> str:
        del probe
        return ""


@dataclass
class Crowd:
    """One service on a scheduler, and everybody around it."""

    seed: int
    world: World
    scheduler: Scheduler
    observer: Observer
    trace: Trace
    outside: Outside
    """What controllers and commands reach the outside by: at each call it may be somebody else's turn."""
    probes: DrawnProbes
    first: str
    """The revision that there was before anybody acted."""
    candidate: str = ""
    """The revision that was deployed before anybody acted."""
    controllers: list[Actor] = field(default_factory=list)
    """Those that may be killed."""
    kills: int = 0
    commands: int = 0
    endings: list[str] = field(default_factory=list)
    """How each controller ended, and what each person was told."""

    def run(self, limit: timedelta) -> None:
        """Let all act; what is violated is said with the seed, the time and the last lines of the trace."""
        try:
            self.scheduler.run(limit)
        except Exception as error:
            what = str(error) if isinstance(error, Violated) else f"{type(error).__name__}: {error}"
            lines = "\n".join(self.trace.lines)
            raise Violated(
                f"{what}\nseed {self.seed}, at {self.world.local.now():%H:%M:%S}, after"
                f" {self.scheduler.elapsed}\n{lines}"
            ) from error

    # --- controllers ---

    def controller(self, name: str, policy: Policy, after: timedelta = AT_ONCE, **request: Any) -> Actor:
        """Add a controller that rolls out; where it is killed or gives up, another one goes on."""
        asked = Request(SERVICE, policy, name, **request)
        return self.scheduler.spawn(name, lambda actor: self._roll_out(actor, asked), after)

    def _roll_out(self, actor: Actor, request: Request) -> None:
        for _ in range(MOST_STARTS):
            try:
                if self._rolled_out(request):
                    return
            except Killed:
                self._killed(actor)
            except OpeningRefused as refused:
                self._note(f"refused: {refused}")
                return
            except CanaryError as error:
                self._note(f"gave up: {type(error).__name__}: {error}")
                self.scheduler.sleep(STARTED_AGAIN)
        self._note("was started too often")

    def _rolled_out(self, request: Request) -> bool:
        """Roll out once; tell whether there is nothing more to do."""
        begun = begin(self.outside, request)
        if isinstance(begun, NothingToDo):
            self._note(f"nothing to do: {begun.why}")
            return True
        followed = follow(self.outside, begun.rollout, lambda _: None, begun.log)
        self._note(f"{followed.ending}: {followed.rollout.phase}")
        return not begun.queued and followed.ending is not Ending.REPLACED

    def _killed(self, actor: Actor) -> None:
        self.kills += 1
        self.observer.harm.forget(actor.name)
        self.scheduler.note("was killed; another one comes")
        self.scheduler.sleep(ANOTHER_COMES)

    # --- people ---

    def person(self, name: str, event: Event, after: timedelta, to: str = "") -> Actor:
        """Add a person who gives one command and waits for what becomes of it."""
        return self.scheduler.spawn(name, lambda _: self._command(name, event, to), after)

    def _command(self, name: str, event: Event, to: str = "") -> None:
        self.commands += 1
        try:
            outcome = obey(self.outside, SERVICE, event, name, lambda _: None, to)
        except CanaryError as error:
            self._note(f"{event} failed: {type(error).__name__}: {error}")
            return
        self._note(f"{event}: {outcome.answer or ('done' if outcome.in_force else 'not in force')}")
        self.observer.commands.obeyed(name, event, outcome)

    def releaser(self, name: str, after: timedelta) -> Actor:
        """Add a person who takes the service out of the controller's hands."""
        return self.scheduler.spawn(name, lambda _: self._release(), after)

    def _release(self) -> None:
        try:
            outcome = release_service(self.outside, SERVICE)
        except CanaryError as error:
            self._note(f"release failed: {type(error).__name__}: {error}")
        else:
            self._note(f"release: {outcome.answer or outcome.done}")

    def act(self, name: str, action: Callable[[], object], after: timedelta) -> Actor:
        """Add somebody who does one thing, to the service or to the world; Cloud Run may refuse it."""

        def do(_: Actor) -> None:
            try:
                self.scheduler.call(name, action)
            except GoogleAPICallError as refusal:
                self._note(f"{name} was refused: {refusal.message}")

        return self.scheduler.spawn(name, do, after)

    def heal(self) -> None:
        """Add a controller that goes on with what is on record, and a person who resumes what is paused."""
        self.scheduler.spawn("healer", lambda _: self._go_on())
        self.scheduler.spawn("person", lambda _: self._resume_all())

    def _go_on(self) -> None:
        try:
            if rollout := read_rollout(self.outside.cloud_run.read_service(SERVICE)):
                followed = follow(self.outside, rollout, lambda _: None)
                self._note(f"healed: {followed.ending}: {followed.rollout.phase}")
        except NotFoundError:
            self._note("healed: the service is gone")

    def _resume_all(self) -> None:
        """Look now and then whether the rollout waits for a person, until it has ended or is held."""
        for number in range(MOST_LOOKS):
            sight = self.observer.sight
            rollout = sight.rollout if sight else None
            if rollout is None or rollout.is_over:
                return
            if rollout.phase is Phase.PAUSED and not rollout.held and rollout.observed_at:
                self._command(f"healer-{number}", Event.RESUME)
            self.scheduler.sleep(RESUMED_AFTER)

    def audit_trail(self) -> Sequence[AuditEntry]:
        """Return the entries of the audit trail, when the clock shows as late a time as ever."""
        behind = self.scheduler.latest - self.world.local.now()
        self.world.wait(max(0.0, behind.total_seconds()))
        return self.world.outside.audit_log.read_entries(SERVICE)

    def _note(self, text: str) -> None:
        self.endings.append(text)
        self.scheduler.note(text)


@contextmanager
def a_crowd(
    seed: int,
    *,
    whole_trace: bool = False,
    observer_of: Callable[[LocalCloudRun], Observer] = Observer,
    **settings: Any,
) -> Iterator[Crowd]:
    """Give a service with one revision and users, before anybody acts; the seed decides all that is drawn."""
    random.seed(seed)  # tenacity draws its pauses from there
    with a_world(clock_of=ScheduledClock, **{"seed": seed, "log_capacity": LOG, **settings}) as world:
        observer, trace = observer_of(world.local), Trace(whole=whole_trace)
        scheduler = Scheduler(world.local, random.Random(f"{seed} turns"), observer, trace)
        clock = world.outside.clock
        assert isinstance(clock, ScheduledClock)
        clock.scheduler, observer.note = scheduler, scheduler.note
        probes = DrawnProbes()
        world.outside = replace(world.outside, probes=probes)
        yield Crowd(
            seed, world, scheduler, observer, trace, watched(world.outside, scheduler), probes, world.newest()
        )
