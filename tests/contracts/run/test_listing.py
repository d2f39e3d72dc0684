"""Lists of services, in pages; and a project that goes by its id and by its number."""

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import SECONDS, Cloud, to
from contracts.conftest import Google
from controller.emulator.names import project_number

NUMBER = project_number("demo")
BY_NUMBER = f"projects/{NUMBER}/locations/local-1"


def services(cloud: Cloud, parent: str = "", **request: Any) -> list[str]:
    wanted = run_v2.ListServicesRequest(parent=parent or cloud.parent, **request)
    found = cloud.services.list_services(request=wanted, timeout=SECONDS)
    return [service.name.rsplit("/", 1)[-1] for service in found]


def test_services_are_listed_over_pages(google: Google) -> None:
    """Fact 1.1 [P]: list_services; "a page token received from a previous call" goes on from there."""
    for number in range(5):
        google.create(f"web-{number}")
    page = google.services.list_services(
        request=run_v2.ListServicesRequest(parent=google.parent, page_size=2), timeout=SECONDS
    )
    sizes = [len(one.services) for one in page.pages]
    assert sizes == [2, 2, 1]
    assert services(google, page_size=2) == [f"web-{number}" for number in range(5)]


def test_a_created_service_is_listed(cloud: Cloud) -> None:
    """Fact 1.1 [P]: list_services."""
    cloud.create()
    assert cloud.web in services(cloud)


def test_services_of_every_region_are_listed_together(google: Google) -> None:
    """gcloud facts 1: "GET /v1/projects/{P}/locations/-/services" rests on it."""
    for region in ("local-2", "local-1"):
        service = run_v2.Service(template=google.template())
        request = run_v2.CreateServiceRequest(
            parent=f"projects/demo/locations/{region}", service_id="web", service=service
        )
        google.services.create_service(request=request, timeout=SECONDS)
    listed = google.services.list_services(parent="projects/demo/locations/-", timeout=SECONDS)
    assert [service.name.split("/")[3] for service in listed] == ["local-1", "local-2"]
    assert services(google) == ["web"]
    assert services(google, "projects/other/locations/-") == []


def test_revisions_are_listed_over_pages(cloud: Cloud) -> None:
    """Fact 2.8 [P]: "Lists sorted by create_time desc", whatever the pages."""
    cloud.two_revisions()
    request = run_v2.ListRevisionsRequest(parent=cloud.full(), page_size=1)
    found = cloud.revisions.list_revisions(request=request, timeout=SECONDS)
    pages = [[revision.name.rsplit("/", 1)[-1] for revision in page.revisions] for page in found.pages]
    assert [names for names in pages if names] == [[cloud.named("two")], [cloud.named("one")]]


@pytest.mark.parametrize(
    "request_",
    [{"page_size": -1}, {"page_token": "not-a-token"}, {"page_token": "1" * 5000}],
    ids=["size", "token", "long token"],
)
def test_bad_pages_are_refused(google: Google, request_: dict[str, Any]) -> None:
    google.create()
    with pytest.raises(exceptions.InvalidArgument, match="Invalid page"):
        services(google, **request_)


def test_a_malformed_name_is_refused(cloud: Cloud) -> None:
    """Fact 1.1 [M]: names are `projects/P/locations/L/services/S`."""
    with pytest.raises(exceptions.InvalidArgument):
        cloud.services.get_service(name=f"{cloud.parent}/servces/web", timeout=SECONDS)


def test_a_project_s_number_means_the_same_project(google: Google) -> None:
    """gcloud facts 3: "The emulator must treat number and id as the same project"."""
    google.create(revision="web-one")
    google.settle()
    by_number = f"{BY_NUMBER}/services/web"
    service = google.services.get_service(name=by_number, timeout=SECONDS)
    revision = google.revisions.get_revision(name=f"{by_number}/revisions/web-one", timeout=SECONDS)
    assert service == google.get()
    assert revision == google.revision("web-one")
    assert services(google, BY_NUMBER) == ["web"]
    assert google.get().template.service_account.startswith(NUMBER)


def test_an_operation_has_the_project_as_it_was_asked_for(google: Google) -> None:
    """Fact 4: "(project id or number as requested)"."""
    google.create()
    google.settle()
    change = run_v2.Service(name=f"{BY_NUMBER}/services/web", traffic=[to("", 100, tag="now")])
    request = run_v2.UpdateServiceRequest(service=change, update_mask={"paths": ["traffic"]})
    name = google.services.update_service(request=request, timeout=SECONDS).operation.name
    google.settle()
    assert name.startswith(f"{BY_NUMBER}/operations/")
    assert google.operation(name).name == name
    assert google.operation(name.replace(NUMBER, "demo")).done
    assert google.get().traffic_statuses[0].tag == "now"
