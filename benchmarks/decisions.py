"""How soon and how rightly the engine decides, beside other ways to decide, in one run on the same traffic.

`make bench-decisions` runs it; it writes docs/decisions-benchmark.md and its picture, and says whether each
promise is kept. ARGS="--runs 200" is quick and rough, ARGS=--json prints everything as JSON.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import engine
import numpy as np
import peers
import scenarios
from numpy.typing import NDArray
from results import DEFAULT, UNCAPPED, Cell, Promise, Result, false_alarms, ratio

from controller.core.counts import Counts, Histogram
from controller.core.sequential import Harm, Line
from controller.core.sequential_histograms import Slower
from controller.simulation import users

DOCS = Path(__file__).parents[1] / "docs"
TICKS = 60
HISTORY = 30
SHARES = (0.05, 0.2, 0.5)
RPS = (1, 10, 100)
ERRORS = (0.001, 0.01, 0.05)
BOUNDS: peers.Floats = np.array(users.BOUNDS)
MEDIAN_MS, SIGMA = 100.0, 0.6
ALPHA = 0.01

ERROR_JUDGES: dict[str, Callable[..., engine.Ticks]] = {
    "Kayenta, 5 min": lambda data, _: peers.kayenta_errors(data, 5),
    "Kayenta, 1 min": lambda data, _: peers.kayenta_errors(data, 1),
    "Flagger": lambda data, _: peers.flagger_errors(data),
    "release manager": lambda data, _: peers.release_manager_errors(data),
    "SPRT oracle": lambda data, rates: peers.sprt_errors(data, rates[0], rates[1], ALPHA),
}
LATENCY_JUDGES: dict[str, Callable[[peers.LatencyRuns], engine.Ticks]] = {
    "Kayenta p95, 5 min": lambda data: peers.kayenta_latency(data, 5, 0.95),
    "Kayenta p95, 1 min": lambda data: peers.kayenta_latency(data, 1, 0.95),
    "Flagger p99": peers.flagger_latency,
    "release manager p99": peers.release_manager_latency,
}


def error_cells() -> list[tuple[float, float, float, float]]:
    """Return rate of stable, rate of the candidate, share and requests a second of each cell."""
    pairs = [(rate, rate) for rate in ERRORS]
    pairs += [
        (rate, worse)
        for rate in ERRORS
        for worse in sorted({round(2 * rate, 6), round(rate + 0.01, 6), round(rate + 0.05, 6)})
    ]
    return [(*pair, share, rps) for pair in pairs for share in SHARES for rps in RPS]


SLOWER = {
    "as stable": (1.0, 0.0, 1.0),
    "x1.1": (1.1, 0.0, 1.0),
    "x1.25": (1.25, 0.0, 1.0),
    "x1.5": (1.5, 0.0, 1.0),
    "tail 5 % x10": (1.0, 0.05, 10.0),
    "tail 2 % x10": (1.0, 0.02, 10.0),
}


def latency_cells() -> list[tuple[str, float, float]]:
    """Return what the candidate is, share and requests a second of each cell."""
    return [(name, share, rps) for name in SLOWER for share in SHARES for rps in RPS]


def run_error_cell(seed: int, runs: int, cell: tuple[float, float, float, float]) -> Cell:
    """Let every judge look at the same runs of error counts."""
    stable, candidate, share, rps = cell
    rng = np.random.default_rng([seed, *(round(value * 10_000) for value in cell)])
    data = peers.draw_errors(rng, runs, TICKS, rps, share, stable, candidate)
    history = peers.draw_errors(rng, runs, HISTORY, rps, 0, stable, stable)
    found = {
        DEFAULT: engine.harm_errors(data, history=history),
        UNCAPPED: engine.harm_errors(data, engine.UNCAPPED, history=history),
        **{name: judge(data, (stable, candidate)) for name, judge in ERROR_JUDGES.items()},
    }
    bound = peers.two_sample_bound(stable, candidate, share, ALPHA)
    results = {name: _result(ticks, data.candidate_total) for name, ticks in found.items()}
    return Cell("errors", f"{stable:.3g}", f"{candidate:.3g}", share, rps, bound, results)


def run_latency_cell(seed: int, runs: int, cell: tuple[str, float, float]) -> Cell:
    """Let every judge look at the same runs of latency histograms."""
    name, share, rps = cell
    factor, tail, tail_factor = SLOWER[name]
    rng = np.random.default_rng([seed, list(SLOWER).index(name), round(share * 100), round(rps)])
    stable = peers.lognormal_buckets(BOUNDS, MEDIAN_MS, SIGMA)
    candidate = peers.lognormal_buckets(BOUNDS, MEDIAN_MS * factor, SIGMA, tail, tail_factor)
    data = peers.draw_latencies(rng, runs, TICKS, rps, share, stable, candidate, BOUNDS)
    history = peers.draw_latencies(rng, runs, HISTORY, rps, 0, stable, stable, BOUNDS)
    found = {
        DEFAULT: engine.harm_latency(data, history=history),
        UNCAPPED: engine.harm_latency(data, engine.UNCAPPED, history=history),
        **{judge: decide(data) for judge, decide in LATENCY_JUDGES.items()},
    }
    bound = peers.two_sample_bound_buckets(stable, candidate, share, ALPHA)
    totals = data.candidate.sum(2)
    results = {judge: _result(ticks, totals) for judge, ticks in found.items()}
    return Cell("latency", "100 ms", name, share, rps, bound, results)


def _result(ticks: engine.Ticks, totals: NDArray[np.int64]) -> Result:
    """Return the medians over all runs, with those that never were as if at infinity."""
    detected = float((ticks > 0).mean())
    cumulated = np.cumsum(totals, axis=0)
    requests = np.where(ticks > 0, cumulated[ticks - 1, np.arange(len(ticks))], np.inf)
    minutes = np.where(ticks > 0, ticks, np.inf)
    middle = (float(np.median(minutes)), float(np.median(requests)))
    return Result(detected, *(None if math.isinf(value) else value for value in middle))


def run_bursts(seed: int, runs: int) -> dict[str, dict[str, float]]:
    """Return the share of healthy runs that each judge rolls back where errors come in bursts or drift."""
    rng = np.random.default_rng([seed, 1])
    cases = {
        "bursts 0.5 %, 18+2 instances": scenarios.bursts(rng, runs),
        "bursts 0.5 %, 19+1 instances": scenarios.bursts(rng, runs, instances=(19, 1), requests=120),
        "bursts 0.5 %, 5+5 instances": scenarios.bursts(rng, runs, instances=(5, 5)),
        "bursts 2 %, 18+2 instances": scenarios.bursts(rng, runs, share=0.02),
        "errors of both swing, 0 to 2 %": scenarios.sine(rng, runs),
        "steps 5, 25, 50 % while errors of both rise": scenarios.drift(rng, runs),
    }
    margin = Line(1.25, 0.002)
    found = {}
    for name, data in cases.items():
        steps = scenarios.DRIFT_STEPS if name.startswith("steps") else ()
        judged = {
            DEFAULT: engine.harm_errors(data, steps=steps),
            "canary, default tolerance": engine.harm_errors(data, steps=steps, line=margin),
            UNCAPPED: engine.harm_errors(data, engine.UNCAPPED, steps=steps),
            "Kayenta, 5 min": peers.kayenta_errors(data, 5),
            "Kayenta, 1 min": peers.kayenta_errors(data, 1),
        }
        found[name] = {judge: float((ticks > 0).mean()) for judge, ticks in judged.items()}
    return found


def run_outage(seed: int, runs: int) -> Result:
    """Return how soon a total failure is found at 30 requests an hour, half of them to the candidate."""
    data = scenarios.outage(np.random.default_rng([seed, 2]), runs)
    return _result(engine.harm_errors(data), data.candidate_total)


MARGINS = (
    (0.001, Line(1, 0.005), 0.2, 10.0),
    (0.01, Line(1, 0.01), 0.05, 10.0),
    (0.01, Line(1, 0.01), 0.5, 10.0),
    (0.01, Line(1.25, 0.002), 0.2, 100.0),
    (0.01, Line(1.5, 0), 0.2, 100.0),
    (0.05, Line(1, 0.01), 0.2, 100.0),
    (0.01, Line(0, 0.05), 0.2, 10.0),
)


def run_margin(seed: int, runs: int, case: tuple[float, Line, float, float]) -> tuple[str, float, Result]:
    """Return how often safety is shown falsely at the margin, and how soon rightly where both are alike."""
    stable, line, share, rps = case
    rng = np.random.default_rng([seed, 3, MARGINS.index(case)])
    at_margin = peers.draw_errors(rng, runs, 2 * TICKS, rps, share, stable, line.at(stable))
    alike = peers.draw_errors(rng, max(200, runs // 5), 4 * TICKS, rps, share, stable, stable)
    false = float((engine.safety_errors(at_margin, line) > 0).mean())
    limit = (
        f"{line.factor:g}x + {line.points * 100:g} points" if line.factor else f"ceiling {line.points:.0%}"
    )
    name = f"{stable * 100:g} % errors, {limit}, share {share:.0%}, {rps:g} rps"
    return name, false, _result(engine.safety_errors(alike, line), alike.candidate_total)


def run_late(seed: int, runs: int) -> dict[str, float | None]:
    """Return after how many minutes harm is found that begins two hours into a good rollout."""
    found: dict[str, float | None] = {}
    for times in (2.0, 4.0):
        data = scenarios.late(np.random.default_rng([seed, 4, int(times)]), runs, times)
        ticks = engine.harm_errors(data, steps=(scenarios.LATE,))
        after = np.maximum(ticks - scenarios.LATE, 0)
        minutes = np.where(ticks > 0, after, np.inf)
        middle = float(np.median(minutes))
        found[f"x{times:g}"] = None if math.isinf(middle) else middle
    return found


def cost_of_a_tick() -> dict[str, float]:
    """Return the milliseconds that one more minute costs, the best of a few rounds."""
    rng = np.random.default_rng(5)
    probabilities = peers.lognormal_buckets(BOUNDS, MEDIAN_MS, SIGMA)
    bounds = tuple(BOUNDS.tolist())
    shape = (200, len(probabilities))
    sides = [
        [Histogram(bounds, tuple(row)) for row in rng.poisson(mean * probabilities, shape).tolist()]
        for mean in (4800, 1200)
    ]
    counts = [
        (Counts(int(rng.binomial(4800, 0.01)), 4800), Counts(int(rng.binomial(1200, 0.01)), 1200))
        for _ in range(500)
    ]

    def errors() -> None:
        test = Harm(Line(1.25, 0.002), engine.NEEDED)
        for stable, candidate in counts:
            test = test.after(stable, candidate)

    def latency() -> None:
        slower = Slower(1.21, engine.NEEDED)
        for stable, candidate in zip(*sides, strict=True):
            slower = slower.after(stable, candidate)

    return {"errors": _best(errors) / len(counts), "latency": _best(latency) / shape[0]}


def _best(work: Callable[[], None], rounds: int = 5) -> float:
    """Return the milliseconds of the fastest of several rounds: the others were disturbed."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times) * 1000


