"""The parts of the local Cloud Run put together, on one event loop."""

import asyncio
import random
from datetime import datetime
from pathlib import Path

import grpc.aio

from controller.emulator.access.gate import AccessGate
from controller.emulator.access.policy_file import read_iam_file
from controller.emulator.calls import Dispatcher, Gate, Methods
from controller.emulator.clock import Clock
from controller.emulator.faults.gate import FaultGate
from controller.emulator.faults.strikes import Reach
from controller.emulator.images import ImageRuntime, Images, ImageTasks
from controller.emulator.knative.locations import LocationsApi
from controller.emulator.knative.versions import VersionGate
from controller.emulator.logs.api import LoggingApi
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.api import MonitoringApi
from controller.emulator.monitoring.store import Metrics
from controller.emulator.monitoring.visibility import Visibility
from controller.emulator.names import RevisionKey
from controller.emulator.quotas import QuotaGate
from controller.emulator.rpc import clock_methods, install
from controller.emulator.run.api import RunApi
from controller.emulator.run.control_plane import ControlPlane
from controller.emulator.run.runtime import Runtime
from controller.emulator.serving.front import Front
from controller.emulator.serving.hostnames import Destination, hostname
from controller.emulator.serving.job_processes import JobProcesses
from controller.emulator.serving.process_front import ProcessFront
from controller.emulator.serving.processes import ProcessRuntime
from controller.emulator.serving.simulated import SimulatedRuntime
from controller.emulator.serving.simulated_front import SimulatedFront
from controller.emulator.serving.simulated_log import UpToDate
from controller.emulator.settings import RuntimeKind, Settings, SimulatedLogs
from controller.emulator.storage.storage import Kept, Storage

LARGEST_MESSAGE = 64 * 1024 * 1024
SAVE_SECONDS = 1.0
"""Real seconds between two savings of what is kept across restarts."""
SIMULATED_FRONT_PORT = 8080
"""Of the addresses of simulated revisions where these do not answer HTTP: nothing listens there."""


