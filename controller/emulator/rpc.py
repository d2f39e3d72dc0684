"""gRPC without generated servicers: plain functions become methods, refusals become statuses."""

import logging
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2, struct_pb2

from controller.emulator.calls import Call, Dispatcher, Method, Methods, principal_of
from controller.emulator.clock import Clock
from controller.emulator.errors import ApiError

log = logging.getLogger(__name__)


def clock_methods(clock: Clock) -> Methods:
    """Return the method by which a controller learns the emulated time and its speed."""

    def now(call: Call, _: empty_pb2.Empty) -> struct_pb2.Struct:
        result = struct_pb2.Struct()
        result.update({"now": call.now.timestamp(), "speed": clock.speed})
        return result

    method = Method(now, empty_pb2.Empty.FromString, struct_pb2.Struct.SerializeToString)
    return {"canary.emulator.v1.Clock": {"Now": method}}


def install(server: grpc.aio.Server, dispatcher: Dispatcher) -> None:
    """Serve the methods of a dispatcher."""
    handlers = []
    for service, by_name in dispatcher.methods.items():
        rpcs = {name: _handler(f"/{service}/{name}", method, dispatcher) for name, method in by_name.items()}
        handlers.append(grpc.method_handlers_generic_handler(service, rpcs))
    server.add_generic_rpc_handlers(tuple(handlers))


def _handler(full_name: str, method: Method, dispatcher: Dispatcher) -> grpc.RpcMethodHandler:
    async def serve(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            principal = principal_of(dict(context.invocation_metadata() or ()))
            return await dispatcher.call(full_name, request, principal, context.time_remaining())
        except ApiError as error:
            await _refuse(context, error)
        except Exception as error:
            log.exception("%s failed", full_name)
            await _refuse(context, ApiError(grpc.StatusCode.INTERNAL, f"The emulator failed: {error!r}"))

    handler: grpc.RpcMethodHandler = grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=method.read, response_serializer=method.write
    )
    return handler


async def _refuse(context: grpc.aio.ServicerContext[Any, Any], error: ApiError) -> None:
    details = (("grpc-status-details-bin", error.status().SerializeToString()),)
    await context.abort(error.code, error.message, trailing_metadata=details)
