"""A stage for the scenarios: a world in which each tick is looked at and held to the rules."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from io import StringIO
from typing import Any, cast

from builders import a_policy
from google.cloud import run_v2
from structlog import reset_defaults
from world import CONTROLLER, SERVICE, World, a_world

from controller.cli.main import run
from controller.core.policy import Policy
from controller.core.record import ANNOTATION, parse_record
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import ALL
from controller.engine.begin import Begun
from controller.engine.loop import Followed
from controller.engine.reconcile import Pass
from controller.ports import Clock, CloudRun, ServiceChange
from controller.principal import VARIABLE

STEPS: dict[str, Any] = {"steps": ["5%", "25%", "50%"], "hold": {"at_least": "3m"}, "bake": "5m"}
"""The steps of the scenarios; the fourth, 100 %, is the bake."""
OURS = ("canary", "stable")
"""What our own tags begin with; what is tagged otherwise is foreign."""

Story = list[tuple[str, str]]
"""Phase and split of each entry of the record, as it was served in the end."""


def steps(**fields: Any) -> Policy:
    """Return the policy of the scenarios, with other fields where they matter."""
    return a_policy(**{**STEPS, **fields})


@dataclass(frozen=True)
class Tick:
    """The service at one moment, as anybody can read it."""

    at: datetime
    record: Rollout | None
    asked: Mapping[str, int]
    served: Mapping[str, int]
    tags: Mapping[str, str]
    annotations: Mapping[str, str]
    settled: bool
    generation: int
    by_hand: bool
    """Whether the last write was not the controller's."""

    @property
    def split(self) -> str:
        """The percent of stable, of the candidate, and of anybody else: `95/5`."""
        if self.record is None:
            return "?"
        ours = [self.record.stable, self.record.candidate]
        others = [f"{percent}" for name, percent in self.served.items() if name not in ours]
        return "/".join([*(str(self.served.get(name, 0)) for name in ours), *others])


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    text: str


@dataclass(frozen=True)
class Watch(Clock):
    """The controller's clock: whenever it waits, somebody looks first."""

    inner: Clock
    look: Callable[[], None]

    def now(self) -> datetime:
        return self.inner.now()

    def sleep(self, seconds: float) -> None:
        self.look()
        self.inner.sleep(seconds)


class Interrupted:
    """The real gateway, but for what happens just before each write, and just after it."""

    def __init__(self, inner: CloudRun) -> None:
        self._inner = inner
        self.before: Callable[[ServiceChange], object] = _nothing
        self.after: Callable[[ServiceChange], object] = _nothing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write_service(self, change: ServiceChange) -> None:
        self.before(change)
        self._inner.write_service(change)
        self.after(change)

    def write_unseen(self, change: ServiceChange) -> None:
        """Write with nothing before or after."""
        self._inner.write_service(change)


def _nothing(_: ServiceChange) -> None:
    pass


