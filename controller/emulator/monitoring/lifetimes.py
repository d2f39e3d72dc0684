"""When instances of a revision were alive: in those minutes a count without requests is an explicit 0."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from controller.emulator.monitoring.minutes import MINUTE


@dataclass
class Lifetime:
    """Spans in epoch seconds in which at least one instance was alive; the last of them perhaps open."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    alive: int = 0
    since: float = 0.0

    def start(self, at: float) -> None:
        """One more instance is alive."""
        if not self.alive:
            self.since = at
        self.alive += 1

    def stop(self, at: float) -> None:
        """One instance less is alive."""
        self.alive -= 1
        if not self.alive:
            self.spans.append((self.since, at))

    def among(self, minutes: Sequence[int]) -> frozenset[int]:
        """Return those of some minutes, given by their ends, in which an instance was alive."""
        spans = [*self.spans, (self.since, math.inf)] if self.alive else self.spans
        if not minutes:
            return frozenset()
        newest, oldest = max(minutes), min(minutes) - MINUTE
        near = [(start, end) for start, end in spans if start <= newest and end > oldest]
        return frozenset(
            minute for start, end in near for minute in minutes if start <= minute and minute - MINUTE < end
        )

    def forget_before(self, seconds: float) -> None:
        """Drop the spans that ended before an instant."""
        self.spans = [span for span in self.spans if span[1] >= seconds]

    @property
    def is_over(self) -> bool:
        """Whether nothing is alive, and nothing is remembered."""
        return not self.alive and not self.spans
