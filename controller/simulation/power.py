"""The power of a policy: many simulated rollouts on all cores, and what came of them in numbers."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, resource_tracker
from multiprocessing.pool import Pool
from statistics import quantiles

from controller.core.policy import Policy
from controller.simulation.rollouts import Ending, Outcome, simulate
from controller.simulation.users import Users

STOPPING = {signal.SIGINT, signal.SIGTERM}
FEW = 8
"""So few rollouts are not worth starting processes for."""


@dataclass(frozen=True)
class Times:
    """How many rollouts ended like this, and after how many minutes; None where there was none."""

    share: float
    median: float | None
    p90: float | None


@dataclass(frozen=True)
class Power:
    """What came of the runs: how they ended, and what the candidate served until then.

    `requests` and `failed` are means over all runs, those before a rollback medians over the rolled back.
    """

    runs: int
    rolled_back: Times
    promoted: Times
    unsure: Times
    requests: float
    failed: float
    requests_before_rollback: float | None
    failed_before_rollback: float | None
    reason: str
    """Why one of those rolled back was, or else how one ended."""


def simulate_many(
    policy: Policy, users: Users, runs: int, seed: int, on_done: Callable[[], None] = lambda: None
) -> Power:
    """Roll out so many times; each run has a seed of its own, so the number of cores changes nothing."""
    return summary(list(outcomes(policy, users, runs, seed, on_done)))


def outcomes(
    policy: Policy, users: Users, runs: int, seed: int, on_done: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Yield the outcome of each run, in order."""
    seeds = [f"{seed}/{number}" for number in range(runs)]
    workers = min(os.cpu_count() or 1, runs)
    if runs <= FEW or workers == 1:
        for each in seeds:
            yield simulate(policy, users, each)
            on_done()
        return
    run = partial(simulate, policy, users)
    with _pool(workers) as pool:
        for outcome in pool.imap(run, seeds, chunksize=max(1, min(50, runs // (workers * 8)))):
            yield outcome
            on_done()


def _pool(workers: int) -> Pool:
    """Return processes that end with the one that asks: an interruption is heard here, and only here."""
    resource_tracker.ensure_running()  # or it would be started below, and unblock the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        return get_context("spawn").Pool(workers, _hear_the_end)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _hear_the_end() -> None:
    """Let a worker, which was begun deaf, be ended by its pool; what a terminal sends is not for it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def summary(found: Sequence[Outcome]) -> Power:
    """Return the outcomes in numbers."""
    by_ending = {ending: [outcome for outcome in found if outcome.ending is ending] for ending in Ending}
    back = by_ending[Ending.ROLLED_BACK]
    return Power(
        runs=len(found),
        rolled_back=_times(back, len(found)),
        promoted=_times(by_ending[Ending.PROMOTED], len(found)),
        unsure=_times(by_ending[Ending.UNSURE], len(found)),
        requests=sum(outcome.requests for outcome in found) / len(found),
        failed=sum(outcome.failed for outcome in found) / len(found),
        requests_before_rollback=_quantile([outcome.requests for outcome in back], 0.5),
        failed_before_rollback=_quantile([outcome.failed for outcome in back], 0.5),
        reason=(back or found)[0].reason,
    )


def _times(ended: Sequence[Outcome], runs: int) -> Times:
    minutes = [outcome.minutes for outcome in ended]
    return Times(len(ended) / runs, _quantile(minutes, 0.5), _quantile(minutes, 0.9))


def _quantile(numbers: Sequence[int], share: float) -> float | None:
    if not numbers:
        return None
    if len(numbers) == 1:
        return float(numbers[0])
    return quantiles(numbers, n=10, method="inclusive")[round(share * 10) - 1]
