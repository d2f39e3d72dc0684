"""One instance of a revision: a real process with a port of its own, in a process group of its own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.logs.store import STDERR, STDOUT
from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.run.failures import exited, never_listened, not_executable

LONGEST_LINE = 16 * 1024
PROBE_SECONDS = 0.02
GRACE_SECONDS = 10.0
"""Real seconds from SIGTERM to SIGKILL."""
_PORT = re.compile(r"\$\{PORT\}|\$\(PORT\)|\$PORT\b")

OnLine = Callable[[str, str], None]
"""(log id, text) of a line that the instance printed."""


class StartError(Exception):
    """An instance that does not listen; carries the failure as Cloud Run words it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Instance:
    """A process, from its start until nothing of its group is left."""

    def __init__(self, identity: str, key: RevisionKey, revision: run_v2.Revision, on_line: OnLine) -> None:
        self.identity = identity
        self.port = _free_port()
        self.in_flight = 0
        self.key = key
        self._revision = revision
        self._on_line = on_line
        self._last_lines: deque[str] = deque(maxlen=1)
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """Return the process id; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self, clock: Clock, patience: timedelta, least_seconds: float) -> None:
        """Start the process and wait until it listens; raises StartError if it ends or takes too long.

        The patience is on the emulator's clock, but at least so many real seconds: a fast clock does not
        make a process start faster.
        """
        command = [*self._revision.containers[0].command, *self._revision.containers[0].args]
        environment = self._environment()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(_PORT.sub(str(self.port), part) for part in command),
                env=environment,
                cwd=self._revision.containers[0].working_dir or None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise StartError(not_executable(command[0], str(error))) from None
        self._readers = [
            asyncio.create_task(self._read(self._process.stdout, STDOUT)),
            asyncio.create_task(self._read(self._process.stderr, STDERR)),
        ]
        await self._until_listening(self._process, clock, patience, least_seconds)

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit code."""
        return await self._process.wait() if self._process else 0

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Ask the whole group to end, and end it if it does not."""
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace_seconds)
        self._signal(signal.SIGKILL)  # what its children left behind, too
        await self._process.wait()
        await self._drain()

    def _environment(self) -> Mapping[str, str]:
        chosen = {variable.name: variable.value for variable in self._revision.containers[0].env}
        return {
            **os.environ,
            **chosen,
            "PORT": str(self.port),
            "K_SERVICE": self.key.service,
            "K_REVISION": self.key.revision,
            "K_CONFIGURATION": self.key.service,
        }

    async def _until_listening(
        self, process: asyncio.subprocess.Process, clock: Clock, patience: timedelta, least_seconds: float
    ) -> None:
        started, real_started = clock.now(), time.monotonic()
        while not await _listens(self.port):
            if process.returncode is not None:
                await self._drain()
                last = self._last_lines[-1] if self._last_lines else ""
                raise StartError(exited(self._revision, process.returncode, last))
            is_late = clock.now() - started >= patience and time.monotonic() - real_started >= least_seconds
            if is_late:
                raise StartError(never_listened(self._revision))
            await asyncio.sleep(PROBE_SECONDS)

    async def _read(self, stream: asyncio.StreamReader | None, log_id: str) -> None:
        """Hand on each line, cut where it is too long; a process must never block on a full pipe."""
        pending = b""
        while stream is not None and (chunk := await stream.read(LONGEST_LINE)):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._hand_on(line, log_id)
            if len(pending) >= LONGEST_LINE:
                self._hand_on(pending, log_id)
                pending = b""
        if pending:
            self._hand_on(pending, log_id)

    def _hand_on(self, line: bytes, log_id: str) -> None:
        text = line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
        if text:
            self._last_lines.append(text)
            self._on_line(log_id, text)

    async def _drain(self) -> None:
        """Read what is left to read; a grandchild that keeps the pipe open does not hold us up."""
        _, late = await asyncio.wait(self._readers, timeout=1.0)
        for task in late:
            task.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
