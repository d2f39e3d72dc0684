"""Revisions that are real processes, and which of them a request goes to."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.run.runtime import Report, Runtime
from controller.emulator.run.traffic import Split
from controller.emulator.serving.affinity import Cookie, Slots
from controller.emulator.serving.host import Host
from controller.emulator.serving.hostnames import Destination
from controller.emulator.serving.minutes import every_minute
from controller.emulator.serving.pool import Pool
from controller.emulator.serving.scaling import Division
from controller.emulator.serving.urn import Urn
from controller.emulator.settings import Settings

Place = tuple[str, str]
"""Region and short name of a service."""


@dataclass
class Routing:
    """How the requests of one service are led, and what it says of its instances."""

    split: Split = field(default_factory=Split)
    urn: Urn = field(default_factory=Urn)
    slots: Slots = field(default_factory=Slots)
    scaling: run_v2.ServiceScaling = field(default_factory=run_v2.ServiceScaling)


class ProcessRuntime(Runtime):
    """Holds a pool of instances for each revision and the split in force for each service."""

    def __init__(
        self, clock: Clock, settings: Settings, metrics: Metrics, logs: Logs, rng: random.Random
    ) -> None:
        self._host = Host(clock, settings, metrics, logs, rng)
        self._rng = rng
        self._pools: dict[RevisionKey, Pool] = {}
        self._routings: dict[Place, Routing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        every_minute(clock, self._sample)

    def deploy(self, key: RevisionKey, revision: run_v2.Revision, report: Report, at: datetime) -> None:
        """Start one instance and report whether it came to listen."""
        self.adopt(key, revision, at)
        self._begin(self._check_health(self._pools[key], report))

    def adopt(self, key: RevisionKey, revision: run_v2.Revision, at: datetime) -> None:  # noqa: ARG002
        """Take in a revision that counts as healthy; its instances start on demand."""
        self._host.logs.origins.label(key, revision.labels)
        place = key.location, key.service
        self._pools[key] = Pool(key, revision, self._host, self._routing(place).slots)
        self._resize(place)

    def follow(self, location: str, service_id: str, split: Split, at: datetime) -> None:  # noqa: ARG002
        """Send requests by this split from now on; those in flight end where they are."""
        place = location, service_id
        routing = self._routing(place)
        if split.percents != routing.split.percents:
            routing.urn = Urn(split.percents)
        routing.split = split
        routing.slots.follow(split.percents)
        self._resize(place)

    def scale(
        self,
        location: str,
        service_id: str,
        scaling: run_v2.ServiceScaling,
        at: datetime,  # noqa: ARG002
    ) -> None:
        """Keep to the service's own limits of instances from now on."""
        place = location, service_id
        self._routing(place).scaling = scaling
        self._resize(place)

    def remove(self, key: RevisionKey) -> None:
        """Stop the instances of a revision."""
        if (pool := self._pools.pop(key, None)) is not None:
            self._begin(pool.close())
        place = key.location, key.service
        if not self._pools_of(place):
            self._routings.pop(place, None)

    def pools(self) -> list[Pool]:
        """Return the pools of all revisions."""
        return list(self._pools.values())

    def services(self) -> list[Place]:
        """Return the services that can be reached."""
        return sorted(place for place, routing in self._routings.items() if routing.split.revisions())

    def route(self, to: Destination, affinity: str = "") -> Pool | None:
        """Choose a revision for a request: by its tag, by the client's affinity, or by the split.

        `affinity` is the value of the session affinity cookie, whatever it may be. None = there is no such
        service or tag. For the way back, `Pool.affinity_cookie` tells which cookie to set.
        """
        place = to.location, to.service
        routing = self._routings.get(place)
        if routing is None:
            return None
        if to.tag:
            revision = routing.split.tags.get(to.tag)
        else:
            remembered = affinity and self._remembered(place, affinity)
            revision = remembered or routing.urn.draw(self._rng)
        return self._pools.get(RevisionKey(*place, revision)) if revision else None

    async def close(self) -> None:
        """Stop everything; return when nothing is left."""
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pools.clear()
        await self._host.watchdog.close()

    def _remembered(self, place: Place, affinity: str) -> str:
        """Return the revision that the client belongs to; "" if that one does not keep its clients."""
        cookie = Cookie.parse(affinity)
        revision = self._routing(place).slots.owner(cookie.point) if cookie else ""
        pool = self._pools.get(RevisionKey(*place, revision))
        return revision if pool is not None and pool.has_affinity else ""

    def _routing(self, place: Place) -> Routing:
        return self._routings.setdefault(place, Routing())

    def _pools_of(self, place: Place) -> list[Pool]:
        return [pool for key, pool in self._pools.items() if (key.location, key.service) == place]

    def _resize(self, place: Place) -> None:
        """Tell each revision of a service how many instances it keeps and may have."""
        routing = self._routings[place]
        division = Division(routing.scaling, routing.split)
        for pool in self._pools_of(place):
            pool.resize(division.bounds(pool.key.revision, pool.own_bounds))

    def _sample(self, at: datetime) -> None:
        for pool in self._pools.values():
            pool.sample(at)

    async def _check_health(self, pool: Pool, report: Report) -> None:
        failure = await pool.first_instance()
        report(self._host.clock.now(), failure)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
