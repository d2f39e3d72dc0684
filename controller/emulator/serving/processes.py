"""Revisions that are real processes, and which of them a request goes to."""

import asyncio
import random
from collections.abc import Coroutine
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.run.failures import no_command
from controller.emulator.run.runtime import Report, Runtime
from controller.emulator.run.traffic import WHOLE, Split
from controller.emulator.serving.instances import StartError
from controller.emulator.serving.pool import Pool
from controller.emulator.settings import Settings


class ProcessRuntime(Runtime):
    """Holds a pool of instances for each revision and the split in force for each service."""

    def __init__(
        self, clock: Clock, settings: Settings, metrics: Metrics, logs: Logs, rng: random.Random
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._logs = logs
        self._rng = rng
        self._pools: dict[RevisionKey, Pool] = {}
        self._splits: dict[str, tuple[str, Split]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def deploy(self, key: RevisionKey, revision: run_v2.Revision, report: Report, at: datetime) -> None:
        """Start one instance and report whether it came to listen."""
        if not revision.containers[0].command:
            self._clock.at(at, lambda when: report(when, no_command(key.service)))
            return
        pool = Pool(key, revision, self._clock, self._settings, self._metrics, self._logs, self._rng)
        self._pools[key] = pool
        self._begin(self._check_health(pool, report))

    def follow(self, location: str, service_id: str, split: Split, at: datetime) -> None:  # noqa: ARG002
        """Send requests by this split from now on; those in flight end where they are."""
        self._splits[service_id] = (location, split)

    def remove(self, key: RevisionKey) -> None:
        """Stop the instances of a revision."""
        if (pool := self._pools.pop(key, None)) is not None:
            self._begin(pool.close())
        location_and_split = self._splits.get(key.service)
        if location_and_split and key.revision in location_and_split[1].revisions():
            del self._splits[key.service]

    def pools(self) -> list[Pool]:
        """Return the pools of all revisions."""
        return list(self._pools.values())

    def services(self) -> list[str]:
        """Return the names of the services that can be reached."""
        return sorted(self._splits)

    def route(self, service_id: str, tag: str) -> Pool | None:
        """Choose a revision for a request: by its tag, or at random by the split; None = there is none."""
        if service_id not in self._splits:
            return None
        location, split = self._splits[service_id]
        revision = split.tags.get(tag) if tag else self._drawn(split)
        return self._pools.get(RevisionKey(location, service_id, revision)) if revision else None

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        self._pools.clear()

    def _drawn(self, split: Split) -> str | None:
        place = self._rng.random() * WHOLE
        for revision, percent in split.percents.items():
            place -= percent
            if place < 0:
                return revision
        return None

    async def _check_health(self, pool: Pool, report: Report) -> None:
        try:
            await pool.first_instance()
        except StartError as error:
            report(self._clock.now(), error.failure)
        else:
            report(self._clock.now(), None)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
