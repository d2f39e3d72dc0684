"""The HTTP front: listens, knows which revision a request goes to, and measures and logs each."""

import asyncio
import random
import resource
from datetime import timedelta

from controller.emulator.clock import Clock
from controller.emulator.logs.entries import HttpRequest
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.serving.client_connection import ClientConnection
from controller.emulator.serving.exchange import Exchange
from controller.emulator.serving.heads import Request
from controller.emulator.serving.hostnames import Destination, destination, hostname
from controller.emulator.serving.instance_connections import InstanceConnections
from controller.emulator.serving.pool import Pool
from controller.emulator.serving.processes import ProcessRuntime
from controller.emulator.settings import Settings

BUFFER_BYTES = 256 * 1024
BACKLOG = 1024
MOST_FILES = 65_536


class Front:
    """One HTTP server for all services; the Host header names the service and perhaps a tag."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        runtime: ProcessRuntime,
        metrics: Metrics,
        logs: Logs,
        rng: random.Random,
    ) -> None:
        self.clock = clock
        self.clients: set[ClientConnection] = set()
        self.buffer = bytearray(BUFFER_BYTES)
        """What is read lands here; each connection uses it up before the next one reads."""
        self.head_seconds = settings.front_head_seconds
        self.idle_seconds = settings.front_idle_seconds
        self.loop: asyncio.AbstractEventLoop
        self.connections: InstanceConnections
        self._region = settings.region
        self._runtime = runtime
        self._metrics = metrics
        self._logs = logs
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        _allow_many_connections()
        self.loop = asyncio.get_running_loop()
        self.connections = InstanceConnections(self.loop, self.buffer)
        self._server = await self.loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=BACKLOG
        )
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self._port

    async def stop(self) -> None:
        """Stop listening, and break off every connection."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self.clients):
            client.shut()
        await self.connections.close()
        await self._server.wait_closed()

    def route(self, request: Request) -> Pool | None:
        """Return the instances of the revision that a request goes to; None = nobody answers to its host."""
        return self._runtime.route(destination(request.host, self._region), request.affinity)

    def head_for_instance(self, request: Request, peer: bytes) -> bytes:
        """Return the head that an instance gets."""
        return request.head(peer, self._rng.getrandbits(63))

    def new_trace(self) -> str:
        """Return the id of a trace, for a user who is in none."""
        return f"{self._rng.getrandbits(128):032x}"

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
        logged = HttpRequest(
            request.method.decode(),
            f"http://{request.host.decode('latin-1')}{request.target.decode('latin-1')}",
            exchange.status,
            timedelta(seconds=ended - exchange.arrived),
            request.body_bytes,
            exchange.sent_bytes,
            request.user_agent.decode("latin-1"),
            exchange.peer.decode(),
            f"HTTP/{request.version}",
        )
        self._logs.add_request(
            exchange.pool.key,
            logged,
            exchange.arrived_at,
            now,
            instance=instance.identity if instance is not None else "",
            failure=exchange.failure,
            trace=request.trace,
        )

    def explanation(self, asked: bytes) -> str:
        """Return what a user reads whose Host header names nobody."""
        host, port = asked.decode("latin-1"), self._port
        hosts = [hostname(Destination(*service), self._region) for service in self._runtime.services()]
        known = "".join(f"  http://{name}:{port}/\n" for name in hosts) or "  (none is deployed)\n"
        return (
            f"No service or tag answers to the host '{host}'. The Host header names it: SERVICE.localhost, "
            "or TAG---SERVICE.localhost for a tag; in any other region than this one's, "
            f"'{self._region}', SERVICE.REGION.localhost.\n{known}Where *.localhost does not resolve: "
            f"curl -H 'Host: {hosts[0] if hosts else 'web.localhost'}' http://127.0.0.1:{port}/\n"
        )


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as the system allows; 1,024 is a usual default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
