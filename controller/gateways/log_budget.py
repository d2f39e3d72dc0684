"""The budget of reading logs: Cloud Logging's quota is small, and shared by a whole project."""

from collections.abc import Callable
from datetime import datetime

CALLS_A_MINUTE = 15.0
"""Of the 60 `entries.list` that a project has in all."""
LEAST_CALLS_A_MINUTE = 1.0
REGAINED_A_MINUTE = 1.0
"""So many more calls a minute, with each minute in which nothing was refused."""
SECONDS = 60.0
SHORTEST_WAIT = 1e-6
"""Seconds; no clock here tells less."""


class LogBudget:
    """A token bucket of calls, whose rate is halved at each refusal and regained slowly (AIMD).

    It fills up to the calls of one minute, so after a quiet minute there may be twice as many in one. One
    budget serves all reads of a process.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._rate = self._calls = CALLS_A_MINUTE
        self._closed_for = 0.0
        self._at: datetime | None = None
        """When it was asked last; the clock may be far away, and is not asked before there is need."""

    @property
    def rate(self) -> float:
        """Calls a minute, at present."""
        self._pass_time()
        return self._rate

    def wait(self) -> float:
        """Return the seconds until a call may be made; 0 is now."""
        self._pass_time()
        seconds = self._closed_for + max(0.0, 1 - self._calls) / self._rate * SECONDS
        return seconds if seconds > SHORTEST_WAIT else 0.0

    def spend(self) -> None:
        """Count a call; a read that is tried again may run up a debt."""
        self._pass_time()
        self._calls -= 1

    def halve(self, wait: float) -> None:
        """Make half as many calls as before, and none at all for so many seconds: one was refused."""
        self._pass_time()
        self._rate = max(LEAST_CALLS_A_MINUTE, self._rate / 2)
        self._calls = min(self._calls, 1.0)  # the first call afterwards finds out whether it is over
        self._closed_for = max(self._closed_for, wait)

    def _pass_time(self) -> None:
        now = self._now()
        since = self._at or now
        passed = max(0.0, (now - since).total_seconds())  # a clock that was set back takes nothing away
        minutes = max(0.0, passed - self._closed_for) / SECONDS
        self._at = now
        self._closed_for = max(0.0, self._closed_for - passed)
        self._calls = min(self._rate, self._calls + self._rate * minutes)
        self._rate = min(CALLS_A_MINUTE, self._rate + REGAINED_A_MINUTE * minutes)
