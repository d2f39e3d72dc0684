"""Revisions that are only numbers: moving the clock draws the requests they would have answered."""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Unpack

from google.cloud import run_v2

from controller.draws import binomial, poisson
from controller.emulator.clock import Clock
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.run.failures import exited, never_listened
from controller.emulator.run.runtime import Report, Runtime
from controller.emulator.run.traffic import WHOLE, Split
from controller.emulator.serving.hostnames import Destination
from controller.emulator.serving.knobs import Changes, Knobs
from controller.emulator.serving.latencies import draw_each, draw_latencies
from controller.emulator.serving.minutes import every_minute
from controller.emulator.serving.pending import NO_INSTANCE, TOO_MANY_REQUESTS, UNAVAILABLE
from controller.emulator.serving.scaling import Division
from controller.emulator.serving.simulated_instances import SimulatedInstances
from controller.emulator.serving.simulated_log import SimulatedLog, Start, Stretch
from controller.emulator.serving.urn import Urn
from controller.emulator.settings import Settings

CRASH_CODE = 3
OK, ERROR = 200, 500


@dataclass
class Users:
    """The users of one service: how many requests they send, by which split, and how far that is drawn."""

    reached: datetime
    rps: float = 0.0
    split: Split = field(default_factory=Split)
    urn: Urn = field(default_factory=Urn)
    """Of those who come over HTTP."""
    scaling: run_v2.ServiceScaling = field(default_factory=run_v2.ServiceScaling)


class Reply(NamedTuple):
    """What becomes of one request over HTTP."""

    status: int
    text: str
    instance: Start | None = None
    """None = no instance gets it, the platform refuses it."""
    milliseconds: float = 0.0


