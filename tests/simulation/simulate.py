"""Random runs from the command line: `make simulate ARGS="--seed 7 --runs 300"`.

Exits with 1 if an invariant was violated, and prints how to replay it.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path

import structlog
from kills import CANDIDATES, all_kills, check_kill, undisturbed
from plans import Plan, draw_plan
from random_runs import Ran, run, run_seed, shrink
from scheduler import Moment

from controller.emulator.settings import EtagMode

SAID_EVERY = 5.0
"""Real seconds between two lines of progress."""
MOST_SHRUNK = 3
"""Failing seeds whose plans are made smaller; the others are named."""


@dataclass
class Summary:
    """What came of all runs."""

    first: int
    began: float = field(default_factory=time.monotonic)
    runs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    passes_to_undo: Counter[int] = field(default_factory=Counter)
    simulated: timedelta = timedelta()
    failed: list[Ran] = field(default_factory=list)

    def add(self, ran: Ran) -> None:
        """Count a run."""
        self.runs += 1
        self.ends[ran.end] += 1
        self.totals.update(
            checked=ran.checked, kills=ran.kills, commands=ran.commands, struck=ran.struck, raced=ran.raced
        )
        self.passes_to_undo.update(ran.passes_to_undo)
        self.simulated += ran.simulated
        if ran.violation:
            self.failed.append(ran)

    @property
    def seconds(self) -> float:
        """Real seconds since the beginning."""
        return time.monotonic() - self.began

    def line(self) -> str:
        """Return the progress in one line."""
        return (
            f"{self.runs} runs, {len(self.failed)} violations, {self.runs / self.seconds:.1f} runs/s,"
            f" {self.simulated.total_seconds() / 3600:,.0f} simulated hours"
        )

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield what a person wants to know, with its name."""
        at_once = self.passes_to_undo[1]
        undone = self.passes_to_undo.total()
        yield "runs", f"{self.runs:,} (seeds {self.first} to {self.first + self.runs - 1})"
        yield "violations", f"{len(self.failed)}"
        for end, runs in self.ends.most_common():
            yield f"ended {end}", f"{runs:,}"
        yield "invariants checked", f"{self.totals['checked']:,} times"
        yield "controllers killed", f"{self.totals['kills']:,}"
        yield "commands of people", f"{self.totals['commands']:,}"
        yield "calls struck by faults", f"{self.totals['struck']:,}"
        yield "writes that undid another unnoticed (etags ignored)", f"{self.totals['raced']:,}"
        yield "rollbacks on record with the first pass", f"{at_once:,} of {undone:,}"
        yield "simulated time", f"{self.simulated.total_seconds() / 3600:,.0f} hours"
        yield "real time", f"{self.seconds:,.0f} s, {self.runs / self.seconds:.1f} runs a second"

    def markdown(self) -> str:
        """Return the summary as a table."""
        lines = [f"| {name} | {value} |" for name, value in self.rows()]
        return "\n".join(["| what | how much |", "|---|---|", *lines, ""])


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    options = _options()
    _be_quiet()
    if options.kills:
        return _every_kill(options.workers)
    if options.trace:
        return _trace(options.seed, options.only)
    summary = Summary(options.seed)
    seeds = range(options.seed, options.seed + options.runs)
    last = time.monotonic()
    for ran in _in_workers(run_seed, seeds, options.workers):
        summary.add(ran)
        if ran.violation:
            say(f"seed {ran.seed}: {ran.violation.splitlines()[0]}")
        if time.monotonic() - last > SAID_EVERY:
            last = time.monotonic()
            say(summary.line())
    for name, value in summary.rows():
        say(f"{name:52} {value}")
    if options.summary:
        options.summary.write_text(summary.markdown())
    for ran in sorted(summary.failed, key=lambda one: one.seed)[:MOST_SHRUNK]:
        _explain(ran)
    return 1 if summary.failed else 0


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate ARGS=...", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=100, help="how many seeds, one after the other")
    parser.add_argument("--trace", action="store_true", help="print all that happens in the run of --seed")
    parser.add_argument(
        "--only", default="", help="with --trace: numbers of the disturbances to keep, as 0,3"
    )
    parser.add_argument("--summary", type=Path, help="file for a table of the results, in Markdown")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--kills", action="store_true", help="kill a controller at each of its calls instead")
    return parser.parse_args()


def _be_quiet() -> None:
    """Keep the controllers' own logs out of the way, and of the time it takes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _in_workers(work: Callable[[int], Ran], seeds: Iterable[int], workers: int) -> Iterator[Ran]:
    """Yield what comes of each seed, as it comes; only some wait at a time."""
    waiting = iter(seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _be_quiet) as pool:
        running: set[Future[Ran]] = {pool.submit(work, seed) for seed in islice(waiting, 4 * workers)}
        while running:
            done = next(as_completed(running))
            running.remove(done)
            running |= {pool.submit(work, seed) for seed in islice(waiting, 1)}
            yield done.result()


# --- a violation ---


def _explain(ran: Ran) -> None:
    """Print a violation, the smallest plan that still shows it, and how to replay it."""
    plan = draw_plan(ran.seed)
    smaller = shrink(plan)
    kept = [number for number, one in enumerate(plan.disturbances) if one in smaller.disturbances]
    say(f"\n{ran.violation}\n")
    _print_plan(smaller)
    say(f'To replay it: make simulate ARGS="--seed {ran.seed} --runs 1 --trace"')
    say(f"and without what it does not need: add --only {','.join(map(str, kept))}")


def _trace(seed: int, only: str) -> int:
    """Run one seed, or a part of its plan, and print all that happens."""
    plan = draw_plan(seed)
    if only:
        kept = [plan.disturbances[int(number)] for number in only.split(",")]
        plan = replace(plan, disturbances=tuple(kept))
    ran = run(plan, whole_trace=True)
    say("\n".join(ran.trace))
    _print_plan(plan)
    say(ran.violation.partition("\n")[0] or f"no violation; it ended {ran.end}, digest {ran.digest}")
    return 1 if ran.violation else 0


def _print_plan(plan: Plan) -> None:
    say(f"policy {plan.policy}\ncandidate {plan.candidate or 'good'}, {plan.rps} requests a second")
    say(f"{'pinned' if plan.pinned else 'follows LATEST'}, {plan.settings}, smoke fails: {plan.smoke_fails}")
    for disturbance in plan.disturbances:
        say(f"  {disturbance}")


# --- every kill ---


def _every_kill(workers: int) -> int:
    """Kill a controller before and after each of its calls, in both rollouts and with both kinds of etags."""
    ways = [
        (candidate, etag, call, moment)
        for candidate in CANDIDATES
        for etag in EtagMode
        for call, moment in _calls_of(candidate, etag)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _be_quiet) as pool:
        failures = [text for text in pool.map(_kill, ways, chunksize=10) if text]
    say("\n".join([*failures, f"{len(ways)} kills, {len(failures)} of them with another end"]))
    return 1 if failures else 0


Way = tuple[str, EtagMode, int, Moment]


def _calls_of(candidate: str, etag: EtagMode) -> Sequence[tuple[int, Moment]]:
    _, points = undisturbed(candidate, etag)
    return [(point.call, moment) for point, moment in all_kills(points)]


def _kill(way: Way) -> str:
    """Kill in one way; return what was wrong then, or nothing."""
    candidate, etag, call, moment = way
    _, points = undisturbed(candidate, etag)
    try:
        check_kill(candidate, etag, points[call - 1], moment)
    except AssertionError as error:
        return f"{candidate}, etags {etag}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
