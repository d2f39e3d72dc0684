"""How many instances the simulated revisions have: as many as their requests fill, until these are idle."""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256

from google.cloud import run_v2

from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.autoscaler import AUTOSCALING, MINIMUM, ROLLOUT
from controller.emulator.serving.knobs import Knobs
from controller.emulator.serving.scaling import Bounds, Division, own_bounds
from controller.emulator.serving.simulated_log import SimulatedLog, Start
from controller.emulator.settings import Settings

STARTUP_MILLISECONDS = 800.0
STARTUP_SPREAD = 0.2
"""Median of the start of an instance, and the standard deviation of its logarithm."""


@dataclass
class Group:
    """The instances of one revision."""

    concurrency: int
    start_seconds: float
    listens_at: datetime
    """When the first instance listens."""
    needed_at: datetime
    """When as many as there are were last needed."""
    own: Bounds
    bounds: Bounds = field(default_factory=Bounds)
    identities: list[str] = field(default_factory=list)
    started: int = 0
    """So many instances ever."""
    cold: list[Start] = field(default_factory=list)
    """Those started for requests of which none has come to them yet."""
    busy_seconds: float = 0.0
    """Of all requests since the last whole minute."""
    waiting: float = 0.0
    """Requests that wait for room."""
    refused_share: float = 0.0
    """Of the last requests."""

    @property
    def alive(self) -> int:
        """Return how many there are."""
        return len(self.identities)


class SimulatedInstances:
    """Follows the requests minute by minute, and tells the metrics and the log."""

    def __init__(self, settings: Settings, metrics: Metrics, log: SimulatedLog) -> None:
        self._settings = settings
        self._metrics = metrics
        self._log = log
        self._rng = random.Random(f"{settings.seed} instances")
        self._refusals = random.Random(f"{settings.seed} refusals")
        self._choices = random.Random(f"{settings.seed} choices")
        self._groups: dict[RevisionKey, Group] = {}

    def add(self, key: RevisionKey, revision: run_v2.Revision, start_seconds: float, at: datetime) -> None:
        """Take in a revision, whose instances take so long to start besides what every instance takes."""
        self._groups[key] = Group(
            revision.max_instance_request_concurrency,
            _finite(start_seconds),
            listens_at=at,
            needed_at=at,
            own=own_bounds(revision.scaling),
        )

    def slow_down(self, key: RevisionKey, start_seconds: float) -> None:
        """Let instances take so long to start from now on."""
        self._groups[key].start_seconds = _finite(start_seconds)

    def start_first(self, key: RevisionKey, at: datetime) -> None:
        """Start the instance of a deployment's health check."""
        if key in self._groups:
            self._raise(key, 1, at, ROLLOUT)

    def refuse(self, key: RevisionKey, requests: int, knobs: Knobs, seconds: float) -> int:
        """Return how many of the requests of so many seconds find no room, whatever is started.

        As many wait as can be answered in the time that a request waits at most; the others are refused.
        """
        group = self._groups[key]
        group.refused_share = 0.0
        if not knobs.mean_seconds:
            return 0
        a_second = group.concurrency * group.bounds.most / knobs.mean_seconds
        waiting = group.waiting + requests - a_second * seconds
        group.waiting = min(max(0.0, waiting), a_second * self._settings.pending_seconds)
        excess = waiting - group.waiting
        if excess <= 0 or not requests:
            return 0
        refused = min(requests, int(excess + self._refusals.random()))
        group.refused_share = refused / requests
        return refused

    def refuses_one(self, key: RevisionKey) -> bool:
        """Return whether one more request finds no room: as probable as it was for the last ones."""
        group = self._groups[key]
        return not group.bounds.most or self._refusals.random() < group.refused_share

    def answer(self, key: RevisionKey, busy_seconds: float, at: datetime) -> list[Start]:
        """Count requests that were under way for so long together; return the instances they waited for."""
        group = self._groups[key]
        group.busy_seconds += busy_seconds
        self._raise(key, 1, at, AUTOSCALING)
        met, group.cold = group.cold, []
        return met

    def answer_one(self, key: RevisionKey, busy_seconds: float, at: datetime) -> Start:
        """Count one request; return its instance, and how long it waits until that listens."""
        group = self._groups[key]
        group.busy_seconds += busy_seconds
        if not group.alive:
            self._raise(key, 1, at, AUTOSCALING)
            (started,) = group.cold
            group.cold, group.listens_at = [], at + timedelta(milliseconds=started.milliseconds)
        waits = max(0.0, (group.listens_at - at).total_seconds())
        return Start(self._choices.choice(group.identities), waits * 1000)

    def alive(self, key: RevisionKey) -> list[str]:
        """Return the ids of a revision's instances."""
        return self._groups[key].identities

    def resize(self, location: str, service_id: str, division: Division, at: datetime) -> None:
        """Keep to what a service's own limits leave to each revision from now on."""
        for key, group in self._groups.items():
            if key[:2] == (location, service_id):
                group.bounds = division.bounds(key.revision, group.own)
                self._raise(key, group.bounds.least, at, MINIMUM)

    def remove(self, key: RevisionKey, at: datetime) -> None:
        """Stop the instances of a revision and forget it."""
        if key in self._groups:
            self._stop(key, self._groups[key].alive, at)
            del self._groups[key]

    def minute(self, at: datetime) -> None:
        """Adjust the instances to the requests of the last minute, and note how many there are."""
        for key, group in self._groups.items():
            active = math.ceil(group.busy_seconds / MINUTE / group.concurrency)
            wanted = min(max(active, group.bounds.least), group.bounds.most)
            if not group.busy_seconds:
                group.waiting = group.refused_share = 0.0
            group.busy_seconds = 0.0
            self._raise(key, wanted, at, AUTOSCALING)
            if wanted < group.alive and at - group.needed_at >= self._settings.idle_timeout:
                self._stop(key, group.alive - wanted, at)
                group.needed_at = at
            if group.alive or group.waiting:
                active, pending = min(active, group.alive), math.ceil(group.waiting)
                self._metrics.sample(key, at, active=active, idle=group.alive - active, pending=pending)

    def _raise(self, key: RevisionKey, wanted: int, at: datetime, reason: str) -> None:
        """Have at least so many instances."""
        group = self._groups[key]
        if wanted < group.alive:
            return
        group.needed_at = at
        for _ in range(wanted - group.alive):
            self._start(key, group, at, reason)

    def _start(self, key: RevisionKey, group: Group, at: datetime, reason: str) -> None:
        drawn = self._rng.lognormvariate(math.log(STARTUP_MILLISECONDS), STARTUP_SPREAD)
        milliseconds = group.start_seconds * 1000 + drawn
        group.started += 1
        identity = sha256(f"{key} {group.started} {at}".encode()).hexdigest()
        group.identities.append(identity)
        if reason is AUTOSCALING:
            group.cold.append(Start(identity, milliseconds))
        self._metrics.instance_started(key, at, milliseconds)
        self._log.say(key, f"Starting new instance. Reason: {reason}", identity, at)

    def _stop(self, key: RevisionKey, number: int, at: datetime) -> None:
        """Stop the instances that were started last."""
        group = self._groups[key]
        for _ in range(number):
            self._metrics.instance_stopped(key, at)
        kept = group.alive - number
        stopped, group.identities = group.identities[kept:], group.identities[:kept]
        group.cold = [one for one in group.cold if one.identity not in stopped]


def _finite(seconds: float) -> float:
    return seconds if seconds < math.inf else 0.0
