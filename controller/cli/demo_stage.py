"""The demo's stage: a local Cloud Run of its own with a service, its users, and honest counts."""

import os
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from controller.emulator import background
from controller.emulator.deploy import DeployError, Deployment, deploy
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings, SimulatedLogs
from controller.emulator.state import LocalState
from controller.engine.outside import Outside
from controller.wiring import Place, connect

FAILED = 500
SAMPLE = (sys.executable, "-m", "controller.emulator.sample")


class Stage(ABC):
    """A service on a local Cloud Run, its users, and the controller's way to it."""

    def __init__(self, place: Place, service: str) -> None:
        self.outside: Outside = connect(place)
        self.service = service
        self._place = place

    def deploy(self, revision: str, knobs: Mapping[str, str], *, no_traffic: bool) -> str:
        """Deploy the sample service with these knobs and return the revision's name, ready or not.

        One that never starts is what a rollout is to find out, so its failure is no error here.
        """
        name = f"{self.service}-{revision}"
        wanted = Deployment(self.service, SAMPLE, knobs, revision=name, no_traffic=no_traffic)
        try:
            deploy(self._place.emulator, self._place.project, self._place.region, wanted)
        except DeployError:
            if not no_traffic:
                raise
        return name

    @abstractmethod
    def requests(self, revision: str) -> tuple[int, int]:
        """Return how many requests of users the revision has answered, and how many of them with 5xx."""

    @abstractmethod
    def users(self) -> AbstractContextManager[None]:
        """Let the users send their requests for as long as the context lasts."""


class BusyStage(Stage):
    """A service of real processes, with steady traffic from a process of its own."""

    def __init__(self, local: LocalState, service: str, requests_a_second: float) -> None:
        super().__init__(Place(local.project, local.region, local.grpc_address), service)
        self._local = local
        self._requests_a_second = requests_a_second

    def requests(self, revision: str) -> tuple[int, int]:
        """Return how many requests the revision has answered, and how many of them with 5xx."""
        for service in background.status(self._local)["services"]:
            if service["name"] == self.service and revision in service["revisions"]:
                codes: dict[str, int] = service["revisions"][revision]["requests"]
                failed = sum(count for code, count in codes.items() if code.startswith("5"))
                return sum(codes.values()), failed
        return 0, 0

    @contextmanager
    def users(self) -> Iterator[None]:
        """Send steady traffic from a process of its own."""
        command = [sys.executable, "-m", "controller", "local", "load", self.service]
        users = subprocess.Popen(
            [*command, f"--rps={self._requests_a_second}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            users.terminate()
            users.wait(10)


class QuietStage(Stage):
    """A simulated service, so that a cold start is as long on its fast clock as it is in life."""

    def __init__(self, local: LocalCloudRun, service: str, requests_a_second: float) -> None:
        settings = local.settings
        super().__init__(Place(settings.project, settings.region, local.grpc_address), service)
        self._local = local
        self._requests_a_second = requests_a_second
        self._begun = local.now()

    def requests(self, revision: str) -> tuple[int, int]:
        """Return how many requests of users the log has, and how many of them failed."""
        now = self.outside.clock.now()
        logged = self.outside.request_logs.read_requests(self.service, [revision], self._begun, now)
        codes = [request.status for request in logged.requests if not request.is_probe]
        return len(codes), sum(code >= FAILED for code in codes)

    @contextmanager
    def users(self) -> Iterator[None]:
        """Draw requests of users, now and then one."""
        self._local.users(self.service, self._requests_a_second)
        try:
            yield
        finally:
            self._local.users(self.service, 0)


@contextmanager
def a_busy_stage(service: str, speed: float, requests_a_second: float) -> Iterator[Stage]:
    """Give a stage, and take everything down in the end; one of the user's own is left alone."""
    with (
        tempfile.TemporaryDirectory(prefix="canary-demo-") as folder,
        _environment("CANARY_LOCAL_DIR", folder),
    ):
        local = background.start(Settings(speed=speed))
        try:
            yield BusyStage(local, service, requests_a_second)
        finally:
            background.end(local)


@contextmanager
def a_quiet_stage(service: str, speed: float, requests_a_second: float) -> Iterator[Stage]:
    """Give a stage that scales to zero and starts cold."""
    settings = Settings(
        runtime=RuntimeKind.SIMULATED,
        speed=speed,
        simulated_front=True,
        simulated_logs=SimulatedLogs.ALL,
        log_delay=timedelta(seconds=10),
    )
    with LocalCloudRun.started(settings) as local:
        yield QuietStage(local, service, requests_a_second)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
