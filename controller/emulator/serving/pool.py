"""The instances of one revision: started on demand, filled up to their concurrency, stopped when idle."""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.instants import seconds_of
from controller.emulator.logs.store import SYSTEM, Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.instances import Instance, StartError
from controller.emulator.settings import Settings

AUTOSCALING = "AUTOSCALING - Instance started because no existing instance had room for the request."
ROLLOUT = "DEPLOYMENT_ROLLOUT - Instance started for the health check of a deployment."
LONGEST_PENDING_SECONDS = 10.0
"""Real seconds a request waits for an instance when none can be started."""
TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503


class NoInstanceError(Exception):
    """A request that no instance could take; the platform answers it with this status."""

    def __init__(self, status: int) -> None:
        super().__init__("The request was aborted because there was no available instance.")
        self.status = status


class Pool:
    """Hands out instances with room for one more request, and starts and stops them."""

    def __init__(
        self,
        key: RevisionKey,
        revision: run_v2.Revision,
        clock: Clock,
        settings: Settings,
        metrics: Metrics,
        logs: Logs,
        rng: random.Random,
    ) -> None:
        self.key = key
        self.timeout_seconds = seconds_of(revision.timeout)
        self.instances: list[Instance] = []
        self._revision = revision
        self._concurrency = revision.max_instance_request_concurrency
        self._most = revision.scaling.max_instance_count
        self._least = revision.scaling.min_instance_count
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._logs = logs
        self._rng = rng
        self._starting = 0
        self._waiting: deque[asyncio.Future[Instance]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_since: dict[Instance, datetime] = {}
        self._closed = False

    async def first_instance(self) -> None:
        """Start the instance of a deployment's health check; raises StartError."""
        await self._start(ROLLOUT)
        for _ in range(1, self._least):
            self._begin(self._start_for_demand())

    def try_acquire(self) -> Instance | None:
        """Take a place in the least busy instance, if one has room."""
        with_room = (one for one in self.instances if one.in_flight < self._concurrency)
        instance = min(with_room, key=lambda one: one.in_flight, default=None)
        if instance is not None:
            instance.in_flight += 1
        return instance

    async def acquire(self) -> Instance:
        """Take a place in an instance, waiting for one to start if need be; raises NoInstanceError."""
        if (instance := self.try_acquire()) is not None:
            return instance
        place: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        can_grow = len(self.instances) + self._starting < self._most and not self._closed
        if can_grow and len(self._waiting) > self._starting * self._concurrency:
            self._begin(self._start_for_demand())
        limit = LONGEST_PENDING_SECONDS if not self._starting else self._longest_start()
        try:
            return await asyncio.wait_for(place, limit)
        except TimeoutError:
            raise NoInstanceError(TOO_MANY_REQUESTS) from None

    def release(self, instance: Instance) -> None:
        """Give a place back."""
        instance.in_flight -= 1
        self._serve_waiting()
        if not instance.in_flight:
            self._note_idle(instance)

    async def close(self) -> None:
        """Stop every instance, and what is still starting."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        instances, self.instances = self.instances, []
        for _ in instances:
            self._metrics.instance_stopped(self.key, self._clock.now())
        await asyncio.gather(*(instance.stop() for instance in instances))

    def _longest_start(self) -> float:
        emulated = self._settings.startup_timeout.total_seconds() / (self._clock.speed or 1.0)
        return max(emulated, self._settings.startup_least_seconds) + LONGEST_PENDING_SECONDS

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_for_demand(self) -> None:
        try:
            await self._start(AUTOSCALING)
        except StartError as error:
            self._logs.add_line(self.key, SYSTEM, str(error), self._clock.now())
            while self._waiting and not self.instances:
                place = self._waiting.popleft()
                if not place.done():
                    place.set_exception(NoInstanceError(UNAVAILABLE))

    async def _start(self, reason: str) -> None:
        identity = f"{self._rng.getrandbits(256):064x}"
        self._say(f"Starting new instance. Reason: {reason}", identity)
        instance = Instance(
            identity, self.key, self._revision, lambda log_id, text: self._print(log_id, text, identity)
        )
        self._starting += 1
        try:
            await instance.start(
                self._clock, self._settings.startup_timeout, self._settings.startup_least_seconds
            )
        except BaseException:
            await instance.stop()
            raise
        finally:
            self._starting -= 1
        self._say(
            f'Default STARTUP TCP probe succeeded for container "app" on port {instance.port}.', identity
        )
        self.instances.append(instance)
        self._metrics.instance_started(self.key, self._clock.now())
        self._begin(self._watch(instance))
        self._serve_waiting()
        self._note_idle(instance)
        self._check_when_idle(instance)

    async def _watch(self, instance: Instance) -> None:
        """Take out an instance whose process ended by itself."""
        code = await instance.wait()
        if instance in self.instances:
            self._take_out(instance)
            self._say(f"Container terminated on exit({code}).", instance.identity)
            await instance.stop()

    def _take_out(self, instance: Instance) -> None:
        self.instances.remove(instance)
        self._idle_since.pop(instance, None)
        self._metrics.instance_stopped(self.key, self._clock.now())

    def _serve_waiting(self) -> None:
        while self._waiting:
            if self._waiting[0].done():
                self._waiting.popleft()
            elif (instance := self.try_acquire()) is not None:
                self._waiting.popleft().set_result(instance)
            else:
                return

    def _note_idle(self, instance: Instance) -> None:
        if not instance.in_flight:
            self._idle_since[instance] = self._clock.now()

    def _check_when_idle(self, instance: Instance) -> None:
        """Look again when the instance may have been idle for too long; one look ahead at a time."""

        def check(at: datetime) -> None:
            if instance not in self.instances:
                return
            is_idle = (
                not instance.in_flight and at >= self._idle_since[instance] + self._settings.idle_timeout
            )
            if is_idle and len(self.instances) > self._least:
                self._take_out(instance)
                self._begin(instance.stop())
            else:
                self._check_when_idle(instance)

        earliest = max(
            self._idle_since.get(instance, self._clock.now()), self._clock.now() - self._settings.idle_timeout
        )
        self._clock.at(earliest + self._settings.idle_timeout, check)

    def _say(self, text: str, instance: str) -> None:
        self._print(SYSTEM, text, instance)

    def _print(self, log_id: str, text: str, instance: str) -> None:
        self._logs.add_line(self.key, log_id, text, self._clock.now(), instance=instance)
