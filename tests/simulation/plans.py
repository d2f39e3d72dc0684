"""A plan of a random run: the service, its candidate, the policy, and all that will disturb the rollout.

It is drawn from a seed, as a list, so that any part of the disturbances can be replayed alone. What is new
in the product is drawn here: a field of the policy in `_a_policy`, another way to disturb a rollout as
a class with `join`, drawn in `_a_disturbance`.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from builders import a_policy
from crowd import Crowd
from scheduler import Actor, Moment
from world import CONTROLLER, KNOBS, World

from controller.core.policy import Policy
from controller.core.rollout import Event
from controller.core.traffic import Target
from controller.emulator.settings import EtagMode

BUSY = 2400.0
"""Seconds in which things happen."""
MOST_DISTURBANCES = 8
LATE = 20
"""Seconds that a candidate takes to start where it would have all users else."""


@dataclass(frozen=True)
class Disturbance:
    """Something that happens in the middle of a run, so many seconds from its beginning."""

    at: float

    def join(self, crowd: Crowd, number: int) -> None:
        """Let it happen when it is time."""
        raise NotImplementedError


@dataclass(frozen=True)
class Another(Disturbance):
    """One more controller."""

    policy: Mapping[str, Any]

    def join(self, crowd: Crowd, number: int) -> None:
        crowd.controllers.append(
            crowd.controller(f"canary-{number}", a_policy(**self.policy), _seconds(self.at))
        )


@dataclass(frozen=True)
class Killing(Disturbance):
    """The end of a controller at one of its next calls."""

    which: int
    calls: int
    moment: Moment

    def join(self, crowd: Crowd, number: int) -> None:
        def arm(_: Actor) -> None:
            if crowd.controllers:
                crowd.controllers[self.which % len(crowd.controllers)].kill_after(self.calls, self.moment)

        crowd.scheduler.spawn(f"killer-{number}", arm, _seconds(self.at))


@dataclass(frozen=True)
class Commanding(Disturbance):
    """A command of a person; a rollback may be to the first revision that there was."""

    event: Event
    to_first: bool = False

    def join(self, crowd: Crowd, number: int) -> None:
        to = crowd.first if self.to_first else ""
        crowd.person(f"person-{number}", self.event, _seconds(self.at), to)


@dataclass(frozen=True)
class Releasing(Disturbance):
    """A person who takes the service out of the controller's hands."""

    def join(self, crowd: Crowd, number: int) -> None:
        crowd.releaser(f"releaser-{number}", _seconds(self.at))


@dataclass(frozen=True)
class Failing(Disturbance):
    """A fault of the local Cloud Run, as faults/fault.py describes it."""

    fault: Mapping[str, Any]

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "fault", lambda: crowd.world.local.fault_of(self.fault))


@dataclass(frozen=True)
class Deploying(Disturbance):
    """A deployment by the owner."""

    knobs: Mapping[str, Any]

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "deploy", lambda: crowd.world.deploy(**self.knobs))


@dataclass(frozen=True)
class Editing(Disturbance):
    """Traffic edited by hand: so many percent for the newest revision, and the rest for the first."""

    percent: int
    keep_tags: bool

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "edit", lambda: self._edit(crowd.world))

    def _edit(self, world: World) -> None:
        service = world.service()
        newest, first = world.newest(), f"{service.traffic[0].revision}" or world.newest()
        shares = {first: 100} if newest == first else {first: 100 - self.percent, newest: self.percent}
        tags = [Target(t.revision, 0, t.tag) for t in service.traffic if t.tag] if self.keep_tags else []
        world.set_traffic((*(Target(name, percent) for name, percent in shares.items() if percent), *tags))


@dataclass(frozen=True)
class Annotating(Disturbance):
    """An annotation of the owner's."""

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "annotate", lambda: crowd.world.set_annotations(note=f"number {number}"))


@dataclass(frozen=True)
class Tagging(Disturbance):
    """A tag of the owner's on the newest revision."""

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "tag", lambda: self._tag(crowd.world, f"preview-{number}"))

    def _tag(self, world: World, tag: str) -> None:
        kept = tuple(Target(one.revision, one.percent, one.tag) for one in world.service().traffic)
        world.set_traffic((*kept, Target(world.newest(), 0, tag)))


