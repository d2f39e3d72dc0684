"""Fields of services and templates: their defaults, and what is kept of what is asked for."""

import pytest
from google.api import launch_stage_pb2
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import SECONDS, Cloud, to
from contracts.conftest import Google


def test_defaults_are_filled_in_on_creation(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "maxInstanceCount 100, timeout 300s, limits cpu 1000m/memory 512Mi, ..."."""
    cloud.create()
    service = cloud.get()
    template = service.template
    (container,) = template.containers
    (port,) = container.ports
    probe = container.startup_probe

    assert template.scaling.max_instance_count == 100
    assert run_v2.RevisionTemplate.pb(template).timeout.seconds == 300
    assert dict(container.resources.limits) == {"cpu": "1000m", "memory": "512Mi"}
    assert container.resources.cpu_idle
    assert (port.name, port.container_port) == ("http1", 8080)
    assert template.max_instance_request_concurrency == 80
    assert (probe.timeout_seconds, probe.period_seconds, probe.failure_threshold) == (240, 240, 1)
    assert probe.tcp_socket.port == 8080
    assert template.service_account.endswith("-compute@developer.gserviceaccount.com")


def test_a_new_service_is_open_to_all_networks_and_generally_available(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "ingress ALL, launchStage GA"."""
    cloud.create()
    cloud.settle()
    service = cloud.get()
    assert service.ingress == run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL
    assert service.launch_stage == launch_stage_pb2.GA


def test_chosen_values_are_kept_beside_the_defaults(cloud: Cloud) -> None:
    """Fact 2.1 [R]: the defaults are "on create", where the caller says nothing."""
    template = cloud.template()
    template.max_instance_request_concurrency = 7
    template.containers[0].resources = run_v2.ResourceRequirements(limits={"memory": "1Gi"})
    cloud.create_as(run_v2.Service(template=template))
    kept = cloud.get().template

    assert kept.max_instance_request_concurrency == 7
    assert kept.containers[0].resources.limits["memory"] == "1Gi"
    assert kept.containers[0].resources.limits["cpu"] in {"1000m", "1"}
    assert not kept.containers[0].resources.cpu_idle


def test_a_service_without_a_default_address_has_none_for_its_tags_either(cloud: Cloud) -> None:
    """Fact 2.7: "`default_uri_disabled` (uri empty ⇒ tag URLs unusable for probes)"."""
    service = run_v2.Service(
        template=cloud.template(), default_uri_disabled=True, traffic=[to("", 100, tag="now")]
    )
    cloud.create_as(service)
    cloud.settle()
    found = cloud.get()
    assert found.default_uri_disabled
    assert (found.uri, list(found.urls)) == ("", [])
    assert [status.uri for status in found.traffic_statuses] == [""]


def test_access_and_networks_are_kept(cloud: Cloud) -> None:
    """Fact 2.7: "`invoker_iam_disabled` ... `ingress` restrict direct probing of tag URLs"."""
    internal = run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY
    cloud.create()
    cloud.settle()
    cloud.update(ingress=internal, description="a shop")
    cloud.settle()
    assert cloud.get().ingress == internal
    assert cloud.get().description == "a shop"
    assert len(cloud.revision_names()) == 1


def test_whether_callers_are_checked_is_kept(google: Google) -> None:
    """Fact 2.7: "`invoker_iam_disabled`"; not live, since organizations may forbid it."""
    google.create_as(run_v2.Service(template=google.template(), invoker_iam_disabled=True))
    assert google.get().invoker_iam_disabled


def test_affinity_and_limits_of_a_revision_are_those_of_its_template(cloud: Cloud) -> None:
    """Fact 2.7: "read `revision.session_affinity`"; fact 2.8: "labels/annotations (from template)"."""
    template = cloud.template(revision=cloud.named("one"))
    template.session_affinity = True
    template.scaling = run_v2.RevisionScaling(max_instance_count=3)
    template.annotations = {"example.com/why": "test"}
    cloud.create_as(run_v2.Service(template=template))
    revision = cloud.revision(cloud.named("one"))
    assert revision.session_affinity
    assert revision.scaling.max_instance_count == 3
    assert revision.annotations["example.com/why"] == "test"


def test_services_of_several_regions_are_refused_politely(google: Google) -> None:
    """Fact 2.7: "support per-region services only"."""
    settings = run_v2.Service.MultiRegionSettings(regions=["a", "b"])
    service = run_v2.Service(template=google.template(), multi_region_settings=settings)
    with pytest.raises(exceptions.MethodNotImplemented, match="one region only"):
        google.create_as(service)


def test_the_client_names_itself_on_the_service(cloud: Cloud) -> None:
    """Fact 2.7: "`client`/`client_version`: free text identifying the tool (... service level only)"."""
    cloud.create()
    cloud.settle()
    cloud.update(client="canary", client_version="1.2")
    cloud.settle()
    service = cloud.get()
    assert (service.client, service.client_version) == ("canary", "1.2")
    assert len(cloud.revision_names()) == 1


def test_the_creator_stays_and_the_last_writer_is_named(google: Google) -> None:
    """Fact 2.7: "`last_modifier`: e-mail of the last writer → foreign-change attribution"."""
    google.create()
    google.services.update_service(
        request=run_v2.UpdateServiceRequest(
            service=run_v2.Service(name=google.full(), annotations={"example.com/a": "1"}),
            update_mask={"paths": ["annotations"]},
        ),
        metadata=[("authorization", "Bearer bob@example.com")],
        timeout=SECONDS,
    )
    assert google.get().last_modifier == "bob@example.com"
    assert google.get().creator == "developer@example.com"


def test_the_first_writer_is_creator_and_last_modifier(cloud: Cloud) -> None:
    """Fact 2.7: "`last_modifier`: e-mail of the last writer"."""
    cloud.create()
    service = cloud.get()
    assert "@" in service.creator
    assert service.creator == service.last_modifier
