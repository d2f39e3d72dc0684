"""The HTTP front: takes users' requests, sends them where the split says, and measures and logs each."""

import asyncio
import random
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from controller.emulator.clock import Clock
from controller.emulator.logs.store import HttpRequest, Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.run.traffic import parse_tag_host
from controller.emulator.serving.instances import Instance
from controller.emulator.serving.pool import NoInstanceError, Pool
from controller.emulator.serving.processes import ProcessRuntime

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
CONNECTION_FAILED = (
    "The request failed because either the HTTP response was malformed or connection to the instance "
    "had an error."
)
TIMED_OUT = "The request has been terminated because it has reached the maximum request timeout."


@dataclass
class Exchange:
    """One request on its way: what is measured and logged of it."""

    pool: Pool
    request: web.BaseRequest
    host: str
    trace: str
    arrived: float
    arrived_at: datetime
    instance: Instance | None = None
    reached_instance: float = 0.0
    status: int = 0
    sent_bytes: int = 0
    failure: str = ""
    has_begun: bool = False
    """The answer's head is already with the user."""


class Front:
    """One HTTP server for all services; the Host header names the service and perhaps a tag."""

    def __init__(
        self, clock: Clock, runtime: ProcessRuntime, metrics: Metrics, logs: Logs, rng: random.Random
    ) -> None:
        self._clock = clock
        self._runtime = runtime
        self._metrics = metrics
        self._logs = logs
        self._rng = rng
        self._sessions: dict[Instance, aiohttp.ClientSession] = {}
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None))

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        await site.start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Stop listening, and drop the connections to instances."""
        await self._runner.cleanup()
        for session in self._sessions.values():
            await session.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        tag, service = parse_tag_host(host.partition(":")[0].removesuffix(".localhost"))
        pool = self._runtime.route(service, tag)
        if pool is None:
            return web.Response(status=404, text=self._explanation(host))
        if "upgrade" in request.headers.get("Connection", "").lower():
            return web.Response(
                status=501, text="The local Cloud Run does not upgrade connections (WebSockets).\n"
            )
        trace = (
            request.headers.get("X-Cloud-Trace-Context", "").partition("/")[0]
            or f"{self._rng.getrandbits(128):032x}"
        )
        loop = asyncio.get_running_loop()
        exchange = Exchange(pool, request, host, trace, loop.time(), self._clock.now())
        try:
            return await self._pass_on(exchange)
        finally:
            self._record(exchange, loop.time())

    async def _pass_on(self, exchange: Exchange) -> web.StreamResponse:
        try:
            exchange.instance = await exchange.pool.acquire()
        except NoInstanceError as error:
            return _refusal(exchange, error.status, str(error))
        exchange.reached_instance = asyncio.get_running_loop().time()
        try:
            return await self._exchange(exchange, exchange.instance)
        except TimeoutError:
            return _refusal(exchange, 504, TIMED_OUT)
        except (aiohttp.ClientError, ConnectionError):
            return _refusal(exchange, 503, CONNECTION_FAILED)
        finally:
            exchange.pool.release(exchange.instance)

    async def _exchange(self, exchange: Exchange, instance: Instance) -> web.StreamResponse:
        request = exchange.request
        async with self._session(exchange.pool, instance).request(
            request.method,
            URL(f"http://127.0.0.1:{instance.port}{_target(request)}", encoded=True),
            headers=_passed_on(exchange),
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=NOT_ADDED,
            timeout=aiohttp.ClientTimeout(total=exchange.pool.timeout_seconds),
        ) as answer:
            exchange.status = answer.status
            headers = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP)
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
            await response.prepare(request)
            exchange.has_begun = True
            async for chunk in answer.content.iter_any():
                exchange.sent_bytes += len(chunk)
                await response.write(chunk)
            await response.write_eof()
            return response

    def _session(self, pool: Pool, instance: Instance) -> aiohttp.ClientSession:
        """Return the connections to an instance, dropping those to instances that are gone."""
        if instance not in self._sessions:
            for gone in [one for one in self._sessions if one.key == pool.key and one not in pool.instances]:
                asyncio.get_running_loop().create_task(self._sessions.pop(gone).close())
            self._sessions[instance] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, family=socket.AF_INET),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._sessions[instance]

    def _record(self, exchange: Exchange, ended: float) -> None:
        """Count what reached an instance, and log everything. Latencies are real, instants are emulated."""
        now = self._clock.now()
        if exchange.instance is not None and exchange.status:
            milliseconds = (ended - exchange.reached_instance) * 1000
            self._metrics.record(exchange.pool.key, exchange.status, milliseconds, now)
        request = exchange.request
        logged = HttpRequest(
            request.method,
            f"http://{exchange.host}{_target(request)}",
            exchange.status,
            timedelta(seconds=ended - exchange.arrived),
            request.content_length or 0,
            exchange.sent_bytes,
            request.headers.get("User-Agent", ""),
            request.remote or "",
        )
        self._logs.add_request(
            exchange.pool.key,
            logged,
            exchange.arrived_at,
            now,
            instance=exchange.instance.identity if exchange.instance else "",
            failure=exchange.failure,
            trace=exchange.trace,
        )

    def _explanation(self, host: str) -> str:
        port = self._runner.addresses[0][1] if self._runner.addresses else 0
        services = self._runtime.services()
        known = (
            "".join(f"  http://{name}.localhost:{port}/\n" for name in services) or "  (none is deployed)\n"
        )
        example = services[0] if services else "web"
        return (
            f"No service or tag answers to the host '{host}'. The Host header names it: SERVICE.localhost, "
            f"or TAG---SERVICE.localhost for a tag.\n{known}Where *.localhost does not resolve: "
            f"curl -H 'Host: {example}.localhost' http://127.0.0.1:{port}/\n"
        )


def _refusal(exchange: Exchange, status: int, text: str) -> web.StreamResponse:
    """Answer in the platform's name. An answer that has begun can only be broken off."""
    exchange.status, exchange.failure = status, text
    if exchange.has_begun:
        exchange.request.protocol.force_close()
    return web.Response(status=status, text=f"{text}\n")


def _target(request: web.BaseRequest) -> str:
    """Return path and query as they came in."""
    raw = request.raw_path
    return raw if raw.startswith("/") else request.rel_url.raw_path_qs


def _passed_on(exchange: Exchange) -> CIMultiDict[str]:
    incoming = exchange.request.headers
    headers = CIMultiDict((name, value) for name, value in incoming.items() if name.lower() not in HOP_BY_HOP)
    peer = exchange.request.remote or ""
    forwarded = incoming.get("X-Forwarded-For")
    headers["X-Forwarded-For"] = f"{forwarded}, {peer}" if forwarded else peer
    headers["X-Forwarded-Proto"] = "http"
    headers["X-Cloud-Trace-Context"] = f"{exchange.trace}/0;o=0"
    return headers
