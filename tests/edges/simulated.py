"""A local Cloud Run whose users and revisions are only numbers, for commands that are real processes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.emulator.state import LocalState

from .conftest import Cloud

USERS_RPS = 50


class SimulatedCloud(Cloud):
    """Costs no process but the commands', so that these have the machine for themselves."""

    def __init__(self, folder: Path, local: LocalCloudRun, services: run_v2.ServicesClient) -> None:
        chosen = local.settings
        addresses = (local.grpc_address, local.front_address, local.admin_address)
        here = LocalState(*addresses, chosen.project, chosen.region, chosen.speed, os.getpid())
        super().__init__(folder, here, services)
        self.local = local

    def candidate(self, **knobs: str) -> str:
        """Deploy a service with users, NAME-v1, and NAME-v2 with these knobs, which serves nobody yet."""
        name = self.two_revisions(**knobs)
        self.local.users(name, USERS_RPS)
        return name


@contextmanager
def a_simulated_cloud(folder: Path, speed: float, **settings: Any) -> Iterator[SimulatedCloud]:
    """Start one in this process, and stop it."""
    chosen = Settings(runtime=RuntimeKind.SIMULATED, speed=speed, **settings)
    with LocalCloudRun.started(chosen) as local:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
            yield SimulatedCloud(folder, local, services)
