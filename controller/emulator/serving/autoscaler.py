"""Starts and stops the instances of one revision: on demand, to keep a minimum, and when they are idle."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta

from google.cloud import run_v2

from controller.emulator.logs.entries import Severity
from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.run.failures import ended
from controller.emulator.serving.host import Host
from controller.emulator.serving.instances import Instance, StartError
from controller.emulator.serving.scaling import Bounds, own_bounds

AUTOSCALING = (
    "AUTOSCALING - Instance started due to configured scaling factors (e.g. CPU utilization, request "
    "throughput, etc.) or no existing capacity for current traffic."
)
ROLLOUT = (
    "DEPLOYMENT_ROLLOUT - Instance started due to traffic shifting between revisions due to deployment, "
    "traffic split adjustment, or deployment health check."
)
MINIMUM = (
    "MANUAL_OR_CUSTOMER_MIN_INSTANCE - Instance started because of customer-configured min-instances or "
    "manual scaling."
)
RETRY = timedelta(seconds=10)
"""On the emulated clock: from a failure until the next start that only keeps the minimum."""

MOST_STARTING = 10
"""Instances that are started at once to keep a minimum; the next ones follow as these come up."""


class Autoscaler:
    """Holds the instances of a revision.

    `on_change` is called when one came or went; `on_failure` before that, when one did not come up and there
    is no other.
    """

    def __init__(
        self,
        key: RevisionKey,
        revision: run_v2.Revision,
        host: Host,
        on_change: Callable[[], None],
        on_failure: Callable[[], None],
    ) -> None:
        self.ready: list[Instance] = []
        """Those that may get requests."""
        self.bounds = Bounds(most=own_bounds(revision.scaling).most)
        self.start_seconds: deque[float] = deque(maxlen=20)
        """How long the last starts took, in real seconds."""
        self._key = key
        self._revision = revision
        self._concurrency = revision.max_instance_request_concurrency
        self._host = host
        self._on_change = on_change
        self._on_failure = on_failure
        self._leaving: set[Instance] = set()
        """Those that end when their last request does."""
        self._starts: set[asyncio.Task[Failure | None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_failing = False
        """The last thing that happened to an instance is that it did not come up, or died."""
        self._looks_at: datetime | None = None
        self._retries = False
        self._closed = False

    def start_first(self) -> asyncio.Task[Failure | None]:
        """Start the instance of a deployment's health check; the result is why it failed, or None."""
        return self._begin_start(ROLLOUT)

    def grow(self, waiting: int) -> None:
        """Start as many instances as the waiting requests would fill, within the limit."""
        wanted = math.ceil(waiting / self._concurrency) - len(self._starts)
        for _ in range(min(wanted, self._room())):
            self._begin_start(AUTOSCALING)

    def resize(self, bounds: Bounds) -> None:
        """Keep to these bounds from now on."""
        self.bounds = bounds
        self._fill()
        self._shrink()
        self._look_later()

    def became_idle(self, instance: Instance) -> None:
        """Take note that an instance has answered everything it had."""
        instance.idle_since = self._host.clock.now()
        if instance in self._leaving:
            self._leaving.remove(instance)
            self._begin(self._stop(instance))
        elif self._looks_at is None:
            self._look_later()

    def counts(self) -> tuple[int, int]:
        """Return how many instances have requests at this moment, and how many have none."""
        alive = [*self.ready, *self._leaving]
        active = sum(1 for one in alive if one.in_flight)
        return active, len(alive) - active

    async def close(self) -> None:
        """Stop every instance, and what is still starting; return when nothing is left."""
        self._closed = True
        for start in self._starts:
            start.cancel()
        await asyncio.gather(*self._starts, return_exceptions=True)
        for instance in [*self.ready, *self._leaving]:
            self._begin(self._stop(instance))
        self.ready.clear()
        self._leaving.clear()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    def _room(self) -> int:
        """Return how many may be started. After a failure one at a time, lest a broken revision cost more."""
        if self._closed:
            return 0
        room = self.bounds.most - len(self.ready) - len(self._starts)
        return min(room, 1 - len(self._starts)) if self._is_failing else room

    def _fill(self) -> None:
        missing = self.bounds.least - len(self.ready) - len(self._starts)
        for _ in range(min(missing, self._room(), MOST_STARTING - len(self._starts))):
            self._begin_start(MINIMUM)

    def _shrink(self) -> None:
        too_many = max(0, len(self.ready) - self.bounds.most)
        for instance in sorted(self.ready, key=lambda one: one.in_flight)[:too_many]:
            self._let_go(instance)

    def _let_go(self, instance: Instance) -> None:
        """Send no more requests to an instance, and stop it when it has answered those that it has."""
        self.ready.remove(instance)
        if instance.in_flight:
            self._leaving.add(instance)
        else:
            self._begin(self._stop(instance))

    def _look_later(self) -> None:
        """Look for idle instances when the first of them may have been idle for too long."""
        idle = [one.idle_since for one in self.ready if not one.in_flight and one.idle_since]
        if self._looks_at is None and idle and len(self.ready) > self.bounds.least:
            self._looks_at = min(idle) + self._host.settings.idle_timeout
            self._host.clock.at(self._looks_at, self._stop_idle)

    def _stop_idle(self, at: datetime) -> None:
        since = at - self._host.settings.idle_timeout
        idle = [one for one in self.ready if not one.in_flight and one.idle_since and one.idle_since <= since]
        for instance in idle[: max(0, len(self.ready) - self.bounds.least)]:
            self._let_go(instance)
        self._looks_at = None
        self._look_later()

    # From the start of an instance to its end.

    def _begin_start(self, reason: str) -> asyncio.Task[Failure | None]:
        async def start() -> Failure | None:
            failure = await self._start(reason)
            self._is_failing = failure is not None
            self._starts.discard(task)
            if self._is_failing and not self.ready and not self._starts:
                self._on_failure()
            self._changed()
            return failure

        task = asyncio.create_task(start())
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)  # also when it is cancelled
        return task

    async def _start(self, reason: str) -> Failure | None:
        host, identity = self._host, f"{self._host.rng.getrandbits(256):064x}"
        instance = Instance(
            identity,
            self._key,
            self._revision,
            host.watchdog,
            lambda log_id, text: host.logs.add_line(
                self._key, log_id, text, host.clock.now(), instance=identity
            ),
        )
        self._say(f"Starting new instance. Reason: {reason}", instance)
        began = time.monotonic()
        try:
            said = await instance.start(host.clock, host.settings)
        except StartError as error:
            self._say(error.said, instance, Severity.ERROR)
            self._begin(self._stop(instance))
            return error.failure
        except asyncio.CancelledError:
            self._begin(self._stop(instance))
            raise
        self._say(said, instance)
        self._take_in(instance, time.monotonic() - began)
        return None

    def _take_in(self, instance: Instance, seconds: float) -> None:
        now = self._host.clock.now()
        self.start_seconds.append(seconds)
        instance.idle_since = now
        self.ready.append(instance)
        self._host.metrics.instance_started(self._key, now, seconds * 1000)
        self._begin(self._watch(instance))

    async def _watch(self, instance: Instance) -> None:
        """See an instance to its end; one that ends by itself is replaced where it is needed."""
        code = await instance.wait()
        self._host.metrics.instance_stopped(self._key, self._host.clock.now())
        if instance.was_asked_to_end:
            return
        self._say(ended(code), instance, Severity.WARNING)
        self._leaving.discard(instance)
        if instance in self.ready:
            self.ready.remove(instance)
        self._is_failing = True
        self._begin(self._stop(instance))  # what is left of its group
        self._changed()

    def _changed(self) -> None:
        """Follow up on an instance that came or went."""
        self._shrink()
        if not self._is_failing:
            self._fill()
        elif not self._retries:
            self._retries = True
            self._host.clock.at(self._host.clock.now() + RETRY, self._retry)
        self._look_later()
        self._on_change()

    def _retry(self, _: datetime) -> None:
        self._retries = False
        self._fill()

    async def _stop(self, instance: Instance) -> None:
        grace = self._host.settings.grace_seconds
        if not await instance.stop(grace):
            said = (
                f"The instance did not end within {grace:g} seconds after SIGTERM; it was ended by SIGKILL."
            )
            self._say(said, instance, Severity.WARNING)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, text: str, instance: Instance, severity: Severity = Severity.INFO) -> None:
        self._host.say(self._key, text, instance.identity, severity)
