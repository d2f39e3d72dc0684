"""Traffic is checked, resolved and moved as Cloud Run does it."""

from dataclasses import replace
from datetime import timedelta

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import Cloud, desired, percents, shown, to
from contracts.conftest import SIMULATED, Google, a_google
from controller.emulator.monitoring.store import Metrics


def counts_of(metrics: Metrics, revision: str) -> int:
    """Return how many requests a revision has answered."""
    return sum(sum(by_code.values()) for key, by_code in metrics.totals().items() if key.revision == revision)


def test_a_split_is_served_once_it_is_reconciled(cloud: Cloud) -> None:
    """Fact 2.5 [P]: "Reads during reconciliation: ... traffic_statuses ... are transient"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    answer = shown(cloud.update(traffic=[to(one, 90), to(two, 10)]))
    assert desired(answer) == {one: 90, two: 10}
    assert percents(answer) == {one: 100}
    cloud.settle()
    assert percents(cloud.get()) == {one: 90, two: 10}


def test_empty_traffic_means_everything_to_the_latest(cloud: Cloud) -> None:
    """Fact 2.5 [P]: "empty traffic ⇒ 100 % LATEST"."""
    cloud.two_revisions()
    cloud.update(mask="traffic")
    cloud.settle()
    assert desired(cloud.get()) == percents(cloud.get()) == {"": 100}


def test_latest_and_a_revision_may_share(cloud: Cloud) -> None:
    """Fact 2.5: "LATEST must not carry a revision; REVISION must", and both may stand side by side."""
    cloud.two_revisions()
    one = cloud.named("one")
    cloud.update(traffic=[to(one, 60), to("", 40)])
    cloud.settle()
    assert percents(cloud.get()) == {one: 60, "": 40}


def test_a_revision_may_appear_more_than_once(cloud: Cloud) -> None:
    """Fact 2.5: "Same revision may appear more than once (percent entry + 0 % tagged entry)"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    cloud.update(traffic=[to(one, 70), to(two, 30), to(one, 0, tag="stable"), to(two, 0, tag="green")])
    cloud.settle()
    statuses = cloud.get().traffic_statuses
    assert percents(cloud.get()) == {one: 70, two: 30}
    assert [(status.revision, status.percent, status.tag) for status in statuses] == [
        (one, 70, ""),
        (two, 30, ""),
        (one, 0, "stable"),
        (two, 0, "green"),
    ]


def test_only_tags_have_an_address(cloud: Cloud) -> None:
    """Fact 2.5: "Tag URI ... in `traffic_statuses[].uri` (only tagged entries)"."""
    cloud.two_revisions()
    cloud.update(traffic=[to(cloud.named("one"), 100), to(cloud.named("two"), 0, tag="green")])
    cloud.settle()
    uris = {status.tag: status.uri for status in cloud.get().traffic_statuses}
    assert uris[""] == ""
    _, _, host = uris["green"].partition("://")
    assert host.startswith(f"green---{cloud.web}")


