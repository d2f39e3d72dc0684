"""What goes on beside a plain difference: bursts on single instances, drift, outages, late harm."""

import numpy as np
from numpy.typing import NDArray
from peers import ErrorRuns

TICKS = 60
LATE = 120
"""The minute at which late harm begins."""


def bursts(
    rng: np.random.Generator,
    runs: int,
    *,
    instances: tuple[int, int] = (18, 2),
    requests: int = 30,
    share: float = 0.005,
    errors: float = 0.3,
    usual: float = 0.01,
) -> ErrorRuns:
    """Return runs in which a `share` of all instances' minutes has many errors, on both revisions alike.

    `instances` are stable's and the candidate's, each with so many `requests` a minute.
    """
    sides = []
    for number in instances:
        shape = (TICKS, runs, number)
        total = rng.poisson(requests, shape)
        bad = rng.binomial(total, np.where(rng.random(shape) < share, errors, usual))
        sides += [bad.sum(2), total.sum(2)]
    return ErrorRuns(*sides)


def drift(rng: np.random.Generator, runs: int, rps: float = 10.0) -> ErrorRuns:
    """Return runs of three steps, 5, 25 and 50 %, while the errors of both rise: 0.5, 1, 2 %."""
    third = TICKS // 3
    shares = np.repeat([0.05, 0.25, 0.5], third)[:, None]
    errors = np.repeat([0.005, 0.01, 0.02], third)[:, None]
    return _drawn(rng, runs, rps * 60, shares, errors, errors)


DRIFT_STEPS = (TICKS // 3, 2 * TICKS // 3)


def sine(rng: np.random.Generator, runs: int, rps: float = 10.0) -> ErrorRuns:
    """Return runs in which the errors of both swing between 0 and 2 %, at a share of 20 %."""
    errors = 0.01 * (1 + np.sin(np.arange(TICKS) / 5.0))[:, None]
    return _drawn(rng, runs, rps * 60, np.full((TICKS, 1), 0.2), errors, errors)


def outage(rng: np.random.Generator, runs: int, an_hour: float = 30.0, hours: int = 6) -> ErrorRuns:
    """Return runs with little traffic, half of it to a candidate that fails all; stable fails 1 %."""
    ticks = hours * 60
    one, half = np.ones((ticks, 1)), np.full((ticks, 1), 0.5)
    return _drawn(rng, runs, an_hour / 60, half, 0.01 * one, one)


def late(
    rng: np.random.Generator, runs: int, times: float, begins: int = LATE, rps: float = 10.0
) -> ErrorRuns:
    """Return runs whose candidate is as good as stable at first, and then has so many times its errors."""
    ticks = begins + TICKS
    errors = np.full((ticks, 1), 0.01)
    worse = np.where(np.arange(ticks)[:, None] < begins, errors, errors * times)
    shares = np.where(np.arange(ticks)[:, None] < begins, 0.05, 0.2)
    return _drawn(rng, runs, rps * 60, shares, errors, worse)


def _drawn(
    rng: np.random.Generator,
    runs: int,
    a_minute: float,
    shares: NDArray[np.float64],
    stable: NDArray[np.float64],
    candidate: NDArray[np.float64],
) -> ErrorRuns:
    shape = (len(shares), runs)
    stable_total = rng.poisson(np.broadcast_to(a_minute * (1 - shares), shape))
    candidate_total = rng.poisson(np.broadcast_to(a_minute * shares, shape))
    return ErrorRuns(
        stable_bad=rng.binomial(stable_total, np.broadcast_to(stable, shape)),
        stable_total=stable_total,
        candidate_bad=rng.binomial(candidate_total, np.broadcast_to(candidate, shape)),
        candidate_total=candidate_total,
    )
