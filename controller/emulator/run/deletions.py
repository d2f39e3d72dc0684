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
        revision = service.revisions.pop(name, None)
        if revision is not None:
            self._runtime.remove(revision.key)

    def _finish(self, operation: Operation, at: datetime) -> None:
        if at < operation.due:  # held up in the meantime
            self.finish_when_due(operation)
            return
        service_name, _, name = operation.subject.partition("/revisions/")
        service = self._catalog.services.get(service_name)
        revision = service.revisions.get(name) if service else None
        if service and revision and "delete_time" in revision.proto:
            self.drop(service, name)
        elif service and not name and "delete_time" in service.proto:
            self._drop_service(service, at)
        self._operations.succeed_as_shown(operation)

    def _drop_service(self, service: ServiceState, at: datetime) -> None:
        del self._catalog.services[service.proto.name]
        for name in list(service.revisions):
            self.drop(service, name)
        self._reconciler.settle(service, at)  # what waited for a revision has nothing to wait for


def _message(resource: run_v2.Service | run_v2.Revision) -> Any:
    return type(resource).pb(resource)
