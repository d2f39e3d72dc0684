"""How many instances the simulated revisions have: as many as their requests fill, until these are idle."""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.scaling import Bounds, Division, own_bounds
from controller.emulator.settings import Settings

STARTUP_MILLISECONDS = 800.0
STARTUP_SPREAD = 0.2
"""Median of the start of an instance, and the standard deviation of its logarithm."""


@dataclass
class Group:
    """The instances of one revision."""

    concurrency: int
    start_seconds: float
    needed_at: datetime
    """When as many as there are were last needed."""
    own: Bounds
    bounds: Bounds = field(default_factory=Bounds)
    alive: int = 0
    busy_seconds: float = 0.0
    """Of all requests since the last whole minute."""


class SimulatedInstances:
    """Follows the requests minute by minute, and tells the metrics."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._rng = random.Random(f"{settings.seed} instances")
        self._groups: dict[RevisionKey, Group] = {}

    def add(self, key: RevisionKey, revision: run_v2.Revision, start_seconds: float, at: datetime) -> None:
        """Take in a revision, whose instances take so long to start besides what every instance takes."""
        seconds = start_seconds if start_seconds < math.inf else 0.0
        self._groups[key] = Group(
            revision.max_instance_request_concurrency, seconds, at, own_bounds(revision.scaling)
        )

    def start_first(self, key: RevisionKey, at: datetime) -> None:
        """Start the instance of a deployment's health check."""
        if key in self._groups:
            self._raise(key, 1, at)

    def answer(self, key: RevisionKey, busy_seconds: float, at: datetime) -> None:
        """Count requests that were under way for so long together."""
        if busy_seconds and key in self._groups:
            self._groups[key].busy_seconds += busy_seconds
            self._raise(key, 1, at)

    def resize(self, location: str, service_id: str, division: Division, at: datetime) -> None:
        """Keep to what a service's own limits leave to each revision from now on."""
        for key, group in self._groups.items():
            if key[:2] == (location, service_id):
                group.bounds = division.bounds(key.revision, group.own)
                self._raise(key, group.bounds.least, at)

    def remove(self, key: RevisionKey, at: datetime) -> None:
        """Stop the instances of a revision and forget it."""
        if (group := self._groups.pop(key, None)) is not None:
            self._stop(key, group.alive, at)

    def minute(self, at: datetime) -> None:
        """Adjust the instances to the requests of the last minute, and note how many there are."""
        for key, group in self._groups.items():
            active = math.ceil(group.busy_seconds / MINUTE / group.concurrency)
            wanted = min(max(active, group.bounds.least), group.bounds.most)
            group.busy_seconds = 0.0
            self._raise(key, wanted, at)
            if wanted < group.alive and at - group.needed_at >= self._settings.idle_timeout:
                self._stop(key, group.alive - wanted, at)
                group.alive, group.needed_at = wanted, at
            if group.alive:
                active = min(active, group.alive)
                self._metrics.sample(key, at, active=active, idle=group.alive - active, pending=0)

    def _raise(self, key: RevisionKey, wanted: int, at: datetime) -> None:
        """Have at least so many instances."""
        group = self._groups[key]
        if wanted < group.alive:
            return
        group.needed_at = at
        for _ in range(wanted - group.alive):
            drawn = self._rng.lognormvariate(math.log(STARTUP_MILLISECONDS), STARTUP_SPREAD)
            self._metrics.instance_started(key, at, group.start_seconds * 1000 + drawn)
        group.alive = wanted

    def _stop(self, key: RevisionKey, number: int, at: datetime) -> None:
        for _ in range(number):
            self._metrics.instance_stopped(key, at)
