"""The HTTP front: listens, and knows what its users are told; what answers them is another's business."""

import asyncio
import random
import resource
from abc import ABC, abstractmethod
from datetime import timedelta

from controller.emulator.clock import Clock
from controller.emulator.logs.entries import HttpRequest
from controller.emulator.serving.answering import Answering
from controller.emulator.serving.client_connection import ClientConnection
from controller.emulator.serving.heads import Request
from controller.emulator.serving.hostnames import Destination, destination, hostname
from controller.emulator.settings import Settings

BUFFER_BYTES = 256 * 1024
BACKLOG = 1024
MOST_FILES = 65_536


class Front(ABC):
    """One HTTP server for all services; the Host header names the service and perhaps a tag.

    Build it on its event loop.
    """

    def __init__(self, clock: Clock, settings: Settings, rng: random.Random) -> None:
        self.clock = clock
        self.clients: set[ClientConnection] = set()
        self.buffer = bytearray(BUFFER_BYTES)
        """What is read lands here; each connection uses it up before the next one reads."""
        self.head_seconds = settings.front_head_seconds
        self.idle_seconds = settings.front_idle_seconds
        self.loop = asyncio.get_running_loop()
        self.rng = rng
        self._region = settings.region
        self._server: asyncio.Server | None = None
        self._port = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        _allow_many_connections()
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
        await self._server.wait_closed()

    @abstractmethod
    def exchange(self, client: ClientConnection, request: Request) -> Answering | None:
        """Return what answers a request; None = nobody answers to its host."""

    @abstractmethod
    def services(self) -> list[tuple[str, str]]:
        """Return the services that can be reached, by region and short name."""

    def destination(self, request: Request) -> Destination:
        """Return what a request's Host header names."""
        return destination(request.host, self._region)

    def new_trace(self) -> str:
        """Return the id of a trace, for a user who is in none."""
        return f"{self.rng.getrandbits(128):032x}"

    def explanation(self, asked: bytes) -> str:
        """Return what a user reads whose Host header names nobody."""
        host, port = asked.decode("latin-1"), self._port
        hosts = [hostname(Destination(*service), self._region) for service in self.services()]
        known = "".join(f"  http://{name}:{port}/\n" for name in hosts) or "  (none is deployed)\n"
        return (
            f"No service or tag answers to the host '{host}'. The Host header names it: SERVICE.localhost, "
            "or TAG---SERVICE.localhost for a tag; in any other region than this one's, "
            f"'{self._region}', SERVICE.REGION.localhost.\n{known}Where *.localhost does not resolve: "
            f"curl -H 'Host: {hosts[0] if hosts else 'web.localhost'}' http://127.0.0.1:{port}/\n"
        )


def logged(
    request: Request, status: int, latency: timedelta, response_bytes: int, peer: bytes
) -> HttpRequest:
    """Return what the log tells of a request."""
    return HttpRequest(
        request.method.decode(),
        f"http://{request.host.decode('latin-1')}{request.target.decode('latin-1')}",
        status,
        latency,
        request.body_bytes,
        response_bytes,
        request.user_agent.decode("latin-1"),
        peer.decode(),
        f"HTTP/{request.version}",
    )


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as the system allows; 1,024 is a usual default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
