"""Limits on a share of requests: broken or kept, as sure as the numbers allow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist


@dataclass(frozen=True)
class Share:
    """`part` of `whole` requests, and the bounds between which their true share lies."""

    part: int
    whole: int

    def at_least(self, level: float) -> float:
        """Return a lower bound of the true share; it is wrong with probability `level`."""
        return self._wilson(level, -1)

    def at_most(self, level: float) -> float:
        """Return an upper bound of the true share; it is wrong with probability `level`."""
        return self._wilson(level, 1)

    def _wilson(self, level: float, side: int) -> float:
        """One side of the score interval (Wilson 1927, "Probable inference")."""
        if not self.whole:
            return 0.0 if side < 0 else 1.0
        z, n, p = -NormalDist().inv_cdf(level), self.whole, self.part / self.whole
        middle = p + z * z / (2 * n)
        spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return min(1.0, max(0.0, (middle + side * spread) / (1 + z * z / n)))


Bounds = Callable[[float], float]


@dataclass(frozen=True)
class Limit:
    """What a share of the candidate's requests must stay under: a line, or stable's own share.

    `lowest_allowed` and `highest_allowed` bound the allowed share at a level of error, as a Share does for
    its own; a ceiling is certain and returns itself. `stable` is what stable has of a ceiling.
    """

    words: str
    candidate: Share
    lowest_allowed: Bounds
    highest_allowed: Bounds
    fewest_requests: int
    """The smaller of the numbers of requests that the limit rests on."""
    stable: Share | None = None

    def is_broken(self, level: float) -> bool:
        """Tell whether the candidate is above the limit, but for a chance of `level`."""
        return self.candidate.at_least(level / 2) > self.highest_allowed(level / 2)

    def is_kept(self, level: float) -> bool:
        """Tell whether the candidate is under the limit, but for a chance of `level`."""
        return self.candidate.at_most(level / 2) <= self.lowest_allowed(level / 2)

    def is_broken_by_stable(self, level: float) -> bool:
        """Tell whether stable is above the same ceiling."""
        return self.stable is not None and self.stable.at_least(level / 2) > self.highest_allowed(level / 2)

    def odds(self, level: float) -> str:
        """Return how rarely chance alone would break the limit like this, in steps of ten."""
        smallest = level
        for smaller in chain((level,), (10.0**-power for power in range(2, 13))):
            if smaller <= smallest and self.is_broken(smaller):
                smallest = smaller
        return f"less than 1 in {1 / smallest:,.0f} by chance"


def ceiling_on(words: str, candidate: Share, stable: Share, most: float) -> Limit:
    """Return the limit that a fixed share, 0 to 1, sets."""
    return Limit(words, candidate, lambda _: most, lambda _: most, candidate.whole, stable)


def tolerance_on(words: str, candidate: Share, stable: Share, factor: float = 1, points: float = 0) -> Limit:
    """Return the limit that stable's own share sets: at most `factor` times as much, and `points` more."""
    return Limit(
        words,
        candidate,
        lambda level: factor * stable.at_least(level) + points,
        lambda level: factor * stable.at_most(level) + points,
        min(candidate.whole, stable.whole),
    )