def promises(found: dict[str, Any], runs: int) -> list[Promise]:
    """Return every figure that has to be reached, as measured."""
    errors, latency = found["errors"], found["latency"]
    mean, largest = false_alarms(errors, DEFAULT)
    bursts = found["bursts"]
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    return [
        Promise("false rollbacks on errors, worst of 27 cells", largest, 0.01, "%"),
        Promise("false rollbacks on errors, mean of 27 cells", mean, 0.002, "%"),
        Promise(
            "false rollbacks on latency, worst of 9 cells", false_alarms(latency, DEFAULT)[1], 0.005, "%"
        ),
        Promise("requests over the two-sample bound, default", ratio(errors, DEFAULT)[0], 1.65, "x"),
        Promise("requests over the two-sample bound, uncapped", ratio(errors, UNCAPPED)[0], 1.45, "x"),
        Promise(
            "false rollbacks in bursts, 18+2 instances",
            bursts["bursts 0.5 %, 18+2 instances"][DEFAULT],
            0.02,
            "%",
        ),
        Promise(
            "false rollbacks while steps and errors rise",
            bursts["steps 5, 25, 50 % while errors of both rise"][DEFAULT],
            0.01,
            "%",
        ),
        Promise(
            "requests until a total failure is found, 30 an hour", found["outage"].requests or math.inf, 10
        ),
        Promise(
            "false promotions at the margin, worst (5 % and 3 standard errors)",
            max(false for _, false, _ in found["margins"]),
            allowed,
            "%",
        ),
        Promise(
            "one more minute of errors, with tolerance and fast path", found["cost"]["errors"], 0.3, "ms"
        ),
        Promise("one more minute of latency, 136 buckets", found["cost"]["latency"], 1.5, "ms"),
    ]