@dataclass(frozen=True)
class Changing(Disturbance):
    """A revision, the newest or the first one, that answers otherwise from now on."""

    newest: bool
    error_share: float

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "change", lambda: self._change(crowd.world))

    def _change(self, world: World) -> None:
        found = world.revisions.list_revisions(parent=world.service().name)
        names = sorted(revision.name.rpartition("/")[2] for revision in found)
        world.local.behave(names[-1 if self.newest else 0], error_share=self.error_share)


@dataclass(frozen=True)
class Jumping(Disturbance):
    """A clock that is set forward or back."""

    seconds: float

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "jump", lambda: crowd.world.local.jump_clock(_seconds(self.seconds)))


@dataclass(frozen=True)
class Crowding(Disturbance):
    """More users, or fewer."""

    rps: float

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "users", lambda: crowd.world.users(self.rps))


@dataclass(frozen=True)
class Deleting(Disturbance):
    """The deletion of the newest revision, or of the whole service."""

    whole_service: bool

    def join(self, crowd: Crowd, number: int) -> None:
        _join(self, crowd, number, "delete", lambda: self._delete(crowd.world))

    def _delete(self, world: World) -> None:
        name = world.service().name
        if self.whole_service:
            world.services.delete_service(name=name)
        else:
            world.revisions.delete_revision(name=f"{name}/revisions/{world.newest()}")


def _join(
    disturbance: Disturbance, crowd: Crowd, number: int, name: str, action: Callable[[], object]
) -> None:
    crowd.act(f"{name}-{number}", action, _seconds(disturbance.at))


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


@dataclass(frozen=True)
class Plan:
    """All that a run rests on."""

    seed: int
    settings: Mapping[str, Any]
    rps: float
    pinned: bool
    """Whether the service was pinned to a revision before; else it follows LATEST."""
    candidate: Mapping[str, Any]
    """The knobs of the first candidate."""
    policy: Mapping[str, Any]
    smoke_fails: bool
    disturbances: tuple[Disturbance, ...] = field(default=())

    @property
    def checked_policy(self) -> Policy:
        """The policy as it is read."""
        return a_policy(**self.policy)


def draw_plan(seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"{seed} plan")
    delay = rng.choice([0, 60, 120])
    policy = _a_policy(rng, metrics_delay=delay + 60)
    pinned = rng.random() < 0.7
    candidate = _a_candidate(rng)
    if not pinned:
        candidate = {"START_SECONDS": f"{LATE}", **candidate}
    controllers = [Another(0.0, policy)]
    controllers += [
        Another(round(rng.uniform(0, 60), 3), policy) for _ in range(rng.choice([0, 0, 0, 1, 1, 2]))
    ]
    number = rng.randint(0, MOST_DISTURBANCES)
    others = [_a_disturbance(rng, round(rng.expovariate(1 / 500) % BUSY, 3)) for _ in range(number)]
    return Plan(
        seed=seed,
        settings={
            "etag": rng.choice(list(EtagMode)),
            "visibility_delay": timedelta(seconds=delay),
            "newest_decides": rng.random() < 0.5,
        },
        rps=rng.choice([0, 0.3, 3, 20, 20, 20, 60]),
        pinned=pinned,
        candidate=candidate,
        policy=policy,
        smoke_fails=rng.random() < 0.05,
        disturbances=(*controllers, *sorted(others, key=lambda one: one.at)),
    )


def _a_policy(rng: random.Random, *, metrics_delay: int) -> dict[str, Any]:
    least = rng.choice([1, 1, 2, 3])
    bake = rng.choice([1, 2])
    return {
        "steps": rng.choice(
            [["50%"], ["10%", "50%"], ["5%", "25%"], ["20%", "100%"], ["100%"], gated("manual"), gated("5m")]
        ),
        "hold": {"at_least": f"{least}m", "at_most": f"{least + 9}m", "requests": rng.choice([5, 50])},
        "bake": {"at_least": f"{bake}m", "at_most": f"{bake + 9}m"},
        "when_unsure": rng.choice(["hold", "hold", "advance", "rollback"]),
        "on_new_revision": rng.choice(["supersede", "supersede", "queue", "ignore"]),
        "after_promotion": rng.choice(["as_found", "pinned", "latest"]),
        "advance_on": rng.choice(["no_harm", "no_harm", "no_harm", "proven"]),
        "guards": rng.choice([{}, {}, {"latency": "off"}, {"errors": {"observe": True}}]),
        "smoke": rng.choice([[], ["/"]]),
        "on_deadline": rng.choice(["rollback", "rollback", "report"]),
        "settle": rng.choice(["0s", "30s"]),
        "ready_within": rng.choice(["1m", "5m", "10m"]),
        "metrics_delay": f"{metrics_delay}s",
    }


