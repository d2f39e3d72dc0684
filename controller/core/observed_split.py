"""The observed split: whether the candidate really gets its share of the users.

One that cannot scale looks quiet, since what reaches no instance is not counted; and users may stick to
stable. Both make a step's evidence less than it seems.
"""

from dataclasses import dataclass, replace

from controller.core.counts import Counts
from controller.core.evidence import Tick
from controller.core.sequential import Harm, Line
from controller.core.traffic import ALL

SHORT = 0.5
"""Less than this part of its share is too little: splits are never exact, and users not alike."""


@dataclass(frozen=True)
class ObservedSplit:
    """Evidence, in nats, that the candidate gets less than half of its `percent` of the requests."""

    percent: int = ALL
    needed: float = 0.0
    harm: Harm | None = None

    def after(self, tick: Tick, percent: int) -> "ObservedSplit":
        """Return the evidence after a minute in which the candidate was to have `percent`."""
        harm = self.harm if percent == self.percent else None
        if percent == ALL:
            return replace(self, percent=percent, harm=None)
        most_elsewhere = Line(0, 1 - SHORT * percent / ALL)
        harm = harm or Harm(most_elsewhere, self.needed)
        elsewhere, total = tick.stable.requests, tick.stable.requests + tick.candidate.requests
        return replace(self, percent=percent, harm=harm.after(Counts(), Counts(elsewhere, total)))

    @property
    def log_evidence(self) -> float:
        """The evidence so far, in nats."""
        return self.harm.log_evidence if self.harm else 0.0

    @property
    def is_short(self) -> bool:
        """Whether it is beyond doubt that the candidate gets too little."""
        return self.harm is not None and self.log_evidence >= self.needed
