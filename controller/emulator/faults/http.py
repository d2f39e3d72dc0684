"""Faults and jumps of the clock by HTTP: GET, POST and DELETE /faults, POST /clock/jump."""

import json
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from controller.emulator.clock import Clock
from controller.emulator.faults.fault import FaultInvalid
from controller.emulator.faults.gate import FaultGate
from controller.emulator.faults.values import Jump


class _Jump(BaseModel):
    """What POST /clock/jump takes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    by: Jump


class FaultRoutes:
    """The routes, for the admin port."""

    def __init__(self, faults: FaultGate, clock: Clock) -> None:
        self._faults = faults
        self._clock = clock

    def all(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/faults", self._list),
            web.post("/faults", self._add),
            web.delete("/faults", self._clear),
            web.delete("/faults/{number:[0-9]{1,9}}", self._clear_one),
            web.post("/clock/jump", self._jump),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response({"faults": self._faults.all()})

    async def _add(self, request: web.Request) -> web.Response:
        description = await _json_of(request)
        try:
            armed = self._faults.add(description)
        except FaultInvalid as error:
            raise _bad(str(error)) from None
        return web.json_response(armed.shown(self._clock.now()), status=201)

    async def _clear(self, _: web.Request) -> web.Response:
        return web.json_response({"cleared": self._faults.clear()})

    async def _clear_one(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if not self._faults.clear(number):
            raise web.HTTPNotFound(text=f"there is no fault {number}; GET /faults lists them\n")
        return web.json_response({"cleared": 1})

    async def _jump(self, request: web.Request) -> web.Response:
        try:
            wanted = _Jump.model_validate(await _json_of(request))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            text = str(problem["msg"]).removeprefix("Value error, ")
            raise _bad(f'{".".join(map(str, problem["loc"]))}: {text}; send {{"by": "10m"}}') from None
        self._clock.jump(wanted.by)
        return web.json_response({"now": self._clock.now().isoformat()})


async def _json_of(request: web.Request) -> Any:
    """Return the body; a name that is given twice is a mistake, not a choice."""
    try:
        return json.loads(await request.read(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is no JSON: {error}") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twins)} given twice; keep one")
    return dict(pairs)


def _bad(text: str) -> web.HTTPBadRequest:
    """Return a refusal; what JSON can write but UTF-8 cannot is shown escaped."""
    return web.HTTPBadRequest(text=text.encode(errors="backslashreplace").decode() + "\n")
