"""A rollout whose controller is killed at one of its calls to the outside, and gone on with by another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

from builders import a_policy
from crowd import Crowd, a_crowd
from invariants import Observer
from scheduler import Call, Kill, Moment

from controller.core.rollout import Phase
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import EtagMode

SHORT: dict[str, Any] = {
    "steps": ["50%"], "hold": {"at_least": "1m"}, "bake": "1m", "settle": "0s", "metrics_delay": "0s",
    "smoke": ["/"],
}  # fmt: skip
"""All phases, in as few passes as can be: the metrics are there at once."""
LONGEST = timedelta(hours=2)
CANDIDATES: dict[str, dict[str, Any]] = {"good": {}, "bad": {"ERROR_SHARE": "0.4"}}
VICTIM = "canary"


@dataclass(frozen=True)
class Point:
    """A call of the controller, and what was on record when it was made."""

    call: int
    name: str
    """The call."""
    after: str
    """The call before it."""
    state: str
    """Phase and percent."""

    def __str__(self) -> str:
        return f"{self.call} ({self.state}: {self.name} after {self.after or 'nothing'})"


@dataclass(frozen=True)
class Outcome:
    """How a rollout ended: all of it must be as without a kill."""

    transitions: tuple[tuple[Phase, int], ...]
    trail: tuple[tuple[str, str], ...]
    """The entries of the audit trail: what happened, and the phase that it led to."""
    serving: dict[str, int]
    tags: frozenset[str]


@dataclass
class CountingObserver(Observer):
    """Notes each call of the controller."""

    local: LocalCloudRun
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.local)

    def before(self, call: Call) -> None:
        super().before(call)
        if call.actor == VICTIM:
            earlier = self.points[-1].name if self.points else ""
            rollout = self.sight.rollout if self.sight else None
            state = f"{rollout.phase} {rollout.percent} %" if rollout else "no record"
            self.points.append(Point(len(self.points) + 1, call.name, earlier, state))


def roll_out(candidate: str, etag: EtagMode, kill: Kill | None = None) -> tuple[Outcome, list[Point]]:
    """Return how a rollout ends whose controller is killed so, and the calls that it made."""
    settings: dict[str, Any] = {
        "etag": etag,
        "visibility_delay": timedelta(0),
        "observer_of": CountingObserver,
    }
    with a_crowd(7, **settings) as crowd:
        crowd.world.pin()
        crowd.world.deploy(**CANDIDATES[candidate])
        crowd.controller(VICTIM, a_policy(**SHORT)).kill = kill
        crowd.run(LONGEST)
        assert crowd.kills == (kill is not None), "the kill did not strike"
        assert isinstance(crowd.observer, CountingObserver)
        return _outcome(crowd), crowd.observer.points


def _outcome(crowd: Crowd) -> Outcome:
    entries = crowd.audit_trail()
    return Outcome(
        transitions=tuple((phase, percent) for (_, _, phase), percent in crowd.observer.trail.transitions),
        trail=tuple((entry.labels["event"], entry.labels["phase"]) for entry in entries),
        serving=crowd.world.serving(),
        tags=frozenset(crowd.world.tags()),
    )


@cache
def undisturbed(candidate: str, etag: EtagMode) -> tuple[Outcome, tuple[Point, ...]]:
    """Return how a rollout ends that nobody disturbs, and its calls."""
    outcome, points = roll_out(candidate, etag)
    return outcome, tuple(points)


def all_kills(points: Sequence[Point]) -> Iterator[tuple[Point, Moment]]:
    """Yield every way to be killed."""
    for point in points:
        for moment in Moment:
            yield point, moment


def distinct_kills(points: Sequence[Point]) -> Iterator[tuple[Point, Moment]]:
    """Yield one kill before and after each call in each state, the last of its like.

    After a call the world is as it is before the next one: so those that follow another one differ there.
    """
    before = {(point.state, point.name): point for point in points}
    after = {(point.state, point.name, point.after): point for point in points}
    yield from ((point, Moment.BEFORE) for point in before.values())
    yield from ((point, Moment.AFTER) for point in after.values())


def check_kill(candidate: str, etag: EtagMode, point: Point, moment: Moment) -> None:
    """Assert that a rollout ends as if nobody had been killed."""
    expected, _ = undisturbed(candidate, etag)
    outcome, _ = roll_out(candidate, etag, Kill(point.call, moment))
    assert outcome == expected, f"killed {moment} call {point}: {outcome}, instead of {expected}"
