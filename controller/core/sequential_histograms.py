"""Anytime-valid test on histograms: whether the candidate is slower than it may be, in body or tail.

The null hypothesis is that the candidate, divided by the tolerated factor, is stochastically no larger than
stable. For any weights that do not fall from bucket to bucket, and are chosen before the minute is seen,

    sum_k  c_k log(w_k / (1 + s (w_k - 1)))  -  sum_k  b_k log(1 + s (w_k - 1))

is the logarithm of an e-value, with c and b the counts of candidate and stable, and s the candidate's part
of all requests: where both sides are alike, what one wins on average the other loses exactly, and dominance
can only lower the sum. No shape of the distribution is assumed, and stable may drift from minute to minute.
Everything else is as in `sequential`: blocks, mixture, cap.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist

from controller.core.counts import ROUNDING, EvidenceInvalid, Histogram
from controller.core.sequential import (
    AGREEING_MINUTES,
    MEMORY,
    SHARED,
    SHARED_AT_A_STEP,
    Mixture,
    recurring_after,
)

CASH = 0.15
# The whole distribution moves: by so many standard deviations, were it normal.
SHIFTS = (0.1, 0.2, 0.4, 0.8, 1.6)
_SHIFTS_PRIOR = (0.09,) * 5
# The tail beyond a quantile grows: its odds become so many times larger.
TAILS = (
    (0.9, 2.0),
    (0.9, 4.0),
    (0.95, 2.0),
    (0.95, 5.0),
    (0.99, 3.0),
    (0.99, 12.0),
    (0.999, 10.0),
    (0.999, 60.0),
    (0.999, 400.0),
)
_BETS = (CASH, *_SHIFTS_PRIOR, *((1 - CASH - sum(_SHIFTS_PRIOR)) / len(TAILS),) * len(TAILS))
_FIRST_BETS = Mixture(_BETS)
FIRST_TOTAL = 1.0
"""So many requests, spread over all buckets, are added to stable's past: no bucket is impossible."""

_normal = NormalDist()


@dataclass(frozen=True, slots=True)
class Slower:
    """Evidence that the candidate is more than `factor` times stable: L of the design, with its cap.

    `needed`, `minutes` and `recurring` are those of `sequential.Harm`; with `minutes` of 0 there is no cap.
    `past` is stable's histogram, discounted; the first minute is not bet on where there is none.
    """

    factor: float
    needed: float
    minutes: float = AGREEING_MINUTES
    log_evidence: float = 0.0
    recurring: float = 0.0
    bets: Mixture = _FIRST_BETS
    bounds: tuple[float, ...] = ()
    past: tuple[float, ...] = ()
    waiting: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    def knowing(self, history: Iterable[Histogram]) -> "Slower":
        """Return the test with stable's past known, which makes its bets better and changes no promise."""
        known = self
        for histogram in history:
            known = replace(known._on(histogram.bounds), past=_discounted(known.past, histogram.counts))
        return known

    def after(self, stable: Histogram, candidate: Histogram, *, new_step: bool = False) -> "Slower":
        """Return the test after one more minute; `new_step`: the first one since the traffic was moved.

        Raises EvidenceInvalid where the buckets are not those of the minutes before.
        """
        if new_step:
            anew = self.bets.laid_anew(_BETS, SHARED_AT_A_STEP)
            return replace(self, bets=anew, waiting=((), ())).after(stable, candidate)
        stable.check_comparable(candidate)
        if self.bounds != stable.bounds:
            return self._on(stable.bounds).after(stable, candidate)
        stable_counts, counts = stable.counts, candidate.counts
        if self.waiting[0]:
            stable_counts = _sum(self.waiting[0], stable_counts)
            counts = _sum(self.waiting[1], counts)
        if not (any(stable_counts) and any(counts)):
            return replace(self, waiting=(stable_counts, counts))
        return replace(
            self._bet(stable_counts, counts),
            past=_discounted(self.past, stable_counts),
            waiting=((), ()),
        )

    def _on(self, bounds: tuple[float, ...]) -> "Slower":
        if not self.bounds:
            return replace(self, bounds=bounds)
        if self.bounds != bounds:
            raise EvidenceInvalid("latencies are counted in different buckets at different times")
        return self

    def _bet(self, stable: tuple[int, ...], candidate: tuple[int, ...]) -> "Slower":
        if not self.past:
            return self
        lowered = _lowered(candidate, self.bounds, self.factor)
        logs = [*_shift_logs(self.past, stable, lowered), *_tail_logs(self.past, stable, lowered)]
        log, bets = self.bets.after(logs, _BETS, SHARED)
        if not self.minutes:
            return replace(self, log_evidence=self.log_evidence + log, bets=bets)
        most = self.needed / self.minutes
        if log > most:
            log, bets = most, bets.with_cash(math.exp(-most))
        recurring = recurring_after(self.recurring, logs, _BETS[1:], most)
        return replace(self, log_evidence=self.log_evidence + log, bets=bets, recurring=recurring)


