"""Revisions: what makes one, how it is named, what it shows, and how it goes."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import SECONDS, Cloud, percents, shown, to
from contracts.conftest import Google

State = run_v2.Condition.State


def conditions(revision: run_v2.Revision) -> dict[str, run_v2.Condition]:
    return {condition.type_: condition for condition in revision.conditions}


@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": {"example.com/a": "1"}},
        {"labels": {"team": "shop"}},
        {"scaling": run_v2.ServiceScaling(min_instance_count=1)},
        {"description": "a shop"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_only_the_template_makes_a_revision(cloud: Cloud, fields: dict[str, Any]) -> None:
    """Fact 2.3 [T, P, I]: "Only a change of `template` (or force_new_revision) creates one"."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    cloud.update(**fields)
    cloud.settle()
    service = cloud.get()
    assert cloud.revision_names() == [one]
    assert (service.generation, service.observed_generation) == (2, 2)
    assert service.latest_created_revision == cloud.full(revision=one)


def test_traffic_makes_no_revision_but_a_generation(cloud: Cloud) -> None:
    """Fact 2.3 [T]: "revision count 4→4, latestCreated unchanged"; section 7: "generation++ on each"."""
    cloud.two_revisions()
    before = cloud.get()
    cloud.update(traffic=[to(cloud.named("one"), 50), to(cloud.named("two"), 50)])
    cloud.settle()
    after = cloud.get()
    assert after.generation == before.generation + 1
    assert after.latest_created_revision == before.latest_created_revision
    assert len(cloud.revision_names()) == 2


def test_scaling_of_the_service_takes_no_revision_to_be_kept(cloud: Cloud) -> None:
    """Fact 2.7 [P]: "take effect at once, no new revision"."""
    cloud.create()
    cloud.settle()
    scaling = run_v2.ServiceScaling(min_instance_count=1, max_instance_count=5)
    cloud.update(scaling=scaling)
    cloud.settle()
    kept = cloud.get().scaling
    assert (kept.min_instance_count, kept.max_instance_count) == (1, 5)


def test_the_same_template_again_makes_no_revision(cloud: Cloud) -> None:
    """Fact 2.3: "Only a change of `template` ... creates one"; sending all of it back is no change."""
    cloud.create()
    cloud.settle()
    cloud.write(cloud.get())
    cloud.settle()
    assert len(cloud.revision_names()) == 1
    assert cloud.get().generation == 2


def test_a_revision_name_cannot_be_used_again_for_another_template(cloud: Cloud) -> None:
    """Fact 2.3 [T]: "Revision named 'X' with different configuration already exists."."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    with pytest.raises(exceptions.AlreadyExists) as refusal:
        cloud.update(template=cloud.template(revision=one, TEXT="other"))
    assert f"Revision named '{one}' with different configuration already exists." in refusal.value.message
    assert cloud.revision_names() == [one]


def test_a_full_update_after_a_named_deployment_trips_over_the_name(cloud: Cloud) -> None:
    """Fact 2.3 [T]: "`template.revision` is populated when the last deploy named the revision"."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    service = cloud.get()
    assert service.template.revision == one
    service.template.max_instance_request_concurrency = 5
    with pytest.raises(exceptions.AlreadyExists):
        cloud.write(service)


def test_the_same_template_under_the_same_name_is_no_conflict(cloud: Cloud) -> None:
    """Fact 2.3 [T]: it is the "different configuration" that is refused."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    cloud.update(mask="template", template=cloud.get().template)
    cloud.settle()
    assert cloud.revision_names() == [one]


def test_a_generated_name_has_the_generation_and_three_letters(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "Generated revision names: `{service}-{00001 generation}-{3 chars}`"."""
    cloud.create()
    cloud.settle()
    cloud.update(labels={"team": "shop"})
    cloud.settle()
    cloud.update(template=cloud.template(TEXT="other"))
    cloud.settle()
    newest, oldest = cloud.revision_names()
    assert oldest.startswith(f"{cloud.web}-00001-")
    assert newest.startswith(f"{cloud.web}-00003-")
    assert len(newest) == len(f"{cloud.web}-00003-abc")


