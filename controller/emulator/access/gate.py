"""The gate that lets a call through only if its caller holds what the method needs."""

from typing import Any

import grpc
from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2
from google.rpc import error_details_pb2

from controller.emulator.access.needs import Need, needs_of
from controller.emulator.access.policy import Binding, IamPolicy, members_of
from controller.emulator.access.roles import ACT_AS
from controller.emulator.calls import Call, Gate, GoOn
from controller.emulator.errors import ApiError
from controller.emulator.names import by_id
from controller.emulator.run.catalog import ServiceState
from controller.emulator.run.services import Services


class AccessGate(Gate):
    """Checks each call against a policy; without one, everybody may do everything."""

    def __init__(self, policy: IamPolicy | None, services: Services, project: str) -> None:
        self._policy = policy
        self._services = services
        self._project = project

    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Answer, or refuse in Google's words."""
        if self._policy is not None:
            self._check(self._policy, call, request)
        return await go_on()

    def test(
        self, call: Call, request: iam_policy_pb2.TestIamPermissionsRequest
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        """Return which of the permissions the caller has: all, where nothing is checked.

        The service need not exist: gcloud asks before it creates one.
        """
        asked = list(request.permissions)
        held = asked if self._policy is None else self._held(self._policy, call, request.resource)
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=[one for one in asked if one in held])

    def _check(self, policy: IamPolicy, call: Call, request: Any) -> None:
        needs = needs_of(call.method, request, self._template, policy.act_as)
        if needs is None:
            raise ApiError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"The local Cloud Run does not know which permission {call.method} needs.",
            )
        for need in needs:
            if need.permission not in self._held(policy, call, need.resource):
                raise _unauthenticated(call) if call.is_anonymous else _denied(need)

    def _held(self, policy: IamPolicy, call: Call, name: str) -> frozenset[str]:
        """Return the permissions that the caller holds on a resource."""
        resource = by_id(name, self._project)
        members = members_of(call.principal, is_anonymous=call.is_anonymous)
        return policy.held(members, resource, self._bindings(resource.partition("/revisions/")[0]))

    def _bindings(self, service_name: str) -> list[Binding]:
        """Return what SetIamPolicy put on a service; a binding with a condition counts for nobody."""
        state = self._state(service_name)
        stored = [one for one in state.policy.bindings if not one.condition.expression] if state else []
        return [Binding(one.role, frozenset(map(_member, one.members)), service_name) for one in stored]

    def _template(self, service_name: str) -> run_v2.RevisionTemplate | None:
        state = self._state(by_id(service_name, self._project))
        return state.proto.template if state else None

    def _state(self, service_name: str) -> ServiceState | None:
        try:
            return self._services.get(service_name)
        except ApiError:  # no service, or no name of one
            return None


def _member(text: str) -> str:
    """Return a member with its address in small letters, as addresses are compared."""
    kind, colon, email = text.partition(":")
    return f"{kind}{colon}{email.lower()}"


def _denied(need: Need) -> ApiError:
    """Return PERMISSION_DENIED as the API that asks for this permission words it."""
    info = error_details_pb2.ErrorInfo(reason="IAM_PERMISSION_DENIED", domain="iam.googleapis.com")
    info.metadata.update({"permission": need.permission, "resource": need.resource})
    return ApiError(grpc.StatusCode.PERMISSION_DENIED, _wording(need), details=(info,))


def _wording(need: Need) -> str:
    if need.permission == ACT_AS:
        account = need.resource.rpartition("/")[2]
        return (
            f"Permission 'iam.serviceaccounts.actAs' denied on service account {account} "
            "(or it may not exist)."
        )
    if need.permission.startswith("monitoring."):
        return f"Permission {need.permission} denied (or the resource may not exist)."
    if need.permission.startswith("logging."):
        return f"Permission '{need.permission}' denied on resource (or it may not exist)."
    return f"Permission '{need.permission}' denied on resource '{need.resource}' (or resource may not exist)."


def _unauthenticated(call: Call) -> ApiError:
    """Return what Google answers to a call without a token."""
    service, method = call.method.strip("/").split("/")
    info = error_details_pb2.ErrorInfo(reason="CREDENTIALS_MISSING", domain="googleapis.com")
    info.metadata.update({"method": f"{service}.{method}"})
    return ApiError(
        grpc.StatusCode.UNAUTHENTICATED,
        "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie "
        "or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        details=(info,),
    )
