"""google.cloud.run.v2 (jobs are in `jobs_api`) and google.longrunning.Operations."""

import asyncio
from collections.abc import Callable
from typing import Any

from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, empty_pb2, unknown_fields

from controller.emulator.calls import Call, Method, Methods
from controller.emulator.errors import invalid, unimplemented
from controller.emulator.paging import paged
from controller.emulator.run.control_plane import ControlPlane
from controller.emulator.run.jobs_api import job_methods
from controller.emulator.run.methods import Answer, method_on, written
from controller.emulator.run.operations import Operation

LONGEST_WAIT = 600.0
LONGEST_DURATION = 315_576_000_000.0
"""Seconds that a google.protobuf.Duration may have."""
FORCE_NEW_REVISION = 5
"""Number of a field of UpdateServiceRequest that the client library does not know yet."""


class RunApi:
    """Turns calls into verbs of the control plane; a project may be named by its id or by its number."""

    def __init__(self, control_plane: ControlPlane, project: str, test_permissions: Answer) -> None:
        self._services = control_plane.services
        self._revisions = control_plane.revisions
        self._policies = control_plane.policies
        self._operations = control_plane.operations
        self._jobs = control_plane.jobs
        self._project = project
        self._test_permissions = test_permissions

    def methods(self) -> Methods:
        """Return the methods by service and name."""
        return {
            "google.cloud.run.v2.Services": {**self._service_methods(), **self._policy_methods()},
            "google.cloud.run.v2.Revisions": self._revision_methods(),
            "google.longrunning.Operations": self._operation_methods(),
            **job_methods(self._jobs, self._method, self._test_permissions),
        }

    def _service_methods(self) -> dict[str, Method]:
        v2, services = run_v2, self._services
        return {
            "CreateService": self._method(
                lambda call, request: services.create(request, call.principal, call.now),
                "parent", v2.CreateServiceRequest.deserialize, written,
            ),
            "GetService": self._method(
                lambda _, request: services.get(request.name).proto,
                "name", v2.GetServiceRequest.deserialize, v2.Service.serialize,
            ),
            "ListServices": self._method(
                lambda _, request: services.list(request),
                "parent", v2.ListServicesRequest.deserialize, v2.ListServicesResponse.serialize,
            ),
            "UpdateService": self._method(
                self._update, "service.name", v2.UpdateServiceRequest.deserialize, written
            ),
            "DeleteService": self._method(
                lambda call, request: services.delete(request, call.now),
                "name", v2.DeleteServiceRequest.deserialize, written,
            ),
        }  # fmt: skip

    def _policy_methods(self) -> dict[str, Method]:
        v1, policies, policy_written = iam_policy_pb2, self._policies, policy_pb2.Policy.SerializeToString
        return {
            "GetIamPolicy": self._method(
                lambda _, request: policies.get(request),
                "resource", v1.GetIamPolicyRequest.FromString, policy_written,
            ),
            "SetIamPolicy": self._method(
                lambda call, request: policies.set(request, call.now),
                "resource", v1.SetIamPolicyRequest.FromString, policy_written,
            ),
            "TestIamPermissions": self._method(
                self._test_permissions, "resource", v1.TestIamPermissionsRequest.FromString,
                v1.TestIamPermissionsResponse.SerializeToString,
            ),
        }  # fmt: skip

    def _revision_methods(self) -> dict[str, Method]:
        v2, revisions = run_v2, self._revisions
        return {
            "GetRevision": self._method(
                lambda _, request: revisions.get(request.name).proto,
                "name", v2.GetRevisionRequest.deserialize, v2.Revision.serialize,
            ),
            "ListRevisions": self._method(
                lambda _, request: revisions.list(request),
                "parent", v2.ListRevisionsRequest.deserialize, v2.ListRevisionsResponse.serialize,
            ),
            "DeleteRevision": self._method(
                lambda call, request: revisions.delete(request, call.now),
                "name", v2.DeleteRevisionRequest.deserialize, written,
            ),
        }  # fmt: skip

    def _operation_methods(self) -> dict[str, Method]:
        lro, nothing = operations_pb2, empty_pb2.Empty.SerializeToString
        return {
            "GetOperation": self._method(
                lambda _, request: self._operations.get(request.name),
                "name", lro.GetOperationRequest.FromString, written,
            ),
            "ListOperations": self._method(
                self._list_operations,
                "name", lro.ListOperationsRequest.FromString, lro.ListOperationsResponse.SerializeToString,
            ),
            "WaitOperation": self._method(
                self._wait, "name", lro.WaitOperationRequest.FromString, written
            ),
            "DeleteOperation": self._method(
                self._forget, "name", lro.DeleteOperationRequest.FromString, nothing
            ),
            "CancelOperation": self._method(
                self._cancel, "name", lro.CancelOperationRequest.FromString, nothing
            ),
        }  # fmt: skip

    def _method(
        self, answer: Answer, field: str, read: Callable[[bytes], Any], write: Callable[[Any], bytes]
    ) -> Method:
        return method_on(self._project, answer, field, read, write)

    def _update(self, call: Call, request: run_v2.UpdateServiceRequest) -> Operation:
        extra: Any = unknown_fields.UnknownFieldSet(run_v2.UpdateServiceRequest.pb(request))
        force = any(field.field_number == FORCE_NEW_REVISION and field.data for field in extra)
        return self._services.update(request, call.principal, call.now, force_new_revision=force)

    def _list_operations(
        self, _: Call, request: operations_pb2.ListOperationsRequest
    ) -> operations_pb2.ListOperationsResponse:
        if request.filter:
            raise unimplemented("This local Cloud Run lists operations without a filter only.")
        found = [operation.proto for operation in self._operations.in_location(request.name)]
        page, token = paged(found, request.page_size, request.page_token)
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=token)

    async def _wait(self, call: Call, request: operations_pb2.WaitOperationRequest) -> Operation:
        """Wait in real time, as long as asked for; may answer with an operation that is not done."""
        operation = self._operations.get(request.name)
        asked = _seconds(request.timeout) if request.HasField("timeout") else LONGEST_WAIT
        left = LONGEST_WAIT if call.seconds_left is None else call.seconds_left * 0.9
        try:
            async with asyncio.timeout(min(asked, left)):
                await operation.finished.wait()
        except TimeoutError:
            pass
        return operation

    def _forget(self, _: Call, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        self._operations.forget(request.name)
        return empty_pb2.Empty()

    def _cancel(self, _: Call, __: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        raise unimplemented("Cloud Run does not cancel operations.")


def _seconds(timeout: duration_pb2.Duration) -> float:
    seconds = timeout.seconds + timeout.nanos / 1e9
    if not 0 <= seconds <= LONGEST_DURATION:
        raise invalid(f"Invalid timeout: {seconds:g} s are not 0 to {LONGEST_DURATION:.0f} s.", "timeout")
    return seconds