def test_tags_do_not_change_percentages(cloud: Cloud) -> None:
    """Fact 2.5 [P]: "Changing tags does not change percentages"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    cloud.update(traffic=[to(one, 90), to(two, 10)])
    cloud.settle()
    cloud.update(traffic=[to(one, 90), to(two, 10), to(two, 0, tag="green")])
    cloud.settle()
    assert percents(cloud.get()) == {one: 90, two: 10}


def test_an_unknown_revision_is_accepted_and_then_fails(cloud: Cloud) -> None:
    """Fact 2.5 [T]: "Revision 'X' does not exist or is deleted. Update all traffic to ..."."""
    cloud.two_revisions()
    one, nine = cloud.named("one"), cloud.named("nine")
    operation = cloud.update(traffic=[to(nine, 100)])
    assert not operation.done
    failed = cloud.outcome(operation)
    service = cloud.get()
    assert failed.error.code == 13
    assert failed.error.message == (
        f"Revision '{nine}' does not exist or is deleted. "
        "Update all traffic to route to currently available revisions."
    )
    assert service.terminal_condition.state == run_v2.Condition.State.CONDITION_FAILED
    assert percents(service) == {one: 100}


def test_a_failed_traffic_update_leaves_desired_different_from_effective(cloud: Cloud) -> None:
    """Fact 2.5 [T]: "Failed traffic update leaves `traffic` (desired) ≠ `traffic_statuses` (effective)"."""
    cloud.two_revisions(CRASH="1")
    one, two = cloud.named("one"), cloud.named("two")
    failed = cloud.outcome(cloud.update(traffic=[to(one, 50), to(two, 50)]))
    service = cloud.get()
    assert failed.error.code == 13
    assert failed.error.message.startswith(f"Revision '{two}' is not ready and cannot serve traffic. ")
    assert desired(service) == {one: 50, two: 50}
    assert percents(service) == {one: 100}
    assert service.observed_generation == service.generation


def test_a_stale_desired_split_blocks_later_deployments(cloud: Cloud) -> None:
    """Fact 2.5 [T]: "the stale desired split then *blocked later --no-traffic deploys*"."""
    cloud.two_revisions(CRASH="1")
    one, two = cloud.named("one"), cloud.named("two")
    cloud.update(traffic=[to(one, 50), to(two, 50)])
    cloud.settle()
    failed = cloud.outcome(cloud.update(template=cloud.template(revision=cloud.named("three"))))
    assert f"'{two}' is not ready" in failed.error.message
    cloud.update(traffic=[to(one, 100)])
    cloud.settle()
    service = cloud.get()
    assert service.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert desired(service) == percents(service) == {one: 100}


def test_a_rollback_moves_traffic_though_the_newest_revision_is_broken(google: Google) -> None:
    """Fact 2.5 [I]: "a traffic-only rollback may then return an LRO error although traffic moved"."""
    google.two_revisions()
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.update(template=google.template(revision="web-three", CRASH="1"))
    google.settle()
    failed = google.outcome(google.update(traffic=[to("web-one", 100)]))
    assert percents(google.get()) == {"web-one": 100}
    assert "web-three" in failed.error.message


def test_latest_moves_to_a_newer_revision_when_it_is_ready(google: Google) -> None:
    """Fact 2.6 [P]: "that share **automatically migrates** to the new revision once ready"."""
    google.create(revision="web-one")
    google.local.users("web", rps=50)
    google.settle()
    google.update(template=google.template(revision="web-two", START_SECONDS="30"))
    google.settle()
    assert google.get().latest_ready_revision.endswith("/web-one")
    for _ in range(8):
        google.settle()
    service = google.get()
    assert service.latest_ready_revision.endswith("/web-two")
    assert percents(service) == {"": 100}


def test_what_is_refused_leaves_the_status_with_what_is_served(google: Google) -> None:
    """Section 7: "desired≠effective persists; **effective traffic unchanged**"; LATEST moves on."""
    google.create(revision="web-one")
    google.settle()
    google.update(traffic=[to("", 100, tag="now")])
    google.settle()
    google.update(traffic=[to("web-nine", 100)])
    google.settle()
    assert percents(google.get()) == {"": 100}
    google.update(template=google.template(revision="web-two"))
    google.settle()
    google.local.users("web", rps=50)
    google.local.advance(timedelta(minutes=2))
    service = google.get()
    answered = google.local.measure(lambda metrics: {key.revision for key in metrics.totals()})
    assert service.latest_ready_revision == google.full(revision="web-two")
    assert [(status.revision, status.tag) for status in service.traffic_statuses] == [("web-one", "now")]
    assert percents(service) == dict.fromkeys(answered, 100) == {"web-one": 100}
    google.update(mask="traffic")
    google.settle()
    assert percents(google.get()) == {"": 100}


def test_what_was_never_served_is_reported_as_it_is_asked_for(google: Google) -> None:
    """Fact 2.1 [R]: "trafficStatuses = spec" of a service whose first revision failed."""
    google.create(revision="web-one", CRASH="1")
    google.settle()
    google.update(traffic=[to("web-nine", 100)])
    google.settle()
    assert percents(google.get()) == desired(google.get()) == {"web-nine": 100}


def test_the_clock_set_back_does_not_bring_an_older_split_back(google: Google) -> None:
    """Requests follow the newest split, in whatever order the clock gets to the two."""
    google.two_revisions()
    google.local.users("web", rps=50)
    google.update(traffic=[to("web-two", 100)])
    google.local.advance(google.local.settings.reconcile_delay)
    google.local.jump_clock(timedelta(seconds=-30))
    google.update(traffic=[to("web-one", 100)])
    google.local.advance(timedelta(minutes=1))
    before = google.local.measure(lambda metrics: counts_of(metrics, "web-two"))
    google.local.advance(timedelta(minutes=2))
    assert google.local.measure(lambda metrics: counts_of(metrics, "web-two")) == before
    assert google.local.measure(lambda metrics: counts_of(metrics, "web-one")) > 0


def test_a_share_of_the_latest_migrates_with_a_deployment(cloud: Cloud) -> None:
    """Fact 2.6 [P]: "If `traffic` has a LATEST entry and someone deploys ..., that share ... migrates"."""
    cloud.two_revisions()
    one, three = cloud.named("one"), cloud.named("three")
    cloud.update(traffic=[to(one, 90), to("", 10)])
    cloud.settle()
    cloud.update(template=cloud.template(revision=three, TEXT="3"))
    cloud.settle()
    service = cloud.get()
    assert service.latest_ready_revision == cloud.full(revision=three)
    assert percents(service) == {one: 90, "": 10}


def test_an_older_revision_that_becomes_ready_late_is_not_the_latest(google: Google) -> None:
    """Fact 2.1: latest_ready_revision is the *latest*; fact 2.6: LATEST goes to "the next ready revision"."""
    google.create(revision="web-one", START_SECONDS="30")
    google.update(template=google.template(revision="web-two"))
    google.settle()
    assert google.get().latest_ready_revision.endswith("/web-two")
    for _ in range(4):
        google.settle()
    assert google.revision("web-one").conditions[0].state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert google.get().latest_ready_revision.endswith("/web-two")


def test_a_pinned_split_is_kept_by_a_later_deployment(cloud: Cloud) -> None:
    """Fact 2.6 [D]: "all subsequent deployments use that traffic split pattern going forward"."""
    cloud.two_revisions()
    cloud.update(template=cloud.template(revision=cloud.named("three"), TEXT="3"))
    cloud.settle()
    assert percents(cloud.get()) == {cloud.named("one"): 100}


def test_a_traffic_write_is_not_held_up_by_a_revision_that_starts(google: Google) -> None:
    """Fact 4: "traffic-only updates finish in seconds"."""
    google.create(revision="web-one")
    google.settle()
    google.update(
        template=google.template(revision="web-two", START_SECONDS="100"), traffic=[to("web-one", 100)]
    )
    done = google.outcome(google.update(traffic=[to("web-one", 100, tag="stable")]))
    assert done.done
    assert google.get().reconciling
    assert [status.tag for status in google.get().traffic_statuses] == ["stable"]


@pytest.mark.parametrize(
    "shares",
    [[90], [100, 100], [101, -1], [0, 0], [-100, 200]],
    ids=str,
)
def test_shares_are_0_to_100_and_sum_to_100(cloud: Cloud, shares: list[int]) -> None:
    """Fact 2.5 [P]: "percents are ints 0..100, sum = 100 | rejected synchronously"."""
    cloud.two_revisions()
    revisions = [cloud.named("one"), cloud.named("two")]
    with pytest.raises(exceptions.InvalidArgument):
        cloud.update(traffic=[to(*target) for target in zip(revisions, shares, strict=False)])
    assert cloud.get().generation == 2


def test_tags_are_labels_and_unique(cloud: Cloud) -> None:
    """Fact 2.5 [P]: "tag: DNS-1035 label, unique in the list"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    for targets in (
        [to(one, 100, tag="Not_A_Label")],
        [to(one, 100, tag="-a")],
        [to(one, 100, tag="a"), to(two, 0, tag="a")],
    ):
        with pytest.raises(exceptions.InvalidArgument):
            cloud.update(traffic=targets)
    assert cloud.get().generation == 2


