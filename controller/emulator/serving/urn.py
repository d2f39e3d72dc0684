"""Draws the revision of each request so that the split is exact in the long run and open in each case."""

import random
from collections.abc import Mapping

BALLS_OF_A_PERCENT = 10


class Urn:
    """An urn with ten balls for each percent of a split, from which each request takes one for good.

    Nobody can tell which revision a request will get, and a few dozen requests are spread as if each were
    drawn by itself; but after every thousand the counts are those of the split. Drawn each by itself, a
    share of 10 % of 100,000 requests would be wrong by 0.2 points one time in thirty.
    """

    def __init__(self, percents: Mapping[str, int] | None = None) -> None:
        self._filling = {name: percent * BALLS_OF_A_PERCENT for name, percent in (percents or {}).items()}
        self._left: dict[str, int] = {}
        self._total = 0

    def draw(self, rng: random.Random) -> str | None:
        """Take out a ball; return the revision it stands for, or None if the split is empty."""
        if not self._total:
            self._left = dict(self._filling)
            self._total = sum(self._filling.values())
        place = rng.random() * self._total
        for name, balls in self._left.items():
            place -= balls
            if place < 0:
                self._left[name] = balls - 1
                self._total -= 1
                return name
        return None
