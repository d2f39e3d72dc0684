"""What the benchmark finds: results of judges, cells of the grid, and promises to hold them against."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

DEFAULT, UNCAPPED = "canary", "canary, uncapped"
"""What the product's own engine is called beside the other judges."""


@dataclass(frozen=True)
class Result:
    """What a judge did with the runs of a cell: the share rolled back, and the medians where most were."""

    detected: float
    minutes: float | None
    requests: float | None


@dataclass(frozen=True)
class Cell:
    """One kind of traffic and candidate; `bound` in requests to the candidate, infinite for a healthy one."""

    kind: str
    stable: str
    candidate: str
    share: float
    rps: float
    bound: float
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def is_null(self) -> bool:
        """Whether the candidate is as good as stable."""
        return math.isinf(self.bound)

    @property
    def ticks(self) -> float:
        """The bound in minutes."""
        return self.bound / (self.rps * 60 * self.share)


@dataclass(frozen=True)
class Promise:
    """A figure that has to be reached, and what was measured."""

    words: str
    measured: float
    limit: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether the figure is reached."""
        return self.measured <= self.limit


def ratio(cells: Sequence[Cell], judge: str) -> tuple[float, int]:
    """Return the geometric mean of requests over bound, and over how many cells it goes.

    Those cells count where the bound is a minute's requests at least, so that the minute is not the floor,
    and where most runs are detected within the hour.
    """
    ratios = [
        requests / cell.bound
        for cell in cells
        if not cell.is_null and cell.ticks >= 1 and (requests := cell.results[judge].requests) is not None
    ]
    return (math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan), len(ratios)


def false_alarms(cells: Sequence[Cell], judge: str) -> tuple[float, float]:
    """Return the mean and the largest share of healthy runs rolled back in a cell."""
    shares = [cell.results[judge].detected for cell in cells if cell.is_null]
    return sum(shares) / len(shares), max(shares)
