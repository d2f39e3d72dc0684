"""What people and commands ask of the local Cloud Run itself: its status, its logs, its end."""

import asyncio
from datetime import timedelta
from typing import Any

from aiohttp import web

from controller.emulator.assembly import Emulator
from controller.emulator.faults.http import FaultRoutes
from controller.emulator.image_routes import ImageRoutes
from controller.emulator.knative.routes import rest_routes
from controller.emulator.knative.web import LARGEST_BODY, errors
from controller.emulator.names import RevisionKey

LINES = 200


class Admin:
    """Status, logs, faults, images, the clock and the end, and the REST APIs, on a port of their own."""

    def __init__(self, emulator: Emulator) -> None:
        self.shutdown_asked = asyncio.Event()
        self._emulator = emulator
        application = web.Application(middlewares=[_refuse_browsers, errors], client_max_size=LARGEST_BODY)
        application.add_routes(
            [
                web.get("/", self._status),
                web.get("/logs", self._logs),
                web.post("/advance", self._advance),
                *FaultRoutes(emulator.faults, emulator.clock).all(),
                *ImageRoutes(emulator.images).all(),
                *rest_routes(emulator.calls, emulator.services, emulator.jobs, emulator.settings),
                web.post("/shutdown", self._shutdown),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> None:
        """Listen, and tell the emulator where."""
        settings = self._emulator.settings
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.host, settings.admin_port).start()
        self._emulator.admin_address = f"{settings.host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response(status_of(self._emulator))

    async def _logs(self, request: web.Request) -> web.Response:
        wanted = [request.query.get(name, "") for name in ("location", "service", "revision")]
        return web.Response(
            text="".join(f"{line}\n" for line in self._emulator.logs.tail(RevisionKey(*wanted), LINES))
        )

    async def _advance(self, request: web.Request) -> web.Response:
        try:
            seconds = float((await request.json())["seconds"])
            self._emulator.clock.advance(timedelta(seconds=seconds))
        except (ValueError, KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from None
        return web.json_response({"now": self._emulator.clock.now().isoformat()})

    async def _shutdown(self, _: web.Request) -> web.Response:
        self.shutdown_asked.set()
        return web.json_response({"stopping": True})


def status_of(emulator: Emulator) -> dict[str, Any]:
    """Return the status: clock, addresses, services with split and requests, instances."""
    totals = emulator.metrics.totals()
    pools = emulator.processes.pools() if emulator.processes else []
    return {
        "clock": {"now": emulator.clock.now().isoformat(), "speed": emulator.clock.speed},
        "addresses": {
            "grpc": emulator.grpc_address,
            "front": emulator.front_address,
            "admin": emulator.admin_address,
        },
        "services": [
            {
                "name": state.service_id,
                "region": state.region,
                "uri": state.proto.uri,
                "split": dict(state.split.percents),
                "tags": dict(state.split.tags),
                "revisions": {
                    name: {
                        "ready": revision.ready,
                        "failure": revision.failure,
                        "requests": {
                            str(code): n for code, n in sorted(totals.get(revision.key, {}).items())
                        },
                    }
                    for name, revision in state.revisions.items()
                },
            }
            for state in emulator.services.all()
        ],
        "instances": [
            {"revision": pool.key.revision, "pid": one.pid, "port": one.port, "in_flight": one.in_flight}
            for pool in pools
            for one in pool.instances
        ],
        "logs_dropped": emulator.logs.dropped,
        "logs_dropped_by_log": {
            log_id: {"entries": dropped.entries, "bytes": dropped.bytes}
            for log_id, dropped in emulator.logs.dropped_by_log.items()
        },
    }


@web.middleware
async def _refuse_browsers(request: web.Request, handler: Any) -> web.StreamResponse:
    """Let no web page that happens to be open in a browser end the server."""
    if "Origin" in request.headers:
        raise web.HTTPForbidden(text="Not from a web page.\n")
    response: web.StreamResponse = await handler(request)
    return response