def _shift_logs(past: Sequence[float], stable: Sequence[int], candidate: Sequence[int]) -> Iterator[float]:
    """Yield the log e-values of the bets that the whole distribution has moved up."""
    part = sum(candidate) / (sum(candidate) + sum(stable))
    total, below = sum(past), 0.0
    known = []  # of each bucket that matters: its normal score, its part of the past, its counts
    for mass, ours, theirs in zip(past, stable, candidate, strict=True):
        if ours or theirs or mass > ROUNDING * total:
            score = _normal.inv_cdf((below + mass / 2) / total)
            known.append((score, mass / total, theirs, ours + theirs))
        below += mass
    for shift in SHIFTS:
        weights = [math.exp(shift * score) for score, _, _, _ in known]
        # Buckets that stable hardly ever had do not count: the scale must not depend on this minute.
        scale = sum(
            weight * mass for weight, (_, mass, _, _) in zip(weights, known, strict=True) if mass > ROUNDING
        )
        log = -math.log(scale) * sum(candidate)
        for weight, (score, _, theirs, both) in zip(weights, known, strict=True):
            if both:
                log += theirs * shift * score - both * math.log1p(part * (weight / scale - 1))
        yield log


def _tail_logs(past: Sequence[float], stable: Sequence[int], candidate: Sequence[int]) -> Iterator[float]:
    """Yield the log e-values of the bets that the tail has grown."""
    stable_total, candidate_total = sum(stable), sum(candidate)
    part = candidate_total / (candidate_total + stable_total)
    total = sum(past)
    ends = list(accumulate(past))
    for quantile, times in TAILS:
        # The middle of the first bucket of the tail lies beyond the quantile.
        first = bisect_right(ends, quantile * total)
        if first < len(past) and ends[first] - past[first] / 2 < quantile * total:
            first += 1
        tail = max(total - (ends[first - 1] if first else 0.0), ROUNDING * total) / total
        if first == len(past) or tail >= 1:
            yield 0.0
            continue
        grown = times * tail / (1 + (times - 1) * tail)
        above, below = grown / tail, (1 - grown) / (1 - tail)
        slow, slow_stable = sum(candidate[first:]), sum(stable[first:])
        log = slow * math.log(above) + (candidate_total - slow) * math.log(below)
        log -= (slow + slow_stable) * math.log1p(part * (above - 1))
        fast = candidate_total + stable_total - slow - slow_stable
        yield log - fast * math.log1p(part * (below - 1))


def _lowered(counts: tuple[int, ...], bounds: tuple[float, ...], factor: float) -> Sequence[int]:
    """Return the counts with every value divided by the factor, or lowered more where buckets are coarse."""
    if factor == 1:
        return counts
    lowered = [0] * len(counts)
    for bucket, count in zip(_targets(bounds, factor), counts, strict=True):
        lowered[bucket] += count
    return lowered


@lru_cache(maxsize=64)
def _targets(bounds: tuple[float, ...], factor: float) -> tuple[int, ...]:
    """Return, for each bucket, the one that its lower edge falls into when divided by the factor.

    Values within a bucket may fall into a higher one, never into a lower: at least the factor is tolerated.
    """
    edges = enumerate(bounds, start=1)
    return (
        0,
        *(k if edge <= 0 else bisect_right(bounds, edge / factor * (1 + ROUNDING)) for k, edge in edges),
    )


def _discounted(past: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, ...]:
    fresh = FIRST_TOTAL / len(counts)
    if not past:
        return tuple(fresh + count for count in counts)
    fresh *= 1 - MEMORY
    return tuple(MEMORY * known + fresh + count for known, count in zip(past, counts, strict=True))


def _sum(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
