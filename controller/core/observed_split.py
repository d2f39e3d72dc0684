"""The observed split: whether the candidate really gets its share of the users.

One that cannot scale looks quiet, since what reaches no instance is not counted; and users may stick to
stable. Both make a step's evidence less than it seems.
"""

import math
from dataclasses import dataclass

from controller.core.evidence import Tick
from controller.core.traffic import ALL

SHORT = 0.5
"""Less than this part of its share is too little: splits are never exact, and users not alike."""
LATELY = 10
"""So many minutes are looked at: a candidate that was slow to scale is not held for ever."""


@dataclass(frozen=True)
class ObservedSplit:
    """How many requests both revisions had, and the candidate, in each of the last minutes of a step.

    It is a reason to wait, never to go back, so it is no e-value: the chance of a single look, bounded by
    Chernoff's inequality, is held against `needed`, in nats.
    """

    needed: float = 0.0
    percent: int = ALL
    minutes: tuple[tuple[int, int], ...] = ()

    def after(self, tick: Tick, percent: int) -> "ObservedSplit":
        """Return what is known after a minute in which the candidate was to have `percent`."""
        earlier = self.minutes if percent == self.percent else ()
        ours, total = tick.candidate.requests, tick.stable.requests + tick.candidate.requests
        return ObservedSplit(self.needed, percent, (*earlier, (ours, total))[-LATELY:])

    @property
    def is_short(self) -> bool:
        """Whether it is beyond doubt that the candidate gets less than half of its share."""
        ours, total = (sum(each) for each in zip(*self.minutes, strict=True)) if self.minutes else (0, 0)
        least = SHORT * self.percent / ALL
        if self.percent == ALL or not total or ours / total >= least:
            return False
        return total * _divergence(ours / total, least) >= self.needed


def _divergence(share: float, other: float) -> float:
    """Return the Kullback-Leibler divergence of two shares, in nats."""
    here = share * math.log(share / other) if share else 0.0
    return here + (1 - share) * math.log((1 - share) / (1 - other))
