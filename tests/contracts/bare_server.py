"""A bare gRPC server: it answers every method alike, and remembers how long each caller would wait."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

Answer = Callable[[Any], bytes]
"""What is done with the context of a call."""


@dataclass
class BareServer(grpc.GenericRpcHandler):
    """Every method, and the calls of each: the seconds that the caller gave it, None for ever."""

    answer: Answer
    deadlines: dict[str, list[float | None]] = field(default_factory=dict)

    def service(self, details: Any) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]

        def serve(_: bytes, context: Any) -> bytes:
            self.deadlines.setdefault(method, []).append(context.time_remaining())
            return self.answer(context)

        handler: grpc.RpcMethodHandler = grpc.unary_unary_rpc_method_handler(serve)
        return handler


@contextmanager
def a_bare_server(answer: Answer, address: str = "127.0.0.1:0") -> Iterator[tuple[BareServer, str]]:
    """Serve at an address: loopback, or the path of a socket, which a sign-in may be sent to."""
    bare = BareServer(answer)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((bare,))
        if address.startswith("unix:"):
            local = grpc.local_server_credentials(grpc.LocalConnectionType.UDS)
            server.add_secure_port(address, local)
        else:
            address = f"127.0.0.1:{server.add_insecure_port(address)}"
        server.start()
        try:
            yield bare, address
        finally:
            server.stop(None).wait()


@contextmanager
def a_channel(answer: Answer) -> Iterator[tuple[BareServer, grpc.Channel]]:
    options = [("grpc.enable_http_proxy", 0)]
    with a_bare_server(answer) as (bare, address), grpc.insecure_channel(address, options) as channel:
        yield bare, channel


def refusing(code: grpc.StatusCode, *details: Message, trailers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Refuse every call, with what Google tells in the details of an error."""
    status = status_pb2.Status(code=code.value[0], message="no")
    for detail in details:
        status.details.add().Pack(detail)
    packed = ("grpc-status-details-bin", status.SerializeToString())

    def answer(context: Any) -> bytes:
        context.set_trailing_metadata((packed, *trailers))
        context.abort(code, "no")
        raise AssertionError

    return answer
