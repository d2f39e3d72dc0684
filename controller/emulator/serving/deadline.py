"""A time limit that is set anew far more often than it passes: one timer of the event loop serves many."""

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """Calls `passed` once the instant that was set last is over; instants are the event loop's."""

    __slots__ = ("_at", "_loop", "_passed", "_rings_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._at = self._rings_at = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Move the limit. A timer that rings too early looks again, so that a later limit costs nothing."""
        self._at = at
        if at < self._rings_at:
            self._wind(at)

    def clear(self) -> None:
        """Have no limit, and leave no timer behind."""
        self._at = self._rings_at = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def suspend(self) -> None:
        """Have no limit for a while."""
        self._at = inf

    def _wind(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = at
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, inf
        if self._loop.time() >= self._at:
            self._at = inf
            self._passed()
        elif self._at < inf:
            self._wind(self._at)
