"""Services, revisions and operations behave as Cloud Run's do."""

import base64
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import timestamp_pb2

from .conftest import PARENT, SECONDS, Google, a_template, to

State = run_v2.Condition.State


def test_a_new_service_is_reconciling_at_first_and_ready_later(google: Google) -> None:
    operation = google.create()
    before = google.get()
    google.settle()
    after = google.get()

    assert not operation.done
    assert before.reconciling
    assert before.terminal_condition.state == State.CONDITION_PENDING
    assert (before.generation, before.observed_generation) == (1, 0)
    assert not before.uri
    assert not after.reconciling
    assert after.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert after.observed_generation == 1
    assert after.uri.startswith("http://web.localhost:")
    assert google.operation(operation.name).done


def test_an_update_answers_at_once_with_the_old_status_and_a_new_etag(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    before = google.get()
    operation = google.update(template=a_template(revision="web-two"))
    answered = run_v2.Service.pb()()
    operation.metadata.Unpack(answered)

    assert not operation.done
    assert answered.reconciling
    assert (answered.generation, answered.observed_generation) == (2, 1)
    assert answered.latest_created_revision.endswith("/web-one")
    assert answered.latest_ready_revision.endswith("/web-one")
    assert answered.etag != before.etag
    assert google.get().latest_created_revision.endswith("/web-two")


def test_a_finished_operation_carries_the_whole_service(google: Google) -> None:
    name = google.create().name
    google.settle()
    operation = google.operation(name)
    service = run_v2.Service.pb()()

    assert operation.response.type_url == "type.googleapis.com/google.cloud.run.v2.Service"
    assert operation.response.Unpack(service)
    assert service.observed_generation == service.generation == 1
    assert not service.reconciling


def test_an_etag_is_the_update_time_and_the_name(google: Google) -> None:
    google.create()
    service = google.get()
    encoded_time, encoded_name = service.etag.strip('"').split("/")
    stamp = timestamp_pb2.Timestamp()
    stamp.ParseFromString(base64.urlsafe_b64decode(encoded_time + "=="))

    assert stamp == run_v2.Service.pb(service).update_time
    assert base64.urlsafe_b64decode(encoded_name + "==").decode() == service.name


def test_the_etag_does_not_change_when_reconciliation_ends(google: Google) -> None:
    google.create()
    before = google.get().etag
    google.settle()
    assert google.get().etag == before


def test_a_stale_etag_is_ignored_by_default(google: Google) -> None:
    google.create()
    google.update(annotations={"example.com/a": "1"}, etag='"THIS-IS-NOT-A-VALID-ETAG"')
    assert google.get().annotations["example.com/a"] == "1"


def test_a_stale_etag_is_aborted_where_etags_are_enforced(strict_google: Google) -> None:
    strict_google.create()
    stale = strict_google.get().etag
    strict_google.update(annotations={"example.com/a": "1"}, etag=stale)
    with pytest.raises(
        exceptions.Aborted, match=r"Conflict for resource 'web': version '[0-9]+' was specified"
    ):
        strict_google.update(annotations={"example.com/a": "2"}, etag=stale)
    assert strict_google.get().annotations["example.com/a"] == "1"


def test_latest_is_reported_without_a_revision(google: Google) -> None:
    google.create()
    google.settle()
    (status,) = google.get().traffic_statuses
    assert (status.revision, status.uri, status.percent) == ("", "", 100)


def test_names_are_full_in_latest_and_short_in_traffic(google: Google) -> None:
    google.two_revisions()
    full = f"{PARENT}/services/web/revisions"
    google.update(traffic=[to(f"{full}/web-one", 100)])
    google.settle()
    service = google.get()
    assert service.latest_ready_revision == f"{full}/web-two"
    assert [target.revision for target in service.traffic] == ["web-one"]


def test_a_made_up_revision_name_counts_generations(google: Google) -> None:
    google.create()
    google.settle()
    google.update(annotations={"example.com/a": "1"})
    google.update(template=a_template(TEXT="other"))
    newest, oldest = sorted(google.revision_names(), reverse=True)
    assert oldest.startswith("web-00001-")
    assert newest.startswith("web-00003-")
    assert len(newest) == len("web-00003-abc")


@pytest.mark.parametrize(
    "fields",
    [
        {"traffic": [to("web-one", 100)]},
        {"annotations": {"example.com/a": "1"}},
        {"labels": {"team": "shop"}},
        {"scaling": run_v2.ServiceScaling(min_instance_count=1)},
    ],
)
def test_only_the_template_makes_a_revision(google: Google, fields: dict[str, Any]) -> None:
    google.create(revision="web-one")
    google.settle()
    google.update(**fields)
    google.settle()
    assert google.revision_names() == ["web-one"]
    assert google.get().generation == 2


def test_a_mask_leaves_other_fields_alone_and_no_mask_replaces_all(google: Google) -> None:
    google.create()
    google.update(annotations={"example.com/a": "1"})
    google.update(traffic=[to("", 100, tag="now")])
    assert google.get().annotations == {"example.com/a": "1"}

    replaced = run_v2.Service(name=google.get().name, template=a_template())
    google.services.update_service(service=replaced, timeout=SECONDS)
    service = google.get()
    assert not service.annotations
    assert [target.tag for target in service.traffic] == [""]


def test_a_mask_may_name_a_nested_path(google: Google) -> None:
    google.two_revisions()
    google.update(mask="template.containers,template.revision", template=a_template(revision="web-three"))
    service = google.get()
    assert service.template.revision == "web-three"
    assert [target.revision for target in service.traffic] == ["web-one"]


def test_a_mask_with_an_unknown_field_is_refused(google: Google) -> None:
    google.create()
    with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
        google.update(mask="trafic", traffic=[to("", 100)])


def test_a_revision_name_cannot_be_used_again_for_another_template(google: Google) -> None:
    google.create(revision="web-one")
    with pytest.raises(
        exceptions.AlreadyExists, match="'web-one' with different configuration already exists"
    ):
        google.update(template=a_template(revision="web-one", TEXT="other"))
    google.update(template=a_template(revision="web-one"))
    assert google.revision_names() == ["web-one"]


def test_a_service_cannot_be_created_twice(google: Google) -> None:
    google.create()
    with pytest.raises(exceptions.AlreadyExists):
        google.create()


def test_validate_only_stores_nothing(google: Google) -> None:
    google.create()
    google.services.update_service(
        request=run_v2.UpdateServiceRequest(
            service=run_v2.Service(name=f"{PARENT}/services/web", annotations={"example.com/a": "1"}),
            update_mask={"paths": ["annotations"]},
            validate_only=True,
        ),
        timeout=SECONDS,
    )
    assert google.get().generation == 1
    assert not google.get().annotations


@pytest.mark.parametrize(
    "key", ["run.googleapis.com/x", "serving.knative.dev/x", "client.run.googleapis.com/x"]
)
def test_reserved_namespaces_are_refused(google: Google, key: str) -> None:
    google.create()
    with pytest.raises(exceptions.InvalidArgument, match="reserved"):
        google.update(annotations={key: "1"})


def test_annotations_have_a_largest_size(google: Google) -> None:
    google.create()
    google.update(annotations={"example.com/a": "x" * (256 * 1024 - 13)})
    with pytest.raises(exceptions.InvalidArgument, match="exceeds"):
        google.update(annotations={"example.com/a": "x" * (256 * 1024)})


def test_what_does_not_exist_is_not_found(google: Google) -> None:
    with pytest.raises(exceptions.NotFound, match="'web' of kind 'SERVICE' in region 'local-1'"):
        google.get()
    with pytest.raises(exceptions.NotFound, match="'web-one' of kind 'REVISION'"):
        google.revisions.get_revision(name=f"{PARENT}/services/web/revisions/web-one", timeout=SECONDS)


def test_a_broken_revision_fails_its_deployment_and_leaves_the_split(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    name = google.update(template=a_template(revision="web-two", CRASH="1")).name
    google.settle()
    service, operation = google.get(), google.operation(name)

    assert operation.error.code == 13
    assert "Revision 'web-two' is not ready and cannot serve traffic." in operation.error.message
    assert "exited with code 3" in operation.error.message
    assert service.terminal_condition.state == State.CONDITION_FAILED
    assert service.terminal_condition.revision_reason.name == "HEALTH_CHECK_CONTAINER_ERROR"
    assert service.observed_generation == service.generation
    assert service.latest_ready_revision.endswith("/web-one")
    assert service.latest_created_revision.endswith("/web-two")


def test_a_first_revision_that_fails_serves_nothing(google: Google) -> None:
    google.create(revision="web-one", CRASH="1")
    google.settle()
    service = google.get()
    assert not service.latest_ready_revision
    assert service.latest_created_revision.endswith("/web-one")
    assert [
        condition.state for condition in service.conditions if condition.type_ == "ConfigurationsReady"
    ] == [State.CONDITION_SUCCEEDED]


def test_a_revision_that_never_listens_fails_at_the_startup_probe_s_timeout(google: Google) -> None:
    google.create(START_SECONDS="inf")
    google.local.advance(google.local.settings.startup_timeout * 0.9)
    assert google.get().reconciling
    google.local.advance(google.local.settings.startup_timeout * 0.2)
    assert google.get().terminal_condition.state == State.CONDITION_FAILED


def test_a_revision_tells_its_conditions(google: Google) -> None:
    google.two_revisions(CRASH="1")
    revision = google.revisions.get_revision(name=f"{PARENT}/services/web/revisions/web-two", timeout=SECONDS)
    by_type = {condition.type_: condition for condition in revision.conditions}
    assert by_type["Ready"].state == by_type["ContainerHealthy"].state == State.CONDITION_FAILED
    assert "failed to start and listen" in by_type["Ready"].message
    assert revision.service == "web"


def test_a_traffic_write_is_not_held_up_by_a_revision_that_starts(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    google.update(template=a_template(revision="web-two", START_SECONDS="100"), traffic=[to("web-one", 100)])
    name = google.update(traffic=[to("web-one", 100, tag="stable")]).name
    google.settle()
    assert google.operation(name).done
    assert google.get().reconciling
    assert [status.tag for status in google.get().traffic_statuses] == ["stable"]


def test_revisions_are_listed_newest_first_and_can_be_deleted_when_retired(google: Google) -> None:
    google.two_revisions()
    google.update(template=a_template(revision="web-three"), traffic=[to("web-one", 100)])
    google.settle()
    assert google.revision_names() == ["web-three", "web-two", "web-one"]
    with pytest.raises(exceptions.FailedPrecondition, match="retired"):
        google.revisions.delete_revision(name=f"{PARENT}/services/web/revisions/web-one", timeout=SECONDS)
    google.revisions.delete_revision(name=f"{PARENT}/services/web/revisions/web-two", timeout=SECONDS)
    google.settle()
    assert google.revision_names() == ["web-three", "web-one"]


def test_a_deleted_service_is_gone(google: Google) -> None:
    google.create()
    google.settle()
    google.services.delete_service(name=f"{PARENT}/services/web", timeout=SECONDS)
    google.settle()
    assert not list(google.services.list_services(parent=PARENT, timeout=SECONDS))


def test_services_are_listed_over_pages_and_regions(google: Google) -> None:
    for number in range(5):
        google.create(f"web-{number}")
    request = run_v2.ListServicesRequest(parent="projects/demo/locations/-", page_size=2)
    found = google.services.list_services(request=request, timeout=SECONDS)
    assert [service.name.rsplit("/", 1)[-1] for service in found] == [f"web-{number}" for number in range(5)]


def test_operations_wait_and_are_never_cancelled(google: Google) -> None:
    name = google.create().name
    google.settle()
    assert google.wait(name).done
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        google.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=SECONDS)
    listed = google.operations.ListOperations(
        operations_pb2.ListOperationsRequest(name=PARENT), timeout=SECONDS
    )
    assert [operation.name for operation in listed.operations] == [name]


def test_the_last_writer_is_named(google: Google) -> None:
    google.create()
    google.services.update_service(
        request=run_v2.UpdateServiceRequest(
            service=run_v2.Service(name=f"{PARENT}/services/web", annotations={"example.com/a": "1"}),
            update_mask={"paths": ["annotations"]},
        ),
        metadata=[("x-emulator-principal", "bob@example.com")],
        timeout=SECONDS,
    )
    assert google.get().last_modifier == "bob@example.com"
    assert google.get().creator == "developer@example.com"
