"""Whatever is asked of Monitoring, it answers or refuses, soon, and never fails."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud import monitoring_v3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.conftest import SIMULATED, Google, a_google
from controller.emulator.names import project_number

from .measured import COUNT, INSTANCES, LATENCIES

Code = grpc.StatusCode
ANSWERED_OR_REFUSED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.PERMISSION_DENIED,
    Code.UNIMPLEMENTED,
}
SOON = 3.0
"""Seconds; none of these answers has more than a few hundred points."""
ListTimeSeries: Any = monitoring_v3.ListTimeSeriesRequest.pb()
ListMetricDescriptors: Any = monitoring_v3.ListMetricDescriptorsRequest.pb()
ListResources: Any = monitoring_v3.ListMonitoredResourceDescriptorsRequest.pb()

PIECES = [
    *('metric.type="run.googleapis.com/request_count"', "metric.labels.response_code", "resource.type", "="),
    *("!=", ">", ":", '"200"', "200", "2e999", "nan", "AND", "OR", "NOT", "-", "(", ")", "one_of(", ",", '"'),
    *("monitoring.regex.full_match(", '"(a|b"', 'starts_with("w")', "metric.labels", "..", "*", "\u4f60"),
]


def mostly(usual: list[Any], rest: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw what is right most of the time, so that the requests come far."""
    return st.integers(0, 9).flatmap(lambda number: rest if number == 9 else st.sampled_from(usual))


FILTERS = mostly(
    [f'metric.type="{metric}"' for metric in (COUNT, LATENCIES, INSTANCES)],
    st.lists(st.sampled_from(PIECES), max_size=8).map(" ".join) | st.text(max_size=60),
)
NAMES = mostly(
    ["projects/demo", f"projects/{project_number('demo')}"],
    st.sampled_from(["", "projects/", "projects/other"]) | st.text(max_size=30),
)
TOKENS = mostly(
    ["", "0@1767607200000000", "9" * 15 + "@" + "9" * 18],
    st.sampled_from(["9" * 5000, "\u0661"]) | st.text(max_size=20),
)
INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
NOW = 1_767_603_600 + 3600
STARTS = mostly([NOW - 3600, NOW - 3599, 0, -62_135_596_800], INT64)
ENDS = mostly([NOW - 600, NOW + 1, 2**33, 253_402_300_799], st.just(253_402_300_800) | INT64)
NANOS = mostly([0, 1, 999_999_999], INT32)
SIZES = mostly([0, 1, 7, 100_000], INT32)
ENUMS = mostly([*range(20)], st.just(99) | INT32)
PERIODS = mostly([60, 90, 3600, 62_899_200], st.sampled_from([0, 59, 62_899_201]) | INT64)
FIELDS = mostly(["resource.label.revision_name", "metric.label.response_code_class"], st.text(max_size=20))


@st.composite
def aggregations(draw: st.DrawFn) -> Any:
    result = monitoring_v3.Aggregation.pb()(
        per_series_aligner=draw(ENUMS),
        cross_series_reducer=draw(ENUMS),
        group_by_fields=draw(st.lists(FIELDS, max_size=2)),
    )
    result.alignment_period.seconds, result.alignment_period.nanos = draw(PERIODS), draw(NANOS)
    return result


@st.composite
def lists_of_series(draw: st.DrawFn) -> Any:
    request = ListTimeSeries(
        name=draw(NAMES),
        filter=draw(FILTERS),
        order_by=draw(mostly([""], st.just("x"))),
        view=draw(ENUMS),
        page_size=draw(SIZES),
        page_token=draw(TOKENS),
        aggregation=draw(st.none() | aggregations()),
        secondary_aggregation=draw(st.none() | aggregations()),
    )
    start, end = request.interval.start_time, request.interval.end_time
    start.seconds, start.nanos = draw(STARTS), draw(NANOS)
    end.seconds, end.nanos = draw(ENDS), draw(NANOS)
    return request


@st.composite
def lists_of_descriptors(draw: st.DrawFn) -> Any:
    fields = {
        "name": draw(NAMES),
        "filter": draw(FILTERS),
        "page_size": draw(SIZES),
        "page_token": draw(TOKENS),
    }
    if draw(st.booleans()):
        return ListResources(**fields)
    return ListMetricDescriptors(**fields, active_only=draw(st.booleans()))


def series(**fields: Any) -> Any:
    """Return a request for counts of the first hour; fields may be set to others."""
    request = ListTimeSeries(name="projects/demo", filter=f'metric.type="{COUNT}"', **fields)
    request.interval.start_time.seconds, request.interval.end_time.seconds = NOW - 3600, NOW
    return request


def between(start: int, end: int) -> Any:
    request = series(aggregation=aligned())
    request.interval.start_time.seconds, request.interval.end_time.seconds = start, end
    return request


def aligned(aligner: int = 2, reducer: int = 0, seconds: int = 60) -> Any:
    result = monitoring_v3.Aggregation.pb()(per_series_aligner=aligner, cross_series_reducer=reducer)
    result.alignment_period.seconds = seconds
    return result


@pytest.fixture(scope="module")
def google() -> Iterator[Google]:
    """A service that users came to for an hour."""
    for google in a_google(SIMULATED):
        google.create(revision="web-one")
        google.settle()
        google.local.users("web", rps=5)
        google.local.advance(timedelta(hours=1))
        yield google


def code_of(google: Google, method: str, request: Any) -> grpc.StatusCode:
    call = google.channel.unary_unary(
        f"/google.monitoring.v3.MetricService/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=bytes,
    )
    code: grpc.StatusCode = call.future(request, timeout=SOON).code()
    return code


@settings(max_examples=300)
@given(lists_of_series())
@example(between(NOW - 600, NOW + 10 * 365 * 86_400))
@example(between(0, 2**33))
@example(between(-62_135_596_800, 253_402_300_799))
@example(between(-(10**15), 10**15))
@example(series(aggregation=aligned(99)))
@example(series(aggregation=aligned(reducer=99)))
@example(series(aggregation=aligned(seconds=2**62)))
@example(series(page_token="9" * 5000))
@example(series(page_token="9" * 15 + "@" + "9" * 18))
def test_every_request_for_series_is_answered_or_refused(google: Google, request_: Any) -> None:
    assert code_of(google, "ListTimeSeries", request_) in ANSWERED_OR_REFUSED


@settings(max_examples=200)
@given(lists_of_descriptors())
@example(ListMetricDescriptors(name="projects/demo", page_token="9" * 5000))
@example(ListResources(name="projects/demo", page_token="9" * 5000))
def test_every_request_for_descriptors_is_answered_or_refused(google: Google, request_: Any) -> None:
    kind = "Metric" if isinstance(request_, ListMetricDescriptors) else "MonitoredResource"
    assert code_of(google, f"List{kind}Descriptors", request_) in ANSWERED_OR_REFUSED


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (series(aggregation=aligned(99)), Code.INVALID_ARGUMENT),
        (series(aggregation=aligned(reducer=99)), Code.INVALID_ARGUMENT),
        (series(aggregation=aligned(seconds=2**62)), Code.INVALID_ARGUMENT),
        (series(page_token="9" * 5000), Code.INVALID_ARGUMENT),
        (between(-(10**15), 10**15), Code.INVALID_ARGUMENT),
        (between(NOW - 600, 253_402_300_799), Code.OK),
    ],
)
def test_what_cannot_be_meant_is_an_invalid_argument(
    google: Google, request_: Any, code: grpc.StatusCode
) -> None:
    assert code_of(google, "ListTimeSeries", request_) == code
