"""Services look as Cloud Run shows them: while they reconcile, when they are ready, and when they failed.

A test quotes the fact that it shows. Evidence in brackets: R = recorded answers, P = the API's own
description, D = documentation, T = a third party's report, M = measured, I = inferred.
"""

from datetime import timedelta

import pytest
from google.api_core import exceptions
from google.cloud import run_v2

from contracts.cloud import Cloud, percents, shown, to
from contracts.conftest import Google

State = run_v2.Condition.State
Reason = run_v2.Condition.RevisionReason


def states(service: run_v2.Service) -> dict[str, State]:
    return {condition.type_: State(condition.state) for condition in service.conditions}


def test_a_creation_answers_with_nothing_but_what_was_asked_for(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "done absent", "terminalCondition{... CONDITION_PENDING" and no status yet."""
    operation = cloud.create()
    service = shown(operation)

    assert not operation.done
    assert service.reconciling
    assert service.terminal_condition == run_v2.Condition(state=State.CONDITION_PENDING)
    assert (service.generation, service.observed_generation) == (1, 0)
    assert not service.conditions
    assert not service.traffic_statuses
    assert (service.uri, service.latest_created_revision, service.latest_ready_revision) == ("", "", "")


def test_a_ready_service_has_observed_its_generation(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "observedGeneration==generation, Ready/RoutesReady/ConfigurationsReady SUCCEEDED"."""
    cloud.create()
    cloud.settle()
    service = cloud.get()

    assert not service.reconciling
    assert service.observed_generation == service.generation == 1
    assert service.terminal_condition.type_ == "Ready"
    assert service.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert states(service) == {
        "RoutesReady": State.CONDITION_SUCCEEDED,
        "ConfigurationsReady": State.CONDITION_SUCCEEDED,
    }
    assert service.uri


def test_a_finished_operation_carries_the_whole_service_twice(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "`done: true`, `metadata` and `response` both the full Service"."""
    operation = cloud.outcome(cloud.create())

    assert operation.done
    assert shown(operation) == shown(operation, "response")
    assert shown(operation).terminal_condition.state == State.CONDITION_SUCCEEDED
    assert operation.response.type_url == "type.googleapis.com/google.cloud.run.v2.Service"


def test_an_update_answers_with_the_old_status(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "generation 2, observedGeneration 1, reconciling true", conditions "(old)"."""
    one = cloud.named("one")
    cloud.create(revision=one)
    cloud.settle()
    before = cloud.get()
    operation = cloud.update(template=cloud.template(revision=cloud.named("two")))
    answered = shown(operation)

    assert not operation.done
    assert answered.reconciling
    assert (answered.generation, answered.observed_generation) == (2, 1)
    assert answered.latest_created_revision == answered.latest_ready_revision == cloud.full(revision=one)
    assert answered.conditions == before.conditions
    assert answered.traffic_statuses == before.traffic_statuses


def test_a_pending_condition_keeps_the_time_of_the_old_transition(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "state CONDITION_PENDING, lastTransitionTime = the OLD transition"."""
    cloud.create()
    cloud.settle()
    before = cloud.get().terminal_condition
    answered = shown(cloud.update(labels={"team": "shop"})).terminal_condition

    assert answered.type_ == "Ready"
    assert answered.state == State.CONDITION_PENDING
    assert answered.last_transition_time == before.last_transition_time


def test_latest_is_reported_without_a_revision_and_without_an_address(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "`traffic_statuses` for LATEST has `type`+`percent` only: no `revision`, no `uri`"."""
    cloud.create()
    cloud.settle()
    (status,) = cloud.get().traffic_statuses
    assert (status.revision, status.uri, status.tag, status.percent) == ("", "", "", 100)


def test_names_of_the_latest_are_full_and_names_in_traffic_short(cloud: Cloud) -> None:
    """Fact 2.1 [R, T]: "are **fully qualified**"; "`traffic[].revision` is the **short** name"."""
    cloud.two_revisions()
    one, two = cloud.named("one"), cloud.named("two")
    service = cloud.get()

    assert service.latest_ready_revision == service.latest_created_revision == cloud.full(revision=two)
    assert [target.revision for target in service.traffic] == [one]
    assert [status.revision for status in service.traffic_statuses] == [one]


def test_a_full_revision_name_in_traffic_is_understood(google: Google) -> None:
    """Fact 2.1: "Accept both on read, write short"."""
    google.two_revisions()
    google.update(traffic=[to(google.full(revision="web-two"), 100)])
    google.settle()
    assert [target.revision for target in google.get().traffic] == ["web-two"]
    assert percents(google.get()) == {"web-two": 100}


def test_a_first_revision_that_fails_fails_the_route_and_not_the_configuration(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "RoutesReady FAILED same reason, ConfigurationsReady **SUCCEEDED**"."""
    cloud.create(CRASH="1")
    cloud.settle()
    service = cloud.get()
    (routes,) = [condition for condition in service.conditions if condition.type_ == "RoutesReady"]

    assert service.terminal_condition.state == State.CONDITION_FAILED
    assert service.terminal_condition.revision_reason == Reason.HEALTH_CHECK_CONTAINER_ERROR
    assert routes.revision_reason == service.terminal_condition.revision_reason
    assert routes.message == service.terminal_condition.message
    assert states(service) == {
        "RoutesReady": State.CONDITION_FAILED,
        "ConfigurationsReady": State.CONDITION_SUCCEEDED,
    }


def test_a_failed_service_has_observed_its_generation_and_reports_what_was_asked_for(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "latestReadyRevision absent", "observedGeneration == generation", and more."""
    cloud.create(revision=cloud.named("one"), CRASH="1")
    cloud.settle()
    service = cloud.get()

    assert not service.reconciling
    assert not service.latest_ready_revision
    assert service.latest_created_revision == cloud.full(revision=cloud.named("one"))
    assert service.observed_generation == service.generation == 1
    assert percents(service) == {"": 100}
    assert not service.uri


def test_a_failed_deployment_is_an_internal_error_of_the_operation(cloud: Cloud) -> None:
    """Fact 2.1 [R]: "`error: {code: 13, message: "Revision 'goblet-00001-scx' is not ready ..."."""
    one = cloud.named("one")
    operation = cloud.outcome(cloud.create(revision=one, CRASH="1"))

    assert operation.done
    assert operation.error.code == 13
    assert operation.error.message.startswith(f"Revision '{one}' is not ready and cannot serve traffic. ")
    assert operation.error.message == shown(operation).terminal_condition.message


def test_a_failed_start_tells_the_port_and_where_the_logs_are(google: Google) -> None:
    """Fact 2.1 [R]: "failed to start and listen on the port defined provided by the PORT=8080 ..."."""
    message = google.outcome(google.create(CRASH="1")).error.message
    assert "failed to start and listen on the port defined provided by the PORT=8080 environment" in message
    assert "Logs for this revision might contain more information.\n\nLogs URL: http" in message


def test_a_broken_newest_revision_fails_the_service_though_another_serves(cloud: Cloud) -> None:
    """Fact 2.6 [P, T]: "effective traffic stays on the last good revision; ... unchanged"."""
    one, two = cloud.named("one"), cloud.named("two")
    cloud.create(revision=one)
    cloud.settle()
    operation = cloud.outcome(cloud.update(template=cloud.template(revision=two, CRASH="1")))
    service = cloud.get()

    assert operation.error.code == 13
    assert service.terminal_condition.state == State.CONDITION_FAILED
    assert service.terminal_condition.revision_reason == Reason.HEALTH_CHECK_CONTAINER_ERROR
    assert service.latest_ready_revision == cloud.full(revision=one)
    assert service.latest_created_revision == cloud.full(revision=two)
    assert service.observed_generation == service.generation


def test_a_failed_service_recovers_with_a_good_revision(cloud: Cloud) -> None:
    """Fact 2.1: "test `reconciling == false` and `terminal_condition.state`"."""
    cloud.create(CRASH="1")
    cloud.settle()
    cloud.update(template=cloud.template(revision=cloud.named("good")))
    cloud.settle()
    service = cloud.get()
    assert service.terminal_condition.state == State.CONDITION_SUCCEEDED
    assert service.latest_ready_revision == cloud.full(revision=cloud.named("good"))
    assert service.uri


def test_a_write_during_the_first_start_waits_for_it(google: Google) -> None:
    """Fact 2.5 [R]: a revision that is not ready fails an operation; one that is still starting does not."""
    creation = google.create(START_SECONDS="30")
    google.local.advance(timedelta(seconds=1))
    change = google.update(annotations={"example.com/a": "1"})
    google.settle()
    assert not google.operation(change.name).done
    assert google.get().reconciling
    assert not google.get().conditions
    google.local.advance(timedelta(seconds=30))
    for operation in (creation, change):
        assert google.operation(operation.name).HasField("response")
    assert google.get().terminal_condition.state == State.CONDITION_SUCCEEDED


def test_a_revision_that_never_listens_fails_at_the_startup_probe_s_timeout(google: Google) -> None:
    """Fact 2.7 [P, D]: "Startup ≤240 s"."""
    google.create(START_SECONDS="inf")
    google.local.advance(google.local.settings.startup_timeout * 0.9)
    assert google.get().reconciling
    google.local.advance(google.local.settings.startup_timeout * 0.2)
    assert google.get().terminal_condition.state == State.CONDITION_FAILED


def test_without_a_health_check_even_a_broken_revision_is_ready(google: Google) -> None:
    """Fact 2.7 [P, D]: "`health_check_disabled` on the template ... makes "Ready" meaningless"."""
    template = google.template(revision="web-one", CRASH="1")
    template.health_check_disabled = True
    operation = google.outcome(google.create_as(run_v2.Service(template=template)))
    healthy = {condition.type_: condition for condition in google.revision("web-one").conditions}[
        "ContainerHealthy"
    ]

    assert not operation.error.message
    assert google.get().terminal_condition.state == State.CONDITION_SUCCEEDED
    assert healthy.revision_reason == Reason.HEALTH_CHECK_SKIPPED


def test_a_service_cannot_be_created_twice(cloud: Cloud) -> None:
    """Fact 1.1 [P]: create_service; what exists is ALREADY_EXISTS."""
    cloud.create()
    with pytest.raises(exceptions.AlreadyExists):
        cloud.create()


def test_what_does_not_exist_is_not_found(cloud: Cloud) -> None:
    """Fact 2.5 [R]: "not found service | 404/NOT_FOUND"."""
    with pytest.raises(exceptions.NotFound):
        cloud.get()
    with pytest.raises(exceptions.NotFound):
        cloud.revision(cloud.named("one"))
    with pytest.raises(exceptions.NotFound):
        cloud.update(labels={"team": "shop"})
    with pytest.raises(exceptions.NotFound):
        cloud.delete()


def test_what_is_not_found_is_named_with_its_place(google: Google) -> None:
    with pytest.raises(exceptions.NotFound, match="'web' of kind 'SERVICE' in region 'local-1'"):
        google.get()
    with pytest.raises(exceptions.NotFound, match="'web-one' of kind 'REVISION'"):
        google.revision("web-one")
