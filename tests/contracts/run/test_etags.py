"""Etags follow the time of the last write; what a stale one does can be chosen."""

import base64

import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.protobuf import timestamp_pb2

from contracts.cloud import SECONDS, Cloud, shown, to
from contracts.conftest import Google

STALE = '"THIS-IS-NOT-A-VALID-ETAG"'


def test_an_etag_is_the_update_time_and_the_name(google: Google) -> None:
    """Fact 2.2 [R]: "etag decodes to `base64(protobuf Timestamp == updateTime)/base64(resource name)`"."""
    google.create()
    service = google.get()
    encoded_time, encoded_name = service.etag.strip('"').split("/")
    stamp = timestamp_pb2.Timestamp()
    stamp.ParseFromString(base64.urlsafe_b64decode(encoded_time + "=="))

    assert stamp == run_v2.Service.pb(service).update_time
    assert base64.urlsafe_b64decode(encoded_name + "==").decode() == service.name


def test_every_write_changes_the_etag(cloud: Cloud) -> None:
    """Fact 2.2 [R]: "It changes on user writes"."""
    etags = [shown(cloud.create()).etag]
    cloud.settle()
    for team in ("shop", "search"):
        etags.append(shown(cloud.update(labels={"team": team})).etag)
        cloud.settle()
    assert len(set(etags)) == 3


def test_the_end_of_reconciliation_does_not_change_the_etag(cloud: Cloud) -> None:
    """Fact 2.2 [R]: "**not** when reconciliation finishes (identical in PATCH answer and in done op)"."""
    cloud.create()
    cloud.settle()
    operation = cloud.update(labels={"team": "shop"})
    done = cloud.outcome(operation)
    assert shown(operation).etag == shown(done).etag == cloud.get().etag


def test_a_stale_etag_is_ignored_by_default(google: Google) -> None:
    """Fact 2.2 [T]: "bogus etag `"THIS-IS-NOT-A-VALID-ETAG"` → 200 and traffic changed"."""
    google.create()
    google.update(traffic=[to("", 100, tag="now")], etag=STALE)
    assert google.get().traffic[0].tag == "now"


def test_a_deletion_with_a_stale_etag_goes_ahead_by_default(google: Google) -> None:
    """Fact 2.2: "Emulator should offer both modes (`etag: ignore` = observed default, `etag: enforce`)"."""
    google.create()
    google.services.delete_service(
        request=run_v2.DeleteServiceRequest(name=google.full(), etag=STALE), timeout=SECONDS
    )
    google.settle()
    assert not list(google.services.list_services(parent=google.parent, timeout=SECONDS))


def test_a_stale_etag_is_aborted_where_etags_are_enforced(strict_google: Google) -> None:
    """Fact 2.2 [T]: "Conflict for resource 'dispatch-web': version '1786872223639166' was specified ..."."""
    strict_google.create()
    stale = strict_google.get()
    strict_google.update(annotations={"example.com/a": "1"}, etag=stale.etag)
    current = strict_google.get()
    versions = [run_v2.Service.pb(service).update_time.ToMicroseconds() for service in (stale, current)]

    with pytest.raises(exceptions.Aborted) as refusal:
        strict_google.update(annotations={"example.com/a": "2"}, etag=stale.etag)
    assert refusal.value.message == (
        f"Conflict for resource 'web': version '{versions[0]}' was specified "
        f"but current version is '{versions[1]}'."
    )
    assert strict_google.get().annotations["example.com/a"] == "1"


def test_the_current_etag_or_none_at_all_passes_where_etags_are_enforced(strict_google: Google) -> None:
    """Fact 2.2: "tests must pass in both" modes."""
    strict_google.create()
    strict_google.update(labels={"team": "shop"}, etag=strict_google.get().etag)
    strict_google.update(labels={"team": "search"})
    assert strict_google.get().labels == {"team": "search"}


def test_deletions_check_etags_too_where_they_are_enforced(strict_google: Google) -> None:
    """Fact 2.2: "AIP-154: mismatch ⇒ ABORTED (HTTP 409)"."""
    strict_google.two_revisions()
    strict_google.update(template=strict_google.template(revision="web-three"))
    strict_google.settle()
    service = run_v2.DeleteServiceRequest(name=strict_google.full(), etag=STALE)
    with pytest.raises(exceptions.Aborted, match="Conflict for resource 'web'"):
        strict_google.services.delete_service(request=service, timeout=SECONDS)
    revision = run_v2.DeleteRevisionRequest(name=strict_google.full(revision="web-two"), etag=STALE)
    with pytest.raises(exceptions.Aborted, match="Conflict for resource 'web-two'"):
        strict_google.revisions.delete_revision(request=revision, timeout=SECONDS)
    assert strict_google.revision_names() == ["web-three", "web-two", "web-one"]
