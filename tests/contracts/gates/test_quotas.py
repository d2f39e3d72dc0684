"""Quotas by the minute, of the emulated clock."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions

from contracts.conftest import PARENT, SECONDS, SIMULATED, Google, a_google
from controller.emulator.names import project_number

MINUTE = timedelta(minutes=1)


@pytest.fixture
def poor_google() -> Iterator[Google]:
    """Google, where everything is scarce."""
    yield from a_google(replace(SIMULATED, reads_a_minute=5, writes_a_minute=2, log_lists_a_minute=3))


def lists(google: Google, project: str = "demo", region: str = "local-1") -> Any:
    parent = f"projects/{project}/locations/{region}"
    return google.services.list_services(parent=parent, timeout=SECONDS, retry=None)


def lists_logs(google: Google) -> Any:
    return google.logs.list_log_entries(resource_names=["projects/demo"], timeout=SECONDS, retry=None)


def exhausted(call: Callable[[], Any]) -> Any:
    with pytest.raises(exceptions.ResourceExhausted) as refusal:
        call()
    return refusal.value


def test_reads_above_the_quota_are_refused_in_googles_words(poor_google: Google) -> None:
    """Fact 3 [T]: "(quota metric run.googleapis.com/read_regional)", and its text."""
    for _ in range(5):
        lists(poor_google)
    error = exhausted(lambda: lists(poor_google))
    number = project_number("demo")
    assert error.message == (
        "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per region' of "
        f"service 'run.googleapis.com' for consumer 'project_number:{number}'."
    )
    assert (error.reason, error.domain) == ("RATE_LIMIT_EXCEEDED", "googleapis.com")
    assert error.metadata["quota_metric"] == "run.googleapis.com/read_regional"
    assert error.metadata["quota_limit_value"] == "5"
    assert error.metadata["quota_location"] == "local-1"


def test_the_next_minute_has_its_own_quota(poor_google: Google) -> None:
    """Fact 3 [T]: "3,000 reads / 60 s"."""
    for _ in range(5):
        lists(poor_google)
    poor_google.local.advance(MINUTE - timedelta(seconds=1))
    exhausted(lambda: lists(poor_google))
    poor_google.local.advance(timedelta(seconds=1))
    lists(poor_google)


def test_regions_and_projects_have_quotas_of_their_own(poor_google: Google) -> None:
    """Fact 3 [T]: "Admin API per project+region"."""
    for _ in range(5):
        lists(poor_google)
    lists(poor_google, region="local-2")
    lists(poor_google, project="other")
    exhausted(lambda: lists(poor_google, project=project_number("demo")))


def test_writes_are_counted_apart_from_reads(poor_google: Google) -> None:
    """Fact 3 [T]: "3,000 reads / 60 s, 180 writes / 60 s"."""
    poor_google.create("one")
    poor_google.create("two")
    error = exhausted(lambda: poor_google.create("three"))
    assert "'Write requests per minute per region'" in error.message
    assert [service.name for service in lists(poor_google)] == [
        f"{PARENT}/services/one",
        f"{PARENT}/services/two",
    ]


def test_entries_list_has_the_scarcest_quota(poor_google: Google) -> None:
    """Fact 3 [T]: "Cloud Logging reads are far scarcer"; "ReadRequestsPerMinutePerProject"."""
    for _ in range(3):
        lists_logs(poor_google)
    error = exhausted(lambda: lists_logs(poor_google))
    assert "service 'logging.googleapis.com'" in error.message
    assert error.metadata["quota_limit"] == "ReadRequestsPerMinutePerProject"


def test_googles_numbers_are_the_default(google: Google) -> None:
    """Fact 3 [T]: "180 writes / 60 s"; Monitoring fact 3: "Quota **60 entries.list/min/project"."""
    for _ in range(60):
        lists_logs(google)
    exhausted(lambda: lists_logs(google))
    for number in range(180):
        google.create(f"s{number}")
    exhausted(lambda: google.create("one-more"))
    assert google.local.settings.reads_a_minute == 3000


def test_quotas_can_be_switched_off() -> None:
    for google in a_google(replace(SIMULATED, quotas=False, log_lists_a_minute=1)):
        for _ in range(3):
            lists_logs(google)
