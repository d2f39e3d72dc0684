"""IAM policies of services: kept and answered. Checking calls against them is a gate's matter."""

from datetime import datetime

from google.iam.v1 import iam_policy_pb2, policy_pb2

from controller.emulator.errors import aborted, invalid
from controller.emulator.run.catalog import Catalog

NO_POLICY_YET = b"\x00 \x01"
VERSIONS = (0, 1, 3)


class Policies:
    """The policy of each service."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def get(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        """Return the policy of a service; one that was never set has an etag alone."""
        return self._policy_of(request.resource)

    def set(self, request: iam_policy_pb2.SetIamPolicyRequest, now: datetime) -> policy_pb2.Policy:
        """Replace the policy of a service; an etag, if there is one, must be the current one."""
        current = self._policy_of(request.resource)
        wanted = policy_pb2.Policy()
        wanted.CopyFrom(request.policy)
        if wanted.etag and wanted.etag != current.etag:
            raise aborted(
                "There were concurrent policy changes. Please retry the whole read-modify-write with "
                "exponential backoff."
            )
        if wanted.version not in VERSIONS:
            raise invalid(f"Invalid policy version {wanted.version}: it must be 0, 1 or 3.", "policy.version")
        wanted.version = wanted.version or 1
        wanted.etag = _next_etag(current.etag, now)
        self._catalog.service(request.resource).policy = wanted
        return wanted

    def _policy_of(self, service_name: str) -> policy_pb2.Policy:
        policy = self._catalog.service(service_name).policy
        return policy if policy.etag else policy_pb2.Policy(etag=NO_POLICY_YET)


def _next_etag(current: bytes, now: datetime) -> bytes:
    """Return an etag of this instant; two writes at one instant differ too."""
    number = int(now.timestamp() * 1_000_000)
    return max(number, int.from_bytes(current, "big") + 1).to_bytes(8, "big")
