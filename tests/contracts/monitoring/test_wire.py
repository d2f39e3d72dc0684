"""The bytes that are written by hand are read as what the protobuf library itself would have written."""

from typing import Any

import pytest
from google.api import metric_pb2
from google.cloud import monitoring_v3
from hypothesis import given
from hypothesis import strategies as st

from controller.emulator.monitoring import wire
from controller.emulator.monitoring.answer import Page, write_page
from controller.emulator.monitoring.catalog import Row
from controller.emulator.monitoring.grid import SECOND, Grid
from controller.emulator.monitoring.histogram import FINITE_BUCKETS, GROWTH, SCALE, Histogram
from controller.emulator.monitoring.table import Shape, Table

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
Response: Any = monitoring_v3.ListTimeSeriesResponse.pb()
METRIC = "run.googleapis.com/request_count"
COLUMNS = 6


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    result = Histogram()
    latencies = st.tuples(st.floats(0, 1e7), st.integers(1, 2**40))
    for latency, times in draw(st.lists(latencies, max_size=20)):
        result.add(latency, times)
    return result


VALUES: dict[int, st.SearchStrategy[Any]] = {
    ValueType.INT64: st.integers(0, 2**63 - 1),
    ValueType.DOUBLE: st.floats(allow_nan=False),
    ValueType.DISTRIBUTION: histograms(),
}
TEXT = st.text(max_size=200)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    value_type = draw(st.sampled_from(sorted(VALUES)))
    row = st.lists(st.none() | VALUES[value_type], min_size=COLUMNS, max_size=COLUMNS)
    row = row.filter(lambda values: values != [None] * COLUMNS)  # a series has points
    paths = st.sampled_from(["metric.labels.state", "resource.labels.location", "metric.type", "project"])
    grid = Grid(
        draw(st.integers(10**9 * SECOND, 2 * 10**9 * SECOND)),
        draw(st.integers(60 * SECOND, 10_000 * SECOND)),
        COLUMNS,
    )
    rows = draw(st.lists(st.tuples(st.dictionaries(paths, TEXT), row), max_size=4))
    return Table(Shape(draw(st.sampled_from([Kind.DELTA, Kind.GAUGE])), value_type, draw(TEXT)), grid, rows)


def plainly(table: Table, token: str, errors: list[str]) -> Any:
    """Return the same answer, built of protobuf objects."""
    answer = Response(next_page_token=token, unit=table.shape.unit)
    for labels, row in table.rows:
        series = answer.time_series.add(
            metric_kind=table.shape.kind, value_type=table.shape.value_type, unit=table.shape.unit
        )
        series.metric.type, series.resource.type = METRIC, "cloud_run_revision"
        for path, value in labels.items():
            owner, _, label = path.partition(".labels.")
            if label:
                getattr(series, owner).labels[label] = value
        add_points(series, row, table)
    for message in errors:
        answer.execution_errors.add(code=14, message=message)
    return answer


def add_points(series: Any, row: Row, table: Table) -> None:
    for end, value in zip(table.grid.ends(), row, strict=True):
        if value is None:
            continue
        point = series.points.add()
        point.interval.end_time.FromMicroseconds(end)
        start = end - table.grid.period if table.shape.kind == Kind.DELTA else end
        point.interval.start_time.FromMicroseconds(start)
        if isinstance(value, Histogram):
            describe(point.value.distribution_value, value)
        elif table.shape.value_type == ValueType.INT64:
            point.value.int64_value = value
        else:
            point.value.double_value = value


def describe(target: Any, histogram: Histogram) -> None:
    options = target.bucket_options.exponential_buckets
    options.num_finite_buckets, options.growth_factor, options.scale = FINITE_BUCKETS, GROWTH, SCALE
    target.count = histogram.count
    if histogram.count:
        target.mean = histogram.mean
        target.sum_of_squared_deviation = histogram.squared_deviation
        most = max(histogram.buckets)
        target.bucket_counts.extend(histogram.buckets.get(bucket, 0) for bucket in range(most + 1))


@given(tables(), st.lists(TEXT, max_size=2))
def test_a_page_parses_into_what_the_library_would_have_written(table: Table, errors: list[str]) -> None:
    page = Page(0, 0, 100_000)
    written = write_page(METRIC, table, page, headers_only=False, errors=errors)
    assert Response.FromString(written) == plainly(table, "", errors)


@given(tables(), st.integers(1, 30))
def test_pages_hold_every_point_once_and_in_order(table: Table, size: int) -> None:
    page, shown = Page(0, 5, size), []
    while True:
        answer = Response.FromString(write_page(METRIC, table, page, headers_only=False, errors=[]))
        points = [(dict(one.resource.labels), point) for one in answer.time_series for point in one.points]
        assert len(points) <= size
        shown += points
        if not answer.next_page_token:
            break
        assert len(points) == size
        page = Page.parse(answer.next_page_token, size, 99)
        assert page.read_at == 5
    everything = plainly(table, "", [])
    wanted = [(dict(one.resource.labels), point) for one in everything.time_series for point in one.points]
    assert shown == wanted


@given(st.integers(0, 2**63 - 1))
def test_a_number_is_written_as_the_library_writes_it(number: int) -> None:
    from_library = metric_pb2.MetricDescriptor(unit="")
    from_library.metadata.sample_period.seconds = number
    content = from_library.metadata.sample_period.SerializeToString()
    assert content == (b"\x08" + wire.varint(number) if number else b"")


def test_a_distribution_that_has_grown_is_written_anew() -> None:
    """What was encoded is remembered, and must not outlive the next request."""
    histogram = Histogram()
    shape = Shape(Kind.DELTA, ValueType.DISTRIBUTION, "ms")
    table = Table(shape, Grid(60 * SECOND, 60 * SECOND, 1), [({}, [histogram])])
    for latency in (80.0, 80.0, 5000.0):
        histogram.add(latency)
        written = write_page(METRIC, table, Page(0, 0, 9), headers_only=False, errors=[])
        assert Response.FromString(written) == plainly(table, "", [])
    other = Histogram()
    other.add(1.0)
    histogram.merge(other)
    written = write_page(METRIC, table, Page(0, 0, 9), headers_only=False, errors=[])
    assert Response.FromString(written) == plainly(table, "", [])


@pytest.mark.parametrize("count", [0, 127, 128, 16_383, 16_384, 2**63 - 1])
def test_counts_of_every_length_fit_into_a_distribution(count: int) -> None:
    histogram = Histogram()
    histogram.add(1e9, count)
    table = Table(
        Shape(Kind.DELTA, ValueType.DISTRIBUTION, "ms"),
        Grid(60 * SECOND, 60 * SECOND, 1),
        [({}, [histogram])],
    )
    written = write_page(METRIC, table, Page(0, 0, 9), headers_only=False, errors=[])
    found = Response.FromString(written).time_series[0].points[0].value.distribution_value
    assert found.count == count == sum(found.bucket_counts)
