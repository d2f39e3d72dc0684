"""The parts of the local Cloud Run put together, on one event loop."""

import random
from datetime import datetime

import grpc.aio

from controller.emulator.calls import Dispatcher, Gate
from controller.emulator.clock import Clock
from controller.emulator.logs.api import LoggingApi
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.api import MonitoringApi
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.rpc import clock_methods, install
from controller.emulator.run.api import RunApi
from controller.emulator.run.operations import Operations
from controller.emulator.run.reconciler import Reconciler
from controller.emulator.run.runtime import Runtime
from controller.emulator.run.services import Services
from controller.emulator.serving.front import Front
from controller.emulator.serving.processes import ProcessRuntime
from controller.emulator.serving.simulated import SimulatedRuntime
from controller.emulator.settings import RuntimeKind, Settings

LARGEST_MESSAGE = 64 * 1024 * 1024
SIMULATED_FRONT_PORT = 8080
"""Simulated revisions have addresses, at which nothing listens."""


class Emulator:
    """Everything that runs on one event loop. Build it on that loop, start it, stop it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock(settings.speed, settings.start)
        self.metrics = Metrics()
        self.logs = Logs(settings.project, settings.log_capacity, random.Random(f"{settings.seed} logs"))
        self.simulated: SimulatedRuntime | None = None
        self.processes: ProcessRuntime | None = None
        self.front: Front | None = None
        self.started_at: datetime = self.clock.now()
        self.grpc_address = self.front_address = self.admin_address = ""
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.so_reuseport", 0)]
        )
        runtime = self._runtime()
        operations = Operations(random.Random(f"{settings.seed} operations"))
        reconciler = Reconciler(self.clock, settings, operations, runtime, self.uri_of)
        self.services = Services(
            self.clock,
            settings,
            operations,
            reconciler,
            runtime,
            random.Random(f"{settings.seed} names"),
            self.log_uri,
        )
        methods = {
            **RunApi(self.services, operations).methods(),
            **MonitoringApi(self.clock, settings, self.metrics).methods(),
            **LoggingApi(self.logs).methods(),
        }
        self.calls = Dispatcher(self.clock, methods, self._gates())
        install(self._server, self.calls)
        install(self._server, Dispatcher(self.clock, clock_methods(self.clock)))

    def _gates(self) -> list[Gate]:
        """Return what every call passes through, the outermost first."""
        return []

    def _runtime(self) -> Runtime:
        rng = random.Random(f"{self.settings.seed} requests")
        if self.settings.runtime is RuntimeKind.SIMULATED:
            self.simulated = SimulatedRuntime(self.clock, self.settings, self.metrics, self.logs, rng)
            return self.simulated
        processes = ProcessRuntime(self.clock, self.settings, self.metrics, self.logs, rng)
        self.processes = processes
        self.front = Front(self.clock, processes, self.metrics, self.logs, random.Random(self.settings.seed))
        return processes

    async def start(self) -> None:
        """Open the ports."""
        host = self.settings.host
        self.grpc_address = f"{host}:{self._listen(self.settings.grpc_port)}"
        self.front_address = f"{host}:{SIMULATED_FRONT_PORT}"
        if self.front is not None:
            self.front_address = f"{host}:{await self.front.start(host, self.settings.front_port)}"
        await self._server.start()

    def _listen(self, port: int) -> int:
        """Return the port that the APIs listen on."""
        try:
            return int(self._server.add_insecure_port(f"{self.settings.host}:{port}"))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.host}:{port}") from error

    async def stop(self) -> None:
        """Close the ports and end every process."""
        await self._server.stop(grace=None)
        if self.processes is not None:
            await self.processes.close()
        if self.front is not None:
            await self.front.stop()
        self.clock.close()

    def uri_of(self, service_id: str, tag: str) -> str:
        """Return the address of a service, or of one of its tags."""
        host = f"{tag}---{service_id}" if tag else service_id
        return f"http://{host}.localhost:{self.front_address.rpartition(':')[2]}"

    def log_uri(self, key: RevisionKey) -> str:
        """Return where to read what a revision printed."""
        return f"http://{self.admin_address}/logs?location={key.location}&service={key.service}&revision={key.revision}"
