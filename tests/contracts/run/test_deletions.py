"""Services are deleted a while after it was asked for, with all that belongs to them."""

from datetime import timedelta

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


def test_a_service_created_anew_has_nothing_of_the_old_one(google: Google) -> None:
    """A write during the deletion ends with the old service, and does not count for the new one."""
    google.create(revision="web-one")
    google.settle()
    old = google.get()
    google.update(annotations={"example.com/a": "1"})
    google.settle()
    google.delete()
    google.local.advance(google.local.settings.reconcile_delay / 2)
    change = google.update(annotations={"example.com/a": "2"})
    google.local.advance(google.local.settings.reconcile_delay / 2)
    ended = google.operation(change.name)
    google.create(revision="web-one")
    google.settle()
    new = google.get()
    assert "does not exist or is deleted" in ended.error.message
    assert shown(ended).uid == old.uid != new.uid
    assert google.operation(change.name) == ended
    assert (new.generation, new.observed_generation, new.reconciling) == (1, 1, False)


def test_a_held_up_write_ends_with_its_service(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    google.local.fault("slow-operation", by="60s", next=1)
    change = google.update(annotations={"example.com/a": "1"})
    deletion = google.outcome(google.delete())
    assert deletion.done
    assert "does not exist or is deleted" in google.operation(change.name).error.message
    creation = google.create(revision="web-one")
    google.local.advance(timedelta(minutes=2))
    assert google.operation(creation.name).HasField("response")
    assert google.get().observed_generation == 1


def test_users_of_a_deleted_service_do_not_reach_its_successor_before_it_is_ready(google: Google) -> None:
    """Fact 2.1 [R]: a new service has no status yet, and so serves nobody."""
    google.create(revision="web-one")
    google.local.users("web", rps=10)
    google.settle()
    google.delete()
    google.settle()
    google.create(revision="web-one", START_SECONDS="200")
    before = google.local.measure(lambda metrics: str(metrics.totals()))
    google.local.advance(timedelta(seconds=150))
    assert google.local.measure(lambda metrics: str(metrics.totals())) == before
