"""Limits: names, keys, sizes and numbers that Cloud Run refuses to go beyond."""

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import Cloud, to
from contracts.conftest import Google

RESERVED = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")


@pytest.mark.parametrize("namespace", RESERVED)
def test_reserved_namespaces_are_refused(cloud: Cloud, namespace: str) -> None:
    """Fact 2.4 [P]: "Namespaces `run.googleapis.com`, ... are rejected for user labels/annotations"."""
    for field in ("annotations", "labels"):
        service = run_v2.Service(template=cloud.template(), **{field: {f"{namespace}/x": "1"}})
        with pytest.raises(exceptions.InvalidArgument):
            cloud.create_as(service)


@pytest.mark.parametrize("namespace", RESERVED)
def test_reserved_namespaces_are_refused_in_templates_too(cloud: Cloud, namespace: str) -> None:
    """Fact 2.4 [P]: "are rejected for user labels/annotations"."""
    for field in ("annotations", "labels"):
        template = cloud.template()
        setattr(template, field, {f"{namespace}/x": "1"})
        with pytest.raises(exceptions.InvalidArgument):
            cloud.create_as(run_v2.Service(template=template))


@pytest.mark.parametrize(
    "key", ["", "a/", "/a", "-a", "a b", "x" * 64, "UPPER.example.com/a", f"{'x' * 254}/a", "a/b/c"]
)
def test_keys_of_annotations_are_those_of_kubernetes(cloud: Cloud, key: str) -> None:
    """Fact 2.4 [P]: "key = optional DNS prefix ≤253 + `/` + name ≤63"."""
    with pytest.raises(exceptions.InvalidArgument):
        cloud.create_as(run_v2.Service(template=cloud.template(), annotations={key: "1"}))


def test_longest_keys_of_annotations(cloud: Cloud) -> None:
    """Fact 2.4 [P]: "key = optional DNS prefix ≤253 + `/` + name ≤63"."""
    prefix = ".".join(["x" * 62] * 4)
    annotations = {f"{prefix}/{'y' * 63}": "1", "Plain_name.1": "2"}
    cloud.create_as(run_v2.Service(template=cloud.template(), annotations=annotations))
    assert cloud.get().annotations == annotations


def test_annotations_have_at_most_256_kib(google: Google) -> None:
    """Fact 2.4 [P]: "total of all keys+values ≤ 256 KiB"; not confirmed for Cloud Run, hence not live."""
    google.create()
    google.update(annotations={"example.com/a": "x" * (256 * 1024 - 13)})
    with pytest.raises(exceptions.InvalidArgument, match="exceeds 262144 bytes"):
        google.update(annotations={"example.com/a": "x" * (256 * 1024 - 12)})


@pytest.mark.parametrize(
    "label", [("Upper", "1"), ("1st", "1"), ("k" * 64, "1"), ("team", "v" * 64), ("a.b", "")]
)
def test_labels_are_those_of_google_cloud(cloud: Cloud, label: tuple[str, str]) -> None:
    """Fact 2.4 [D]: "key ... `[a-z][a-z0-9_-]*`, value ≤63"."""
    with pytest.raises(exceptions.InvalidArgument):
        cloud.create_as(run_v2.Service(template=cloud.template(), labels=dict([label])))


def test_a_service_has_at_most_64_labels(cloud: Cloud) -> None:
    """Fact 2.4 [D]: "GCP labels: ≤64/resource"."""
    labels = {f"label_{number}": "x" * 63 for number in range(64)}
    cloud.create_as(run_v2.Service(template=cloud.template(), labels=labels))
    cloud.settle()
    with pytest.raises(exceptions.InvalidArgument):
        cloud.update(labels={**labels, "one_more": ""})
    assert cloud.get().labels == labels


def test_a_description_has_at_most_512_characters(cloud: Cloud) -> None:
    """Fact 2.4 [P]: "description ≤512 chars"."""
    service = run_v2.Service(template=cloud.template(), description="é" * 513)
    with pytest.raises(exceptions.InvalidArgument):
        cloud.create_as(service)
    service.description = "x" * 512
    cloud.create_as(service)
    assert len(cloud.get().description) == 512


@pytest.mark.parametrize("service_id", ["1web", "Web", "web-", "we_b", "w" * 50, "-web"])
def test_a_service_id_starts_with_a_letter_and_has_less_than_50_characters(
    cloud: Cloud, service_id: str
) -> None:
    """Fact 2.1 [P]: "Service id < 50 chars, starts with a letter, no trailing hyphen"."""
    with pytest.raises(exceptions.InvalidArgument):
        cloud.create(service_id)


def test_a_service_id_of_49_characters_is_fine(google: Google) -> None:
    """Fact 2.1 [P]: "Service id < 50 chars"."""
    google.create("w" * 49)
    google.settle()
    assert google.get("w" * 49).terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED


def test_a_violation_names_the_request_and_the_field(cloud: Cloud) -> None:
    """Fact 2.5 [T]: "Violation in CreateServiceRequest.service.template.containers[0].ports: ports ..."."""
    template = cloud.template()
    template.containers[0].ports = [run_v2.ContainerPort(container_port=port) for port in (8080, 8081)]
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        cloud.create_as(run_v2.Service(template=template))
    field = "Violation in CreateServiceRequest.service.template.containers[0].ports"
    (violation,) = refusal.value.details[0].field_violations
    assert refusal.value.message == f"{field}: ports should contain 0 or 1 port."
    assert (violation.field, violation.description) == (field, "ports should contain 0 or 1 port.")


def test_a_violation_in_an_update_names_the_update(google: Google) -> None:
    """Fact 2.5 [T]: "other v2 validation shape"."""
    google.create()
    with pytest.raises(
        exceptions.InvalidArgument, match=r"^400 Violation in UpdateServiceRequest\.service\.labels: "
    ):
        google.update(labels={"Upper": "1"})


def test_the_oldest_tags_without_traffic_go_when_there_are_too_many(google: Google) -> None:
    """Fact 2.6 [D]: "(over the tag limit, untrafficked tags are auto-removed in historical order)"."""
    google.create(revision="web-one")
    google.settle()
    google.update(traffic=[to("web-one", 100, tag="serves"), to("web-one", 0, tag="oldest")])
    google.settle()
    google.create("shop", revision="shop-one")
    google.settle()
    google.update("shop", traffic=[to("shop-one", 100), *(to("shop-one", 0, f"t{n}") for n in range(1999))])
    google.settle()
    web, shop = google.get(), google.get("shop")
    assert [target.tag for target in web.traffic] == ["serves"]
    assert [status.tag for status in web.traffic_statuses] == ["serves"]
    assert len(shop.traffic) == 2000
