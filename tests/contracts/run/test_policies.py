"""IAM policies of services are kept, with an etag of their own."""

import pytest
from google.api_core import exceptions
from google.iam.v1 import iam_policy_pb2, policy_pb2

from contracts.cloud import SECONDS, Cloud

VIEWER = "roles/run.viewer"
DOMAIN = "domain:google.com"


def get(cloud: Cloud, resource: str = "") -> policy_pb2.Policy:
    request = iam_policy_pb2.GetIamPolicyRequest(resource=resource or cloud.full())
    return cloud.services.get_iam_policy(request=request, timeout=SECONDS)


def put(cloud: Cloud, policy: policy_pb2.Policy) -> policy_pb2.Policy:
    request = iam_policy_pb2.SetIamPolicyRequest(resource=cloud.full(), policy=policy)
    return cloud.services.set_iam_policy(request=request, timeout=SECONDS)


def a_binding(policy: policy_pb2.Policy) -> policy_pb2.Policy:
    policy.bindings.add(role=VIEWER, members=[DOMAIN])
    return policy


def test_a_new_service_has_a_policy_without_bindings(cloud: Cloud) -> None:
    """Fact 1.1 [P]: "get/set_iam_policy, test_iam_permissions"; a policy always has an etag."""
    cloud.create()
    policy = get(cloud)
    assert policy.etag
    assert not policy.bindings


def test_a_policy_is_read_changed_and_written(cloud: Cloud) -> None:
    """Fact 1.1 [P]: "get/set_iam_policy"; the service itself does not change with it."""
    cloud.create()
    cloud.settle()
    before = get(cloud)
    written = put(cloud, a_binding(get(cloud)))
    assert [(binding.role, list(binding.members)) for binding in get(cloud).bindings] == [(VIEWER, [DOMAIN])]
    assert get(cloud).etag == written.etag != before.etag
    assert cloud.get().generation == 1


def test_a_stale_policy_is_aborted(cloud: Cloud) -> None:
    """Fact 1.1 [P]: an etag in a policy is checked, unlike that of a service (2.2)."""
    cloud.create()
    cloud.settle()
    stale = get(cloud)
    put(cloud, a_binding(get(cloud)))
    with pytest.raises(exceptions.Aborted):
        put(cloud, stale)
    assert len(get(cloud).bindings) == 1


def test_a_policy_without_an_etag_replaces_any_other(cloud: Cloud) -> None:
    """Fact 1.1 [P]: set_iam_policy replaces the policy whole."""
    cloud.create()
    cloud.settle()
    put(cloud, a_binding(get(cloud)))
    put(cloud, policy_pb2.Policy())
    assert not get(cloud).bindings


def test_permissions_that_the_caller_has_are_answered(cloud: Cloud) -> None:
    """Fact 1.1 [P]: "test_iam_permissions"."""
    cloud.create()
    request = iam_policy_pb2.TestIamPermissionsRequest(
        resource=cloud.full(), permissions=["run.services.get", "run.services.update"]
    )
    answer = cloud.services.test_iam_permissions(request=request, timeout=SECONDS)
    assert sorted(answer.permissions) == ["run.services.get", "run.services.update"]


def test_a_policy_of_a_version_that_does_not_exist_is_refused(cloud: Cloud) -> None:
    """Fact 1.1 [P]: versions of policies are 0, 1 and 3."""
    cloud.create()
    with pytest.raises(exceptions.InvalidArgument):
        put(cloud, policy_pb2.Policy(version=2))


def test_what_does_not_exist_has_no_policy(cloud: Cloud) -> None:
    """Fact 2.5 [R]: "not found service | 404/NOT_FOUND"."""
    with pytest.raises(exceptions.NotFound):
        get(cloud, cloud.full(cloud.named("nowhere")))
