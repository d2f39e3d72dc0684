"""A detector on counts: whether the share that is bad has risen above a limit, in a watch without an end.

An e-detector of the Shiryaev-Roberts kind: M_t = e_t (M_{t-1} + 1), with an alarm where M reaches a threshold
(J. Shin, A. Ramdas and A. Rinaldo, "E-detectors", 2024, arXiv:2203.03532). It is the sum of what was won
since each minute, so harm that begins late is not buried under good minutes before it.

Exact: while the share is at most the limit in every minute, the mean time between
false alarms is at least the threshold in minutes, for one look a minute. That holds for a watch over the
latest minutes alone, too: it sums over fewer beginnings. The cap on a minute only takes from an e-value.
Approximate: a limit that is taken from the past is an estimate, and requests of one minute fail together
more often than by chance. The tolerance and the cap are there for that.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controller.core.counts import Counts
from controller.core.sequential import (
    AGREEING_MINUTES,
    CASH,
    NO_ROOM,
    NOTHING,
    ODDS,
    PRIOR,
    RECURRING_CASH,
    Line,
    log_e_value,
    odds_times,
)

STAKES = (1.0, 1 - RECURRING_CASH)
"""The part that is bet each minute: all, for harm that stays, and a part, for harm that comes and goes."""

BETS = tuple(
    (odds, stake, weight / (1 - CASH) / len(STAKES))
    for stake in STAKES
    for odds, weight in zip(ODDS, PRIOR, strict=True)
)
"""Odds beyond the limit, what is bet on them each minute, and their weight; the weights add up to 1."""

NORMAL_95 = 1.645
ROUNDING = 1e-9
LARGEST_LOG = 100.0
"""Any e-value beyond it is capped in any case."""


@dataclass(frozen=True, slots=True)
class Detector:
    """Evidence that the share that is bad is above `limit` by now.

    `threshold` is the least mean time between false alarms, and `window` for how long it watches, both in
    minutes. One minute counts for so little that three have to agree, even after a window of bare luck.
    """

    limit: float
    threshold: float
    window: int
    accounts: tuple[float, ...] = (0.0,) * len(BETS)
    """M for each of the bets."""

    @property
    def evidence(self) -> float:
        """M: the weighted average over the bets."""
        return sum(weight * account for (_, _, weight), account in zip(BETS, self.accounts, strict=True))

    @property
    def alarms(self) -> bool:
        """Tell whether harm is shown, in the latest minute with requests."""
        return self.evidence >= self.threshold * (1 - ROUNDING)

    @property
    def most(self) -> float:
        """The largest e-value that a minute counts for."""
        return float(max(self.threshold / self.window, math.e) ** (1 / AGREEING_MINUTES))

    def after(self, counts: Counts) -> "Detector":
        """Return the detector after one more minute; one without requests says nothing."""
        if not counts.total or self.limit > NO_ROOM:
            return self
        most = self.most
        won = [math.exp(min(log, LARGEST_LOG)) for log in _logs(Line(0, self.limit), counts)] * len(STAKES)
        accounts = tuple(
            min(most, 1 - stake + stake * e_value) * (account + 1)
            for (_, stake, _), e_value, account in zip(BETS, won, self.accounts, strict=True)
        )
        # M goes no higher than the threshold, so that it is quiet soon after harm has ended.
        beyond = max(1.0, replace(self, accounts=accounts).evidence / self.threshold)
        return replace(self, accounts=tuple(account / beyond for account in accounts))

    def after_all(self, minutes: Iterable[Counts]) -> "Detector":
        """Return the detector after several minutes."""
        detector = self
        for counts in minutes:
            detector = detector.after(counts)
        return detector


def _logs(line: Line, counts: Counts) -> list[float]:
    """Return the log e-value of a minute for each of the odds."""
    share = line.points
    return [log_e_value(line, NOTHING, counts, share, odds_times(share, odds)) for odds in ODDS]


def likely_onset(minutes: Sequence[Counts], limit: float) -> int:
    """Return how many of the latest minutes speak most for harm, taken together; for reports alone."""
    best, onset = -math.inf, len(minutes)
    sums = [0.0] * len(ODDS)
    for number, counts in enumerate(reversed(minutes), start=1):
        sums = [total + log for total, log in zip(sums, _logs(Line(0, limit), counts), strict=True)]
        if counts.total and max(sums) > best:
            best, onset = max(sums), number
    return onset


def upper_bound(past: Counts) -> float:
    """Return a share that the true one is below with about 95 % confidence; 1 where nothing is known.

    The one-sided score interval (E. B. Wilson, 1927), which is an approximation.
    """
    if not past.total:
        return 1.0
    square = NORMAL_95**2
    middle = past.share + square / (2 * past.total)
    variance = past.share * (1 - past.share) / past.total + square / (4 * past.total**2)
    return (middle + NORMAL_95 * math.sqrt(variance)) / (1 + square / past.total)