@dataclass
class Stage(World):
    """A world that is looked at on each tick."""

    ticks: list[Tick] = field(default_factory=list)
    strict: bool = True
    """Whether the candidate must have lost its users two ticks after an end; not while the API is slow."""

    # --- the controller, looked at ---

    def begin(self, policy: Policy | None = None, **fields: Any) -> Begun:
        begun = super().begin(policy or steps(), **fields)
        self.look()
        return begun

    def follow(self, begun: Begun, act: Any = None) -> Followed:
        followed = super().follow(begun, act)
        self.look()
        return followed

    def when(self, phase: Phase, percent: int, action: Callable[[], object]) -> Callable[[Pass], None]:
        """Do something once, when the rollout is seen in force at this phase and share."""
        done: list[object] = []

        def act(seen: Pass) -> None:
            rollout = seen.rollout
            assert rollout is not None
            if not done and (rollout.phase, rollout.percent) == (phase, percent) and rollout.observed_at:
                done.append(None)
                self.look()
                action()

        return act

    def run_until(self, phase: Phase, percent: int, begun: Begun | None = None) -> None:
        """Follow until it is in force at this phase and share; then the controller is gone."""
        with suppress(LeftError):
            self.follow(begun or self.begin(), self.when(phase, percent, leave))
        assert (self.record.phase, self.record.percent) == (phase, percent)

    def interrupted(self) -> Interrupted:
        """Put something between the controller and its writes from now on."""
        between = Interrupted(self.outside.cloud_run)
        self.outside = replace(self.outside, cloud_run=cast("CloudRun", between))
        return between

    def canary(self, *words: str) -> "Said":
        """Run a command that ends at once, as the controller, and return what it says."""
        place = ("--project", "demo", "--region", "local-1", "--emulator", self.local.grpc_address)
        options = place if "--emulator" not in words else place[:4]
        with redirect_stdout(StringIO()) as out, redirect_stderr(out), _arguments("canary", *words, *options):
            code = run()
        reset_defaults()  # the command has its own logs
        return Said(int(code), out.getvalue())

    # --- the owner ---

    def set_labels(self, **labels: str) -> None:
        self._update({"labels"}, labels=labels)

    def set_least_instances(self, number: int) -> None:
        self._update({"scaling"}, scaling=run_v2.ServiceScaling(min_instance_count=number))

    def deploy_again(self) -> None:
        """Deploy the template that is there already, as a pipeline does that runs twice."""
        self._update({"template"}, template=self.service().template)

    # --- what is seen ---

    def look(self) -> None:
        """Look at the service, and hold what is seen to the rules."""
        tick = self._tick()
        if tick is None:
            return
        self._check(tick)
        self.ticks.append(tick)

    def _tick(self) -> Tick | None:
        name = f"{self.parent}/services/{SERVICE}"
        found = [one for one in self.services.list_services(parent=self.parent) if one.name == name]
        if not found:
            return None
        service = found[0]
        latest = _short(service.latest_ready_revision)
        annotations = dict(service.annotations)
        text = annotations.pop(ANNOTATION, "")
        return Tick(
            at=self.local.now(),
            record=parse_record(text) if text.startswith("{") else None,
            asked=_shares(service.traffic, latest),
            served=_shares(service.traffic_statuses, latest),
            tags={one.tag: one.revision for one in service.traffic if one.tag},
            annotations={key: value for key, value in annotations.items() if "canary" not in key},
            settled=not service.reconciling,
            generation=service.generation,
            by_hand=service.last_modifier != CONTROLLER,
        )

    def _check(self, tick: Tick) -> None:
        assert sum(tick.served.values()) == ALL or (not tick.served and tick.record is None)
        before = self.ticks[-1] if self.ticks else None
        record = tick.record
        if record is None:
            return
        assert record.reason
        if not tick.by_hand:
            self._check_share(tick, record, before)
        if before is None:
            return
        if not tick.by_hand and tick.asked != before.asked:
            assert before.record != record, "the split was changed without a record"
        if not tick.by_hand and not before.by_hand:
            assert tick.annotations == before.annotations
            assert _foreign(tick.tags) == _foreign(before.tags)
        if before.record and before.record.id == record.id:
            _check_move(before.record, record)

    def _check_share(self, tick: Tick, record: Rollout, before: Tick | None) -> None:
        if record.phase is Phase.SUPERSEDED:
            return  # an edit by hand stands
        served, asked = (shares.get(record.candidate, 0) for shares in (tick.served, tick.asked))
        assert asked == record.percent
        had = before.served.get(record.candidate, 0) if before else 0
        assert served <= (record.percent if record.observed_at else max(record.percent, had))
        if asked > (before.asked.get(record.candidate, 0) if before else 0):
            assert self._is_ready(record.candidate)
        ended = [one for one in self.ticks[-2:] if one.record and one.record.phase is record.phase]
        if self.strict and record.phase in {Phase.ROLLED_BACK, Phase.FAILED} and len(ended) == 2:
            assert served == 0, "two passes after its end the candidate still has users"

    def _is_ready(self, revision: str) -> bool:
        name = f"{self.parent}/services/{SERVICE}/revisions/{revision}"
        conditions = self.revisions.get_revision(name=name).conditions
        return any(one.type_ == "Ready" and one.state.name == "CONDITION_SUCCEEDED" for one in conditions)

    # --- what is told of it ---

    @property
    def entries(self) -> list[Tick]:
        """The last tick of each phase and step that was on record, in their order."""
        last: list[Tick] = []
        for tick in self.ticks:
            if tick.record is None:
                continue
            if last and _place(last[-1]) == _place(tick):
                last[-1] = tick
            else:
                last.append(tick)
        return last

    @property
    def story(self) -> Story:
        """The phase and the split that was served of each entry of the record."""
        return [(tick.record.phase.value, tick.split) for tick in self.entries if tick.record]

    @property
    def reasons(self) -> list[str]:
        """The reason of each entry of the record."""
        return [tick.record.reason for tick in self.entries if tick.record]

    @property
    def record(self) -> Rollout:
        """The record as it is now."""
        return parse_record(self.service().annotations[ANNOTATION])

    @property
    def highest(self) -> int:
        """The highest share of the users that the candidates on record ever had."""
        return max(tick.served.get(tick.record.candidate, 0) for tick in self.ticks if tick.record)

    def stays_as_it_is(self) -> "Unchanged":
        """Hold that nothing is written to the service in a block."""
        self.wait(10)  # what was written before takes effect
        return Unchanged(self)


