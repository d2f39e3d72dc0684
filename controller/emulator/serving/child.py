"""A process in a session of its own, its output read by lines, from its start until nothing of it is left."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from controller.emulator.logs.entries import STDERR, STDOUT, SYSTEM
from controller.emulator.serving.output import LONGEST_LINE, Output
from controller.emulator.serving.watchdog import Watchdog

_DRAIN_SECONDS = 1.0

OnLine = Callable[[str, str], None]
"""(log id, text) of a line that the process printed, or that the platform says of it."""


class SpawnError(Exception):
    """A command that could not be started at all; the text says why."""


class _Process(asyncio.subprocess.SubprocessStreamProtocol):
    """Knows when the process has ended. asyncio's own `wait` also awaits all that hold its pipes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=LONGEST_LINE, loop=loop)
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        """Take note that it has ended."""
        super().process_exited()
        self.ended.set()


class Child:
    """A process, and all of its group; the watchdog ends it if this one is gone."""

    def __init__(self, watchdog: Watchdog, on_line: OnLine) -> None:
        self._watchdog = watchdog
        self._outputs = {
            log_id: Output(partial(on_line, log_id), partial(on_line, SYSTEM)) for log_id in (STDOUT, STDERR)
        }
        self._process: _Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """Return the process id; 0 before the start."""
        return self._transport.get_pid() if self._transport else 0

    @property
    def last_line(self) -> str:
        """Return what it said last, of the errors if there are any."""
        return self._outputs[STDERR].last_line or self._outputs[STDOUT].last_line

    async def start(self, command: Sequence[str], env: Mapping[str, str], cwd: str = "") -> None:
        """Start the process; raises SpawnError."""
        try:
            self._watchdog.watch()
            loop = asyncio.get_running_loop()
            self._transport, self._process = await loop.subprocess_exec(
                lambda: _Process(loop),
                *command,
                env=env,
                cwd=cwd or None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SpawnError(str(error)) from None
        self._watchdog.began(self.pid)
        streams = (self._process.stdout, self._process.stderr)
        self._readers = [
            asyncio.create_task(output.read(stream))
            for output, stream in zip(self._outputs.values(), streams, strict=True)
            if stream is not None
        ]

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit code, or the number of its signal below zero."""
        if self._process is None or self._transport is None:
            return 0
        await self._process.ended.wait()
        return self._transport.get_returncode() or 0

    async def stop(self, grace_seconds: float) -> bool:
        """Ask the whole group to end, and end it if it does not; return whether asking was enough.

        The time from SIGTERM to SIGKILL is in real seconds. A template cannot change it: the field for that,
        `termination_grace_period`, is not in the client library.
        """
        process, transport = self._process, self._transport
        if process is None or transport is None:
            return True
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.ended.wait(), grace_seconds)
        has_ended = process.ended.is_set()
        self._signal(signal.SIGKILL)  # what its children left behind, too
        await process.ended.wait()
        await self.drain()
        transport.close()
        self._watchdog.ended(self.pid)
        return has_ended

    async def drain(self) -> None:
        """Read what is left to read; a grandchild that keeps the pipe open does not hold us up."""
        if not self._readers:
            return
        _, late = await asyncio.wait(self._readers, timeout=_DRAIN_SECONDS)
        for task in late:
            task.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
