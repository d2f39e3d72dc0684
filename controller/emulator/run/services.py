"""The verbs of services and revisions: create, get, list, update, delete."""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.errors import aborted, already_exists, failed_precondition, invalid, not_found
from controller.emulator.instants import instant_of, stamp
from controller.emulator.names import (
    RevisionKey,
    check_service_id,
    check_service_name,
    location_of,
    revision_id,
    short,
)
from controller.emulator.run import catalog, rules
from controller.emulator.run.catalog import RevisionState, ServiceState
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.reconciler import Reconciler
from controller.emulator.run.runtime import Runtime
from controller.emulator.settings import EtagMode, Settings

T = TypeVar("T")
MOST_REVISIONS = 1000
LARGEST_PAGE = 100


class Services:
    """The control plane: what is asked for, at once; what is served follows through the reconciler."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        operations: Operations,
        reconciler: Reconciler,
        runtime: Runtime,
        rng: random.Random,
        log_uri: Callable[[RevisionKey], str],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._operations = operations
        self._reconciler = reconciler
        self._runtime = runtime
        self._rng = rng
        self._log_uri = log_uri
        self._services: dict[str, ServiceState] = {}

    def all(self) -> list[ServiceState]:
        """Return every service."""
        return list(self._services.values())

    def create(self, request: run_v2.CreateServiceRequest, principal: str, now: datetime) -> Operation:
        """Create a service and its first revision."""
        location_of(request.parent)
        check_service_id(request.service_id)
        name = f"{request.parent}/services/{request.service_id}"
        if name in self._services:
            raise already_exists(f"Resource '{request.service_id}' already exists.")
        service = run_v2.Service(name=name)
        service = rules.merged(service, request.service, [])
        service.uid = f"{self._rng.getrandbits(128):032x}"
        service.create_time = stamp(now)
        service.creator = principal
        state = ServiceState(service)
        self._validate(state, service)
        return self._write(state, service, principal, now, validate_only=request.validate_only)

    def get(self, name: str) -> ServiceState:
        """Return a service by its full name."""
        check_service_name(name)
        if name not in self._services:
            raise not_found(name)
        return self._services[name]

    def list(self, request: run_v2.ListServicesRequest) -> run_v2.ListServicesResponse:
        """Return the services of a location, `-` meaning every one, by name."""
        location = location_of(request.parent)
        prefix = request.parent.removesuffix(location) + ("" if location == "-" else f"{location}/")
        found = [state.proto for name, state in sorted(self._services.items()) if name.startswith(prefix)]
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListServicesResponse(services=page, next_page_token=token)

    def update(self, request: run_v2.UpdateServiceRequest, principal: str, now: datetime) -> Operation:
        """Change a service; a changed template makes a new revision, and nothing else does."""
        name = request.service.name
        check_service_name(name)
        if name not in self._services and request.allow_missing:
            parent, _, service_id = name.rpartition("/services/")
            create = run_v2.CreateServiceRequest(
                parent=parent,
                service_id=service_id,
                service=request.service,
                validate_only=request.validate_only,
            )
            return self.create(create, principal, now)
        state = self.get(name)
        self._check_etag(state, request.service.etag)
        wanted = rules.merged(state.proto, request.service, list(request.update_mask.paths))
        self._validate(state, wanted)
        return self._write(state, wanted, principal, now, validate_only=request.validate_only)

    def delete(self, request: run_v2.DeleteServiceRequest, now: datetime) -> Operation:
        """Delete a service with all its revisions."""
        state = self.get(request.name)
        self._check_etag(state, request.etag)
        operation = self._open_deletion(state.location, state.proto.name, run_v2.Service.pb(state.proto), now)
        if not request.validate_only:
            state.proto.delete_time = stamp(now)

            def vanish(_: datetime) -> None:
                self._services.pop(state.proto.name, None)
                for key in [revision.key for revision in state.revisions.values()]:
                    self._runtime.remove(key)
                state.revisions.clear()
                operation.succeed(run_v2.Service.pb(state.proto))

            self._clock.at(operation.due, vanish)
        return operation

    def get_revision(self, name: str) -> RevisionState:
        """Return a revision by its full name."""
        service_name, _, revision = name.rpartition("/revisions/")
        check_service_name(service_name)
        state = self._services.get(service_name)
        if state is None or revision not in state.revisions:
            raise not_found(name)
        return state.revisions[revision]

    def list_revisions(self, request: run_v2.ListRevisionsRequest) -> run_v2.ListRevisionsResponse:
        """Return the revisions of a service, newest first; `services/-` means those of every service."""
        check_service_name(request.parent)
        parent, _, service_id = request.parent.rpartition("/")
        states = self.all() if service_id == "-" else [self.get(request.parent)]
        found = [
            revision.proto
            for state in states
            if state.proto.name.startswith(f"{parent}/")
            for revision in reversed(state.revisions.values())
        ]
        found.sort(key=lambda revision: instant_of(revision.create_time) or self._clock.now(), reverse=True)
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListRevisionsResponse(revisions=page, next_page_token=token)

    def delete_revision(self, request: run_v2.DeleteRevisionRequest, now: datetime) -> Operation:
        """Delete a revision that nothing refers to."""
        revision = self.get_revision(request.name)
        state = self._services[request.name.rpartition("/revisions/")[0]]
        if revision.key.revision in self._referenced(state):
            raise failed_precondition(
                f"Revision '{revision.key.revision}' cannot be deleted: only retired ones can be."
            )
        operation = self._open_deletion(
            state.location, revision.proto.name, run_v2.Revision.pb(revision.proto), now
        )
        if not request.validate_only:

            def vanish(_: datetime) -> None:
                self._drop(state, revision.key.revision)
                operation.succeed(run_v2.Revision.pb(revision.proto))

            self._clock.at(operation.due, vanish)
        return operation

    def _open_deletion(self, location: str, name: str, proto: Any, now: datetime) -> Operation:
        operation = self._operations.open(location, name, now + self._settings.reconcile_delay)
        operation.show(proto)
        return operation

    def _check_etag(self, state: ServiceState, etag: str) -> None:
        if self._settings.etag is EtagMode.IGNORE or etag in {"", state.proto.etag}:
            return
        raise aborted(
            f"Conflict for resource '{state.service_id}': version '{catalog.version_of(etag)}' was specified "
            f"but current version is '{catalog.version_of(state.proto.etag)}'."
        )

    def _validate(self, state: ServiceState, wanted: run_v2.Service) -> None:
        """Fill in defaults and refuse what is wrong, before anything is stored."""
        rules.fill_defaults(wanted)
        rules.check(state.service_id, wanted)
        name = wanted.template.revision
        if name in state.revisions and wanted.template != state.proto.template:
            raise already_exists(f"Revision named '{name}' with different configuration already exists.")

    def _write(
        self,
        state: ServiceState,
        wanted: run_v2.Service,
        principal: str,
        now: datetime,
        *,
        validate_only: bool,
    ) -> Operation:
        if validate_only:
            operation = self._operations.open(state.location, f"{state.proto.name}?validate_only", now)
            operation.succeed(run_v2.Service.pb(wanted))
            return operation
        is_new_template = not state.revisions or wanted.template != state.proto.template
        state.proto = wanted
        state.touch(now, principal)
        self._services[state.proto.name] = state
        if not is_new_template:
            return self._reconciler.begin(state, now, awaits=None)
        state.newest_number += 1
        name = wanted.template.revision or self._unused_name(state)
        revision = catalog.new_revision(state, name, now, self._log_uri)
        state.revisions[name] = revision
        operation = self._reconciler.begin(state, now, awaits=revision)
        # Only after the answer was composed: it still shows the revision created before.
        state.proto.latest_created_revision = revision.proto.name
        self._reconciler.start(state, revision, now)
        self._keep_the_limit(state)
        return operation

    def _unused_name(self, state: ServiceState) -> str:
        name = revision_id(state.service_id, state.proto.generation, self._rng)
        return self._unused_name(state) if name in state.revisions else name

    def _referenced(self, state: ServiceState) -> set[str]:
        asked_for = {target.revision for target in state.proto.traffic}
        latest = {short(state.proto.latest_ready_revision), short(state.proto.latest_created_revision)}
        return state.split.revisions() | asked_for | latest

    def _keep_the_limit(self, state: ServiceState) -> None:
        """Delete the oldest revisions beyond the limit that nothing refers to."""
        excess = len(state.revisions) - MOST_REVISIONS
        if excess > 0:
            referenced = self._referenced(state)
            for name in list(islice((name for name in state.revisions if name not in referenced), excess)):
                self._drop(state, name)

    def _drop(self, state: ServiceState, name: str) -> None:
        revision = state.revisions.pop(name, None)
        if revision is not None:
            self._runtime.remove(revision.key)


def paged(found: Sequence[T], size: int, token: str) -> tuple[Iterable[T], str]:
    """Return one page and the token of the next ("" = the last). The token is the place to go on from."""
    if token and not token.isdecimal():
        raise invalid(f"Invalid page token '{token}'.", "page_token")
    start = int(token or 0)
    end = start + (min(size, LARGEST_PAGE) or LARGEST_PAGE)
    return found[start:end], str(end) if end < len(found) else ""
