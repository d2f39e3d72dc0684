"""The official clients, and short words for what many tests of Cloud Run do, be it local or Google's own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.cloud import run_v2
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import field_mask_pb2

SECONDS = 20.0


class Cloud(ABC):
    """One service `web` of a project and region, and the clients to work on it."""

    services: run_v2.ServicesClient
    revisions: run_v2.RevisionsClient
    parent: str
    web: str
    """The short name of the service, which revisions and further services begin with."""

    @property
    def operations(self) -> operations_pb2_grpc.OperationsStub:
        transport: Any = self.services.transport
        return operations_pb2_grpc.OperationsStub(transport.grpc_channel)

    @abstractmethod
    def template(self, *, revision: str = "", **env: str) -> run_v2.RevisionTemplate:
        """Return a template; with CRASH it never becomes ready."""

    @abstractmethod
    def settle(self) -> None:
        """Return when nothing is reconciling any more."""

    def full(self, name: str = "", revision: str = "") -> str:
        """Return the full name of a service, or of a revision of it."""
        service = f"{self.parent}/services/{name or self.web}"
        return f"{service}/revisions/{revision}" if revision else service

    def named(self, suffix: str) -> str:
        """Return the short name of a revision, or of a further service."""
        return f"{self.web}-{suffix}"

    def create(self, name: str = "", *, revision: str = "", **env: str) -> operations_pb2.Operation:
        return self.create_as(run_v2.Service(template=self.template(revision=revision, **env)), name)

    def create_as(
        self, service: run_v2.Service, name: str = "", *, validate_only: bool = False
    ) -> operations_pb2.Operation:
        request = run_v2.CreateServiceRequest(
            parent=self.parent, service_id=name or self.web, service=service, validate_only=validate_only
        )
        created: operations_pb2.Operation = self.services.create_service(
            request=request, timeout=SECONDS
        ).operation
        return created

    def update(self, name: str = "", *, mask: str = "", **fields: Any) -> operations_pb2.Operation:
        """Update with a mask: by default, the fields that are given."""
        service = run_v2.Service(name=self.full(name), **fields)
        paths = [path for path in (mask.split(",") if mask else list(fields)) if path != "etag"]
        return self.write(service, update_mask=field_mask_pb2.FieldMask(paths=paths))

    def write(self, service: run_v2.Service, **request: Any) -> operations_pb2.Operation:
        """Update without a mask, unless one is given."""
        wanted = run_v2.UpdateServiceRequest(service=service, **request)
        updated: operations_pb2.Operation = self.services.update_service(
            request=wanted, timeout=SECONDS
        ).operation
        return updated

    def delete(self, name: str = "") -> operations_pb2.Operation:
        deleted: operations_pb2.Operation = self.services.delete_service(
            name=self.full(name), timeout=SECONDS
        ).operation
        return deleted

    def get(self, name: str = "") -> run_v2.Service:
        return self.services.get_service(name=self.full(name), timeout=SECONDS)

    def revision(self, name: str) -> run_v2.Revision:
        return self.revisions.get_revision(name=self.full(revision=name), timeout=SECONDS)

    def revision_names(self, name: str = "") -> list[str]:
        found = self.revisions.list_revisions(parent=self.full(name), timeout=SECONDS)
        return [revision.name.rsplit("/", 1)[-1] for revision in found]

    def operation(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        found: operations_pb2.Operation = self.operations.GetOperation(request, timeout=SECONDS)
        return found

    def wait(self, name: str, seconds: float = SECONDS) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromTimedelta(timedelta(seconds=seconds))
        found: operations_pb2.Operation = self.operations.WaitOperation(request, timeout=seconds + 1)
        return found

    def outcome(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        """Return an operation when everything has settled."""
        self.settle()
        return self.operation(operation.name)

    def two_revisions(self, **second: str) -> None:
        """Deploy a revision -one, which serves everything, and -two, which serves nothing."""
        one, two = self.named("one"), self.named("two")
        self.create(revision=one, LATENCY_MS="50")
        self.settle()
        self.update(template=self.template(revision=two, **second), traffic=[to(one, 100)])
        self.settle()


def to(revision: str, percent: int, tag: str = "") -> run_v2.TrafficTarget:
    """Return a target; the revision "" is LATEST."""
    kinds = run_v2.TrafficTargetAllocationType
    kind = (
        kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        if revision
        else kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
    )
    return run_v2.TrafficTarget(type_=kind, revision=revision, percent=percent, tag=tag)


def percents(service: run_v2.Service) -> Mapping[str, int]:
    """Return what is served, by revision ("" = LATEST)."""
    return _sums(service.traffic_statuses)


def desired(service: run_v2.Service) -> Mapping[str, int]:
    """Return what is asked for, by revision ("" = LATEST)."""
    return _sums(service.traffic)


def shown(operation: operations_pb2.Operation, what: str = "metadata") -> run_v2.Service:
    """Return the service in the metadata or the response of an operation."""
    packed = getattr(operation, what)
    service = run_v2.Service.pb()()
    assert packed.Unpack(service), f"{packed.type_url} is not a Service"
    wrapped: run_v2.Service = run_v2.Service.wrap(service)
    return wrapped


def _sums(targets: Any) -> Mapping[str, int]:
    result: dict[str, int] = {}
    for target in targets:
        result[target.revision] = result.get(target.revision, 0) + target.percent
    return {revision: percent for revision, percent in result.items() if percent}
