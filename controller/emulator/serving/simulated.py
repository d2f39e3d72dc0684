"""Revisions that are only numbers: moving the clock draws the requests they would have answered."""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Unpack

from google.cloud import run_v2

from controller.draws import binomial, poisson
from controller.emulator.clock import Clock
from controller.emulator.logs.entries import HttpRequest
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.run.failures import exited, never_listened
from controller.emulator.run.runtime import Report, Runtime
from controller.emulator.run.traffic import WHOLE, Split
from controller.emulator.serving.hostnames import Destination, hostname
from controller.emulator.serving.knobs import Changes, Knobs
from controller.emulator.serving.latencies import draw_latencies
from controller.emulator.serving.minutes import every_minute
from controller.emulator.serving.scaling import Division
from controller.emulator.serving.simulated_instances import SimulatedInstances
from controller.emulator.settings import Settings

CRASH_CODE = 3
ERROR = 500


@dataclass
class Users:
    """The users of one service: how many requests they send, by which split, and how far that is drawn."""

    reached: datetime
    rps: float = 0.0
    split: Split = field(default_factory=Split)
    scaling: run_v2.ServiceScaling = field(default_factory=run_v2.ServiceScaling)


class SimulatedRuntime(Runtime):
    """Draws requests minute by minute, cut wherever the split or a behaviour changes.

    Metrics get every request; logs get the failed ones only.
    """

    def __init__(
        self, clock: Clock, settings: Settings, metrics: Metrics, logs: Logs, rng: random.Random
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._logs = logs
        self._rng = rng
        self._users: dict[tuple[str, str], Users] = {}
        self._knobs: dict[RevisionKey, Knobs] = {}
        self._chosen: dict[str, Changes] = {}
        """By revision of the emulator's own region."""
        self._starting: dict[RevisionKey, tuple[datetime, Report]] = {}
        self._instances = SimulatedInstances(settings, metrics)
        every_minute(clock, self._minute)

    def deploy(self, key: RevisionKey, revision: run_v2.Revision, report: Report, at: datetime) -> None:
        """Start a revision as its environment says, or as `behave` has said."""
        environment = {variable.name: variable.value for variable in revision.containers[0].env}
        try:
            knobs = Knobs.parse(environment)
        except ValueError as error:
            failure = exited(revision, 1, str(error))
            self._clock.at(at, lambda when: report(when, failure))
            return
        self._take_in(key, revision, knobs, at)
        start = self._starting[key] = (at, report)

        def give_up(when: datetime) -> None:
            if self._starting.get(key) is start:  # else it has ended; a later one may have this name too
                del self._starting[key]
                report(when, never_listened(revision))

        self._clock.at(at + self._settings.startup_timeout, give_up)
        self._await_start(key, revision)

    def adopt(self, key: RevisionKey, revision: run_v2.Revision, at: datetime) -> None:
        """Take in a revision that counts as healthy; one that could not start answers nothing but errors."""
        environment = {variable.name: variable.value for variable in revision.containers[0].env}
        try:
            knobs = Knobs.parse(environment)
        except ValueError:
            knobs = Knobs(error_share=1.0)
        self._take_in(key, revision, knobs, at)

    def behave(self, revision: str, **changes: Unpack[Changes]) -> None:
        """Change how a revision (short name) of the emulator's own region behaves from now on.

        It may be deployed later.
        """
        now = self._clock.now()
        for service in self._users:
            self._draw(service, now)
        self._chosen[revision] = {**self._chosen.get(revision, {}), **changes}
        for key in [key for key in self._knobs if self._is_own(key, revision)]:
            self._knobs[key] = self._knobs[key].changed(changes)
        for key in [key for key in self._starting if self._is_own(key, revision)]:
            self._await_start(key, None)

    def users(self, location: str, service_id: str, rps: float) -> None:
        """Let users send so many requests a second to a service, from now on."""
        now = self._clock.now()
        users = self._users_of(location, service_id, now)
        self._draw((location, service_id), now)
        users.rps = rps

    def follow(self, location: str, service_id: str, split: Split, at: datetime) -> None:
        """Send requests by this split from now on."""
        users = self._users_of(location, service_id, at)
        self._draw((location, service_id), at)
        users.split = split
        self._resize(location, service_id, at)

    def scale(self, location: str, service_id: str, scaling: run_v2.ServiceScaling, at: datetime) -> None:
        """Keep to the service's own limits of instances from now on."""
        self._users_of(location, service_id, at).scaling = scaling
        self._resize(location, service_id, at)

    def remove(self, key: RevisionKey) -> None:
        """Forget a revision, and with the last one of a service all but how many users it has."""
        now, service = self._clock.now(), (key.location, key.service)
        users = self._users_of(*service, now)
        self._draw(service, now)
        self._starting.pop(key, None)
        self._knobs.pop(key, None)
        self._instances.remove(key, now)
        if not any((one.location, one.service) == service for one in self._knobs):
            self._users[service] = Users(now, users.rps)

    def _take_in(self, key: RevisionKey, revision: run_v2.Revision, knobs: Knobs, at: datetime) -> None:
        self._logs.origins.label(key, revision.labels)
        if self._is_own(key, key.revision):
            knobs = knobs.changed(self._chosen.get(key.revision, {}))
        self._knobs[key] = knobs
        self._instances.add(key, revision, knobs.start_seconds, at)
        self._resize(key.location, key.service, at)

    def _is_own(self, key: RevisionKey, revision: str) -> bool:
        return (key.location, key.revision) == (self._settings.region, revision)

    def _resize(self, location: str, service_id: str, at: datetime) -> None:
        users = self._users_of(location, service_id, at)
        self._instances.resize(location, service_id, Division(users.scaling, users.split), at)

    def _users_of(self, location: str, service_id: str, at: datetime) -> Users:
        return self._users.setdefault((location, service_id), Users(reached=at))

    def _await_start(self, key: RevisionKey, revision: run_v2.Revision | None) -> None:
        since, _ = self._starting[key]
        knobs = self._knobs[key]
        if knobs.crashes and revision is not None:
            self._clock.at(since, lambda when: self._crash(key, revision, when))
        elif knobs.start_seconds < math.inf:
            due = max(since + timedelta(seconds=knobs.start_seconds), self._clock.now())
            self._clock.at(due, lambda when: self._try_start(key, when))

    def _crash(self, key: RevisionKey, revision: run_v2.Revision, at: datetime) -> None:
        if key in self._starting:
            _, report = self._starting.pop(key)
            report(at, exited(revision, CRASH_CODE))

    def _try_start(self, key: RevisionKey, at: datetime) -> None:
        """Report a revision as ready, unless it is to take longer by now."""
        if key not in self._starting:
            return
        since, report = self._starting[key]
        if (at - since).total_seconds() >= self._knobs[key].start_seconds:
            del self._starting[key]
            self._instances.start_first(key, at)
            report(at, None)

    def _minute(self, at: datetime) -> None:
        for service in self._users:
            self._draw(service, at)
        self._instances.minute(at)

    def _draw(self, service: tuple[str, str], until: datetime) -> None:
        """Draw the requests since the last draw; they end at `until`, at most one minute later."""
        users = self._users[service]
        seconds = min((until - users.reached).total_seconds(), MINUTE)
        users.reached = max(users.reached, until)
        if seconds <= 0 or not users.rps:
            return
        for name, percent in sorted(users.split.percents.items()):
            requests = poisson(self._rng, users.rps * seconds * percent / WHOLE)
            self._answer(RevisionKey(*service, name), requests, until)

    def _answer(self, key: RevisionKey, requests: int, until: datetime) -> None:
        knobs = self._knobs.get(key)
        if knobs is None:
            return
        failed = binomial(self._rng, requests, knobs.error_share)
        well = draw_latencies(knobs, self._rng, requests - failed)
        badly = draw_latencies(knobs, self._rng, failed)
        self._instances.answer(key, (well.total + badly.total) / 1000, until)
        self._metrics.record_many(key, 200, well, until)
        self._metrics.record_many(key, ERROR, badly, until)
        host = hostname(Destination(key.location, key.service), self._settings.region)
        for _ in range(failed):
            latency = timedelta(milliseconds=knobs.draw_latency(self._rng))
            request = HttpRequest("GET", f"http://{host}/", ERROR, latency)
            self._logs.add_request(key, request, until - latency, until)
