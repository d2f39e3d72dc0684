"""Evidence from the request log: blocks, late entries, cold starts, refusals, and a log that is not whole."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import NOW
from hypothesis import given
from hypothesis import strategies as st

from controller.core.counts import counted_in_buckets
from controller.core.evidence import BLOCK, Sample, Source, Tick, Window
from controller.core.log_evidence import (
    OVERLAP,
    Completeness,
    NewRequest,
    Reader,
    arrange_log,
    block_of,
    last_block,
    take_in,
)
from controller.core.request_log import InstanceStart, LoggedRequest, RequestLog

SECOND = timedelta(seconds=1)
OLD, NEW = "web-00001-abc", "web-00002-def"


def a_request(number: int, seconds: float, revision: str = NEW, **fields: Any) -> LoggedRequest:
    """A request whose entry came so many seconds after NOW, a tenth of a second after it began."""
    received = NOW + seconds * SECOND
    request = LoggedRequest(f"id-{number}", revision, received, received - SECOND / 10, 200, 100.0, "one")
    return replace(request, **fields)


def taken(reader: Reader, until: float, *requests: LoggedRequest, **fields: Any) -> tuple[NewRequest, ...]:
    log = replace(RequestLog(requests), **fields)
    return take_in(reader, log, NOW + until * SECOND)[1]


# --- blocks ---


@given(st.floats(0, 1e6))
def test_a_moment_lies_in_its_block(seconds: float) -> None:
    moment = NOW + seconds * SECOND
    end = block_of(moment)
    assert end - BLOCK <= moment < end


def test_the_newest_block_is_one_whose_entries_are_all_there() -> None:
    assert last_block(NOW + 29 * SECOND, 10 * SECOND) == NOW + 15 * SECOND
    assert last_block(NOW + 30 * SECOND, 10 * SECOND) == NOW + 20 * SECOND


def test_each_request_counts_in_the_block_in_which_its_entry_came() -> None:
    new = taken(Reader(NOW), 10, a_request(1, 0), a_request(2, 4.9), a_request(3, 5))
    assert [each.block - NOW for each in new] == [5 * SECOND, 5 * SECOND, 10 * SECOND]


def test_what_is_read_again_counts_once_and_what_comes_late_counts_in_the_next_block() -> None:
    first, late = a_request(1, 2), a_request(2, 3)
    reader, new = take_in(Reader(NOW), RequestLog((first,)), NOW + 10 * SECOND)
    assert [each.request for each in new] == [first]
    assert reader.since() == NOW + 10 * SECOND - OVERLAP
    reader, new = take_in(reader, RequestLog((first, late)), NOW + 20 * SECOND)
    assert [(each.request, each.block) for each in new] == [(late, NOW + 15 * SECOND)]
    assert take_in(reader, RequestLog((first, late)), NOW + 30 * SECOND)[1] == ()


def test_what_is_remembered_does_not_grow() -> None:
    reader = Reader(NOW)
    for number in range(100):
        start = NOW + number * 10 * SECOND
        starts = (InstanceStart(NEW, f"i-{number}", start),)
        log = RequestLog((a_request(number, number * 10 + 1, instance=f"i-{number}"),), starts)
        reader, _ = take_in(reader, log, start + 10 * SECOND)
    assert len(reader.seen) <= OVERLAP / (10 * SECOND) + 1


def test_a_window_has_the_whole_blocks_inside_it() -> None:
    windows = (Window(5, NOW + 7 * SECOND, NOW + 31 * SECOND), Window(50, NOW + 35 * SECOND))
    new = taken(Reader(NOW), 50, *(a_request(number, number) for number in range(50)))
    evidence = arrange_log(windows, OLD, NEW, new, NOW, NOW + 50 * SECOND)
    assert evidence.source is Source.LOGS
    ends = [[(tick.end - NOW) / SECOND for tick in stage.ticks] for stage in evidence.stages]
    assert ends == [[15, 20, 25, 30], [40, 45, 50]]
    assert {tick.candidate.requests for stage in evidence.stages for tick in stage.ticks} == {5}


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_readings_of_any_length_give_the_same_ticks(lengths: list[int]) -> None:
    requests = tuple(a_request(number, number / 2) for number in range(720))
    windows = (Window(5, NOW + 7 * SECOND),)
    end = NOW + sum(lengths) * BLOCK
    whole = arrange_log(windows, OLD, NEW, take_in(Reader(NOW), RequestLog(requests), end)[1], NOW, end)
    reader, ticks = Reader(NOW), list[Tick]()
    for length in lengths:
        until = reader.until + length * BLOCK
        read = tuple(r for r in requests if reader.since() <= r.received_at < until)
        after, new = take_in(reader, RequestLog(read), until)
        ticks += arrange_log(windows, OLD, NEW, new, reader.until, until).stages[0].ticks
        reader = after
    assert tuple(ticks) == whole.stages[0].ticks


# --- what a request counts as ---


def sample_of(*requests: LoggedRequest, **fields: Any) -> Sample:
    new = taken(Reader(NOW), 10, *requests, **fields)
    (stage,) = arrange_log((Window(5, NOW),), OLD, NEW, new, NOW, NOW + 10 * SECOND).stages
    return sum((tick.candidate for tick in stage.ticks[1:]), stage.ticks[0].candidate)


def test_our_own_requests_are_left_out() -> None:
    assert sample_of(a_request(1, 1), a_request(2, 2, is_probe=True)).requests == 1


def test_a_request_that_waited_for_its_instance_counts_but_its_latency_does_not() -> None:
    start = InstanceStart(NEW, "one", NOW)
    cold = [
        a_request(number, 4, started_at=NOW + number * SECOND / 2, latency=3000.0) for number in range(1, 4)
    ]
    warm = a_request(9, 6, started_at=NOW + 5 * SECOND)
    sample = sample_of(*cold, warm, starts=(start,))
    assert sample.requests == 4
    assert sample.latencies
    assert sample.latencies.total == 1


def test_an_instance_that_was_not_seen_to_start_is_warm() -> None:
    latencies = sample_of(a_request(1, 1)).latencies
    assert latencies
    assert latencies.total == 1


def test_what_the_platform_refuses_for_want_of_an_instance_is_no_error_of_the_application() -> None:
    refused = "The request was aborted because there was no available instance."
    broken = "The request failed because either the HTTP response was malformed or ..."
    sample = sample_of(
        a_request(1, 1, status=429, refusal=refused, instance=""),
        a_request(2, 2, status=503, refusal=broken),
        a_request(3, 3),
    )
    assert (sample.refused, sample.codes) == (1, {"503": 1, "200": 1})


@pytest.mark.parametrize(("latency", "low", "high"), [(0.2, 0, 1.0), (100.0, 90, 110), (1e9, 1e6, 1e9)])
def test_latencies_are_kept_to_a_tenth(latency: float, low: float, high: float) -> None:
    found = counted_in_buckets([latency] * 3)
    assert found is not None
    assert found.total == 3
    assert low <= found.percentile(0.5) <= high


# --- a log that is not whole ---


@pytest.mark.parametrize(
    ("metrics", "logged", "words"),
    [
        (19, 0, ""),
        (100, 100, ""),
        (100, 140, ""),
        (100, 81, ""),
        (100, 79, "sampled or partly excluded"),
        (1200, 0, "excluded from the log (Cloud Monitoring counts 1,200 requests where the log has 0)"),
    ],
)
def test_a_log_that_lacks_much_of_what_the_metrics_count_says_so(
    metrics: int, logged: float, words: str
) -> None:
    problem = Completeness(metrics, logged).problem()
    assert words in problem
    assert bool(problem) == bool(words)
