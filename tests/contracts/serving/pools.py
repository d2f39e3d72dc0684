"""A pool of instances by itself, with real processes, on the event loop of a test."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.cloud import run_v2

from contracts.conftest import SECONDS
from controller.emulator.clock import Clock
from controller.emulator.logs.entries import SYSTEM
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.affinity import Slots
from controller.emulator.serving.host import Host
from controller.emulator.serving.instances import Instance
from controller.emulator.serving.pool import Pool
from controller.emulator.settings import Settings

KEY = RevisionKey("local-1", "web", "web-one")
SAMPLE = [sys.executable, "-S", "-m", "controller.emulator.sample"]
FAST = Settings(speed=60, startup_least_seconds=0.5, grace_seconds=2.0)


@dataclass
class Alone:
    """One pool, and everything around it that a test looks at."""

    pool: Pool
    host: Host

    def said(self) -> list[str]:
        """Return what the system log says."""
        return [str(entry.payload) for entry in self.host.logs.all() if entry.origin.log_id == SYSTEM]

    def printed(self) -> list[str]:
        """Return what instances have printed."""
        return [str(entry.payload) for entry in self.host.logs.all() if entry.origin.log_id != SYSTEM]

    async def first(self) -> Instance:
        """Start the instance of a deployment."""
        assert await self.pool.first_instance() is None
        return self.pool.instances[0]


def a_revision(
    *command: str, concurrency: int = 80, most: int = 100, least: int = 0, name: str = "c", **fields: object
) -> run_v2.Revision:
    container = run_v2.Container(
        name=name, command=list(command or SAMPLE), ports=[run_v2.ContainerPort(container_port=8000)]
    )
    return run_v2.Revision(
        service="web",
        containers=[container],
        max_instance_request_concurrency=concurrency,
        scaling=run_v2.RevisionScaling(min_instance_count=least, max_instance_count=most),
        **fields,
    )


def program(text: str) -> tuple[str, ...]:
    """Return the command of a program in Python that knows its port as `port`."""
    return (
        sys.executable,
        "-S",
        "-c",
        f"import os, signal, socket, sys, time\nport = int(os.environ['PORT'])\n{text}",
    )


LISTENS = "listener = socket.create_server(('127.0.0.1', port))\n"


@asynccontextmanager
async def alone(revision: run_v2.Revision, settings: Settings = FAST) -> AsyncIterator[Alone]:
    """Give a pool; at the end everything is stopped."""
    clock = Clock(settings.speed)
    host = Host(clock, settings, Metrics(), Logs("demo", 100_000, 64 << 20), random.Random(1))
    pool = Pool(KEY, revision, host, Slots())
    try:
        yield Alone(pool, host)
    finally:
        await pool.close()
        await host.watchdog.close()
        clock.close()


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait for a condition on this loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.005)
