"""Calls of the APIs: the way from whoever calls, over gRPC or REST, through the gates to the method."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from inspect import isawaitable
from typing import Any, Protocol

from controller.emulator.clock import Clock

DEFAULT_PRINCIPAL = "developer@example.com"


@dataclass(frozen=True)
class Call:
    """Who calls, when, and which method."""

    now: datetime
    principal: str
    method: str
    """As gRPC names it: `/google.cloud.run.v2.Services/GetService`."""
    seconds_left: float | None
    """Real seconds until the caller gives up; None = never."""
    is_anonymous: bool = False
    """The caller gave no name; `principal` is the default one."""


@dataclass(frozen=True)
class Method:
    """A method: what it does, and how its request and answer are read and written."""

    answer: Callable[[Call, Any], Any | Awaitable[Any]]
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


Methods = Mapping[str, Mapping[str, Method]]
"""Methods by full service name and method name."""

GoOn = Callable[[], Awaitable[Any]]


class Gate(Protocol):
    """What every call passes through on its way to its method: it may refuse, delay, or spoil the answer."""

    @abstractmethod
    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Return the answer of `go_on()`, or raise ApiError."""


def principal_of(headers: Mapping[str, Any]) -> str:
    """Return who calls, or "": the bearer token itself is the name, so that any client can choose one."""
    kind, _, token = str(headers.get("authorization", "")).partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


class Dispatcher:
    """All methods behind their gates. Whatever is due on the clock happens before a call is answered."""

    def __init__(self, clock: Clock, methods: Methods, gates: Sequence[Gate] = ()) -> None:
        self.methods = methods
        self._clock = clock
        self._gates = gates

    async def call(
        self, method: str, request: Any, principal: str = "", seconds_left: float | None = None
    ) -> Any:
        """Answer one call, of the default principal where nobody is named; raises ApiError."""
        self._clock.settle()
        caller = principal or DEFAULT_PRINCIPAL
        call = Call(self._clock.now(), caller, method, seconds_left, is_anonymous=not principal)
        return await self._through(self._gates, call, request)

    async def _through(self, gates: Sequence[Gate], call: Call, request: Any) -> Any:
        if gates:
            return await gates[0].let_through(call, request, lambda: self._through(gates[1:], call, request))
        _, service, name = call.method.split("/")
        if self._gates:  # one of them may have held it up, or moved the clock
            self._clock.settle()
            call = replace(call, now=self._clock.now())
        result = self.methods[service][name].answer(call, request)
        return await result if isawaitable(result) else result
