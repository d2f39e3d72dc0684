"""What an instance prints, read line by line, however much it is."""

import asyncio
import time
from collections.abc import Callable

LONGEST_LINE = 16 * 1024
MOST_LINES = 10_000
MOST_BYTES = 8 * 1024 * 1024
"""What of one stream is kept in a real second; the rest is counted and dropped."""
_SECOND = 1.0

OnLine = Callable[[str], None]


class Output:
    """One stream of an instance. Reading never stops: a process must not block on a full pipe."""

    def __init__(self, on_line: OnLine, on_drop: OnLine) -> None:
        self.last_line = ""
        self._on_line = on_line
        self._on_drop = on_drop
        self._pending = b""
        self._second = 0.0
        self._lines = self._bytes = self._dropped = 0

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Hand on each line until the stream ends, cut where it is too long."""
        while chunk := await stream.read(LONGEST_LINE):
            self._take(chunk)
            await asyncio.sleep(0)  # others have their turn, though there may be more to read
        if self._pending:
            self._hand_on(self._pending)
        self._say_dropped()

    def _take(self, chunk: bytes) -> None:
        now = time.monotonic()
        if now - self._second >= _SECOND:
            self._say_dropped()
            self._second, self._lines, self._bytes = now, 0, 0
        if self._lines >= MOST_LINES or self._bytes >= MOST_BYTES:
            self._dropped += chunk.count(b"\n")
            self._pending = b""
            return
        self._bytes += len(chunk)
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        self._lines += len(lines)
        for line in lines:
            self._hand_on(line)
        while len(self._pending) >= LONGEST_LINE:
            self._hand_on(self._pending[:LONGEST_LINE])
            self._pending = self._pending[LONGEST_LINE:]

    def _hand_on(self, line: bytes) -> None:
        for start in range(0, len(line), LONGEST_LINE):
            text = line[start : start + LONGEST_LINE].decode(errors="replace").rstrip("\r")
            if text:
                self.last_line = text
                self._on_line(text)

    def _say_dropped(self) -> None:
        if self._dropped:
            self._on_drop(
                f"{self._dropped} lines dropped: the instance prints more than {MOST_LINES} lines or "
                f"{MOST_BYTES >> 20} MiB in a second."
            )
            self._dropped = 0
