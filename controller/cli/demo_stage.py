"""The demo's stage: a local Cloud Run of its own with a service, its users, and honest counts."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from controller.emulator import background
from controller.emulator.deploy import DeployError, Deployment, deploy
from controller.emulator.settings import Settings
from controller.emulator.state import LocalState
from controller.engine.outside import Outside
from controller.wiring import Place, connect

SAMPLE = (sys.executable, "-m", "controller.emulator.sample")


@dataclass(frozen=True)
class Stage:
    """A service on a local Cloud Run, and the controller's way to it."""

    local: LocalState
    service: str
    outside: Outside

    def deploy(self, revision: str, knobs: Mapping[str, str], *, no_traffic: bool) -> str:
        """Deploy the sample service with these knobs and return the revision's name, ready or not.

        One that never starts is what a rollout is to find out, so its failure is no error here.
        """
        name = f"{self.service}-{revision}"
        wanted = Deployment(self.service, SAMPLE, knobs, revision=name, no_traffic=no_traffic)
        try:
            deploy(self.local.grpc_address, self.local.project, self.local.region, wanted)
        except DeployError:
            if not no_traffic:
                raise
        return name

    def requests(self, revision: str) -> tuple[int, int]:
        """Return how many requests the revision has answered, and how many of them with 5xx."""
        for service in background.status(self.local)["services"]:
            if service["name"] == self.service and revision in service["revisions"]:
                codes: dict[str, int] = service["revisions"][revision]["requests"]
                failed = sum(count for code, count in codes.items() if code.startswith("5"))
                return sum(codes.values()), failed
        return 0, 0

    @contextmanager
    def users(self, requests_a_second: float) -> Iterator[None]:
        """Send steady traffic from a process of its own."""
        command = [sys.executable, "-m", "controller", "local", "load", self.service]
        users = subprocess.Popen(
            [*command, f"--rps={requests_a_second}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            users.terminate()
            users.wait(10)


@contextmanager
def a_stage(service: str, speed: float) -> Iterator[Stage]:
    """Give a stage, and take everything down in the end; one of the user's own is left alone."""
    with (
        tempfile.TemporaryDirectory(prefix="canary-demo-") as folder,
        _environment("CANARY_LOCAL_DIR", folder),
    ):
        local = background.start(Settings(speed=speed))
        try:
            yield Stage(local, service, connect(Place(local.project, local.region, local.grpc_address)))
        finally:
            background.end(local)


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
