"""Ten requests an hour: how many users a bad candidate harms, and whether a good one gets through.

`make bench-little-traffic ARGS="--runs 200"`. Each run is a whole rollout with the policy for a portal, in
simulated time, over gRPC and HTTP, on a service of its own seed. Then: how long a rollback takes from the
first failing request until it is in force, by the request log and by the metrics alone.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import structlog
from builders import a_policy
from world import SERVICE, World, a_world

from controller.core.evidence import BLOCK
from controller.core.policy import Policy
from controller.core.rollout import Phase
from controller.emulator.settings import SimulatedLogs
from controller.engine.reconcile import Pass
from controller.gateways.policy_files import read_policy

PORTAL = Path(__file__).parents[1] / "policies/portal.yaml"
AN_HOUR = 3600
FAILED = 500
MOST_HARMED = 3
MOST_SECONDS = 45
"""Until harm is undone by the request log."""
LEAST_SECONDS = 240
"""That it takes by the metrics alone, in the median: what the request log is compared with."""
KNOBS: dict[str, Any] = {"START_SECONDS": "12", "LATENCY_MS": "80"}
USERS_ALONE = {"ERROR_SHARE": "1", "PROBE_ERROR_SHARE": "0"}
SERVED_BEFORE = 900
"""Seconds in which stable had users before, of which log and metrics are compared."""
LOG_DELAY = timedelta(seconds=10)


@dataclass(frozen=True)
class Ran:
    """How a rollout ended, and how many requests of users the candidate failed."""

    phase: Phase
    harmed: int


@contextmanager
def portal(seed: int, rps: float) -> Iterator[World]:
    """Give a service that starts cold, with its stable revision."""
    whole = SimulatedLogs.ALL
    with a_world(
        rps=rps, seed=seed, simulated_front=True, simulated_logs=whole, log_delay=LOG_DELAY
    ) as world:
        world.deploy(traffic=True, **KNOBS)
        world.pin()
        world.wait(seed * 7.3 % 60)
        yield world


def roll_out(seed: int, *, an_hour: float, knobs: dict[str, str], policy: Policy) -> Ran:
    """Roll out a candidate with these knobs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with portal(seed, an_hour / AN_HOUR) as world:
        begun, candidate = world.local.now(), world.deploy(**(KNOBS | knobs))
        followed = world.roll_out(policy)
        log = world.outside.request_logs.read_requests(SERVICE, [candidate], begun, world.local.now())
        harmed = sum(each.status >= FAILED and not each.is_probe for each in log.requests)
        return Ran(followed.rollout.phase, harmed)


def seconds_to_undo(seed: int, *, logs: str, rps: float) -> float:
    """Return the seconds from when each request of the candidate fails until nobody is sent there."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    hold = {"at_least": "30m"}
    policy = a_policy(steps=["50%"], hold=hold, request_logs=logs)
    with portal(seed, rps) as world:
        world.wait(SERVED_BEFORE)
        candidate, failing, decided = world.deploy(**KNOBS), list[datetime](), list[datetime]()

        def act(seen: Pass) -> None:
            rollout, now = seen.rollout, world.local.now()
            if rollout is None:
                return
            in_step = rollout.percent and rollout.observed_at
            if in_step and not failing and now - rollout.since > timedelta(minutes=5):
                world.wait(seed * 1.37 % BLOCK.total_seconds())  # at any moment, not at that of a pass
                failing.append(world.local.now())
                world.local.behave(candidate, error_share=1.0)
            if rollout.phase is Phase.ROLLED_BACK and not decided:
                decided.append(now)

        world.roll_out(policy, act)
        settings = world.local.settings
        in_force = decided[0] + settings.reconcile_delay + settings.propagation_delay
        return (in_force - failing[0]).total_seconds()


@dataclass
class Report:
    """Prints what was measured, and remembers whether the promises are kept."""

    kept: bool = True

    def say(self, text: str, *, kept: bool = True) -> None:
        """Print a line."""
        print(f"  {text}" if kept else f"  {text}  <-- NOT AS PROMISED", flush=True)
        self.kept = self.kept and kept


def report_candidates(pool: ProcessPoolExecutor, runs: int, report: Report) -> None:
    """Roll out a good candidate, and two bad ones."""
    measure = partial(roll_out, an_hour=10, policy=read_policy(PORTAL))
    back = {Phase.ROLLED_BACK}
    for words, knobs, ends, most in (
        ("a candidate as good as stable", {}, {Phase.PROMOTED}, 0),
        ("one that fails each request", {"ERROR_SHARE": "1"}, back, MOST_HARMED),
        # Where users are too few to be sure in time, it is held for a person.
        ("one that fails users alone", USERS_ALONE, back | {Phase.PAUSED}, None),
    ):
        ran = list(pool.map(partial(measure, knobs=knobs), range(runs), chunksize=4))
        harmed, phases = [one.harmed for one in ran], Counter(one.phase.value for one in ran)
        ended = ", ".join(f"{phase} {count}" for phase, count in phases.most_common())
        median = statistics.median(harmed)
        report.say(
            f"{words}: {ended} of {runs}; users harmed: median {median:g}, at most {max(harmed)}",
            kept={one.phase for one in ran} <= ends and (most is None or median <= most),
        )


def report_silence(pool: ProcessPoolExecutor, runs: int, report: Report) -> None:
    """Roll out with neither probes nor users."""
    policy = a_policy(steps=["50%"], request_logs="on")
    ran = list(pool.map(partial(roll_out, an_hour=0, knobs={}, policy=policy), range(runs), chunksize=4))
    held = sum(one.phase is Phase.PAUSED for one in ran)
    report.say(f"no probes and no users: held {held} of {runs}", kept=held == runs)


def report_speed(pool: ProcessPoolExecutor, runs: int, report: Report) -> None:
    """Compare how soon harm is undone, by the request log and without."""
    for rps, logs in product((2, 10), ("on", "off")):
        taken = list(pool.map(partial(seconds_to_undo, logs=logs, rps=rps), range(runs), chunksize=4))
        median = statistics.median(taken)
        source = "the request log" if logs == "on" else "the metrics alone"
        report.say(
            f"from the first failure to the rollback in force, {rps} requests a second, by {source}:"
            f" median {median:.0f} s, at most {max(taken):.0f} s",
            kept=max(taken) < MOST_SECONDS if logs == "on" else median >= LEAST_SECONDS,
        )


def main() -> int:
    """Measure, print, and return 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(description="How a rollout fares with hardly any traffic.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    report = Report()
    print(f"{chosen.runs} runs each, ten requests an hour, cold starts of 12 s, policies/portal.yaml")
    with ProcessPoolExecutor(chosen.processes, mp_context=get_context("spawn")) as pool:
        report_candidates(pool, chosen.runs, report)
        report_silence(pool, chosen.runs, report)
        report_speed(pool, max(10, chosen.runs // 5), report)
    return 0 if report.kept else 1


if __name__ == "__main__":
    sys.exit(main())
