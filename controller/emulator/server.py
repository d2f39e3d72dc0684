"""The local Cloud Run in a thread of its own, for tests and for a demo."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar, Unpack

from controller.emulator.admin import Admin
from controller.emulator.assembly import Emulator
from controller.emulator.deploy import Deployed, Deployment, Wishes, deploy
from controller.emulator.serving.knobs import Changes
from controller.emulator.serving.simulated import SimulatedRuntime
from controller.emulator.settings import Settings

T = TypeVar("T")


class LocalCloudRun:
    """A running local Cloud Run, usable from synchronous code in any thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._admin: Admin | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local-cloud-run", daemon=True)

    @classmethod
    @contextmanager
    def started(cls, settings: Settings | None = None) -> Iterator["LocalCloudRun"]:
        """Start it, and stop it with all its processes at the end of the block."""
        local = cls(settings or Settings())
        local.start()
        try:
            yield local
        finally:
            local.stop()

    def start(self) -> None:
        """Open the ports; the addresses are known from then on."""
        self._thread.start()
        try:
            self._emulator = self._await(self._started())
        except BaseException:
            self._end_thread()
            raise

    def stop(self) -> None:
        """Close the ports and end every process."""
        try:
            self._await(self._stopped())
        finally:
            self._end_thread()

    @property
    def grpc_address(self) -> str:
        """Return HOST:PORT of the APIs."""
        return self._emulator.grpc_address

    @property
    def front_address(self) -> str:
        """Return HOST:PORT at which services answer."""
        return self._emulator.front_address

    @property
    def admin_address(self) -> str:
        """Return HOST:PORT of the status page."""
        return self._emulator.admin_address

    def environment(self) -> dict[str, str]:
        """Return the variables by which the command `canary` and the controller find it."""
        return {
            "CLOUD_RUN_EMULATOR_HOST": self.grpc_address,
            "GOOGLE_CLOUD_PROJECT": self.settings.project,
            "CLOUD_RUN_REGION": self.settings.region,
        }

    def deploy(self, service: str, command: Sequence[str], **wanted: Unpack[Wishes]) -> Deployed:
        """Run a command as a new revision; return when it is ready; raises DeployError."""
        return deploy(
            self.grpc_address,
            self.settings.project,
            self.settings.region,
            Deployment(service, command, **wanted),
        )

    def now(self) -> datetime:
        """Return the emulated time."""
        return self._emulator.clock.now()

    def advance(self, by: timedelta) -> None:
        """Move a hand-moved clock; return when everything has happened that was due on the way."""
        self._do(lambda: self._emulator.clock.advance(by))

    def behave(self, revision: str, **changes: Unpack[Changes]) -> None:
        """Change how a simulated revision (short name) behaves from now on; before its deployment too.

        With `start_seconds=math.inf` it never listens.
        """
        self._do(lambda: self._simulated().behave(revision, **changes))

    def users(self, service_id: str, rps: float) -> None:
        """Let simulated users send so many requests a second to a service, from now on."""
        self._do(lambda: self._simulated().users(self.settings.region, service_id, rps))

    def _simulated(self) -> SimulatedRuntime:
        if self._emulator.simulated is None:
            raise ValueError(
                "only a simulated local Cloud Run has users and behaviours; these are real processes"
            )
        return self._emulator.simulated

    async def _started(self) -> Emulator:
        emulator = Emulator(self.settings)
        await emulator.start()
        if emulator.processes is not None:
            self._admin = Admin(emulator)
            await self._admin.start()
        return emulator

    async def _stopped(self) -> None:
        await self._emulator.stop()
        if self._admin is not None:
            await self._admin.stop()

    def _do(self, action: Callable[[], T]) -> T:
        async def act() -> T:
            return action()

        return self._await(act())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
