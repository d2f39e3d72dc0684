"""gRPC without generated servicers: plain functions become methods, refusals become statuses."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from inspect import isawaitable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2, struct_pb2

from controller.emulator.clock import Clock
from controller.emulator.errors import ApiError

log = logging.getLogger(__name__)

PRINCIPAL_KEY = "x-emulator-principal"
DEFAULT_PRINCIPAL = "developer@example.com"


@dataclass(frozen=True)
class Call:
    """Who calls, when, and through which method."""

    now: datetime
    principal: str
    method: str
    seconds_left: float | None
    """Real seconds until the caller gives up; None = never."""


@dataclass(frozen=True)
class Method:
    """A method: what it does, and how its request and answer are read and written."""

    answer: Callable[[Call, Any], Any | Awaitable[Any]]
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


Methods = dict[str, dict[str, Method]]
"""Methods by full service name and method name."""


def unary(
    answer: Callable[[Call, Any], Any], read: Callable[[bytes], Any], write: Callable[[Any], bytes]
) -> Method:
    """Return a method with one request and one answer."""
    return Method(answer, read, write)


def clock_methods(clock: Clock) -> Methods:
    """Return the method by which a controller learns the emulated time and its speed."""

    def now(call: Call, _: empty_pb2.Empty) -> struct_pb2.Struct:
        result = struct_pb2.Struct()
        result.update({"now": call.now.timestamp(), "speed": clock.speed})
        return result

    method = unary(now, empty_pb2.Empty.FromString, struct_pb2.Struct.SerializeToString)
    return {"canary.emulator.v1.Clock": {"Now": method}}


def install(server: grpc.aio.Server, clock: Clock, methods: Methods) -> None:
    """Serve the methods. Whatever is due on the clock happens before a call is answered."""
    handlers = []
    for service, by_name in methods.items():
        rpcs = {name: _handler(f"/{service}/{name}", method, clock) for name, method in by_name.items()}
        handlers.append(grpc.method_handlers_generic_handler(service, rpcs))
    server.add_generic_rpc_handlers(tuple(handlers))


def _handler(full_name: str, method: Method, clock: Clock) -> grpc.RpcMethodHandler:
    async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            clock.settle()
            result = method.answer(_call(full_name, clock, context), request)
            return await result if isawaitable(result) else result
        except ApiError as error:
            await _refuse(context, error)
        except Exception as error:
            log.exception("%s failed", full_name)
            await _refuse(context, ApiError(grpc.StatusCode.INTERNAL, f"The emulator failed: {error!r}"))

    handler: grpc.RpcMethodHandler = grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=method.read, response_serializer=method.write
    )
    return handler


def _call(full_name: str, clock: Clock, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    metadata = dict(context.invocation_metadata() or ())
    principal = str(metadata.get(PRINCIPAL_KEY, DEFAULT_PRINCIPAL))
    return Call(clock.now(), principal, full_name, context.time_remaining())


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], error: ApiError) -> None:
    details = (("grpc-status-details-bin", error.status().SerializeToString()),)
    await context.abort(error.code, error.message, trailing_metadata=details)