class Emulator:
    """Everything that runs on one event loop. Build it on that loop, start it, stop it."""

    def __init__(self, settings: Settings) -> None:
        self._policy = None
        if settings.iam:  # before anything is opened that would have to be closed
            self._policy = read_iam_file(Path(settings.iam), settings.project, settings.region)
        self.storage = Storage(Path(settings.state)) if settings.state else None
        self._next_save: asyncio.TimerHandle | None = None
        if self.storage is not None:
            settings = self.storage.settings(settings)
        self.settings = settings
        self.clock = Clock(settings.speed, settings.start)
        self.metrics = Metrics()
        self.visibility = Visibility(settings.visibility_delay)
        self.logs = Logs(settings.project, settings.log_capacity, settings.log_bytes)
        self.images = Images()
        self.simulated: SimulatedRuntime | None = None
        self.processes: ProcessRuntime | None = None
        self.front: Front | None = None
        self.started_at: datetime = self.clock.now()
        self.grpc_address = self.front_address = self.admin_address = ""
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.so_reuseport", 0)]
        )
        runtime = self._runtime()
        self.tasks = JobProcesses(self.clock, self.logs, settings.grace_seconds, self._job_environment)
        tasks = ImageTasks(self.clock, self.images, self.tasks)
        self.control_plane = ControlPlane(self.clock, settings, runtime, tasks, self.uri_of, self.log_uri)
        self.services = self.control_plane.services
        self.jobs = self.control_plane.jobs.catalog
        access = self._access()
        methods = {
            **RunApi(self.control_plane, settings.project, access.test).methods(),
            **MonitoringApi(settings, self.metrics, self.visibility).methods(),
            **LoggingApi(self.logs, settings).methods(),
            **LocationsApi(settings, self.services).methods(),
        }
        self.calls = Dispatcher(self.clock, methods, self._gates(methods, access))
        install(self._server, self.calls)
        install(self._server, Dispatcher(self.clock, clock_methods(self.clock)))

    def _access(self) -> AccessGate:
        return AccessGate(self._policy, self.services, self.settings.project)

    def _gates(self, methods: Methods, access: AccessGate) -> list[Gate]:
        """Return what every call passes through, the outermost first."""
        reach = Reach(self.clock, Dispatcher(self.clock, methods), self.control_plane.hold_up)
        names = [f"/{service}/{name}" for service, by_name in methods.items() for name in by_name]
        self.faults = FaultGate(names, reach, self.visibility)
        gates = [self.faults, QuotaGate(self.settings), access, VersionGate(self.services)]
        if self.simulated is not None and self.settings.simulated_logs is SimulatedLogs.ALL:
            gates.append(UpToDate(self.clock, self.simulated.catch_up))
        return gates

    def _runtime(self) -> Runtime:
        rng = random.Random(f"{self.settings.seed} requests")
        if self.settings.runtime is RuntimeKind.SIMULATED:
            simulated = SimulatedRuntime(self.clock, self.settings, self.metrics, self.logs, rng)
            self.simulated = simulated
            if self.settings.simulated_front:
                rng = random.Random(f"{self.settings.seed} front")
                self.front = SimulatedFront(
                    self.clock, self.settings, simulated, self.metrics, self.logs, rng
                )
            return simulated
        processes = ProcessRuntime(self.clock, self.settings, self.metrics, self.logs, rng)
        self.processes = processes
        self.front = ProcessFront(
            self.clock, self.settings, processes, self.metrics, self.logs, random.Random(self.settings.seed)
        )
        return ImageRuntime(self.clock, self.images, processes)

    async def start(self) -> None:
        """Open the ports."""
        host = self.settings.host
        self.grpc_address = f"{host}:{self._listen(self.settings.grpc_port)}"
        self.front_address = f"{host}:{SIMULATED_FRONT_PORT}"
        if self.front is not None:
            self.front_address = f"{host}:{await self.front.start(host, self.settings.front_port)}"
        if self.storage is not None:
            self.storage.restore(self._kept())
            self._keep_saving(self.storage)
        await self._server.start()

    def _kept(self) -> Kept:
        return Kept(self.control_plane, self.metrics, self.logs, self.images)

    def _save(self, storage: Storage) -> None:
        ports = {"grpc": self.grpc_address, "front": self.front_address, "admin": self.admin_address}
        about = {f"{name}_port": address.rpartition(":")[2] or "0" for name, address in ports.items()}
        about |= {"project": self.settings.project, "region": self.settings.region}
        storage.save(self._kept(), self.clock.now(), about)

    def _keep_saving(self, storage: Storage) -> None:
        """Save after a second, and again and again: less often where it takes long."""

        def save() -> None:
            begun = loop.time()
            self._save(storage)
            took = loop.time() - begun
            self._next_save = loop.call_later(max(SAVE_SECONDS, 20 * took), save)

        loop = asyncio.get_running_loop()
        self._next_save = loop.call_later(SAVE_SECONDS, save)

    def _listen(self, port: int) -> int:
        """Return the port that the APIs listen on."""
        try:
            return int(self._server.add_insecure_port(f"{self.settings.host}:{port}"))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self.settings.host}:{port}") from error

    async def stop(self) -> None:
        """Close the ports and end every process."""
        await self._server.stop(grace=None)
        await self.tasks.close()
        if self.processes is not None:
            await self.processes.close()
        if self.front is not None:
            await self.front.stop()
        if self.storage is not None:
            if self._next_save is not None:  # else it was never read, and must not be overwritten
                self._next_save.cancel()
                self._save(self.storage)
            self.storage.close()
        self.clock.close()

    def _job_environment(self) -> dict[str, str]:
        """Return the variables by which a task finds this local Cloud Run."""
        return {"CLOUD_RUN_EMULATOR_HOST": self.grpc_address}

    def uri_of(self, location: str, service_id: str, tag: str) -> str:
        """Return the address of a service, or of one of its tags."""
        host = hostname(Destination(location, service_id, tag), self.settings.region)
        return f"http://{host}:{self.front_address.rpartition(':')[2]}"

    def log_uri(self, key: RevisionKey) -> str:
        """Return where to read what a revision printed."""
        return f"http://{self.admin_address}/logs?location={key.location}&service={key.service}&revision={key.revision}"
