"""Session affinity: a cookie that leads a client back to its instance, and through it to its revision."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from controller.emulator.run.traffic import WHOLE

COOKIE_NAME = "GAESA"
POINTS = 2**32
_POINT_DIGITS = 8
_INSTANCE_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Cookie:
    """A point from 0 to below `POINTS` that stands for the client, and how an instance's identity begins."""

    point: int
    instance: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a cookie's value; None if no local Cloud Run wrote it."""
        if len(text) != _POINT_DIGITS + _INSTANCE_DIGITS:
            return None
        try:
            int(text, 16)
            return cls(int(text[:_POINT_DIGITS], 16), text[_POINT_DIGITS:])
        except ValueError:
            return None

    @classmethod
    def of(cls, point: int, identity: str) -> Self:
        """Return the cookie of a client that an instance serves."""
        return cls(point, identity[:_INSTANCE_DIGITS])

    def names(self, identity: str) -> bool:
        """Return whether it leads to this instance."""
        return identity.startswith(self.instance)

    def __str__(self) -> str:
        return f"{self.point:0{_POINT_DIGITS}x}{self.instance}"


class Slots:
    """Which revision each hundredth of a service's clients belongs to.

    A new split takes slots from the revisions that lose percents and gives them to those that gain: from
    90/10 to 80/20, ten of a hundred clients move, and no split moves more than it has to.
    """

    def __init__(self) -> None:
        self._owners: list[str] = []

    def follow(self, percents: Mapping[str, int]) -> None:
        """Divide the slots by a split, whose percents sum to 100 (or there are none)."""
        owners = self._owners or [""] * WHOLE
        kept: Counter[str] = Counter()
        free = []
        for position, owner in enumerate(owners):
            if kept[owner] < percents.get(owner, 0):
                kept[owner] += 1
            else:
                free.append(position)
        for revision, percent in percents.items():
            for _ in range(percent - kept[revision]):
                owners[free.pop()] = revision
        self._owners = owners if percents else []

    def owner(self, point: int) -> str:
        """Return the revision that a client belongs to; "" before there is a split."""
        return self._owners[point * WHOLE // POINTS] if self._owners else ""

    def draw(self, revision: str, rng: random.Random) -> int:
        """Return a point for a new client of a revision, any point if the revision has no share."""
        slots = [position for position, owner in enumerate(self._owners) if owner == revision]
        if not slots:
            return rng.randrange(POINTS)
        slot = rng.choice(slots)
        return rng.randrange(-(-slot * POINTS // WHOLE), -(-(slot + 1) * POINTS // WHOLE))
