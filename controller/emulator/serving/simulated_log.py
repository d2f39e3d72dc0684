"""What simulated revisions log: the requests of their users, and the starts of their instances."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

from controller.emulator.calls import Call, Gate, GoOn
from controller.emulator.clock import Clock
from controller.emulator.logs.entries import SYSTEM, HttpRequest
from controller.emulator.logs.store import Logs
from controller.emulator.names import RevisionKey
from controller.emulator.serving.hostnames import Destination, hostname
from controller.emulator.serving.pending import NO_INSTANCE, TOO_MANY_REQUESTS
from controller.emulator.settings import Settings, SimulatedLogs


class Start(NamedTuple):
    """An instance that was started for a request, which had to wait for it."""

    identity: str
    milliseconds: float


class Stretch(NamedTuple):
    """Some time, a minute at most, in which nothing changed but what was drawn."""

    began: datetime
    ends: datetime

    @property
    def seconds(self) -> float:
        """Return how long it is."""
        return (self.ends - self.began).total_seconds()


class Drawn(NamedTuple):
    """A drawn request of a user, with its instants."""

    started: datetime
    ended: datetime
    status: int


class SimulatedLog:
    """Gives drawn requests their instants, and writes entries in order of receipt."""

    def __init__(self, settings: Settings, logs: Logs) -> None:
        self.is_whole = settings.simulated_logs is SimulatedLogs.ALL
        """Whether every request is logged, not only those that failed."""
        self.origins = logs.origins
        self._settings = settings
        self._logs = logs
        self._rng = random.Random(f"{settings.seed} log")
        self._collected: list[tuple[datetime, Callable[[], None]]] = []
        self._collects = False

    @contextmanager
    def in_order(self, until: datetime) -> Iterator[None]:
        """Where every request is logged, write what has ended by `until` in order of receipt, at the end."""
        self._collects = self.is_whole
        try:
            yield
        finally:
            self._collects = False
        if self._collected:
            collected = sorted(self._collected, key=itemgetter(0))
            due = bisect_right(collected, until, key=itemgetter(0))
            self._collected = collected[due:]
            for _, write in collected[:due]:
                write()

    def say(self, key: RevisionKey, text: str, instance: str, at: datetime) -> None:
        """Write a line into the system log."""
        self._write(at, partial(self._logs.add_line, key, SYSTEM, text, at, instance=instance))

    def place(self, drawn: Iterable[tuple[int, float]], stretch: Stretch) -> list[Drawn]:
        """Give requests (status, milliseconds) their instants; return the first one first.

        Where every request is logged their ends are spread over the stretch, else all end with it.
        """
        seconds, requests = stretch.seconds if self.is_whole else 0.0, []
        for status, milliseconds in drawn:
            left = max(0.0, seconds - milliseconds / 1000) * self._rng.random()
            ended = stretch.ends - timedelta(seconds=left)
            requests.append(Drawn(ended - timedelta(milliseconds=milliseconds), ended, status))
        return sorted(requests)

    def answered(
        self, key: RevisionKey, requests: Iterable[Drawn], met: Sequence[Start], instances: Sequence[str]
    ) -> None:
        """Log requests, spread over the instances; the first ones have met a cold start."""
        url = self._url(key)
        for place, (started, ended, status) in enumerate(requests):
            instance, waited = met[place] if place < len(met) else Start(self._any_of(instances), 0.0)
            received = ended + timedelta(milliseconds=waited)
            request = HttpRequest("GET", url, status, received - started)
            self._write(
                received, partial(self._logs.add_request, key, request, started, received, instance=instance)
            )

    def failed(
        self,
        key: RevisionKey,
        status: int,
        latencies: Iterable[float],
        at: datetime,
        instances: Sequence[str],
    ) -> None:
        """Log requests that failed, all at one instant."""
        url = self._url(key)
        for milliseconds in latencies:
            latency = timedelta(milliseconds=milliseconds)
            request = HttpRequest("GET", url, status, latency)
            self._logs.add_request(key, request, at - latency, at, instance=self._any_of(instances))

    def refused(self, key: RevisionKey, requests: int, stretch: Stretch) -> None:
        """Log requests that the platform refused after they had waited for room in vain."""
        waited = timedelta(seconds=self._settings.pending_seconds)
        request = HttpRequest("GET", self._url(key), TOO_MANY_REQUESTS, waited)
        drawn = [(TOO_MANY_REQUESTS, waited / timedelta(milliseconds=1))] * requests
        for started, ended, _ in self.place(drawn, stretch):
            self._write(
                ended, partial(self._logs.add_request, key, request, started, ended, failure=NO_INSTANCE)
            )

    def _url(self, key: RevisionKey) -> str:
        return f"http://{hostname(Destination(key.location, key.service), self._settings.region)}/"

    def _any_of(self, instances: Sequence[str]) -> str:
        return instances[int(self._rng.random() * len(instances))] if instances else ""

    def _write(self, at: datetime, write: Callable[[], None]) -> None:
        if self._collects:
            self._collected.append((at, write))
        else:
            write()


class UpToDate(Gate):
    """Before each call of Cloud Logging, has all requests logged that have ended by then."""

    def __init__(self, clock: Clock, catch_up: Callable[[datetime], None]) -> None:
        self._clock = clock
        self._catch_up = catch_up

    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Catch up, and go on."""
        del request  # what is asked plays no part
        if "LoggingServiceV2" in call.method:
            self._clock.settle()
            self._catch_up(self._clock.now())
        return await go_on()
