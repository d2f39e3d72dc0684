"""One instance of a revision: a real process with a port of its own, in a session of its own."""

import asyncio
import os
import re
import socket
from collections.abc import Mapping
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
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
from controller.emulator.serving.child import Child, OnLine, SpawnError
from controller.emulator.serving.orphans import MARKER
from controller.emulator.serving.startup_probe import ProbeFailedError, StartupProbe
from controller.emulator.serving.watchdog import Watchdog
from controller.emulator.settings import Settings

_PORT = re.compile(r"\$\{PORT\}|\$\(PORT\)|\$PORT\b")


class StartError(Exception):
    """An instance that is not ready for requests; carries the failure as Cloud Run words it."""

    def __init__(self, failure: Failure, said: str = "") -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.said = said or failure.message
        """What the system log says of it."""


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
        self._marker = watchdog.marker
        self._child = Child(watchdog, on_line)

    @property
    def pid(self) -> int:
        """Return the process id; 0 before the start."""
        return self._child.pid

    async def start(self, clock: Clock, settings: Settings) -> str:
        """Start the process and wait until its startup probe passes; return what the platform says then.

        Raises StartError if the process ends or the probe fails.
        """
        await self._spawn()
        probe = StartupProbe.of(self._revision)
        passing = asyncio.create_task(probe.passes(self.port, clock, settings))
        ending = asyncio.create_task(self.wait())
        try:
            await asyncio.wait({passing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                await self._child.drain()
                code = ending.result()
                raise StartError(exited(self._revision, code, self._child.last_line), ended(code))
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
        return await self._child.wait()

    async def stop(self, grace_seconds: float) -> bool:
        """Ask the whole group to end, and end it if it does not; return whether asking was enough."""
        self.was_asked_to_end = True
        return await self._child.stop(grace_seconds)

    async def _spawn(self) -> None:
        container = self._revision.containers[0]
        command = [*container.command, *container.args]
        if not command:
            raise StartError(no_command(self.key.service))
        try:
            self.port = _free_port()
            words = [_PORT.sub(str(self.port), part) for part in command]
            await self._child.start(words, self._environment(), container.working_dir)
        except (SpawnError, OSError) as error:
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
            MARKER: self._marker,
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
