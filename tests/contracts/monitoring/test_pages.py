"""Pages of ListTimeSeries, its views, and what it says when the answer may be incomplete."""

from datetime import timedelta

import pytest
from google.api_core import exceptions

from contracts.conftest import Google
from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.store import Metrics

from .measured import COUNT, LATENCIES, ONE, TWO, Measured, after, integers, measured_by, sizes


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


def test_a_page_counts_points_and_a_series_goes_on_in_the_next_page(measured: Measured) -> None:
    """page_size counts Points in FULL view → one series can straddle pages; merge by labels."""
    measured.counts([1, 2, 3, 4, 5], code=200)
    measured.counts([6, 7, 8, 9, 10], code=500)
    pages = [
        [(one.metric.labels["response_code"], integers(one)) for one in page.time_series]
        for page in measured.pages(page_size=3).pages
    ]
    assert pages == [
        [("200", [5, 4, 3])],
        [("200", [2, 1]), ("500", [10])],
        [("500", [9, 8, 7])],
        [("500", [6])],
    ]


@pytest.mark.parametrize("size", [5, 10])
def test_a_page_that_ends_with_a_series_is_followed_by_the_next_one_only_if_there_is_one(
    measured: Measured, size: int
) -> None:
    measured.counts([1] * 5, code=200)
    measured.counts([1] * 5, code=500)
    pages = [page.time_series for page in measured.pages(page_size=size).pages]
    assert [sum(len(one.points) for one in page) for page in pages] == [size] * (10 // size)


def test_without_a_page_size_a_page_has_100_000_points(measured: Measured) -> None:
    """page_size max/default 100 000."""

    def fill(metrics: Metrics) -> None:
        one = Histogram()
        one.add(80)
        for minute in range(1, 101):
            for code in range(200, 210):
                for number in range(101):
                    key = ONE._replace(revision=f"web-{number}")
                    metrics.record_many(key, code, one, after(minute))

    measured.google.local.measure(fill)
    for size in (0, 100_000, 100_001):
        pages = [
            sum(len(one.points) for one in page.time_series)
            for page in measured.pages(end=100, page_size=size).pages
        ]
        assert pages == [100_000, 1_000]


def test_headers_have_no_points_and_a_page_of_them_counts_series(measured: Measured) -> None:
    measured.counts([1, 2], code=200)
    measured.counts([3, 4], code=404)
    measured.counts([5, 6], code=500)
    pages = [page.time_series for page in measured.pages(view="HEADERS", page_size=2).pages]
    assert [[one.metric.labels["response_code"] for one in page] for page in pages] == [
        ["200", "404"],
        ["500"],
    ]
    assert not any(one.points for page in pages for one in page)
    assert dict(pages[0][0].resource.labels)["configuration_name"] == "web"


def test_pages_agree_though_time_passes_between_them(google: Google) -> None:
    measured = Measured(google)
    measured.counts([1, 2, 3, 4])
    google.local.advance(timedelta(minutes=5))
    pages = iter(measured.pages(page_size=2).pages)
    first = [integers(one) for one in next(pages).time_series]
    google.local.advance(timedelta(minutes=10))
    assert [first, *[[integers(one) for one in page.time_series] for page in pages]] == [[[3, 2]], [[1]]]


@pytest.mark.parametrize(
    "token", ["nonsense", "-5@1", "1@", "@", "1@2@3", "nan@nan", "9" * 400 + "@1", "\uff11@\uff12"]
)
def test_a_page_token_that_was_never_given_is_refused(measured: Measured, token: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="Invalid page token"):
        measured.ask(page_token=token)


def test_a_negative_page_size_is_refused(measured: Measured) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="pageSize"):
        measured.ask(page_size=-1)


def test_the_order_must_be_left_blank(measured: Measured) -> None:
    """order_by must be blank."""
    with pytest.raises(exceptions.InvalidArgument, match="orderBy is not supported and must be left blank"):
        measured.ask(order_by="timestamp desc")


def test_an_answer_without_series_has_no_next_page(measured: Measured) -> None:
    (page,) = measured.pages().pages
    assert not page.time_series
    assert not page.next_page_token
    assert not page.execution_errors


def test_the_answer_names_the_unit_of_its_points(measured: Measured) -> None:
    measured.counts([1])
    (page,) = measured.pages(LATENCIES).pages
    assert page.unit == "ms"


def test_points_can_be_hidden_by_metric_and_revision(measured: Measured) -> None:
    measured.counts([1], key=ONE)
    measured.counts([1], key=TWO)
    measured.google.local.fault("missing-metrics", metric="request_count", revision="web-two")
    counts, latencies = measured.ask(COUNT), measured.ask(LATENCIES)
    assert [one.resource.labels["revision_name"] for one in counts] == ["web-one"]
    assert [sizes(one) for one in latencies] == [[1], [1]]


def test_points_of_one_metric_can_be_later_than_usual(google: Google) -> None:
    measured = Measured(google)
    measured.counts([1])
    google.local.fault("late-metrics", metric="request_latencies", by=600)
    google.local.advance(timedelta(minutes=3))
    assert len(measured.ask(COUNT)) == 1
    assert measured.ask(LATENCIES) == []
    google.local.advance(timedelta(minutes=10))
    assert len(measured.ask(LATENCIES)) == 1


def test_an_answer_that_may_be_incomplete_says_so(measured: Measured) -> None:
    """execution_errors non-empty ⇒ data may be incomplete."""
    measured.counts([1])
    measured.google.local.fault("incomplete-metrics", message="One shard did not answer.")
    (page,) = measured.pages().pages
    assert [error.message for error in page.execution_errors] == ["One shard did not answer."]
    assert [integers(one) for one in page.time_series] == [[1]]