def test_latest_names_no_revision_and_a_revision_is_named(cloud: Cloud) -> None:
    """Fact 2.5 [P]: "LATEST must not carry a revision; REVISION must"."""
    cloud.two_revisions()
    kinds = run_v2.TrafficTargetAllocationType
    latest = run_v2.TrafficTarget(
        type_=kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, revision=cloud.named("one"), percent=100
    )
    nameless = run_v2.TrafficTarget(type_=kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION, percent=100)
    for target in (latest, nameless):
        with pytest.raises(exceptions.InvalidArgument):
            cloud.update(traffic=[target])


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
def test_malformed_traffic_is_refused_with_the_field(
    google: Google, targets: list[run_v2.TrafficTarget], message: str
) -> None:
    """Section 7: "0..100 & sum=100 INVALID_ARGUMENT with BadRequest"."""
    google.two_revisions()
    with pytest.raises(exceptions.InvalidArgument, match=message) as refusal:
        google.update(traffic=targets)
    (violation,) = refusal.value.details[0].field_violations
    assert "traffic" in violation.field
    assert google.get().generation == 2


def test_tag_and_service_name_together_have_46_characters(cloud: Cloud) -> None:
    """Fact 2.5 [T]: "Combined traffic tag and service name cannot exceed 46 characters."."""
    cloud.two_revisions()
    one = cloud.named("one")
    longest = "t" * (46 - len(cloud.web))
    with pytest.raises(exceptions.InvalidArgument) as refusal:
        cloud.update(traffic=[to(one, 100, tag=f"{longest}t")])
    assert (
        f"spec.traffic.tag: traffic tag '{longest}t' and service name '{cloud.web}' together are too long. "
        "Combined traffic tag and service name cannot exceed 46 characters."
    ) in refusal.value.message
    cloud.update(traffic=[to(one, 100, tag=longest)])
    cloud.settle()
    assert [status.tag for status in cloud.get().traffic_statuses] == [longest]


def test_that_the_newest_revision_failed_may_be_nobodys_business() -> None:
    """Fact 2.5 [I]: "If the newest revision is broken, the Service's Ready is FAILED even when pinned traffic
    is healthy": inferred, hence a setting.
    """
    for google in a_google(replace(SIMULATED, newest_decides=False)):
        google.two_revisions(CRASH="1")
        name = google.update(traffic=[to("web-one", 100, tag="old")]).name
        google.settle()
        assert google.operation(name).HasField("response")