class SimulatedRuntime(Runtime):
    """Draws requests minute by minute, cut wherever the split or a behaviour changes.

    Metrics get every request; logs get the failed ones only, unless the settings ask for all.
    """

    def __init__(
        self, clock: Clock, settings: Settings, metrics: Metrics, logs: Logs, rng: random.Random
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._rng = rng
        self._http_rng = random.Random(f"{settings.seed} http")
        self._users: dict[tuple[str, str], Users] = {}
        self._knobs: dict[RevisionKey, Knobs] = {}
        self._chosen: dict[str, Changes] = {}
        """By revision of the emulator's own region."""
        self._starting: dict[RevisionKey, tuple[datetime, Report]] = {}
        self._log = SimulatedLog(settings, logs)
        self._instances = SimulatedInstances(settings, metrics, self._log)
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
        self.catch_up(self._clock.now())
        self._chosen[revision] = {**self._chosen.get(revision, {}), **changes}
        for key in [key for key in self._knobs if self._is_own(key, revision)]:
            self._knobs[key] = self._knobs[key].changed(changes)
            self._instances.slow_down(key, self._knobs[key].start_seconds)
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
        if split.percents != users.split.percents:
            users.urn = Urn(split.percents)
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

    def catch_up(self, at: datetime) -> None:
        """Draw all requests until then."""
        with self._log.in_order(at):
            for service in self._users:
                self._draw_users(service, at)

    def keep_order(self, at: datetime) -> None:
        """Have logged what was received until then, where every request is logged."""
        if self._log.is_whole:
            self.catch_up(at)

    def services(self) -> list[tuple[str, str]]:
        """Return the services that can be reached."""
        return sorted(place for place, users in self._users.items() if users.split.revisions())

    def route(self, to: Destination) -> RevisionKey | None:
        """Choose a revision for a request, by its tag or by the split; None = nobody is there."""
        users = self._users.get((to.location, to.service))
        if users is None:
            return None
        revision = users.split.tags.get(to.tag) if to.tag else users.urn.draw(self._http_rng)
        key = RevisionKey(to.location, to.service, revision or "")
        return key if key in self._knobs else None

    def ask(self, key: RevisionKey, user_agent: bytes, at: datetime) -> Reply:
        """Decide about one request over HTTP."""
        self.keep_order(at)
        knobs = self._knobs.get(key)
        if knobs is None or (knobs.never_listens and not self._instances.alive(key)):
            return Reply(UNAVAILABLE, NO_INSTANCE)
        if self._instances.refuses_one(key):
            return Reply(TOO_MANY_REQUESTS, NO_INSTANCE)
        fails = self._http_rng.random() < knobs.error_share_of(user_agent)
        milliseconds = knobs.draw_latency(self._http_rng)
        instance = self._instances.answer_one(key, milliseconds / 1000, at)
        return Reply(ERROR if fails else OK, "error" if fails else knobs.text, instance, milliseconds)

    def _take_in(self, key: RevisionKey, revision: run_v2.Revision, knobs: Knobs, at: datetime) -> None:
        self._log.origins.label(key, revision.labels)
        if self._is_own(key, key.revision):
            knobs = knobs.changed(self._chosen.get(key.revision, {}))
        self._knobs[key] = knobs
        self._instances.add(key, revision, knobs.start_seconds, at)
        self._resize(key.location, key.service, at)

    def _is_own(self, key: RevisionKey, revision: str) -> bool:
        return (key.location, key.revision) == (self._settings.region, revision)

    def _resize(self, location: str, service_id: str, at: datetime) -> None:
        users = self._users_of(location, service_id, at)
        self.keep_order(at)
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
            self.keep_order(at)
            self._instances.start_first(key, at)
            report(at, None)

    def _minute(self, at: datetime) -> None:
        self.catch_up(at)
        self._instances.minute(at)

    def _draw(self, service: tuple[str, str], until: datetime) -> None:
        """Draw the requests of a service; where each is logged those of all, which are logged in order."""
        if self._log.is_whole:
            self.catch_up(until)
        else:
            self._draw_users(service, until)

    def _draw_users(self, service: tuple[str, str], until: datetime) -> None:
        """Draw the requests since the last draw; they end by `until`, in the last minute before it."""
        users = self._users[service]
        stretch = Stretch(max(users.reached, until - timedelta(seconds=MINUTE)), until)
        users.reached = max(users.reached, until)
        if stretch.seconds <= 0 or not users.rps:
            return
        for name, percent in sorted(users.split.percents.items()):
            requests = poisson(self._rng, users.rps * stretch.seconds * percent / WHOLE)
            self._answer(RevisionKey(*service, name), requests, stretch)

    def _answer(self, key: RevisionKey, requests: int, stretch: Stretch) -> None:
        knobs = self._knobs.get(key)
        if knobs is None:
            return
        refused = self._instances.refuse(key, requests, knobs, stretch.seconds)
        answered = requests - refused
        failed = binomial(self._rng, answered, knobs.error_share)
        if self._log.is_whole:
            self._answer_each(key, knobs, (answered - failed, failed), stretch)
        else:
            self._answer_many(key, knobs, (answered - failed, failed), stretch)
        if refused:
            self._log.refused(key, refused, stretch)

    def _answer_many(self, key: RevisionKey, knobs: Knobs, times: tuple[int, int], stretch: Stretch) -> None:
        """Answer requests so many times well and badly, and log the latter."""
        well, badly = (draw_latencies(knobs, self._rng, number) for number in times)
        if well.count or badly.count:
            self._instances.answer(key, (well.total + badly.total) / 1000, stretch.ends)
        self._metrics.record_many(key, OK, well, stretch.ends)
        self._metrics.record_many(key, ERROR, badly, stretch.ends)
        latencies = (knobs.draw_latency(self._rng) for _ in range(badly.count))
        self._log.failed(key, ERROR, latencies, stretch.ends, self._instances.alive(key))

    def _answer_each(self, key: RevisionKey, knobs: Knobs, times: tuple[int, int], stretch: Stretch) -> None:
        """Answer requests so many times well and badly, and log each."""
        drawn = []
        for status, number in zip((OK, ERROR), times, strict=True):
            latencies, each = draw_each(knobs, self._rng, number)
            self._metrics.record_many(key, status, latencies, stretch.ends)
            drawn += [(status, latency) for latency in each]
        if drawn:
            requests = self._log.place(drawn, stretch)
            busy_seconds = sum(latency for _, latency in drawn) / 1000
            met = self._instances.answer(key, busy_seconds, requests[0].started)
            self._log.answered(key, requests, met, self._instances.alive(key))
