"""The front of processes: asks their instances, and measures and logs each request."""

import random
from datetime import timedelta

from controller.emulator.clock import Clock
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.serving.client_connection import ClientConnection
from controller.emulator.serving.exchange import Exchange
from controller.emulator.serving.front import Front, logged
from controller.emulator.serving.heads import Request
from controller.emulator.serving.instance_connections import InstanceConnections
from controller.emulator.serving.processes import Place, ProcessRuntime
from controller.emulator.settings import Settings


class ProcessFront(Front):
    """Passes each request on to an instance of the revision that it goes to."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        runtime: ProcessRuntime,
        metrics: Metrics,
        logs: Logs,
        rng: random.Random,
    ) -> None:
        super().__init__(clock, settings, rng)
        self.connections = InstanceConnections(self.loop, self.buffer)
        self._runtime = runtime
        self._metrics = metrics
        self._logs = logs

    async def stop(self) -> None:
        """Stop listening, and break off every connection."""
        await super().stop()
        await self.connections.close()

    def exchange(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Return what asks an instance for a user; None = nobody answers to the request's host."""
        pool = self._runtime.route(self.destination(request), request.affinity)
        return Exchange(self, client, request, pool) if pool is not None else None

    def services(self) -> list[Place]:
        """Return the services that can be reached."""
        return self._runtime.services()

    def head_for_instance(self, request: Request, peer: bytes) -> bytes:
        """Return the head that an instance gets."""
        return request.head(peer, self.rng.getrandbits(63))

    def record(self, exchange: Exchange) -> None:
        """Count what reached an instance, and log everything. Latencies are real, instants are emulated."""
        now, ended = self.clock.now(), self.loop.time()
        request, instance = exchange.request, exchange.instance
        if instance is not None:
            self._metrics.record(
                exchange.pool.key,
                exchange.status,
                (ended - exchange.reached_instance) * 1000,
                now,
                exchange.pending_seconds * 1000,
            )
        latency = timedelta(seconds=ended - exchange.arrived)
        self._logs.add_request(
            exchange.pool.key,
            logged(request, exchange.status, latency, exchange.sent_bytes, exchange.peer),
            exchange.arrived_at,
            now,
            instance=instance.identity if instance is not None else "",
            failure=exchange.failure,
            trace=request.trace,
        )
