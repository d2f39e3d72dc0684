"""One instance of a revision: a real process with a port of its own, in a session of its own."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.logs.entries import STDERR, STDOUT, SYSTEM
from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.run.failures import (
    ended,
    exited,
    failed_probe,
    never_listened,
    no_command,
    not_executable,
)
from controller.emulator.serving.orphans import MARKER
from controller.emulator.serving.output import LONGEST_LINE, Output
from controller.emulator.serving.startup_probe import ProbeFailedError, StartupProbe
from controller.emulator.serving.watchdog import Watchdog
from controller.emulator.settings import Settings

_DRAIN_SECONDS = 1.0
_PORT = re.compile(r"\$\{PORT\}|\$\(PORT\)|\$PORT\b")

OnLine = Callable[[str, str], None]
"""(log id, text) of a line that the instance printed, or that the platform says of it."""


class StartError(Exception):
    """An instance that is not ready for requests; carries the failure as Cloud Run words it."""

    def __init__(self, failure: Failure, said: str = "") -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.said = said or failure.message
        """What the system log says of it."""


class _Process(asyncio.subprocess.SubprocessStreamProtocol):
    """Knows when the process has ended. asyncio's own `wait` also awaits all that hold its pipes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=LONGEST_LINE, loop=loop)
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        """Take note that it has ended."""
        super().process_exited()
        self.ended.set()


class Instance:
    """A process, from its start until nothing of its group is left."""

    def __init__(
        self,
        identity: str,
        key: RevisionKey,
        revision: run_v2.Revision,
        watchdog: Watchdog,
        on_line: OnLine,
    ) -> None:
        self.identity = identity
        self.port = 0
        self.in_flight = 0
        self.idle_since: datetime | None = None
        self.key = key
        self.was_asked_to_end = False
        self._revision = revision
        self._watchdog = watchdog
        self._outputs = {
            log_id: Output(
                lambda line, log_id=log_id: on_line(log_id, line),  # type: ignore[misc]
                lambda text: on_line(SYSTEM, text),
            )
            for log_id in (STDOUT, STDERR)
        }
        self._process: _Process | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._readers: list[asyncio.Task[None]] = []

    @property
    def pid(self) -> int:
        """Return the process id; 0 before the start."""
        return self._transport.get_pid() if self._transport else 0

    async def start(self, clock: Clock, settings: Settings) -> str:
        """Start the process and wait until its startup probe passes; return what the platform says then.

        Raises StartError if the process ends or the probe fails.
        """
        self._transport, self._process = await self._spawned()
        process = self._process
        self._watchdog.began(self.pid)
        streams = (process.stdout, process.stderr)
        self._readers = [
            asyncio.create_task(output.read(stream))
            for output, stream in zip(self._outputs.values(), streams, strict=True)
            if stream is not None
        ]
        probe = StartupProbe.of(self._revision)
        passing = asyncio.create_task(probe.passes(self.port, clock, settings))
        ending = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({passing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                await self._drain()
                code = ending.result()
                raise StartError(exited(self._revision, code, self._last_line()), ended(code))
            return await passing
        except ProbeFailedError as error:
            failure = never_listened if probe.is_default else failed_probe
            raise StartError(failure(self._revision), str(error)) from None
        finally:
            passing.cancel()
            ending.cancel()
            await asyncio.gather(passing, ending, return_exceptions=True)

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
        self.was_asked_to_end = True
        process, transport = self._process, self._transport
        if process is None or transport is None:
            return True
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.ended.wait(), grace_seconds)
        has_ended = process.ended.is_set()
        self._signal(signal.SIGKILL)  # what its children left behind, too
        await process.ended.wait()
        await self._drain()
        transport.close()
        self._watchdog.ended(self.pid)
        return has_ended

    async def _spawned(self) -> tuple[asyncio.SubprocessTransport, _Process]:
        container = self._revision.containers[0]
        command = [*container.command, *container.args]
        if not command:
            raise StartError(no_command(self.key.service))
        try:
            self._watchdog.watch()
            self.port = _free_port()
            loop = asyncio.get_running_loop()
            return await loop.subprocess_exec(
                lambda: _Process(loop),
                *(_PORT.sub(str(self.port), part) for part in command),
                env=self._environment(),
                cwd=container.working_dir or None,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise StartError(not_executable(command[0], str(error))) from None

    def _environment(self) -> Mapping[str, str]:
        chosen = {variable.name: variable.value for variable in self._revision.containers[0].env}
        return {
            **os.environ,
            **chosen,
            "PORT": str(self.port),
            "K_SERVICE": self.key.service,
            "K_REVISION": self.key.revision,
            "K_CONFIGURATION": self.key.service,
            MARKER: self._watchdog.marker,
        }

    def _last_line(self) -> str:
        """Return what it said last, of the errors if there are any."""
        return self._outputs[STDERR].last_line or self._outputs[STDOUT].last_line

    async def _drain(self) -> None:
        """Read what is left to read; a grandchild that keeps the pipe open does not hold us up."""
        if not self._readers:
            return
        _, late = await asyncio.wait(self._readers, timeout=_DRAIN_SECONDS)
        for task in late:
            task.cancel()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