def gated(gate: str) -> list[Any]:
    """Return steps of which the first waits for a person, or for so long."""
    return [{"traffic": "20%", "gate": gate}, "50%"]


def _a_candidate(rng: random.Random) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "good": {},
        "many errors": {"ERROR_SHARE": "0.4"},
        "some errors": {"ERROR_SHARE": "0.05"},
        "slow": {"LATENCY_MS": str(2 * int(KNOBS["LATENCY_MS"]))},
        "crashes": {"CRASH": "1"},
        "starts late": {"START_SECONDS": "90"},
        "never starts": {"START_SECONDS": "10000"},
    }
    return kinds[rng.choices(list(kinds), [40, 20, 5, 15, 6, 7, 7])[0]]


def _a_disturbance(rng: random.Random, at: float) -> Disturbance:
    drawn: list[tuple[int, Callable[[], Disturbance]]] = [
        (20, lambda: Killing(at, rng.randrange(3), rng.randint(1, 12), rng.choice(list(Moment)))),
        (20, lambda: Commanding(at, rng.choice(_COMMANDS))),
        (3, lambda: Commanding(at, Event.ROLLBACK, to_first=True)),
        (2, lambda: Releasing(at)),
        (25, lambda: Failing(at, _a_fault(rng))),
        (6, lambda: Deploying(at, _a_candidate(rng))),
        (5, lambda: Editing(at, rng.choice([0, 10, 50, 100]), rng.random() < 0.5)),
        (6, lambda: Annotating(at)),
        (4, lambda: Tagging(at)),
        (5, lambda: Changing(at, rng.random() < 0.8, rng.choice([0.0, 0.5]))),
        (5, lambda: Jumping(at, rng.choice([-3600, -600, -60, 60, 600, 3600]))),
        (4, lambda: Crowding(at, rng.choice([0, 1, 50]))),
        (2, lambda: Deleting(at, rng.random() < 0.3)),
    ]
    return rng.choices([draw for _, draw in drawn], [weight for weight, _ in drawn])[0]()


_COMMANDS = (
    Event.PAUSE, Event.RESUME, Event.RESUME, Event.PROMOTE, Event.PROMOTE_FULL, Event.ROLLBACK,
)  # fmt: skip


def _a_fault(rng: random.Random) -> dict[str, Any]:
    often, lasts = rng.choice([1, 2, 3, 5]), rng.choice(["30s", "2m", "10m"])
    methods = ["*", "GetService", "UpdateService", "GetRevision", "ListTimeSeries"]
    codes = ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "ABORTED"]
    slow = ["2s", "40s"]
    written: dict[str, Any] = rng.choice([{"annotations": {"foreign": lasts}}, {"traffic": {"LATEST": 100}}])
    mine: dict[str, Any] = {"principal": CONTROLLER, "every": often}
    faults: list[dict[str, Any]] = [
        {**mine, "kind": "error", "method": rng.choice(methods), "code": rng.choice(codes), "for": lasts},
        {**mine, "kind": "lost-answer", "method": "UpdateService", "for": lasts},
        {**mine, "kind": "delay", "method": rng.choice(methods), "by": rng.choice(slow), "for": lasts},
        {**mine, "kind": "partition", "for": lasts},
        {"kind": "slow-operation", "by": rng.choice(["20s", "4m"]), "for": lasts},
        {**mine, "kind": "clock-jump", "by": rng.choice(["5m", "-5m"]), "next": 1},
        {
            **mine, "kind": "foreign-write", "method": rng.choice(["GetService", "UpdateService"]),
            "when": rng.choice(["before", "after"]), "next": 2, **written,
        },
        {"kind": "missing-metrics", "for": lasts},
        {"kind": "late-metrics", "by": "5m", "for": lasts},
        {"kind": "incomplete-metrics", "for": lasts},
    ]  # fmt: skip
    return rng.choice(faults)


def prepare(crowd: Crowd, plan: Plan) -> None:
    """Bring the service to where the run begins, with tags and annotations of its owner."""
    world = crowd.world
    world.users(plan.rps)
    if plan.pinned:
        newest = world.newest()
        world.set_traffic((Target(newest, 100), Target(newest, 0, "green")))
    world.set_annotations(team="payments")
    crowd.candidate = world.deploy(**plan.candidate)
    crowd.probes.problem = "GET / was answered with 500" if plan.smoke_fails else ""
