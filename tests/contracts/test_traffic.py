"""Traffic is checked, resolved and moved as Cloud Run does it."""

import pytest
from google.api_core import exceptions

from .conftest import PARENT, SECONDS, Google, a_template, percents, to


def test_a_split_is_served_once_it_is_reconciled(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 90), to("web-two", 10)])
    assert percents(google.get()) == {"web-one": 100}
    google.settle()
    assert percents(google.get()) == {"web-one": 90, "web-two": 10}


def test_a_failed_traffic_update_leaves_desired_different_from_effective(google: Google) -> None:
    google.two_revisions(CRASH="1")
    name = google.update(traffic=[to("web-one", 50), to("web-two", 50)]).name
    google.settle()
    operation, service = google.operation(name), google.get()
    assert operation.error.code == 13
    assert "Revision 'web-two' is not ready and cannot serve traffic." in operation.error.message
    assert {target.revision: target.percent for target in service.traffic} == {"web-one": 50, "web-two": 50}
    assert percents(service) == {"web-one": 100}


def test_an_unknown_revision_is_accepted_and_then_fails(google: Google) -> None:
    google.two_revisions()
    name = google.update(traffic=[to("web-nine", 100)]).name
    google.settle()
    assert google.operation(name).error.message == (
        "Revision 'web-nine' does not exist or is deleted. "
        "Update all traffic to route to currently available revisions."
    )
    assert percents(google.get()) == {"web-one": 100}


def test_a_rollback_moves_traffic_though_the_newest_revision_is_broken(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.update(template=a_template(revision="web-three", CRASH="1"))
    google.settle()
    name = google.update(traffic=[to("web-one", 100)]).name
    google.settle()
    assert percents(google.get()) == {"web-one": 100}
    assert "web-three" in google.operation(name).error.message


def test_latest_moves_to_a_newer_revision_when_it_is_ready(google: Google) -> None:
    google.create(revision="web-one")
    google.local.users("web", rps=50)
    google.settle()
    google.update(template=a_template(revision="web-two", START_SECONDS="30"))
    google.settle()
    assert google.get().latest_ready_revision.endswith("/web-one")
    for _ in range(8):
        google.settle()
    service = google.get()
    assert service.latest_ready_revision.endswith("/web-two")
    assert percents(service) == {"": 100}


def test_a_pinned_split_is_kept_by_a_later_deployment(google: Google) -> None:
    google.two_revisions()
    google.update(template=a_template(revision="web-three"))
    google.settle()
    assert percents(google.get()) == {"web-one": 100}


def test_a_tag_has_an_address_of_its_own(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 100), to("web-two", 0, tag="green")])
    google.settle()
    uris = {status.tag: status.uri for status in google.get().traffic_statuses}
    assert uris[""] == ""
    assert uris["green"].startswith("http://green---web.localhost:")


def test_no_traffic_at_all_means_everything_to_the_latest(google: Google) -> None:
    google.two_revisions()
    google.update(mask="traffic")
    google.settle()
    assert percents(google.get()) == {"": 100}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([to("web-one", 90)], "sum to 90, want 100"),
        ([to("web-one", 101), to("web-two", -1)], "out of bounds"),
        ([to("web-one", 100, tag="a"), to("web-two", 0, tag="a")], "Multiple definitions"),
        ([to("web-one", 100, tag="Not_A_Label")], "lowercase"),
        ([to("web-one", 100, tag="t" * 44)], "cannot exceed 46 characters"),
    ],
)
def test_malformed_traffic_is_refused_at_once(google: Google, targets: list[object], message: str) -> None:
    google.two_revisions()
    with pytest.raises(exceptions.InvalidArgument, match=message) as refusal:
        google.update(traffic=targets)
    assert "BadRequest" in type(refusal.value.details[0]).__name__
    assert google.get().generation == 2


def test_tag_and_service_name_may_have_46_characters_together(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 100, tag="t" * 43)])
    google.settle()
    assert google.get().traffic_statuses[0].tag == "t" * 43


def test_a_revision_without_traffic_is_retired_and_that_is_no_failure(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.update(traffic=[to("web-two", 100)])
    google.settle()
    revision = google.revisions.get_revision(name=f"{PARENT}/services/web/revisions/web-one", timeout=SECONDS)
    (active,) = [condition for condition in revision.conditions if condition.type_ == "Active"]
    assert (active.revision_reason.name, active.severity.name) == ("RETIRED", "INFO")
