"""Limits: names, keys, sizes and numbers that Cloud Run refuses to go beyond."""

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.protobuf import duration_pb2

from contracts.cloud import Cloud, to
from contracts.conftest import SECONDS, Google
from controller.emulator.names import project_number

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


def seconds(number: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=number)


def scaled(**counts: int) -> run_v2.RevisionScaling:
    return run_v2.RevisionScaling(**counts)


def with_port(number: int) -> run_v2.Container:
    return run_v2.Container(ports=[run_v2.ContainerPort(container_port=number)])


def with_probe(**fields: Any) -> run_v2.Container:
    return run_v2.Container(startup_probe=run_v2.Probe(**fields))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("max_instance_request_concurrency", {"max_instance_request_concurrency": -1}),
        ("max_instance_request_concurrency", {"max_instance_request_concurrency": 1001}),
        ("timeout", {"timeout": seconds(-5)}),
        ("timeout", {"timeout": seconds(3601)}),
        ("timeout", {"timeout": seconds(2**62)}),
        ("scaling.min_instance_count", {"scaling": scaled(min_instance_count=-1)}),
        ("scaling.max_instance_count", {"scaling": scaled(max_instance_count=-1)}),
        ("scaling.max_instance_count", {"scaling": scaled(max_instance_count=1_000_000)}),
        ("scaling.min_instance_count", {"scaling": scaled(min_instance_count=10, max_instance_count=1)}),
        ("scaling.min_instance_count", {"scaling": scaled(min_instance_count=101)}),
        ("execution_environment", {"execution_environment": 77}),
        ("containers[0].ports[0].container_port", {"containers": [with_port(0)]}),
        ("containers[0].ports[0].container_port", {"containers": [with_port(-1)]}),
        ("containers[0].ports[0].container_port", {"containers": [with_port(65536)]}),
        ("containers", {"containers": []}),
        ("containers", {"containers": [run_v2.Container(), run_v2.Container()]}),
        ("containers", {"containers": [with_port(8080), with_port(8081)]}),
        ("containers[0].startup_probe.timeout_seconds", {"containers": [with_probe(timeout_seconds=-1)]}),
        ("containers[0].startup_probe.timeout_seconds", {"containers": [with_probe(timeout_seconds=11)]}),
        ("containers[0].startup_probe.period_seconds", {"containers": [with_probe(period_seconds=241)]}),
        ("containers[0].startup_probe.failure_threshold", {"containers": [with_probe(failure_threshold=-5)]}),
        (
            "containers[0].startup_probe.initial_delay_seconds",
            {"containers": [with_probe(initial_delay_seconds=241)]},
        ),
        (
            "containers[0].startup_probe.tcp_socket.port",
            {"containers": [with_probe(tcp_socket=run_v2.TCPSocketAction(port=65536))]},
        ),
    ],
)
def test_numbers_of_a_template_outside_their_range_are_refused(
    google: Google, field: str, wrong: dict[str, Any]
) -> None:
    """The ranges are those of the API's own descriptions; a bound of 1000 instances is ours."""
    template = google.template()
    for name, value in wrong.items():
        setattr(template, name, value)
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        google.create_as(run_v2.Service(template=template))
    (violation,) = refusal.value.details[0].field_violations
    assert violation.field == f"Violation in CreateServiceRequest.service.template.{field}"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("scaling.min_instance_count", {"scaling": run_v2.ServiceScaling(min_instance_count=-3)}),
        ("scaling.max_instance_count", {"scaling": run_v2.ServiceScaling(max_instance_count=2**31 - 1)}),
        ("scaling.manual_instance_count", {"scaling": run_v2.ServiceScaling(manual_instance_count=1001)}),
        (
            "scaling.min_instance_count",
            {"scaling": run_v2.ServiceScaling(min_instance_count=5, max_instance_count=4)},
        ),
        ("scaling.scaling_mode", {"scaling": run_v2.ServiceScaling(scaling_mode=9)}),
        ("ingress", {"ingress": 77}),
        ("launch_stage", {"launch_stage": 99}),
        ("traffic[0].type", {"traffic": [run_v2.TrafficTarget(type_=77, percent=100)]}),
    ],
)
def test_numbers_of_a_service_that_mean_nothing_are_refused_and_nothing_changes(
    google: Google, field: str, wrong: dict[str, Any]
) -> None:
    google.create()
    google.settle()
    before = google.get()
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        google.update(**wrong)
    (violation,) = refusal.value.details[0].field_violations
    assert violation.field == f"Violation in UpdateServiceRequest.service.{field}"
    assert google.get() == before


def test_numbers_at_the_ends_of_their_ranges_are_taken(google: Google) -> None:
    template = google.template(revision="web-one")
    template.max_instance_request_concurrency = 1000
    template.timeout = seconds(3600)
    template.scaling = scaled(max_instance_count=1000)
    template.containers[0].ports = with_port(65535).ports
    template.containers[0].startup_probe = with_probe(timeout_seconds=240, period_seconds=240).startup_probe
    google.create_as(run_v2.Service(template=template))
    google.settle()
    assert google.get().terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED


@pytest.mark.parametrize("other", ["other", "shop", "123"])
def test_another_project_is_refused_as_one_that_the_caller_may_not_write(google: Google, other: str) -> None:
    parent = f"projects/{other}/locations/local-1"
    service = run_v2.Service(template=google.template())
    tries: list[Callable[[], object]] = [
        lambda: google.services.create_service(
            parent=parent, service_id="web", service=service, timeout=SECONDS
        ),
        lambda: google.write(
            run_v2.Service(name=f"{parent}/services/web", template=google.template()), allow_missing=True
        ),
    ]
    for attempt in tries:
        with pytest.raises(exceptions.PermissionDenied, match=r"'run\.services\.create' denied "):
            attempt()
    with pytest.raises(exceptions.NotFound):
        google.services.get_service(name=f"{parent}/services/web", timeout=SECONDS)


def test_the_number_of_the_project_stands_for_its_id(google: Google) -> None:
    google.services.create_service(
        parent=f"projects/{project_number('demo')}/locations/local-1",
        service_id="web",
        service=run_v2.Service(template=google.template()),
        timeout=SECONDS,
    )
    assert google.get().name == google.full()


@pytest.mark.parametrize("region", ["-", "EU", "eu.west"])
def test_what_is_no_region_is_refused(google: Google, region: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=f"'{region}' .* is not a region"):
        google.services.create_service(
            parent=f"projects/demo/locations/{region}",
            service_id="web",
            service=run_v2.Service(template=google.template()),
            timeout=SECONDS,
        )


def test_a_revision_of_another_service_is_refused_and_our_own_is_known_by_each_of_its_names(
    google: Google,
) -> None:
    google.create(revision="web-one")
    google.settle()
    by_number = google.full(revision="web-one").replace("/demo/", f"/{project_number('demo')}/")
    for name in ("web-one", google.full(revision="web-one"), by_number):
        google.update(traffic=[to(name, 100)])
        assert google.get().traffic == [to("web-one", 100)]
    with pytest.raises(exceptions.InvalidArgument, match="is not a revision of the service 'web'"):
        google.update(traffic=[to(google.full("shop", revision="web-one"), 100)])
