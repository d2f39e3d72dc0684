"""Services are deleted a while after it was asked for, with all that belongs to them."""

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import Cloud, shown
from contracts.conftest import Google


def test_a_deletion_tells_its_time_and_ends_with_nothing_left(cloud: Cloud) -> None:
    """Fact 1.4 [P, R]: "for **both** metadata and response of Create/Update/Delete Service"."""
    cloud.create(revision=cloud.named("one"))
    cloud.settle()
    service = shown(cloud.delete())
    deleted = run_v2.Service.pb(service)
    assert deleted.expire_time.ToNanoseconds() > deleted.delete_time.ToNanoseconds() > 0
    cloud.settle()
    with pytest.raises(exceptions.NotFound):
        cloud.get()
    with pytest.raises(exceptions.NotFound):
        cloud.revision(cloud.named("one"))


def test_a_deleted_service_ends_what_waited_for_it(google: Google) -> None:
    """Fact 2.5 [T]: "does not exist or is deleted" is what became of a revision that was still starting."""
    creation = google.create(START_SECONDS="inf")
    google.settle()
    deletion = google.outcome(google.delete())
    assert deletion.done
    assert shown(deletion, "response").name == google.full()
    assert "does not exist or is deleted" in google.operation(creation.name).error.message


def test_a_service_deleted_twice_may_be_created_anew_at_once(google: Google) -> None:
    google.create()
    google.settle()
    google.delete()
    google.local.advance(google.local.settings.reconcile_delay / 2)
    second = google.delete()
    google.local.advance(google.local.settings.reconcile_delay / 2)
    google.create(revision="web-new")
    google.settle()
    assert google.operation(second.name).done
    assert google.revision_names() == ["web-new"]
