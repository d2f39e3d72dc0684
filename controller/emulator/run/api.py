"""google.cloud.run.v2 Services and Revisions, and google.longrunning.Operations."""

import asyncio

from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from controller.emulator.calls import Call, Methods, unary
from controller.emulator.errors import unimplemented
from controller.emulator.run.operations import Operations
from controller.emulator.run.services import Services, paged

LONGEST_WAIT = 600.0


class RunApi:
    """Turns calls into verbs of the control plane."""

    def __init__(self, services: Services, operations: Operations) -> None:
        self._services = services
        self._operations = operations

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        v2, lro = run_v2, operations_pb2
        services, revisions, operations = self._services, self._services, self._operations
        written = lro.Operation.SerializeToString
        nothing = empty_pb2.Empty.SerializeToString
        return {
            "google.cloud.run.v2.Services": {
                "CreateService": unary(
                    lambda call, request: services.create(request, call.principal, call.now).proto,
                    v2.CreateServiceRequest.deserialize,
                    written,
                ),
                "GetService": unary(
                    lambda _, request: services.get(request.name).proto,
                    v2.GetServiceRequest.deserialize,
                    v2.Service.serialize,
                ),
                "ListServices": unary(
                    lambda _, request: services.list(request),
                    v2.ListServicesRequest.deserialize,
                    v2.ListServicesResponse.serialize,
                ),
                "UpdateService": unary(
                    lambda call, request: services.update(request, call.principal, call.now).proto,
                    v2.UpdateServiceRequest.deserialize,
                    written,
                ),
                "DeleteService": unary(
                    lambda call, request: services.delete(request, call.now).proto,
                    v2.DeleteServiceRequest.deserialize,
                    written,
                ),
            },
            "google.cloud.run.v2.Revisions": {
                "GetRevision": unary(
                    lambda _, request: revisions.get_revision(request.name).proto,
                    v2.GetRevisionRequest.deserialize,
                    v2.Revision.serialize,
                ),
                "ListRevisions": unary(
                    lambda _, request: revisions.list_revisions(request),
                    v2.ListRevisionsRequest.deserialize,
                    v2.ListRevisionsResponse.serialize,
                ),
                "DeleteRevision": unary(
                    lambda call, request: revisions.delete_revision(request, call.now).proto,
                    v2.DeleteRevisionRequest.deserialize,
                    written,
                ),
            },
            "google.longrunning.Operations": {
                "GetOperation": unary(
                    lambda _, request: operations.get(request.name).proto,
                    lro.GetOperationRequest.FromString,
                    written,
                ),
                "ListOperations": unary(
                    self._list_operations,
                    lro.ListOperationsRequest.FromString,
                    lro.ListOperationsResponse.SerializeToString,
                ),
                "WaitOperation": unary(self._wait_operation, lro.WaitOperationRequest.FromString, written),
                "DeleteOperation": unary(
                    self._delete_operation, lro.DeleteOperationRequest.FromString, nothing
                ),
                "CancelOperation": unary(
                    self._cancel_operation, lro.CancelOperationRequest.FromString, nothing
                ),
            },
        }

    def _list_operations(
        self, _: Call, request: operations_pb2.ListOperationsRequest
    ) -> operations_pb2.ListOperationsResponse:
        found = [operation.proto for operation in self._operations.in_location(request.name)]
        page, token = paged(found, request.page_size, request.page_token)
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    async def _wait_operation(
        self, call: Call, request: operations_pb2.WaitOperationRequest
    ) -> operations_pb2.Operation:
        """Wait in real time, as long as asked for; may answer with an operation that is not done."""
        operation = self._operations.get(request.name)
        asked = request.timeout.ToTimedelta().total_seconds() if request.HasField("timeout") else LONGEST_WAIT
        left = LONGEST_WAIT if call.seconds_left is None else call.seconds_left * 0.9
        try:
            async with asyncio.timeout(min(asked, left)):
                await operation.finished.wait()
        except TimeoutError:
            pass
        return operation.proto

    def _delete_operation(self, _: Call, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        self._operations.delete(request.name)
        return empty_pb2.Empty()

    def _cancel_operation(self, _: Call, __: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        raise unimplemented("Cloud Run does not cancel operations.")
