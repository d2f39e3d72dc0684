"""The emulator's clock: real time at any speed, or moved by hand, and what is due on it."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Action = Callable[[datetime], None]

MANUAL_START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
LONGEST_JUMP = timedelta(days=31)


class Clock:
    """Tells the emulated time and runs actions at the instant they are due, in order of time.

    An action gets the instant it was due at, not the instant it happened to run at, so that state
    follows the emulated time alone.
    """

    def __init__(self, speed: float = 1.0, start: datetime | None = None) -> None:
        if speed < 0:
            raise ValueError(f"speed must be 0 (moved by hand) or more, not {speed}")
        self.speed = speed
        self._origin = start or (datetime.now(UTC) if speed else MANUAL_START)
        self._real_origin = time.monotonic()
        self._due: list[tuple[datetime, int, Action]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False

    def now(self) -> datetime:
        """Return the emulated time, aware, UTC."""
        if not self.speed:
            return self._origin
        return self._origin + timedelta(seconds=(time.monotonic() - self._real_origin) * self.speed)

    def at(self, when: datetime, action: Action) -> None:
        """Run the action when the clock reaches `when`; at once if it already has and nothing else is due."""
        heapq.heappush(self._due, (when, next(self._order), action))
        self._arm()

    def settle(self) -> None:
        """Run everything that is due by now."""
        self._run_until(self.now())
        self._arm()

    def advance(self, by: timedelta) -> None:
        """Move a hand-moved clock, stopping at each instant on the way at which something is due."""
        if self.speed:
            raise ValueError(
                f"this clock runs by itself at speed {self.speed:g}; only speed 0 is moved by hand"
            )
        if by < timedelta():
            raise ValueError(f"the clock cannot go back ({by})")
        target = self._origin + by
        self._run_until(target)
        self._origin = target

    def jump(self, by: timedelta) -> None:
        """Set the clock forward or back at once, whether it runs by itself or not.

        Forward, everything due on the way happens, in order of time. Back, the clock shows an earlier time
        and nothing is undone: what is due at an instant happens when the clock gets there again.
        """
        if abs(by) > LONGEST_JUMP:
            raise ValueError(f"the clock jumps {LONGEST_JUMP.days} days at most, not {by}")
        if not self.speed and by > timedelta():
            self.advance(by)
            return
        self._origin += by
        self.settle()

    def close(self) -> None:
        """Forget what was due."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _run_until(self, target: datetime) -> None:
        if self._settling:  # an action that asks for the state must not start a second round
            return
        self._settling = True
        try:
            while self._due and self._due[0][0] <= target:
                when, _, action = heapq.heappop(self._due)
                if not self.speed:
                    self._origin = max(self._origin, when)
                action(when)
        finally:
            self._settling = False

    def _arm(self) -> None:
        """Let the event loop wake us for the next thing due; a hand-moved clock has no need of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.speed or not self._due or self._settling:
            return
        wait = (self._due[0][0] - self.now()).total_seconds() / self.speed
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wait), self.settle)
