"""The verbs of revisions: get, list, delete; and how a service gets and loses them."""

import random
from collections.abc import Callable
from datetime import datetime
from itertools import islice

from google.cloud import run_v2

from controller.emulator.errors import failed_precondition
from controller.emulator.names import RevisionKey, check_service_name, revision_id
from controller.emulator.paging import paged
from controller.emulator.run import catalog, etags
from controller.emulator.run.catalog import Catalog, RevisionState, ServiceState
from controller.emulator.run.deletions import Deletions
from controller.emulator.run.operations import Operation
from controller.emulator.settings import Settings

MOST_REVISIONS = 1000


class Revisions:
    """The revisions of all services."""

    def __init__(
        self,
        settings: Settings,
        services: Catalog,
        deletions: Deletions,
        rng: random.Random,
        log_uri: Callable[[RevisionKey], str],
    ) -> None:
        self._settings = settings
        self._catalog = services
        self._deletions = deletions
        self._rng = rng
        self._log_uri = log_uri

    def get(self, name: str) -> RevisionState:
        """Return a revision by its full name."""
        return self._catalog.revision(name)[1]

    def list(self, request: run_v2.ListRevisionsRequest) -> run_v2.ListRevisionsResponse:
        """Return the revisions of a service, newest first; `services/-` means those of every service."""
        check_service_name(request.parent)
        location, _, service_id = request.parent.rpartition("/services/")
        is_any = service_id == "-"
        states = self._catalog.located(location) if is_any else [self._catalog.service(request.parent)]
        found = [revision.proto for state in states for revision in reversed(state.revisions.values())]
        found.sort(key=_create_time, reverse=True)
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListRevisionsResponse(revisions=page, next_page_token=token)

    def delete(self, request: run_v2.DeleteRevisionRequest, now: datetime) -> Operation:
        """Delete a revision that is retired."""
        state, revision = self._catalog.revision(request.name)
        etags.check(self._settings.etag, request.name, revision.proto.etag, request.etag)
        if revision.key.revision in state.not_retired():
            raise failed_precondition(
                f"Revision '{revision.key.revision}' cannot be deleted: only retired ones can be."
            )
        return self._deletions.begin(revision.proto, now, validate_only=request.validate_only)

    def add(self, service: ServiceState, now: datetime) -> RevisionState:
        """Give a service the revision that its template asks for, not yet started."""
        service.newest_number += 1
        name = service.proto.template.revision or self._unused_name(service)
        revision = catalog.new_revision(service, name, now, self._log_uri)
        service.revisions[name] = revision
        return revision

    def keep_the_limit(self, service: ServiceState) -> None:
        """Delete the oldest revisions beyond the limit that are retired."""
        excess = len(service.revisions) - MOST_REVISIONS
        if excess > 0:
            kept = service.not_retired()
            for name in list(islice((name for name in service.revisions if name not in kept), excess)):
                self._deletions.drop(service, name)

    def _unused_name(self, service: ServiceState) -> str:
        name = revision_id(service.service_id, service.proto.generation, self._rng)
        return self._unused_name(service) if name in service.revisions else name


def _create_time(revision: run_v2.Revision) -> int:
    return int(run_v2.Revision.pb(revision).create_time.ToNanoseconds())
