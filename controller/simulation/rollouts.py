"""Simulated rollouts: the real judge and the real steps, a minute at a time, on drawn traffic."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from controller.core.assessment import Assessment, assess
from controller.core.decision import decide, needs_evidence
from controller.core.evidence import MINUTE, Minute, arrange_evidence, final_until
from controller.core.observation import Observation, RevisionState, ServiceState
from controller.core.placement import wanted_split
from controller.core.policy import Policy
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import Split
from controller.simulation.users import Users, draw_minute

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
HISTORY = 30
"""So many minutes stable has served before the rollout."""

SERVICE, STABLE, CANDIDATE = "service", "stable", "candidate"
_READY = {name: RevisionState(name, BEGUN - timedelta(hours=1), ready=True) for name in (STABLE, CANDIDATE)}


class Ending(StrEnum):
    """How a simulated rollout ends; unsure is one that waits for a person."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    UNSURE = "unsure"


@dataclass(frozen=True)
class Outcome:
    """What came of a rollout, and what its candidate served until then."""

    ending: Ending
    minutes: int
    requests: int
    failed: int
    reason: str = ""


def simulate(policy: Policy, users: Users, seed: str) -> Outcome:
    """Roll out once; the same seed gives the same outcome."""
    rng = random.Random(seed)
    world = _World(policy, users, rng)
    while True:
        world.pass_minute()
        if outcome := world.outcome():
            return outcome


class _World:
    """One service on which everything asked for is in force at once, and its rollout."""

    def __init__(self, policy: Policy, users: Users, rng: random.Random) -> None:
        self._users, self._rng = users, rng
        self._rollout = _opened(policy)
        self._minutes = 0
        self._requests = self._failed = 0
        self._stable: list[Minute] = []
        self._candidate: list[Minute] = []
        self._assessment: Assessment | None = None
        self._until: datetime | None = None
        for ago in range(HISTORY, 0, -1):
            self._serve(BEGUN - (ago - 1) * MINUTE, 0)
        self._decide(BEGUN)

    def pass_minute(self) -> None:
        """Let the users come for a minute, and pass once over the service."""
        self._minutes += 1
        now = BEGUN + self._minutes * MINUTE
        self._serve(now, self._rollout.percent)
        self._decide(now)

    def _serve(self, end: datetime, percent: int) -> None:
        stable, candidate = draw_minute(self._rng, self._users, percent)
        self._stable.append(Minute(end, stable))
        self._candidate.append(Minute(end, candidate))
        self._requests += candidate.requests
        self._failed += candidate.having(("5xx",))

    def _decide(self, now: datetime) -> None:
        """Pass until nothing changes: a new split is seen in force, and its window opens."""
        while True:
            decision = decide(self._rollout, self._observed(now))
            if decision.rollout == self._rollout:
                return
            self._rollout = decision.rollout

    def _observed(self, now: datetime) -> Observation:
        rollout = self._rollout
        if needs_evidence(rollout):
            self._weigh(final_until(now, rollout.policy.metrics_delay))
        return Observation(
            now, _serving(rollout), _READY[STABLE], _READY[CANDIDATE], self._assessment, smoke=()
        )

    def _weigh(self, until: datetime) -> None:
        """Weigh the minutes that have become final, and keep only those that have not."""
        rollout = self._rollout
        evidence = arrange_evidence(rollout.windows, self._stable, self._candidate, until, self._until)
        self._assessment, self._until = assess(rollout.policy, evidence, self._assessment), until
        self._stable = [minute for minute in self._stable if minute.end > until]
        self._candidate = [minute for minute in self._candidate if minute.end > until]

    def outcome(self) -> Outcome | None:
        """Return how it ended, or None while it goes on."""
        match self._rollout.phase:
            case Phase.PROMOTED:
                ending = Ending.PROMOTED
            case Phase.ROLLED_BACK:
                ending = Ending.ROLLED_BACK
            case Phase.PAUSED:
                ending = Ending.UNSURE
            case _:
                return None
        return Outcome(ending, self._minutes, self._requests, self._failed, self._rollout.reason)


def _opened(policy: Policy) -> Rollout:
    return Rollout(
        id="simulated",
        service=SERVICE,
        stable=STABLE,
        candidate=CANDIDATE,
        newest=CANDIDATE,
        follows_latest=False,
        policy=policy,
        phase=Phase.CHECKING,
        step=-1,
        started_at=BEGUN,
        since=BEGUN,
        reason="simulated",
        by="simulation",
    )


def _serving(rollout: Rollout) -> ServiceState:
    split = wanted_split(rollout, _service(()))
    return _service(split)


def _service(split: Split) -> ServiceState:
    return ServiceState(
        name=SERVICE,
        etag="",
        generation=1,
        settled=True,
        failed=False,
        message="",
        traffic=split,
        served=split,
        latest_ready=CANDIDATE,
        latest_created=CANDIDATE,
    )