@dataclass
class Unchanged:
    """A block in which nothing is written to the service."""

    stage: Stage
    before: Any = None

    def __enter__(self) -> None:
        self.before = self.stage.service()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert self.stage.service() == self.before


@contextmanager
def _arguments(*words: str) -> Iterator[None]:
    """Let a command be called in this process with these words, and with the controller's name."""
    argv, environ = sys.argv, dict(os.environ)
    sys.argv, os.environ[VARIABLE] = list(words), CONTROLLER
    try:
        yield
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environ)


def _check_move(before: Rollout, after: Rollout) -> None:
    """Hold two records of one rollout, one after the other, to the rules of its phases."""
    if before.phase.is_terminal:
        assert after.phase is before.phase
    on_its_own = after.by == "controller" and after.phase in {Phase.STEPPING, Phase.BAKING, Phase.PROMOTED}
    if on_its_own and before.window and after.window != before.window:
        closed = after.windows[len(before.windows) - 1]
        assert closed.end is not None
        assert closed.end - closed.start >= before.hold.at_least


def _place(tick: Tick) -> tuple[object, ...]:
    record = tick.record
    return (record.id, record.phase, record.step, record.percent, record.reason) if record else ()


def _foreign(tags: Mapping[str, str]) -> dict[str, str]:
    return {tag: revision for tag, revision in tags.items() if not tag.startswith(OURS)}


def _shares(targets: Any, latest: str) -> dict[str, int]:
    shares: dict[str, int] = {}
    for target in targets:
        name = _short(target.revision) or latest
        shares[name] = shares.get(name, 0) + target.percent
    return {name: percent for name, percent in shares.items() if percent}


def _short(name: str) -> str:
    return name.rpartition("/")[2]


@contextmanager
def a_stage(**settings: Any) -> Iterator[Stage]:
    """Give a stage with one revision deployed and pinned, and users on it."""
    with a_world(**settings) as world:
        world.pin()
        stage = Stage(**{one.name: getattr(world, one.name) for one in fields(World)})
        stage.outside = replace(stage.outside, clock=Watch(stage.outside.clock, stage.look))
        yield stage


def both(*acts: Callable[[Pass], None]) -> Callable[[Pass], None]:
    """Watch with several at once."""

    def act(seen: Pass) -> None:
        for each in acts:
            each(seen)

    return act


class LeftError(Exception):
    """The controller leaves in the middle of its work."""


def leave() -> None:
    """End the following where it is, as a controller that dies does."""
    raise LeftError


def suffer(stage: World, **fault: Any) -> None:
    """Let something go wrong for the controller alone."""
    stage.local.fault_of({"principal": CONTROLLER, **fault})
