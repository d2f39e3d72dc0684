"""What a reading of request logs may cost, and what is told when it is refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.conftest import SIMULATED, Google, a_google
from controller.core.request_log import RequestLog
from controller.gateways.log_budget import CALLS_A_MINUTE, LogBudget
from controller.gateways.request_logs import PAGE_SIZE, PAGES_A_READ, SYSTEM
from controller.ports import DeniedError, PermanentError, ThrottledError, TransientError
from controller.principal import calling_as

from .request_log_entries import BOTH, MINUTE, SECOND, a_request, a_start, gateway, ids, log, read

ADA = "ada@example.com"


def many(google: Google, count: int) -> list[str]:
    """Log so many requests, one a millisecond."""
    names = [f"r{number:05}" for number in range(count)]
    now = google.local.now()
    for first in range(0, count, PAGE_SIZE):
        log(
            google,
            *(
                a_request(names[number], timestamp=now - timedelta(milliseconds=count - number))
                for number in range(first, min(first + PAGE_SIZE, count))
            ),
        )
    return names


@pytest.fixture
def budget(google: Google) -> LogBudget:
    return LogBudget(google.local.now)


def read_now(google: Google, budget: LogBudget) -> RequestLog:
    now = google.local.now()
    return gateway(google, budget).read_requests("web", BOTH, now - MINUTE, now + SECOND)


def count_calls(google: Google) -> Callable[[], int]:
    """Return what tells how many lists of logs were asked for from now on."""
    google.local.fault("delay", method="ListLogEntries", by="1ms")
    return lambda: int(google.local.faults()[0]["struck"])


# --- pages, and a share of all ---


def test_all_pages_are_read(google: Google) -> None:
    names = many(google, 2 * PAGE_SIZE + 1)
    found = read(google)
    assert sorted(ids(found)) == names
    assert not found.cut


def test_a_reading_of_more_than_can_be_read_is_cut_and_says_so(google: Google) -> None:
    most = PAGES_A_READ * PAGE_SIZE
    names = many(google, most)
    assert not read(google).cut
    log(google, a_request("one-more"))
    found = read(google)
    assert found.cut
    assert sorted(ids(found)) == names
    assert not read(google, share=0.1).cut


def test_an_empty_page_is_not_the_end() -> None:
    """Monitoring facts 3: an empty page with next_page_token is not "no data"."""
    for google in a_google(replace(SIMULATED, log_scan_limit=10)):
        other = a_start().resource
        other.labels["service_name"] = "shop"
        log(google, *(a_request(f"n{number}", resource=other) for number in range(15)))
        google.local.advance(SECOND)
        log(google, a_request("own"))
        calls = count_calls(google)
        assert ids(read(google)) == ["own"]
        assert calls() > 1


def test_a_share_is_about_that_many_requests_and_the_same_each_time(google: Google) -> None:
    names = many(google, PAGE_SIZE)
    log(google, a_start(), log_id=SYSTEM)
    found = read(google, share=0.1)
    assert found.share == 0.1
    assert 60 <= len(found.requests) <= 140
    assert set(ids(found)) < set(names)
    assert len(found.starts) == 1
    assert read(google, share=0.1) == found
    assert set(ids(found)) < set(ids(read(google, share=0.5)))


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_a_share_that_cannot_be_is_refused(google: Google, share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        read(google, share=share)


# --- the budget ---


def test_a_budget_that_is_used_up_refuses_at_once_and_without_a_call(
    google: Google, budget: LogBudget
) -> None:
    for _ in range(int(CALLS_A_MINUTE)):
        read_now(google, budget)
    calls = count_calls(google)
    with pytest.raises(
        ThrottledError, match=r"log of web: this controller has made .* \(15 a minute\)"
    ) as told:
        read_now(google, budget)
    assert calls() == 0
    assert told.value.wait == pytest.approx(60 / CALLS_A_MINUTE)
    google.local.advance(timedelta(seconds=told.value.wait))
    assert read_now(google, budget) == RequestLog()
    assert calls() == 1


def test_all_readings_share_one_budget(google: Google, budget: LogBudget) -> None:
    now = google.local.now()
    for number in range(int(CALLS_A_MINUTE)):
        gateway(google, budget).read_requests(f"web-{number}", BOTH, now - MINUTE, now)
    with pytest.raises(ThrottledError):
        read_now(google, budget)


def test_a_reading_that_uses_the_budget_up_in_the_middle_is_none(google: Google, budget: LogBudget) -> None:
    """A part of a log, the oldest entries of it, would be taken for the whole."""
    many(google, PAGE_SIZE + 1)
    for _ in range(int(CALLS_A_MINUTE) - 1):
        budget.spend()
    with pytest.raises(ThrottledError):
        read_now(google, budget)


def test_tries_are_counted_too(google: Google, budget: LogBudget) -> None:
    google.local.fault("error", method="ListLogEntries", code="UNAVAILABLE", next=2)
    read_now(google, budget)
    for _ in range(int(CALLS_A_MINUTE) - 3):
        assert budget.wait() == 0
        budget.spend()
    assert budget.wait() > 0


def test_a_refusal_halves_the_budget_and_no_call_is_made_until_the_wait_is_over() -> None:
    """Monitoring facts 3: 60 entries.list a minute for a whole project, shared with people."""
    for google in a_google(replace(SIMULATED, log_lists_a_minute=2)):
        budget = LogBudget(google.local.now)
        read_now(google, budget)
        read_now(google, budget)
        with pytest.raises(ThrottledError, match="Cloud Logging has had too many calls") as refused:
            read_now(google, budget)
        assert budget.rate == CALLS_A_MINUTE / 2
        assert refused.value.wait == 60
        calls = count_calls(google)
        with pytest.raises(ThrottledError, match="makes none for 60 seconds") as told:
            read_now(google, budget)
        assert calls() == 0
        google.local.advance(timedelta(seconds=told.value.wait))
        assert read_now(google, budget) == RequestLog()
        assert CALLS_A_MINUTE / 2 <= budget.rate < CALLS_A_MINUTE / 2 + 0.1


def test_a_message_that_is_too_large_has_to_do_with_no_quota(google: Google, budget: LogBudget) -> None:
    log(google, *(a_request(f"r{number}", text_payload="x" * 250_000) for number in range(20)))
    with pytest.raises(PermanentError, match="larger than max"):  # the channel of this test's own client
        read_now(google, budget)
    assert budget.rate == CALLS_A_MINUTE


# --- errors ---


def test_what_fails_is_told(google: Google) -> None:
    google.local.fault("error", method="ListLogEntries", code="UNAVAILABLE")
    with pytest.raises(TransientError, match="reading the request log of web: Cloud Logging cannot be reach"):
        read(google)


@pytest.mark.parametrize(
    ("held", "may_read"), [("logging.logEntries.list", True), ("logging.logEntries.create", False)]
)
def test_a_refusal_names_the_permission_and_no_other_is_needed(
    tmp_path: Path, held: str, *, may_read: bool
) -> None:
    file = tmp_path / "iam.yaml"
    text = f"roles:\n  hers: [{held}]\nbindings:\n- role: hers\n  members: ['user:{ADA}']\n"
    file.write_text(text, encoding="utf-8")
    for google in a_google(replace(SIMULATED, iam=str(file))):
        hers = replace(google, channel=calling_as(google.channel, ADA))
        if may_read:
            assert read(hers) == RequestLog()
        else:
            with pytest.raises(DeniedError, match=r"it needs the permission logging\.logEntries\.list"):
                read(hers)
