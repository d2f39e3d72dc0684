"""The parts of the control plane put together; what it holds can be kept and taken up again."""

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from controller.emulator.clock import Clock
from controller.emulator.names import RevisionKey
from controller.emulator.run import saved
from controller.emulator.run.catalog import Catalog
from controller.emulator.run.deletions import Deletions
from controller.emulator.run.jobs import Jobs
from controller.emulator.run.operations import Operations
from controller.emulator.run.policies import Policies
from controller.emulator.run.reconciler import Reconciler, UriOf
from controller.emulator.run.revisions import Revisions
from controller.emulator.run.runtime import Runtime
from controller.emulator.run.saved import Row
from controller.emulator.run.services import Services
from controller.emulator.run.tasks import TaskRuntime
from controller.emulator.settings import Settings


class ControlPlane:
    """Services, revisions, policies, jobs and operations of one project."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        runtime: Runtime,
        tasks: TaskRuntime,
        uri_of: UriOf,
        log_uri: Callable[[RevisionKey], str],
    ) -> None:
        self._clock = clock
        self._log_uri = log_uri
        self._catalog = Catalog()
        self.operations = Operations(random.Random(f"{settings.seed} operations"))
        self._reconciler = Reconciler(clock, settings, self.operations, runtime, uri_of)
        self._deletions = Deletions(
            clock, settings, self._catalog, self.operations, self._reconciler, runtime
        )
        names = random.Random(f"{settings.seed} names")
        self.revisions = Revisions(settings, self._catalog, self._deletions, names, log_uri)
        self.services = Services(
            settings, self._catalog, self.operations, self._reconciler, self.revisions, self._deletions
        )
        self.policies = Policies(self._catalog)
        self.jobs = Jobs(clock, settings, self.operations, tasks)

    def hold_up(self, name: str, by: timedelta) -> None:
        """Let the operation of this name end so much later, unless it has ended."""
        operation = self.operations.get(name)
        if operation.done:
            return
        operation.due += by
        service = self._catalog.services.get(operation.subject)
        if service is not None and not operation.deletes:  # a deletion looks itself at when it is due
            self._reconciler.settle_when_due(service, operation)

    def export(self) -> Iterator[Row]:
        """Give everything that is held."""
        return saved.rows_of(self._catalog, self.jobs.catalog, self.operations)

    def restore(self, rows: Iterable[Row]) -> None:
        """Take up what was held, once: when the addresses are known, and before the first call.

        Revisions that were ready count as ready and start on demand; those that were starting start again;
        operations that were under way end when they are due. Executions that ran have ended.
        """
        saved.read_back(rows, self._catalog, self.jobs.catalog, self.operations)
        self.jobs.resume(self._clock.now())
        for service in self.services.all():
            for revision in service.revisions.values():
                revision.proto.log_uri = self._log_uri(revision.key)
            self._reconciler.resume(service, self._clock.now())
        for operation in self.operations.all():
            if operation.subject in self.jobs.catalog.jobs:
                continue  # taken up with the jobs
            if operation.deletes and not operation.done:
                self._deletions.finish_when_due(operation)
            elif not operation.done and operation.subject in self._catalog.services:
                service = self._catalog.services[operation.subject]
                self._reconciler.settle_when_due(service, operation)
