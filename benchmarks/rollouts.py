"""How many simulated rollouts a second are played, and whether a pass costs more the longer one lasts.

A rollout is a whole world: a local Cloud Run is started, two revisions are deployed, and the real engine
rolls one out over gRPC, on a clock that moves when it waits. A long bake comes after them, pass by pass, and
at its end a new one beside it; and one pass that reads and weighs all of it anew.

The world is that of the tests: PYTHONPATH=tests:tests/simulation python benchmarks/rollouts.py
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import structlog
from builders import a_policy
from world import QUICK, SERVICE, World, a_world

from controller.core.assessment import Assessment
from controller.core.rollout import Phase, Rollout
from controller.engine.evidence import EvidenceCache, assess_rollout
from controller.engine.reconcile import Memory, reconcile

PAUSE = 15
"""Emulated seconds between two passes."""
SAMPLE = 200
"""So many passes are measured together; one in four finds a new minute."""
ROUNDS = 3
LEAST_A_SECOND = 3.0
MOST_GROWTH = 1.5
LONG_BAKE = {"steps": ["50%"], "hold": {"at_least": "3m"}, "bake": {"at_least": "600h", "at_most": "700h"}}

POLICIES: dict[str, dict[str, Any]] = {"10 and 50 %": QUICK, "the standard policy": {}}
CANDIDATES = {"good": "0", "bad": "0.08"}
"""Candidates, and the share of their requests that fail."""


@dataclass(frozen=True)
class Played:
    """Rollouts of one kind: how many passes each took, and real seconds for each."""

    kind: str
    passes: int
    seconds: list[float]

    def __str__(self) -> str:
        seconds = statistics.median(self.seconds)
        return f"{self.kind}: {self.passes} passes, {seconds:.2f} s, {1 / seconds:.1f} a second and process"


def play(policy: str, candidate: str, seed: int) -> tuple[int, float]:
    """Roll out once in a world of its own; return the number of passes and the real seconds."""
    be_quiet()
    begin = time.perf_counter()
    with a_world(seed=seed) as world:
        world.pin()
        world.deploy(ERROR_SHARE=CANDIDATES[candidate])
        rollout = world.roll_out(a_policy(**POLICIES[policy])).rollout
        expected = Phase.PROMOTED if candidate == "good" else Phase.ROLLED_BACK
        if rollout.phase is not expected:
            raise SystemExit(f"a {candidate} candidate ended as {rollout.phase}: {rollout.reason}")
    return len(world.seen), time.perf_counter() - begin


def be_quiet() -> None:
    """Log nothing but errors."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))


def play_all(runs: int, workers: int) -> tuple[list[Played], float]:
    """Play each kind so often; return them, and how many were played in a second by all workers together."""
    kinds = [(policy, candidate) for policy in POLICIES for candidate in CANDIDATES]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        list(pool.map(play, *zip(*[(*kinds[0], seed) for seed in range(workers)], strict=True)))  # imports
        begin = time.perf_counter()
        futures = {kind: [pool.submit(play, *kind, seed) for seed in range(runs)] for kind in kinds}
        done = {kind: [future.result() for future in each] for kind, each in futures.items()}
        took = time.perf_counter() - begin
    played = [
        Played(f"{policy}, {candidate}", results[0][0], [seconds for _, seconds in results])
        for (policy, candidate), results in done.items()
    ]
    return played, runs * len(kinds) / took


@dataclass
class Bake:
    """A rollout that bakes for long, and the controller that passes over it."""

    world: World
    memory: Memory

    @classmethod
    @contextmanager
    def begun(cls) -> Iterator["Bake"]:
        """Give one whose bake has just begun."""
        be_quiet()
        with a_world() as world:
            world.pin()
            world.deploy()
            world.begin(a_policy(**LONG_BAKE))
            bake = cls(world, Memory())
            while bake.next_pass().phase is not Phase.BAKING:
                pass
            yield bake

    def next_pass(self) -> Rollout:
        """Let the time between two passes go by, and pass once."""
        self.world.wait(PAUSE)
        rollout = reconcile(self.world.outside, SERVICE, self.memory).rollout
        if rollout is None or rollout.is_over:
            raise SystemExit("the rollout that is measured is over")
        return rollout

    def assess(self, cache: EvidenceCache) -> Assessment:
        """Read and weigh what the cache does not have yet."""
        rollout = reconcile(self.world.outside, SERVICE, self.memory).rollout
        if rollout is None:
            raise SystemExit("the rollout that is measured is gone")
        return assess_rollout(self.world.outside.metrics, rollout, cache, self.world.local.now())


@dataclass(frozen=True)
class Growth:
    """What passes cost over a young rollout and over an old one, in turns; processor milliseconds, means."""

    passes: int
    minutes: int
    young: float
    old: float
    anew: float

    @property
    def times(self) -> float:
        """So many times the passes over the young one those over the old one cost."""
        return self.old / self.young

    def lines(self) -> list[str]:
        """Return what people read of it."""
        anew = self.anew / self.old
        return [
            f"a pass over a bake that has just begun: {self.young:.1f} ms of processor time",
            f"  after {self.passes:,} passes, {self.minutes:,} minutes: {self.old:.1f} ms, x{self.times:.2f}",
            f"  one that reads and weighs all of them anew: {self.anew:,.0f} ms, x{anew:,.0f}",
        ]


def milliseconds(action: Callable[[], object]) -> float:
    """Return how much processor time an action takes, here and in the local Cloud Run."""
    begin = time.process_time()
    action()
    return (time.process_time() - begin) * 1000


def growth(passes: int) -> Growth:
    """Pass over one rollout so often, and then over it and a new one in turns: load hits both alike."""
    with Bake.begun() as old:
        for _ in range(passes):
            old.next_pass()
        with Bake.begun() as young:
            costs = [(milliseconds(young.next_pass), milliseconds(old.next_pass)) for _ in range(SAMPLE)]
        anew = [milliseconds(lambda: old.assess(EvidenceCache())) for _ in range(ROUNDS)]
        minutes = old.assess(old.memory.evidence).minutes
    means = [statistics.mean(column) for column in zip(*costs, strict=True)]
    return Growth(passes, minutes, means[0], means[1], statistics.median(anew))


def main() -> None:
    """Measure, print, and end with 1 if a limit is not held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10, help="rollouts of each kind")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that play them")
    parser.add_argument("--passes", type=int, default=10_000, help="passes over the long bake")
    chosen = parser.parse_args()
    played, a_second = play_all(chosen.runs, chosen.workers)
    print("\n".join(map(str, played)))
    print(f"all kinds alike often, {chosen.workers} processes: {a_second:.1f} rollouts a second")
    grown = growth(chosen.passes)
    print("\n".join(grown.lines()))
    kept = a_second >= LEAST_A_SECOND and grown.times <= MOST_GROWTH
    limits = f"{LEAST_A_SECOND:g} a second, and an old bake at most {MOST_GROWTH:g} times a young one a pass"
    print(f"{limits}: {'kept' if kept else 'NOT kept'}")
    sys.exit(not kept)


if __name__ == "__main__":
    main()
