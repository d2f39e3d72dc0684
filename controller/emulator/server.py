"""The local Cloud Run in a thread of its own, for tests and for a demo."""

import asyncio
import os
import shlex
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, Unpack

from controller.emulator import gcloud
from controller.emulator.admin import Admin
from controller.emulator.assembly import Emulator
from controller.emulator.deploy import Deployed, Deployment, Wishes, deploy
from controller.emulator.images import Image
from controller.emulator.monitoring.store import Metrics
from controller.emulator.serving.knobs import Changes
from controller.emulator.serving.simulated import SimulatedRuntime
from controller.emulator.settings import Settings
from controller.emulator.state import LocalState

T = TypeVar("T")
MOVE_SECONDS = 0.01
"""Real seconds between two moves of a clock that nobody else moves during a deployment."""


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

    def environment(self, directory: Path, principal: str = "") -> dict[str, str]:
        """Return the variables by which `canary` and gcloud find it; gcloud keeps its own in `directory`."""
        settings = self.settings
        addresses = (self.grpc_address, self.front_address, self.admin_address)
        here = LocalState(*addresses, settings.project, settings.region, settings.speed, os.getpid())
        return gcloud.environment(here, directory, principal)

    def deploy(self, service: str, command: Sequence[str] | str, **wanted: Unpack[Wishes]) -> Deployed:
        """Run a command as a new revision; return when it is ready and in force; raises DeployError.

        A clock that is moved by hand is moved meanwhile.
        """
        words = shlex.split(command) if isinstance(command, str) else command
        place = (self.grpc_address, self.settings.project, self.settings.region)
        with ThreadPoolExecutor(1) as pool:
            deploying = pool.submit(deploy, *place, Deployment(service, words, **wanted))
            while not self.settings.speed and not deploying.done():
                self.advance(timedelta(seconds=1))
                wait([deploying], timeout=MOVE_SECONDS)
            deployed = deploying.result()
        self._await(self._propagated())
        return deployed

    async def _propagated(self) -> None:
        """Wait until requests follow a split that is shown by now."""
        clock, reached = self._emulator.clock, asyncio.Event()
        clock.at(clock.now() + self.settings.propagation_delay, lambda _: reached.set())
        if not clock.speed:
            clock.advance(self.settings.propagation_delay)
        await reached.wait()

    def image(self, name: str, command: Sequence[str], working_dir: str = "", **env: str) -> None:
        """Let a command run in place of an image, with or without tag, from the next deployment on."""
        self._do(lambda: self._emulator.images.put(Image(name, tuple(command), working_dir, env)))

    def now(self) -> datetime:
        """Return the emulated time."""
        return self._emulator.clock.now()

    def advance(self, by: timedelta) -> None:
        """Move a hand-moved clock; return when everything has happened that was due on the way."""
        self._do(lambda: self._emulator.clock.advance(by))

    def methods(self) -> set[str]:
        """Return the full names of the methods that are served."""
        served = self._emulator.calls.methods
        return {f"/{service}/{name}" for service, by_name in served.items() for name in by_name}

    def jump_clock(self, by: timedelta) -> None:
        """Set the clock forward or back at once; see Clock.jump."""
        self._do(lambda: self._emulator.clock.jump(by))

    def fault(self, kind: str, **fields: Any) -> int:
        """Ask for a fault, and return its number; raises FaultInvalid.

        The fields are those of faults/fault.py, with `for` written `lasts`.
        """
        return self.fault_of({"kind": kind, **fields})

    def fault_of(self, description: Mapping[str, Any]) -> int:
        """Ask for a fault as it is described over HTTP."""
        return self._do(lambda: self._emulator.faults.add(description)).number

    def faults(self) -> list[dict[str, Any]]:
        """Return every fault, with how often it has struck."""
        return self._do(self._emulator.faults.all)

    def clear_faults(self) -> None:
        """Let nothing go wrong any more."""
        self._do(self._emulator.faults.clear)

    def behave(self, revision: str, **changes: Unpack[Changes]) -> None:
        """Change how a simulated revision (short name) behaves from now on; before its deployment too.

        With `start_seconds=math.inf` it never listens.
        """
        self._do(lambda: self._simulated().behave(revision, **changes))

    def users(self, service_id: str, rps: float) -> None:
        """Let simulated users send so many requests a second to a service, from now on."""
        self._do(lambda: self._simulated().users(self.settings.region, service_id, rps))

    def measure(self, action: Callable[[Metrics], T]) -> T:
        """Read or write the store of metrics itself, between two things that happen."""
        return self._do(lambda: action(self._emulator.metrics))

    def _simulated(self) -> SimulatedRuntime:
        if self._emulator.simulated is None:
            raise ValueError(
                "only a simulated local Cloud Run has users and behaviours; these are real processes"
            )
        return self._emulator.simulated

    async def _started(self) -> Emulator:
        emulator = Emulator(self.settings)
        try:
            await emulator.start()
        except BaseException:
            await emulator.stop()
            raise
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
