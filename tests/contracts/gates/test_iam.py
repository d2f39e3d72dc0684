"""Roles and bindings: who may call what, and how a refusal reads."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import monitoring_v3, run_v2
from google.cloud.logging_v2 import types as logging_types
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.longrunning import operations_pb2

from contracts.conftest import PARENT, SECONDS, SIMULATED, Google, a_google, a_template, to
from controller.emulator.access.needs import BY_METHOD
from controller.emulator.access.policy_file import IamFileInvalid, read_iam_file
from controller.emulator.server import LocalCloudRun
from controller.principal import calling_as

OWNER, ADA = "owner@example.com", "ada@example.com"
WEB = f"{PARENT}/services/web"
AS_OWNER = f"""\
bindings:
- role: roles/owner
  members: ["user:{OWNER}"]
"""
As = Callable[[str], Google]


@pytest.fixture
def people(tmp_path: Path) -> Iterator[Callable[[str], As]]:
    """Start a local Cloud Run with a policy file; returns the clients by principal."""
    open_ones = []

    def start(text: str) -> As:
        file = tmp_path / "iam.yaml"
        file.write_text(text, encoding="utf-8")
        opened = a_google(replace(SIMULATED, iam=str(file)))
        google = next(opened)
        open_ones.append(opened)
        return lambda principal: Google(google.local, calling_as(google.channel, principal))

    yield start
    for opened in open_ones:
        next(opened, None)


def granting(*permissions: str, also: str = "") -> str:
    """Return a policy by which ada holds just these permissions, and the owner holds all."""
    held = "".join(f"  - {permission}\n" for permission in permissions)
    return f"roles:\n  hers:\n{held or '    []'}\n{AS_OWNER}- role: hers\n  members: ['user:{ADA}']\n{also}"


def refused(call: Callable[[], Any]) -> Any:
    with pytest.raises(exceptions.Forbidden) as refusal:
        call()
    return refusal.value


def test_a_refusal_reads_as_googles(people: Callable[[str], As]) -> None:
    who = people(AS_OWNER)
    who(OWNER).create()
    error = refused(who(ADA).get)
    assert error.message == (
        f"Permission 'run.services.get' denied on resource '{WEB}' (or resource may not exist)."
    )
    assert (error.reason, error.domain) == ("IAM_PERMISSION_DENIED", "iam.googleapis.com")
    assert error.metadata == {"permission": "run.services.get", "resource": WEB}


def test_what_does_not_exist_is_not_told_from_what_is_forbidden(people: Callable[[str], As]) -> None:
    """Fact 2.5 [R]: "not found service | 404/NOT_FOUND", for those who may know."""
    who = people(AS_OWNER)
    assert "may not exist" in refused(lambda: who(ADA).get("no-such")).message
    with pytest.raises(exceptions.NotFound):
        who(OWNER).get("no-such")


def test_a_call_without_a_token_is_unauthenticated(people: Callable[[str], As]) -> None:
    with pytest.raises(exceptions.Unauthenticated, match="missing required authentication credential"):
        people(AS_OWNER)("").get()


def test_what_all_users_may_needs_no_token(people: Callable[[str], As]) -> None:
    who = people(f"{AS_OWNER}- role: roles/run.viewer\n  members: [allUsers]\n")
    who(OWNER).create()
    assert who("").get().name == WEB


def test_without_a_file_everybody_may_do_everything(google: Google) -> None:
    google.create()
    assert Google(google.local, calling_as(google.channel, ADA)).get().creator == "developer@example.com"


INTERVAL = monitoring_v3.TimeInterval(
    start_time={"seconds": 1_767_600_000}, end_time={"seconds": 1_767_600_600}
)


CALLS: dict[str, tuple[Callable[[Google], Any], set[str]]] = {
    "GetService": (lambda g: g.get(), {"run.services.get"}),
    "ListServices": (lambda g: list(g.services.list_services(parent=PARENT)), {"run.services.list"}),
    "CreateService": (lambda g: g.create("other"), {"run.services.create", "iam.serviceAccounts.actAs"}),
    "UpdateService": (
        lambda g: g.update(annotations={"a": "b"}),
        {"run.services.update", "run.services.get"},
    ),
    "DeleteService": (lambda g: g.services.delete_service(name=WEB), {"run.services.delete"}),
    "GetIamPolicy": (
        lambda g: g.services.get_iam_policy(iam_policy_pb2.GetIamPolicyRequest(resource=WEB)),
        {"run.services.getIamPolicy"},
    ),
    "SetIamPolicy": (
        lambda g: g.services.set_iam_policy(iam_policy_pb2.SetIamPolicyRequest(resource=WEB)),
        {"run.services.setIamPolicy"},
    ),
    "GetRevision": (
        lambda g: g.revisions.get_revision(name=f"{WEB}/revisions/web-one", timeout=SECONDS),
        {"run.revisions.get"},
    ),
    "ListRevisions": (lambda g: g.revision_names(), {"run.revisions.list"}),
    "DeleteRevision": (
        lambda g: g.revisions.delete_revision(name=f"{WEB}/revisions/web-one", timeout=SECONDS),
        {"run.revisions.delete"},
    ),
    "GetOperation": (
        lambda g: g.services.get_operation({"name": _an_operation(g.local)}),
        {"run.operations.get"},
    ),
    "ListOperations": (
        lambda g: g.operations.ListOperations(
            operations_pb2.ListOperationsRequest(name=PARENT), timeout=SECONDS
        ),
        {"run.operations.list"},
    ),
    "ListTimeSeries": (
        lambda g: g.metrics.list_time_series(
            monitoring_v3.ListTimeSeriesRequest(
                name="projects/demo",
                filter='metric.type="run.googleapis.com/request_count"',
                interval=INTERVAL,
            )
        ),
        {"monitoring.timeSeries.list"},
    ),
    "ListMetricDescriptors": (
        lambda g: g.metrics.list_metric_descriptors(name="projects/demo"),
        {"monitoring.metricDescriptors.list"},
    ),
    "ListLogEntries": (
        lambda g: g.logs.list_log_entries(resource_names=["projects/demo"]),
        {"logging.logEntries.list"},
    ),
    "WriteLogEntries": (
        lambda g: g.logs.write_log_entries(
            log_name="projects/demo/logs/mine", entries=[logging_types.LogEntry(text_payload="x")]
        ),
        {"logging.logEntries.create"},
    ),
}


def _an_operation(local: LocalCloudRun) -> str:
    """Return the name of an operation, as the owner sees it."""
    with grpc.insecure_channel(local.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        owner = Google(local, calling_as(channel, OWNER))
        request = operations_pb2.ListOperationsRequest(name=PARENT)
        return str(owner.operations.ListOperations(request, timeout=SECONDS).operations[0].name)


@pytest.mark.parametrize("method", CALLS)
def test_each_method_asks_for_its_permissions(people: Callable[[str], As], method: str) -> None:
    """Fact 5: "**services.patch→run.services.update + run.services.get**", and so on."""
    call, permissions = CALLS[method]
    for missing in [*sorted(permissions), ""]:
        who = people(granting(*(permissions - {missing})))
        who(OWNER).create(revision="web-one")
        who(OWNER).settle()
        ada = Google(who(OWNER).local, calling_as(who("").channel, ADA))
        if missing:
            assert missing.lower() in _said(ada, call).lower()
        else:
            _allowed(ada, call)


def _said(google: Google, call: Callable[[Google], Any]) -> str:
    try:
        call(google)
    except exceptions.Forbidden as error:
        return str(error.message)
    except Exception as error:  # noqa: BLE001 - a bare stub raises gRPC's own error
        return str(error)
    return "allowed"


def _allowed(google: Google, call: Callable[[Google], Any]) -> None:
    with suppress(exceptions.FailedPrecondition):  # let through; it is in use, which is another matter
        call(google)


def test_every_method_that_is_served_says_what_it_needs(google: Google) -> None:
    served = google.local.methods()
    assert set(served) == set(BY_METHOD)


def test_a_binding_on_a_service_counts_for_it_and_for_its_revisions_alone(
    people: Callable[[str], As],
) -> None:
    """Fact 5 [I]: "a role bound only on the service resource cannot poll LROs"."""
    who = people(f"{AS_OWNER}- role: roles/run.viewer\n  members: ['user:{ADA}']\n  resource: services/web\n")
    for name in ("web", "other"):
        who(OWNER).create(name)
    who(OWNER).settle()
    assert who(ADA).get().name == WEB
    assert len(who(ADA).revision_names()) == 1
    assert "services/other" in refused(lambda: who(ADA).get("other")).message
    assert "run.services.list" in refused(lambda: who(ADA).services.list_services(parent=PARENT)).message
    operation = _an_operation(who(OWNER).local)
    assert (
        "run.operations.get" in refused(lambda: who(ADA).services.get_operation({"name": operation})).message
    )


def test_a_binding_that_is_set_by_the_api_counts(people: Callable[[str], As]) -> None:
    who = people(AS_OWNER)
    who(OWNER).create()
    refused(who(ADA).get)
    binding = policy_pb2.Binding(role="roles/run.viewer", members=[f"user:{ADA.upper()}"])
    request = iam_policy_pb2.SetIamPolicyRequest(resource=WEB, policy=policy_pb2.Policy(bindings=[binding]))
    who(OWNER).services.set_iam_policy(request)
    assert who(ADA).get().name == WEB
    refused(lambda: who(ADA).update(annotations={"a": "b"}))


def test_the_permissions_that_a_caller_holds_are_told(people: Callable[[str], As]) -> None:
    who = people(granting("run.services.get"))
    who(OWNER).create()
    asked = ["run.services.get", "run.services.update"]
    request = iam_policy_pb2.TestIamPermissionsRequest(resource=WEB, permissions=asked)
    assert list(who(ADA).services.test_iam_permissions(request).permissions) == ["run.services.get"]
    assert list(who(OWNER).services.test_iam_permissions(request).permissions) == asked


@pytest.mark.parametrize(
    ("act_as", "fields", "is_needed"),
    [
        ("template", {"traffic": [to("web-one", 100)]}, False),
        ("always", {"traffic": [to("web-one", 100)]}, True),
        ("template", {"template": a_template(COLOUR="green")}, True),
        ("template", {"template": a_template(COLOUR="green"), "mask": "template.containers"}, True),
    ],
)
def test_a_write_may_need_to_act_as_the_services_account(
    people: Callable[[str], As], act_as: str, fields: dict[str, Any], is_needed: bool
) -> None:
    """Fact 5: "actAs unstated" for writes of traffic alone; so both can be chosen."""
    who = people(f"act_as: {act_as}\n" + granting("run.services.update", "run.services.get"))
    who(OWNER).create(revision="web-one")
    who(OWNER).settle()
    if is_needed:
        message = refused(lambda: who(ADA).update(**fields)).message
        assert message.startswith("Permission 'iam.serviceaccounts.actAs' denied on service account ")
        assert message.endswith("-compute@developer.gserviceaccount.com (or it may not exist).")
    else:
        assert who(ADA).update(**fields).name


def test_to_replace_a_service_by_what_it_is_needs_no_account(people: Callable[[str], As]) -> None:
    who = people(granting("run.services.update", "run.services.get"))
    who(OWNER).create()
    who(OWNER).settle()
    service = who(ADA).get()
    service.annotations["a"] = "b"
    assert who(ADA).services.update_service(service=service, timeout=SECONDS).operation.name


def test_an_account_can_be_lent_by_itself(people: Callable[[str], As]) -> None:
    """Fact 5: "Plus **`iam.serviceAccounts.actAs` on the runtime service account**"."""
    account = "web@demo.iam.gserviceaccount.com"
    lent = f"- role: roles/iam.serviceAccountUser\n  members: ['user:{ADA}']\n"
    who = people(granting("run.services.create", also=f"{lent}  resource: serviceAccounts/{account}\n"))
    template = run_v2.RevisionTemplate(service_account=account, containers=a_template().containers)
    created = who(ADA).services.create_service(
        parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
    )
    assert created.operation.name
    assert "actAs" in refused(lambda: who(ADA).create("other")).message


def test_monitoring_and_logging_have_their_own_words(people: Callable[[str], As]) -> None:
    ada = people(AS_OWNER)(ADA)
    series, entries = CALLS["ListTimeSeries"][0], CALLS["ListLogEntries"][0]
    assert refused(lambda: series(ada)).message == (
        "Permission monitoring.timeSeries.list denied (or the resource may not exist)."
    )
    assert refused(lambda: entries(ada)).message == (
        "Permission 'logging.logEntries.list' denied on resource (or it may not exist)."
    )


@pytest.mark.parametrize(
    ("role", "allowed", "denied"),
    [
        (
            "roles/run.viewer",
            ["GetService", "ListRevisions", "GetOperation"],
            ["UpdateService", "ListTimeSeries"],
        ),
        ("roles/run.developer", ["UpdateService", "DeleteService"], ["SetIamPolicy", "CreateService"]),
        ("roles/run.admin", ["SetIamPolicy", "DeleteService"], ["CreateService", "ListLogEntries"]),
        ("roles/run.invoker", [], ["GetService"]),
        ("roles/monitoring.viewer", ["ListTimeSeries", "ListMetricDescriptors"], ["GetService"]),
        ("roles/logging.viewer", ["ListLogEntries"], ["WriteLogEntries"]),
        ("roles/logging.logWriter", ["WriteLogEntries"], ["ListLogEntries"]),
        ("roles/viewer", ["GetService", "ListTimeSeries", "ListLogEntries"], ["UpdateService"]),
        ("roles/editor", ["CreateService", "WriteLogEntries"], ["SetIamPolicy"]),
    ],
)
def test_predefined_roles(
    people: Callable[[str], As], role: str, allowed: list[str], denied: list[str]
) -> None:
    """Fact 5: "Predefined: roles/run.developer (includes run.services.update, run.revisions.*"."""
    who = people(f"{AS_OWNER}- role: {role}\n  members: [allAuthenticatedUsers]\n")
    who(OWNER).create(revision="web-one")
    who(OWNER).settle()
    for method in denied:
        assert "denied" in _said(who(ADA), CALLS[method][0])
    for method in allowed:
        _allowed(who(ADA), CALLS[method][0])


WRONG = """\
roles:
  a!: [run.services.get]
  hers: [run.services.gett, nonsense, 7, run.jobs.run]
