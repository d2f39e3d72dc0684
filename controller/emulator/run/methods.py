"""Methods whose request names a resource: a project may be named by its id or by its number."""

from collections.abc import Callable
from functools import reduce
from inspect import isawaitable
from typing import Any

from google.longrunning import operations_pb2

from controller.emulator.calls import Call, Method
from controller.emulator.names import by_id
from controller.emulator.run.operations import Operation

Answer = Callable[[Call, Any], Any]


def method_on(
    project: str, answer: Answer, field: str, read: Callable[[bytes], Any], write: Callable[[Any], bytes]
) -> Method:
    """Return a method whose request names a resource in `field`; operations are named as that was."""
    *path, leaf = field.split(".")

    async def call_by_id(call: Call, request: Any) -> Any:
        holder = reduce(getattr, path, request)
        asked_for = getattr(holder, leaf)
        setattr(holder, leaf, by_id(asked_for, project))
        result = answer(call, request)
        result = await result if isawaitable(result) else result
        return _named(result.proto, asked_for) if isinstance(result, Operation) else result

    return Method(call_by_id, read, write)


def written(operation: operations_pb2.Operation) -> bytes:
    """Return an operation as it is sent."""
    return operation.SerializeToString()


def _named(operation: operations_pb2.Operation, asked_for: str) -> operations_pb2.Operation:
    """Return an operation under the name of the project that the caller used."""
    result = operations_pb2.Operation()
    result.CopyFrom(operation)
    _, _, *rest = operation.name.split("/")
    _, project, *_ = asked_for.split("/")
    result.name = "/".join(("projects", project, *rest))
    return result