def test_names_that_are_generated_have_at_most_63_characters(google: Google) -> None:
    """Fact 2.1 [P]: "Max 63 chars"."""
    name = "s" * 49
    google.create(name)
    (revision,) = google.revision_names(name)
    assert len(revision) <= 63
    assert revision.startswith(f"{name}-00001-")


@pytest.mark.parametrize("revision", ["other-one", "web-" + "x" * 60, "web-One", "web-one-"])
def test_a_revision_s_name_is_checked(google: Google, revision: str) -> None:
    """Fact 2.1 [P]: "Max 63 chars"; it begins with the service's name and is a DNS label."""
    with pytest.raises(
        exceptions.InvalidArgument,
        match=r"Violation in CreateServiceRequest\.service\.template\.revision",
    ):
        google.create(revision=revision)


def test_a_ready_revision_tells_its_conditions(cloud: Cloud) -> None:
    """Fact 2.8 [P]: "No terminal_condition: use the condition with type "Ready""."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    revision = cloud.revision(one)
    found = conditions(revision)
    assert not revision.reconciling
    assert found["Ready"].state == State.CONDITION_SUCCEEDED
    assert {"ContainerHealthy", "ContainerReady", "ResourcesAvailable"} <= set(found)
    assert revision.service == cloud.web
    assert revision.name == cloud.full(revision=one)
    assert revision.observed_generation == revision.generation == 1


def test_a_broken_revision_is_not_ready_and_not_healthy(google: Google) -> None:
    """Fact 2.8 [P]: "Types seen in gcloud/knative: Ready, Active, ContainerHealthy, ..."."""
    google.two_revisions(CRASH="1")
    found = conditions(google.revision("web-two"))
    assert found["Ready"].state == found["ContainerHealthy"].state == State.CONDITION_FAILED
    assert "failed to start and listen" in found["Ready"].message


def test_a_revision_without_traffic_is_retired_and_that_is_no_failure(google: Google) -> None:
    """Fact 2.8 [P]: "`Active=False` reason RETIRED/RESERVE is normal for untrafficked revisions"."""
    google.two_revisions()
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.update(traffic=[to("web-two", 100)])
    google.settle()
    found = conditions(google.revision("web-one"))
    assert found["Active"].revision_reason.name == "RETIRED"
    assert found["Active"].severity.name == "INFO"
    assert found["Ready"].state == State.CONDITION_SUCCEEDED


def test_services_and_revisions_have_unique_ids(cloud: Cloud) -> None:
    """Fact 2.8 [P]: "Fields: name, uid, generation, ..."; the uid is a UUID4 and stays."""
    cloud.two_revisions()
    uids = [cloud.get().uid, *(cloud.revision(cloud.named(suffix)).uid for suffix in ("one", "two"))]
    assert len({uuid.UUID(uid) for uid in uids}) == 3
    assert [uuid.UUID(uid).version for uid in uids] == [4, 4, 4]
    cloud.update(labels={"team": "shop"})
    assert cloud.get().uid == uids[0]


def test_revisions_are_listed_newest_first(cloud: Cloud) -> None:
    """Fact 2.8 [P]: "Lists sorted by create_time desc"."""
    names = [cloud.named(suffix) for suffix in ("one", "two", "three")]
    cloud.create(revision=names[0])
    for number, name in enumerate(names[1:]):
        cloud.settle()
        cloud.update(template=cloud.template(revision=name, NUMBER=str(number)))
    assert cloud.revision_names() == names[::-1]


def test_revisions_of_all_services_are_listed_together(google: Google) -> None:
    """Fact 2.8 [P]: "`parent=…/services/-` lists all"."""
    google.create(revision="web-one")
    google.settle()
    google.create("shop", revision="shop-one")
    google.settle()
    google.update(template=google.template(revision="web-two"))
    assert google.revision_names("-") == ["web-two", "shop-one", "web-one"]


def test_only_retired_revisions_are_deleted(cloud: Cloud) -> None:
    """Fact 2.6 [P]: "Only retired revisions can be deleted with this API"."""
    cloud.two_revisions()
    three = cloud.named("three")
    cloud.update(template=cloud.template(revision=three, TEXT="3"))
    cloud.settle()
    for serving_or_latest in (cloud.named("one"), three):
        with pytest.raises((exceptions.FailedPrecondition, exceptions.InvalidArgument)):
            cloud.revisions.delete_revision(name=cloud.full(revision=serving_or_latest), timeout=SECONDS)
    cloud.revisions.delete_revision(name=cloud.full(revision=cloud.named("two")), timeout=SECONDS)
    cloud.settle()
    assert cloud.named("one") in cloud.revision_names()


def test_a_revision_that_starts_is_not_retired(google: Google) -> None:
    """Fact 2.6 [P]: "Only retired revisions can be deleted with this API"; what waits for it ends as ever."""
    google.create(revision="web-one")
    google.settle()
    second = google.update(template=google.template(revision="web-two", START_SECONDS="30"))
    google.settle()
    google.update(template=google.template(revision="web-three", CRASH="1"))
    google.settle()
    with pytest.raises(exceptions.FailedPrecondition, match="only retired ones can be"):
        google.revisions.delete_revision(name=google.full(revision="web-two"), timeout=SECONDS)
    google.local.advance(timedelta(seconds=30))
    assert google.operation(second.name).done
    assert not google.get().reconciling
    assert google.get().latest_ready_revision == google.full(revision="web-two")
    assert "web-two" in google.revision_names()


def test_traffic_does_not_go_to_a_revision_that_is_being_deleted(google: Google) -> None:
    """Fact 2.5 [T]: "does not exist or is deleted", also where the clock was set back in between."""
    google.two_revisions()
    google.update(template=google.template(revision="web-three"))
    google.settle()
    google.revisions.delete_revision(name=google.full(revision="web-two"), timeout=SECONDS)
    google.local.jump_clock(timedelta(seconds=-30))
    failed = google.outcome(google.update(traffic=[to("web-two", 100)]))
    assert "'web-two' does not exist or is deleted" in failed.error.message
    assert percents(google.get()) == {"web-one": 100}


def test_a_deleted_revision_is_gone_when_its_operation_is_done(google: Google) -> None:
    """Fact 1.4 [P, R]: "(Revision for DeleteRevision ...)" in metadata and response."""
    google.two_revisions()
    google.update(template=google.template(revision="web-three"))
    google.settle()
    operation = google.revisions.delete_revision(
        name=google.full(revision="web-two"), timeout=SECONDS
    ).operation
    done = google.outcome(operation)
    revision = run_v2.Revision.pb()()
    assert done.response.Unpack(revision)
    assert revision.name == google.full(revision="web-two")
    assert revision.expire_time.ToNanoseconds() > revision.delete_time.ToNanoseconds()
    assert google.revision_names() == ["web-three", "web-one"]
    with pytest.raises(exceptions.NotFound):
        google.revision("web-two")


def test_a_tagged_revision_is_kept(google: Google) -> None:
    """Fact 2.6 [D]: "keep it referenced (tag or 0 %+tag)"."""
    google.two_revisions()
    google.update(
        template=google.template(revision="web-three"),
        traffic=[to("web-one", 100), to("web-two", 0, tag="old")],
    )
    google.settle()
    with pytest.raises(exceptions.FailedPrecondition, match="retired"):
        google.revisions.delete_revision(name=google.full(revision="web-two"), timeout=SECONDS)


def test_a_service_has_at_most_1000_revisions(google: Google) -> None:
    """Fact 2.6 [D]: "Revision limit 1000/service: older non-addressable revisions auto-deleted"."""
    google.create(revision="web-first")
    google.settle()
    google.update(traffic=[to("web-first", 100)])
    for number in range(1001):
        google.update(template=google.template(revision=f"web-{number}"))
        google.local.advance(timedelta(seconds=1))  # within the quota of writes
    names = google.revision_names()
    assert len(names) == 1000
    assert names[0] == "web-1000"
    assert names[-1] == "web-first"
    assert {"web-0", "web-1"}.isdisjoint(names)
    assert "web-2" in names


def test_a_deployment_and_its_answer_name_the_revision_created_before(google: Google) -> None:
    """Fact 2.1 [R]: "latestReady==latestCreated== OLD revision" in the answer; a read shows the new one."""
    google.create(revision="web-one")
    google.settle()
    operation = google.update(template=google.template(revision="web-two"))
    assert shown(operation).latest_created_revision == google.full(revision="web-one")
    assert google.get().latest_created_revision == google.full(revision="web-two")
