"""Long-running operations: opened by a write, finished when the service has settled."""

import asyncio
import random
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

import grpc
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, message
from google.rpc import code_pb2, status_pb2

from controller.emulator.errors import ApiError

MOST_FINISHED = 1000


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
    deletes: bool = False
    """Whether it deletes its subject."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Return whether it has ended, well or not."""
        return self.proto.done

    def show(self, resource: message.Message) -> None:
        """Put the resource, as it is at present, into the metadata."""
        self.proto.metadata.CopyFrom(_packed(resource))


class Operations:
    """All operations of the project by name; of those that ended, the last 1,000 are kept."""

    def __init__(self, rng: random.Random, most_finished: int = MOST_FINISHED) -> None:
        self._rng = rng
        self._most_finished = most_finished
        self._all: dict[str, Operation] = {}
        self._under_way: dict[str, list[Operation]] = {}
        self._finished: deque[str] = deque()

    def open(
        self,
        location: str,
        subject: str,
        due: datetime,
        *,
        generation: int = 0,
        awaits: str = "",
        deletes: bool = False,
    ) -> Operation:
        """Start an operation; `location` is `projects/P/locations/L`."""
        proto = operations_pb2.Operation(name=self._unused_name(location))
        operation = Operation(proto, subject, due, generation, awaits, deletes)
        self.add(operation)
        return operation

    def add(self, operation: Operation) -> None:
        """Take in an operation, under way or done."""
        self._all[operation.proto.name] = operation
        if operation.done:
            self._keep_the_limit(operation)
        else:
            self._under_way.setdefault(operation.subject, []).append(operation)

    def succeed(self, operation: Operation, resource: message.Message) -> None:
        """End it well."""
        operation.show(resource)
        operation.proto.response.CopyFrom(_packed(resource))
        self._finish(operation)

    def succeed_as_shown(self, operation: Operation) -> None:
        """End it well, with the resource that its metadata shows."""
        operation.proto.response.CopyFrom(operation.proto.metadata)
        self._finish(operation)

    def fail(self, operation: Operation, resource: message.Message, text: str) -> None:
        """End it badly. Cloud Run answers 13 (INTERNAL) even when the cause is the user's."""
        operation.show(resource)
        operation.proto.error.CopyFrom(status_pb2.Status(code=code_pb2.INTERNAL, message=text))
        self._finish(operation)

    def get(self, name: str) -> Operation:
        """Return an operation by its full name."""
        if name not in self._all:
            raise ApiError(grpc.StatusCode.NOT_FOUND, f"Operation '{name}' does not exist.")
        return self._all[name]

    def all(self) -> list[Operation]:
        """Return every operation that is kept, oldest first."""
        return list(self._all.values())

    def in_location(self, location: str) -> list[Operation]:
        """Return the operations of `projects/P/locations/L`, oldest first; `-` means every location."""
        place, _, region = location.rpartition("/")
        prefix = f"{place}/" if region == "-" else f"{location}/operations/"
        return [operation for name, operation in self._all.items() if name.startswith(prefix)]

    def open_for(self, subject: str) -> list[Operation]:
        """Return what still changes a service, oldest first."""
        return [operation for operation in self._under_way.get(subject, []) if not operation.deletes]

    def deletions_of(self, subject: str) -> list[Operation]:
        """Return what still deletes a service or a revision, oldest first."""
        return [operation for operation in self._under_way.get(subject, []) if operation.deletes]

    def forget(self, name: str) -> None:
        """Answer for an operation no more; what it does goes on."""
        self.get(name)
        del self._all[name]

    def _finish(self, operation: Operation) -> None:
        operation.proto.done = True
        operation.finished.set()
        under_way = [other for other in self._under_way.pop(operation.subject, []) if not other.done]
        if under_way:
            self._under_way[operation.subject] = under_way
        self._keep_the_limit(operation)

    def _keep_the_limit(self, newest: Operation) -> None:
        self._finished.append(newest.proto.name)
        while len(self._finished) > self._most_finished:
            self._all.pop(self._finished.popleft(), None)

    def _unused_name(self, location: str) -> str:
        identity = uuid.UUID(int=self._rng.getrandbits(128), version=4)
        name = f"{location}/operations/{identity}"
        return self._unused_name(location) if name in self._all else name


def _packed(resource: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(resource)
    return packed
