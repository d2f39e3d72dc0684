"""Sees to it that no instance outlives the local Cloud Run, however that one ends."""

import asyncio
import contextlib
import subprocess
import sys
import uuid


class Watchdog:
    """Keeps a small process that notices when this one is gone; `orphans` is its program."""

    def __init__(self) -> None:
        self.marker = uuid.uuid4().hex
        """What the environment of every instance carries."""
        self._process: subprocess.Popen[bytes] | None = None
        self._pids: set[int] = set()

    def watch(self) -> None:
        """Start the process, before the first instance; and again if somebody has ended it."""
        if self._process is not None and self._process.poll() is None:
            return
        self._drop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "controller.emulator.serving.orphans", self.marker],
            stdin=subprocess.PIPE,  # its other end is ours alone: instances do not inherit it
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for pid in self._pids:
            self._tell(f"+{pid}\n")

    def began(self, pid: int) -> None:
        """Take note of an instance, whose process leads a session of its own."""
        self._pids.add(pid)
        self._tell(f"+{pid}\n")

    def ended(self, pid: int) -> None:
        """Forget an instance of which nothing is left."""
        self._pids.discard(pid)
        self._tell(f"-{pid}\n")

    async def close(self) -> None:
        """Let it end what instances have left behind; return when nothing is left."""
        self._drop_pipe()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone; the next start will tell
                self._process.stdin.write(line.encode())
                self._process.stdin.flush()

    def _drop(self) -> None:
        self._drop_pipe()
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _drop_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
