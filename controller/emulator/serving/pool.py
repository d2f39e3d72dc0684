"""The places in the instances of one revision, and the requests that wait for one."""

from datetime import datetime

from google.cloud import run_v2

from controller.emulator.instants import seconds_of
from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.serving.affinity import Cookie, Slots
from controller.emulator.serving.autoscaler import Autoscaler
from controller.emulator.serving.host import Host
from controller.emulator.serving.instances import Instance
from controller.emulator.serving.pending import TOO_MANY_REQUESTS, UNAVAILABLE, NoInstanceError, Pending
from controller.emulator.serving.scaling import Bounds, own_bounds

PENDING_STARTS = 3.5
"""A request waits for so many times the usual start of an instance, if that is longer than what is set."""
LEAST_QUEUE = 1000
"""So many requests may wait, or as many as all instances could take at once, if those are more."""


class Pool:
    """Hands out places: no instance has more requests than its concurrency allows."""

    def __init__(self, key: RevisionKey, revision: run_v2.Revision, host: Host, slots: Slots) -> None:
        self.key = key
        self.timeout_seconds = seconds_of(revision.timeout)
        self.own_bounds = own_bounds(revision.scaling)
        self.has_affinity = revision.session_affinity
        self._concurrency = revision.max_instance_request_concurrency
        self._host = host
        self._slots = slots
        self._pending = Pending(self.release)
        self._scaler = Autoscaler(
            key,
            revision,
            host,
            on_change=self._serve,
            on_failure=lambda: self._pending.refuse_all(UNAVAILABLE),
        )
        self._closed = False

    @property
    def instances(self) -> list[Instance]:
        """Return the instances that may get requests."""
        return self._scaler.ready

    async def first_instance(self) -> Failure | None:
        """Start the instance of a deployment's health check; return why it failed, None if it did not."""
        return await self._scaler.start_first()

    def try_acquire(self, affinity: str = "") -> Instance | None:
        """Take a place if there is room: in the client's instance if it has one, else in the least busy."""
        instance = self._pinned(affinity) if affinity else None
        if instance is None:
            with_room = (one for one in self._scaler.ready if one.in_flight < self._concurrency)
            instance = min(with_room, key=lambda one: one.in_flight, default=None)
        if instance is not None:
            instance.in_flight += 1
        return instance

    async def acquire(self, affinity: str = "") -> Instance:
        """Take a place in an instance, waiting for room if need be; raises NoInstanceError.

        `affinity` is the value of the client's session affinity cookie, whatever it may be. Cancelled, it
        leaves no place taken.
        """
        if self._closed:
            raise NoInstanceError(UNAVAILABLE)
        if (instance := self.try_acquire(affinity)) is not None:
            return instance
        if len(self._pending) >= max(LEAST_QUEUE, self._scaler.bounds.most * self._concurrency):
            raise NoInstanceError(TOO_MANY_REQUESTS)
        self._scaler.grow(len(self._pending) + 1)
        return await self._pending.wait(self._longest_pending())

    def release(self, instance: Instance) -> None:
        """Give a place back."""
        instance.in_flight -= 1
        if self._pending:
            self._pending.serve(self.try_acquire)
        if not instance.in_flight:
            self._scaler.became_idle(instance)

    def affinity_cookie(self, instance: Instance, affinity: str = "") -> str:
        """Return the value of the cookie to set for a client that the instance serves; "" = set none.

        There is none to set without session affinity, or if the one that the client has sent, `affinity`,
        still leads here.
        """
        if not self.has_affinity:
            return ""
        sent = Cookie.parse(affinity)
        if sent is None or self._slots.owner(sent.point) not in {self.key.revision, ""}:
            return str(Cookie.of(self._slots.draw(self.key.revision, self._host.rng), instance.identity))
        return "" if sent.names(instance.identity) else str(Cookie.of(sent.point, instance.identity))

    def resize(self, bounds: Bounds) -> None:
        """Keep to these bounds of instances from now on."""
        self._scaler.resize(bounds)
        self._serve()

    def sample(self, at: datetime) -> None:
        """Note how many instances there are and how many requests wait; where there is nothing, no point."""
        (active, idle), pending = self._scaler.counts(), len(self._pending)
        if active or idle or pending:
            self._host.metrics.sample(self.key, at, active=active, idle=idle, pending=pending)

    async def close(self) -> None:
        """Send away who waits, and stop every instance."""
        self._closed = True
        self._pending.refuse_all(UNAVAILABLE)
        await self._scaler.close()

    def _pinned(self, affinity: str) -> Instance | None:
        """Return the instance that a cookie leads to, if it is here and has room."""
        cookie = Cookie.parse(affinity) if self.has_affinity else None
        if cookie is None:
            return None
        found = (one for one in self._scaler.ready if cookie.names(one.identity))
        return next((one for one in found if one.in_flight < self._concurrency), None)

    def _serve(self) -> None:
        """Give places to those who wait, and start instances for the rest."""
        self._pending.serve(self.try_acquire)
        self._scaler.grow(len(self._pending))

    def _longest_pending(self) -> float:
        """Return how long a request may wait, in real seconds."""
        starts, settings = self._scaler.start_seconds, self._host.settings
        if starts:
            usual = sum(starts) / len(starts)
        else:
            emulated = settings.startup_timeout.total_seconds() / (self._host.clock.speed or 1.0)
            usual = max(emulated, settings.startup_least_seconds)
        return max(settings.pending_seconds, PENDING_STARTS * usual)