bindings:
- role: roles/run.viewr
  members: [ada@example.com, "user:x@p.iam.gserviceaccount.com", allUsers]
- role: hers
  member: []
- role: hers
  members: []
  resource: services/Not A Name/
- just text
act_as: sometimes
more: true
act_as: always
"""


def test_every_mistake_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "iam.yaml"
    file.write_text(WRONG, encoding="utf-8")
    with pytest.raises(IamFileInvalid) as invalid:
        read_iam_file(file, "demo", "local-1")
    told = [line.removeprefix(f"{file}:") for line in invalid.value.lines]
    expected = [
        "2: 'a!' is no name of a role",
        "3: there is no permission 'run.services.gett'; write run.services.get",
        "3: 'nonsense' is no permission",
        "3: '7' is no permission",
        "5: there is no role 'roles/run.viewr'",
        "6: 'ada@example.com' is no member; write user:EMAIL",
        "6: 'x@p.iam.gserviceaccount.com' is a serviceAccount's address",
        "8: there is no field 'member'; there are role, members, resource",
        "7: the field 'members' is missing",
        "10: has no members",
        "11: 'services/Not A Name/' is no resource",
        "12: fields are expected here",
        "13: 'sometimes' is not known here; write template or always",
        "14: there is no field 'more'",
        "15: 'act_as' stands on line 13 already",
    ]
    assert len(told) == len(expected), "\n".join(told)
    for start in expected:
        assert any(line.startswith(start) for line in told), (start, told)


def test_the_example_of_the_documentation_is_a_policy(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "local-cloud-run.md").read_text(encoding="utf-8")
    file = tmp_path / "iam.yaml"
    file.write_text(page.partition("# iam.yaml\n")[2].partition("```")[0], encoding="utf-8")
    policy = read_iam_file(file, "demo", "local-1")
    assert len(policy.permissions_of("projects/demo/roles/canaryController")) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: [", "not YAML"),
        (b"[" * 5000, "not YAML"),
        (b"- 1", "fields are expected here"),
        (b"roles: {}", "the field 'bindings' is missing"),
        (b"bindings: {}", "a list is expected here"),
        (b"bindings:\n- &a {role: *a, members: [allUsers]}", "text is expected here"),
        (b"x" * 300_000, "larger than 256 KiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "iam.yaml"
    file.write_bytes(content)
    with pytest.raises(IamFileInvalid, match=message):
        read_iam_file(file, "demo", "local-1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    settings = replace(SIMULATED, iam=str(tmp_path / "none.yaml"))
    with pytest.raises(IamFileInvalid, match=r"none\.yaml: the file cannot be read: No such file"):
        LocalCloudRun(settings).start()
