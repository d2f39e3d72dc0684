"""Deletions: asked for at once, done a while later."""

from datetime import datetime, timedelta
from typing import Any

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.instants import stamp
from controller.emulator.run.catalog import Catalog, ServiceState
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.reconciler import Reconciler
from controller.emulator.run.runtime import Runtime
from controller.emulator.settings import Settings

KEPT = timedelta(days=30)
"""From the deletion of a resource until it is said to expire."""


class Deletions:
    """Deletes services and revisions."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        catalog: Catalog,
        operations: Operations,
        reconciler: Reconciler,
        runtime: Runtime,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._catalog = catalog
        self._operations = operations
        self._reconciler = reconciler
        self._runtime = runtime

    def begin(
        self, resource: run_v2.Service | run_v2.Revision, now: datetime, *, validate_only: bool
    ) -> Operation:
        """Open the operation that deletes a resource; with `validate_only` it ends at once without."""
        location = "/".join(resource.name.split("/")[:4])
        if validate_only:
            operation = self._operations.open(location, f"{resource.name}?validate_only", now)
            self._operations.succeed(operation, _message(resource))
            return operation
        resource.delete_time = stamp(now)
        resource.expire_time = stamp(now + KEPT)
        due = now + self._settings.reconcile_delay
        operation = self._operations.open(location, resource.name, due, deletes=True)
        operation.show(_message(resource))
        self.finish_when_due(operation)
        return operation

    def finish_when_due(self, operation: Operation) -> None:
        """Delete the subject of an operation when it is due."""
        self._clock.at(operation.due, lambda at: self._finish(operation, at))

    def drop(self, service: ServiceState, name: str) -> None:
        """Delete a revision (short name) of a service at once."""
        revision = service.revisions.pop(name)
        self._runtime.remove(revision.key)
        self._end_deletions(revision.proto.name)

    def _finish(self, operation: Operation, at: datetime) -> None:
        if operation.done:  # its subject went in the meantime, by another deletion or with its service
            return
        if at < operation.due:  # held up in the meantime
            self.finish_when_due(operation)
            return
        service_name, _, name = operation.subject.partition("/revisions/")
        service = self._catalog.services[service_name]
        if name:
            self.drop(service, name)
        else:
            self._drop_service(service, at)

    def _drop_service(self, service: ServiceState, at: datetime) -> None:
        del self._catalog.services[service.proto.name]
        self._reconciler.abandon(service, at)
        for name in list(service.revisions):
            self.drop(service, name)
        self._end_deletions(service.proto.name)

    def _end_deletions(self, subject: str) -> None:
        for operation in self._operations.deletions_of(subject):
            self._operations.succeed_as_shown(operation)


def _message(resource: run_v2.Service | run_v2.Revision) -> Any:
    return type(resource).pb(resource)
