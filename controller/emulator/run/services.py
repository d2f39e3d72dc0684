"""The verbs of services: create, get, list, update, delete."""

from datetime import datetime

from google.cloud import run_v2

from controller.emulator.errors import already_exists
from controller.emulator.instants import stamp
from controller.emulator.names import check_place, check_service_id, check_service_name, location_of, uid_of
from controller.emulator.paging import paged
from controller.emulator.run import defaults, etags, masks, rules, tags
from controller.emulator.run.catalog import Catalog, ServiceState
from controller.emulator.run.deletions import Deletions
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.reconciler import Reconciler
from controller.emulator.run.revisions import Revisions
from controller.emulator.settings import Settings


class Services:
    """What is asked for, at once; what is served follows through the reconciler."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        operations: Operations,
        reconciler: Reconciler,
        revisions: Revisions,
        deletions: Deletions,
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._operations = operations
        self._reconciler = reconciler
        self._revisions = revisions
        self._deletions = deletions

    def all(self) -> list[ServiceState]:
        """Return every service."""
        return list(self._catalog.services.values())

    def create(self, request: run_v2.CreateServiceRequest, principal: str, now: datetime) -> Operation:
        """Create a service and its first revision."""
        check_place(request.parent, self._settings.project)
        check_service_id(request.service_id)
        name = f"{request.parent}/services/{request.service_id}"
        if name in self._catalog.services:
            raise already_exists(f"Resource '{request.service_id}' already exists.")
        service = masks.merged(run_v2.Service(name=name), request.service, [])
        service.uid = uid_of(name, now)
        service.create_time = stamp(now)
        service.creator = principal
        state = ServiceState(service)
        self._complete("CreateServiceRequest", state, service)
        if request.validate_only:
            return self._validated(service, now)
        self._catalog.services[name] = state
        return self._write(state, service, principal, now, makes_revision=True)

    def get(self, name: str) -> ServiceState:
        """Return a service by its full name."""
        return self._catalog.service(name)

    def list(self, request: run_v2.ListServicesRequest) -> run_v2.ListServicesResponse:
        """Return the services of a location, `-` meaning every one, by name."""
        location_of(request.parent)
        found = [state.proto for state in self._catalog.located(request.parent)]
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListServicesResponse(services=page, next_page_token=token)

    def update(
        self,
        request: run_v2.UpdateServiceRequest,
        principal: str,
        now: datetime,
        *,
        force_new_revision: bool = False,
    ) -> Operation:
        """Change a service; a changed template makes a new revision, and nothing else does unless forced."""
        name = request.service.name
        check_service_name(name)
        if name not in self._catalog.services and request.allow_missing:
            return self.create(_creation(request), principal, now)
        state = self.get(name)
        etags.check(self._settings.etag, name, state.proto.etag, request.service.etag)
        wanted = masks.merged(state.proto, request.service, list(request.update_mask.paths))
        self._complete("UpdateServiceRequest", state, wanted)
        makes_revision = force_new_revision or _has_new_template(state, wanted)
        if makes_revision and wanted.template.revision in state.revisions:
            raise already_exists(
                f"Revision named '{wanted.template.revision}' with different configuration already exists."
            )
        if request.validate_only:
            return self._validated(wanted, now)
        return self._write(state, wanted, principal, now, makes_revision=makes_revision)

    def delete(self, request: run_v2.DeleteServiceRequest, now: datetime) -> Operation:
        """Delete a service with all its revisions."""
        state = self.get(request.name)
        etags.check(self._settings.etag, request.name, state.proto.etag, request.etag)
        return self._deletions.begin(state.proto, now, validate_only=request.validate_only)

    def _complete(self, request: str, state: ServiceState, wanted: run_v2.Service) -> None:
        """Fill in defaults and refuse what is wrong, before anything is stored."""
        rules.check_enums(request, wanted)
        defaults.fill_in(wanted)
        rules.check(request, state.service_id, wanted, keeps_regions=self._settings.keeps_regions)

    def _validated(self, service: run_v2.Service, now: datetime) -> Operation:
        """Return an operation that is done and shows a service as it would be, though nothing is stored."""
        location, _, _ = service.name.rpartition("/services/")
        operation = self._operations.open(location, f"{service.name}?validate_only", now)
        self._operations.succeed(operation, run_v2.Service.pb(service))
        return operation

    def _write(
        self,
        state: ServiceState,
        wanted: run_v2.Service,
        principal: str,
        now: datetime,
        *,
        makes_revision: bool,
    ) -> Operation:
        state.proto = wanted
        state.touch(now, principal)
        self._keep_to_the_tags(state, now)
        if not makes_revision:
            return self._reconciler.begin(state, now, awaits=None)
        revision = self._revisions.add(state, now)
        operation = self._reconciler.begin(state, now, awaits=revision)
        # Only after the answer was composed: it still shows the revision created before.
        state.proto.latest_created_revision = revision.proto.name
        self._reconciler.start(state, revision, now)
        self._revisions.keep_the_limit(state)
        return operation

    def _keep_to_the_tags(self, state: ServiceState, now: datetime) -> None:
        tags.note(state, now)
        if state.tagged:
            for other in tags.drop_excess(self._catalog.located(state.location)):
                self._reconciler.serve_again(other, now)


def _creation(request: run_v2.UpdateServiceRequest) -> run_v2.CreateServiceRequest:
    """Return the creation that an update with `allow_missing` means."""
    parent, _, service_id = request.service.name.rpartition("/services/")
    return run_v2.CreateServiceRequest(
        parent=parent, service_id=service_id, service=request.service, validate_only=request.validate_only
    )


def _has_new_template(state: ServiceState, wanted: run_v2.Service) -> bool:
    """Return whether the templates differ, be it in fields that this version of the API does not know."""
    before, after = (
        run_v2.RevisionTemplate.pb(service.template).SerializeToString(deterministic=True)
        for service in (state.proto, wanted)
    )
    return bool(before != after)
