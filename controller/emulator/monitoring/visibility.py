"""What Monitoring shows yet: points appear late, and faults can delay, hide or spoil them."""

from collections.abc import Callable
from datetime import timedelta

from controller.emulator.names import RevisionKey


def _nothing(_: str, __: RevisionKey) -> bool:
    return False


class Visibility:
    """The delay of each metric, and what is missing. Every field may be changed at any time."""

    def __init__(self, usual: timedelta) -> None:
        self.usual = usual
        """From the sample on the whole minute until its point can be read."""
        self.extra: dict[str, timedelta] = {}
        """By metric type, on top of the usual delay."""
        self.hidden: Callable[[str, RevisionKey], bool] = _nothing
        """Whether all points of a metric type and revision are missing."""
        self.partial_errors: list[str] = []
        """Messages that every ListTimeSeries reports as execution errors: the answer may be incomplete."""

    def delay(self, metric_type: str) -> timedelta:
        """Return how long after its minute a point of this metric can be read."""
        return self.usual + self.extra.get(metric_type, timedelta())

    def hides(self, metric_type: str, key: RevisionKey) -> bool:
        """Say whether the points of this metric and revision are missing."""
        return self.hidden(metric_type, key)
