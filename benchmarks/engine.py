"""The product's own tests on drawn runs: at which minute each one is rolled back, or proven."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from peers import ErrorRuns, LatencyRuns

from controller.core.counts import Counts, Histogram
from controller.core.sequential import AGREEING_MINUTES, Harm, Line, Safety
from controller.core.sequential_histograms import Slower

Ticks = NDArray[np.int64]

NEEDED = -math.log(0.01)
"""Evidence at which 1 % of healthy rollouts at most is rolled back, in nats."""
NEEDED_SAFETY = -math.log(0.05)

NO_TOLERANCE = Line()
UNCAPPED = 0.0
DEFAULT = AGREEING_MINUTES


def harm_errors(
    data: ErrorRuns,
    minutes: float = DEFAULT,
    *,
    line: Line = NO_TOLERANCE,
    history: ErrorRuns | None = None,
    steps: Sequence[int] = (),
) -> Ticks:
    """Return, for each run, the minute (from 1) at which harm is shown, or 0; shape (runs,).

    `minutes` is how many have to agree, or UNCAPPED; `steps` are the minutes (from 0) that begin a new step.
    """
    known = _counts(history.stable_bad, history.stable_total) if history else [[] for _ in data.stable_bad.T]
    return _first_shown(data, [Harm(line, NEEDED, minutes).knowing(past) for past in known], NEEDED, steps)


def safety_errors(data: ErrorRuns, line: Line) -> Ticks:
    """Return, for each run, the minute at which safety is shown, or 0; shape (runs,)."""
    return _first_shown(data, [Safety(line) for _ in data.stable_bad.T], NEEDED_SAFETY)


def _first_shown(
    data: ErrorRuns, tests: Sequence[Harm | Safety], needed: float, steps: Sequence[int] = ()
) -> Ticks:
    """Feed each run to its test, and return the minute at which so much evidence is there, or 0."""
    sides = _counts(data.stable_bad, data.stable_total), _counts(data.candidate_bad, data.candidate_total)
    found = np.zeros(len(tests), dtype=np.int64)
    for run, (begun, stable, candidate) in enumerate(zip(tests, *sides, strict=True)):
        test: Harm | Safety = begun
        for tick, (ours, theirs) in enumerate(zip(stable, candidate, strict=True)):
            test = test.after(ours, theirs, new_step=tick in steps)
            if test.log_evidence >= needed:
                found[run] = tick + 1
                break
    return found


def harm_latency(
    data: LatencyRuns, minutes: float = DEFAULT, *, history: LatencyRuns | None = None, factor: float = 1.0
) -> Ticks:
    """Return, for each run, the minute (from 1) at which the candidate is shown to be slower, or 0."""
    bounds = tuple(float(bound) for bound in data.bounds)
    runs = data.stable.shape[1]
    found = np.zeros(runs, dtype=np.int64)
    for run in range(runs):
        past = _histograms(bounds, history.stable[:, run]) if history else ()
        test = Slower(factor, NEEDED, minutes).knowing(past)
        ours, theirs = _histograms(bounds, data.stable[:, run]), _histograms(bounds, data.candidate[:, run])
        for tick, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            test = test.after(one, other)
            if test.log_evidence >= NEEDED:
                found[run] = tick + 1
                break
    return found


def _counts(bad: NDArray[np.int64], total: NDArray[np.int64]) -> list[list[Counts]]:
    """Return each run's minutes."""
    return [
        [Counts(x, n) for x, n in zip(xs, ns, strict=True)]
        for xs, ns in zip(bad.T.tolist(), total.T.tolist(), strict=True)
    ]


def _histograms(bounds: tuple[float, ...], counts: NDArray[np.int64]) -> Iterator[Histogram]:
    """Yield each minute's histogram; those after the decision are never made."""
    return (Histogram(bounds, tuple(minute)) for minute in counts.tolist())