def measure(runs: int, seed: int) -> dict[str, Any]:
    """Run everything, on all cores."""
    cost = cost_of_a_tick()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        bursts = pool.submit(run_bursts, seed, runs)
        outage = pool.submit(run_outage, seed, runs)
        late = pool.submit(run_late, seed, runs)
        margins = pool.map(partial(run_margin, seed, runs), MARGINS)
        errors = pool.map(partial(run_error_cell, seed, runs), error_cells())
        latency = pool.map(partial(run_latency_cell, seed, runs), latency_cells())
        return {
            "errors": list(errors),
            "latency": list(latency),
            "bursts": bursts.result(),
            "outage": outage.result(),
            "late": late.result(),
            "margins": list(margins),
            "cost": cost,
        }


def main() -> int:
    """Measure, print, and write into docs/; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="runs of each cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and write nothing")
    options = parser.parse_args()
    found = measure(options.runs, options.seed)
    kept = promises(found, options.runs)
    if options.json:
        plain = {"runs": options.runs, "seed": options.seed, "promises": kept, **found}
        print(json.dumps(plain, default=_plain))
    else:
        # Only here, as drawing is not needed for numbers alone.
        from report import promise_line, write

        write(DOCS, found, kept, options.runs, options.seed)
        for promise in kept:
            print(promise_line(promise))
    return 0 if all(promise.kept for promise in kept) else 1


def _plain(value: Any) -> Any:
    if isinstance(value, Promise):
        return {**asdict(value), "kept": value.kept}
    return asdict(value)


if __name__ == "__main__":
    sys.exit(main())
