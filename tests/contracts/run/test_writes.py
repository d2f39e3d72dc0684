"""Writes: what a mask replaces, what is only tried, and what may be missing."""

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.protobuf import unknown_fields

from contracts.cloud import SECONDS, Cloud, desired, shown, to
from contracts.conftest import Google

SSH_ENABLED = b"\xe8\x01\x01"
"""Field 29 of a Service, which the client library does not know: true."""
TEMPLATE_CLIENT = b"\xe2\x01\x06gcloud"
"""Field 28 of a RevisionTemplate, likewise: "gcloud"."""
FORCE_NEW_REVISION = b"\x28\x01"
"""Field 5 of an UpdateServiceRequest, likewise: true."""


def unknown(message: Any) -> list[int]:
    found: Any = unknown_fields.UnknownFieldSet(type(message).pb(message))
    return [field.field_number for field in found]


def test_a_mask_leaves_other_fields_alone(cloud: Cloud) -> None:
    """Fact 2.3 [T]: "update_mask: masked fields replaced, others untouched"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    cloud.update(annotations={"example.com/a": "1"})
    cloud.settle()
    cloud.update(traffic=[to(one, 90), to(two, 10)])
    cloud.settle()
    service = cloud.get()
    assert service.annotations == {"example.com/a": "1"}
    assert service.template.revision == two
    assert desired(service) == {one: 90, two: 10}


def test_no_mask_replaces_everything(cloud: Cloud) -> None:
    """Fact 2.3: "No mask = full replace of the spec (Terraform does that)"."""
    service = run_v2.Service(
        template=cloud.template(),
        labels={"team": "shop"},
        description="old",
        traffic=[to("", 100, tag="now")],
    )
    cloud.create_as(service)
    cloud.settle()
    cloud.write(run_v2.Service(name=cloud.full(), template=cloud.template()))
    cloud.settle()
    replaced = cloud.get()
    assert not replaced.labels
    assert not replaced.description
    assert [target.tag for target in replaced.traffic] == [""]


def test_no_mask_leaves_what_only_cloud_run_writes(cloud: Cloud) -> None:
    """Fact 2.3: "full replace of the spec": the status is no part of it."""
    cloud.create()
    cloud.settle()
    before = cloud.get()
    lie = run_v2.Service(
        name=cloud.full(), template=before.template, uid="mine", creator="me", generation=99, uri="http://x"
    )
    cloud.write(lie)
    cloud.settle()
    after = cloud.get()
    assert (after.uid, after.creator, after.uri) == (before.uid, before.creator, before.uri)
    assert after.generation == 2
    assert after.create_time == before.create_time


def test_a_mask_may_name_nested_fields(cloud: Cloud) -> None:
    """Fact 2.3 [T]: "`updateMask=template.revision,template.containers` leaves traffic alone"."""
    cloud.two_revisions()
    three = cloud.named("three")
    cloud.update(mask="template.containers,template.revision", template=cloud.template(revision=three))
    cloud.settle()
    service = cloud.get()
    assert service.template.revision == three
    assert desired(service) == {cloud.named("one"): 100}
    assert cloud.revision_names()[0] == three


def test_maps_and_lists_are_replaced_whole(cloud: Cloud) -> None:
    """Fact 2.3: "Repeated/map fields are replaced whole → annotations need read-modify-write"."""
    cloud.two_revisions()
    cloud.update(annotations={"example.com/a": "1", "example.com/b": "2"}, labels={"a": "1", "b": "2"})
    cloud.settle()
    cloud.update(
        annotations={"example.com/b": "3"},
        labels={"c": "3"},
        traffic=[to(cloud.named("two"), 100)],
    )
    cloud.settle()
    service = cloud.get()
    assert service.annotations == {"example.com/b": "3"}
    assert service.labels == {"c": "3"}
    assert desired(service) == {cloud.named("two"): 100}


def test_a_masked_field_that_is_not_sent_is_cleared(cloud: Cloud) -> None:
    """Fact 2.3: "masked fields replaced", by nothing too."""
    cloud.create_as(run_v2.Service(template=cloud.template(), description="old"))
    cloud.settle()
    cloud.update(mask="description")
    cloud.settle()
    assert not cloud.get().description


def test_a_mask_with_an_unknown_field_is_refused(cloud: Cloud) -> None:
    """Fact 2.3: a mask names fields of a Service."""
    cloud.create()
    cloud.settle()
    with pytest.raises(exceptions.InvalidArgument):
        cloud.update(mask="trafic", traffic=[to("", 100)])
    assert cloud.get().generation == 1


def test_validate_only_shows_the_defaults_and_stores_nothing(google: Google) -> None:
    """Fact 2.3 [P]: "validate_only ⇒ validate + defaults, nothing stored"."""
    operation = google.create_as(run_v2.Service(template=google.template()), validate_only=True)
    assert operation.done
    assert shown(operation, "response").template.max_instance_request_concurrency == 80
    with pytest.raises(exceptions.NotFound):
        google.get()


def test_a_validated_update_stores_nothing(cloud: Cloud) -> None:
    """Fact 2.3 [P]: "validate_only ⇒ ... nothing stored"."""
    cloud.create()
    cloud.settle()
    change = run_v2.Service(name=cloud.full(), annotations={"example.com/a": "1"})
    cloud.write(change, update_mask={"paths": ["annotations"]}, validate_only=True)
    cloud.settle()
    assert cloud.get().generation == 1
    assert not cloud.get().annotations


def test_a_validated_update_is_refused_like_a_real_one(cloud: Cloud) -> None:
    """Fact 2.3 [P]: "validate_only ⇒ validate"."""
    cloud.create()
    cloud.settle()
    change = run_v2.Service(name=cloud.full(), traffic=[to(cloud.named("x"), 90)])
    with pytest.raises(exceptions.InvalidArgument):
        cloud.write(change, update_mask={"paths": ["traffic"]}, validate_only=True)


def test_a_validated_deletion_deletes_nothing(google: Google) -> None:
    """Fact 2.3 [P]: "validate_only ⇒ ... nothing stored"; for deletions as the API describes it."""
    google.two_revisions()
    google.update(template=google.template(revision="web-three"))
    google.settle()
    service = run_v2.DeleteServiceRequest(name=google.full(), validate_only=True)
    revision = run_v2.DeleteRevisionRequest(name=google.full(revision="web-two"), validate_only=True)
    deletions = [
        google.services.delete_service(request=service, timeout=SECONDS).operation,
        google.revisions.delete_revision(request=revision, timeout=SECONDS).operation,
    ]
    google.settle()
    assert all(deletion.done for deletion in deletions)
    assert google.revision_names() == ["web-three", "web-two", "web-one"]
    assert "delete_time" not in google.get()


def test_a_missing_service_is_created_where_that_is_allowed(cloud: Cloud) -> None:
    """Fact 2.3 [P]: "allow_missing ⇒ upsert (needs run.services.create)"."""
    service = run_v2.Service(name=cloud.full(), template=cloud.template())
    cloud.write(service, allow_missing=True)
    cloud.settle()
    assert cloud.get().generation == 1
    cloud.write(service, allow_missing=True, update_mask={"paths": ["labels"]})
    cloud.settle()
    assert cloud.get().generation == 2


def test_fields_that_the_library_does_not_know_survive(google: Google) -> None:
    """Fact 1.4 [M]: "Unknown fields survive GET→modify→UPDATE in the client ..."."""
    google.create_as(run_v2.Service(template=google.template()))
    service = google.get()
    raw = run_v2.Service.serialize(service) + SSH_ENABLED
    google.write(run_v2.Service.deserialize(raw))
    google.settle()
    changed = google.get()
    changed.labels = {"team": "shop"}
    google.write(changed)
    google.settle()
    assert unknown(google.get()) == [29]
    google.update(description="masked")
    assert unknown(google.get()) == [29]


def test_a_template_that_differs_in_an_unknown_field_differs(google: Google) -> None:
    """Fact 2.3 [T]: "any template difference (even ... unknown ...) gives **ALREADY_EXISTS"."""
    raw = run_v2.RevisionTemplate.serialize(google.template(revision="web-one")) + TEMPLATE_CLIENT
    google.create_as(run_v2.Service(template=run_v2.RevisionTemplate.deserialize(raw)))
    google.settle()
    google.write(google.get())
    assert google.get().generation == 2
    with pytest.raises(exceptions.AlreadyExists, match="'web-one' with different configuration"):
        google.update(template=google.template(revision="web-one"))


def test_a_new_revision_may_be_forced(google: Google) -> None:
    """Fact 2.3: "Only a change of `template` (or force_new_revision) creates one"; fact 1.5."""
    google.create()
    google.settle()
    request = run_v2.UpdateServiceRequest(service=google.get())
    raw = run_v2.UpdateServiceRequest.serialize(request) + FORCE_NEW_REVISION
    google.services.update_service(request=run_v2.UpdateServiceRequest.deserialize(raw), timeout=SECONDS)
    google.settle()
    assert len(google.revision_names()) == 2
    assert google.get().latest_ready_revision == google.get().latest_created_revision
    assert google.get().latest_ready_revision.startswith(google.full(revision="web-00002-"))


def test_an_update_is_accepted_while_another_reconciles(google: Google) -> None:
    """Fact 2.5 [I]: "An update during `reconciling=true` is accepted"; "the earlier LRO ..."."""
    google.create(revision="web-one")
    first = google.update(labels={"team": "shop"})
    second = google.update(labels={"team": "search"})
    google.settle()
    assert (google.get().generation, google.get().observed_generation) == (3, 3)
    assert shown(google.operation(first.name), "response").labels == {"team": "search"}
    assert shown(google.operation(second.name), "response").generation == 3
