"""Long-running operations: opened by a write, finished when the service has settled."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, message
from google.rpc import code_pb2, status_pb2

from controller.emulator.errors import ApiError, invalid


@dataclass
class Operation:
    """One operation and what it waits for."""

    proto: operations_pb2.Operation
    subject: str
    """Full name of the service or revision that is written."""
    due: datetime
    """Not done before this instant."""
    generation: int = 0
    """Generation of the service that this operation brought."""
    awaits: str = ""
    """Revision (short name) that must have become ready or failed; "" = none."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Return whether it has ended, well or not."""
        return self.proto.done

    def show(self, resource: message.Message) -> None:
        """Put the resource, as it is at present, into the metadata."""
        self.proto.metadata.CopyFrom(_packed(resource))

    def succeed(self, resource: message.Message) -> None:
        """End it well."""
        self.show(resource)
        self.proto.response.CopyFrom(_packed(resource))
        self._finish()

    def fail(self, resource: message.Message, text: str) -> None:
        """End it badly. Cloud Run answers 13 (INTERNAL) even when the cause is the user's."""
        self.show(resource)
        self.proto.error.CopyFrom(status_pb2.Status(code=code_pb2.INTERNAL, message=text))
        self._finish()

    def _finish(self) -> None:
        self.proto.done = True
        self.finished.set()


class Operations:
    """All operations of the project, by name."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._all: dict[str, Operation] = {}
        self._under_way: dict[str, list[Operation]] = {}

    def open(
        self, location: str, subject: str, due: datetime, *, generation: int = 0, awaits: str = ""
    ) -> Operation:
        """Start an operation; `location` is `projects/P/locations/L`."""
        identity = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        proto = operations_pb2.Operation(name=f"{location}/operations/{identity}")
        operation = Operation(proto, subject, due, generation, awaits)
        self._all[proto.name] = operation
        self._under_way.setdefault(subject, []).append(operation)
        return operation

    def get(self, name: str) -> Operation:
        """Return an operation by its full name."""
        if name not in self._all:
            raise ApiError(grpc.StatusCode.NOT_FOUND, f"Operation '{name}' does not exist.")
        return self._all[name]

    def in_location(self, location: str) -> list[Operation]:
        """Return the operations of `projects/P/locations/L`, oldest first."""
        return [
            operation for name, operation in self._all.items() if name.startswith(f"{location}/operations/")
        ]

    def open_for(self, subject: str) -> list[Operation]:
        """Return what is still under way for a service or revision, oldest first."""
        under_way = [operation for operation in self._under_way.pop(subject, []) if not operation.done]
        if under_way:
            self._under_way[subject] = under_way
        return list(under_way)

    def delete(self, name: str) -> None:
        """Forget an operation that is done."""
        if not self.get(name).done:
            raise invalid(f"Operation '{name}' is not done and cannot be deleted.", "name")
        del self._all[name]


def _packed(resource: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(resource)
    return packed
