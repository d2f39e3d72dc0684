"""Alignment: what the points in a period come to."""

from itertools import pairwise
from typing import Any

import pytest
from google.api import metric_pb2
from google.api_core import exceptions

from contracts.conftest import Google
from controller.emulator.monitoring.histogram import BOUNDS

from .measured import (
    COUNT,
    LATENCIES,
    PENDING,
    Measured,
    begins,
    doubles,
    ends,
    integers,
    measured_by,
)

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
REVISION, CLASS = "resource.label.revision_name", "metric.label.response_code_class"


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


@pytest.mark.parametrize(
    ("aligner", "values", "value_type"),
    [
        ("ALIGN_DELTA", [10, 4], ValueType.INT64),
        ("ALIGN_RATE", [10 / 120, 4 / 120], ValueType.DOUBLE),
        ("ALIGN_SUM", [10, 4], ValueType.INT64),
        ("ALIGN_MIN", [3, 1], ValueType.INT64),
        ("ALIGN_MAX", [7, 3], ValueType.INT64),
        ("ALIGN_MEAN", [5.0, 2.0], ValueType.DOUBLE),
        ("ALIGN_COUNT", [2, 2], ValueType.INT64),
        ("ALIGN_STDDEV", [2.0, 1.0], ValueType.DOUBLE),
    ],
)
def test_aligners_of_counts(measured: Measured, aligner: str, values: list[Any], value_type: int) -> None:
    measured.counts([1, 3, 3, 7])
    (series,) = measured.aligned(aligner, period=2, end=4)
    assert series.value_type == value_type
    found = integers(series) if value_type == ValueType.INT64 else doubles(series)
    assert found == pytest.approx(values)


@pytest.mark.parametrize(
    ("aligner", "values"),
    [
        ("ALIGN_NEXT_OLDER", [7, 3]),
        ("ALIGN_MEAN", [5.0, 2.0]),
        ("ALIGN_SUM", [10, 4]),
        ("ALIGN_MIN", [3, 1]),
        ("ALIGN_MAX", [7, 3]),
        ("ALIGN_COUNT", [2, 2]),
        ("ALIGN_INTERPOLATE", [7, 3]),
    ],
)
def test_aligners_of_gauges(measured: Measured, aligner: str, values: list[float]) -> None:
    for minute, pending in enumerate([1, 3, 3, 7], 1):
        measured.sample(minute, pending=pending)
    (series,) = measured.aligned(aligner, PENDING, period=2, end=4)
    found = doubles(series) if aligner == "ALIGN_MEAN" else integers(series)
    assert found == values
    assert series.metric_kind == Kind.GAUGE
    assert begins(series) == ends(series) == [4, 2]
    assert series.unit == "1"


def test_interpolation_lies_on_the_line_between_two_points(measured: Measured) -> None:
    measured.sample(1, pending=0)
    measured.sample(2, pending=8)
    (series,) = measured.aligned("ALIGN_INTERPOLATE", PENDING, start=0.75, end=1.75)
    assert integers(series) == [6]


@pytest.mark.parametrize(
    ("aligner", "percent"),
    [
        ("ALIGN_PERCENTILE_99", 99),
        ("ALIGN_PERCENTILE_95", 95),
        ("ALIGN_PERCENTILE_50", 50),
        ("ALIGN_PERCENTILE_05", 5),
    ],
)
def test_percentiles_of_a_distribution_are_right_to_a_bucket(
    measured: Measured, aligner: str, percent: int
) -> None:
    """Percentile error ≤ one bucket = 10 % relative."""
    measured.record(1, *[float(latency) for latency in range(101, 1101)])
    (series,) = measured.aligned(aligner, LATENCIES, end=1)
    assert doubles(series)[0] == pytest.approx(100 + 10 * percent, rel=0.1)
    assert series.metric_kind == Kind.GAUGE
    assert series.value_type == ValueType.DOUBLE


def test_a_percentile_of_one_value_is_interpolated_inside_its_bucket(measured: Measured) -> None:
    """1.99 = 1 + 0.99·1 for n=1 fits linear interpolation inside the bucket at rank p·n."""
    measured.record(1, 100)
    (series,) = measured.aligned("ALIGN_PERCENTILE_99", LATENCIES, end=1)
    lower, upper = next((low, high) for low, high in pairwise(BOUNDS) if low <= 100 < high)
    assert doubles(series) == [pytest.approx(lower + 0.99 * (upper - lower))]


def test_points_that_became_gauges_are_instants_without_a_unit(measured: Measured) -> None:
    """GAUGE results come back with start_time == end_time and unit may be "" after alignment."""
    measured.counts([60])
    (series,) = measured.aligned("ALIGN_RATE", end=1)
    assert series.metric_kind == Kind.GAUGE
    assert begins(series) == ends(series) == [1]
    assert series.unit == ""


@pytest.mark.parametrize(
    ("metric", "aligner"),
    [
        (LATENCIES, "ALIGN_RATE"),
        (LATENCIES, "ALIGN_COUNT"),
        (LATENCIES, "ALIGN_MAX"),
        (LATENCIES, "ALIGN_MEAN"),
        (LATENCIES, "ALIGN_INTERPOLATE"),
        (COUNT, "ALIGN_PERCENTILE_99"),
        (COUNT, "ALIGN_NEXT_OLDER"),
        (COUNT, "ALIGN_COUNT_TRUE"),
        (COUNT, "ALIGN_FRACTION_TRUE"),
        (PENDING, "ALIGN_RATE"),
        (PENDING, "ALIGN_DELTA"),
    ],
)
def test_an_aligner_that_does_not_fit_the_metric_is_refused_in_google_s_words(
    measured: Measured, metric: str, aligner: str
) -> None:
    kind, value_type = {
        LATENCIES: ("DELTA", "DISTRIBUTION"),
        COUNT: ("DELTA", "INT64"),
        PENDING: ("GAUGE", "INT64"),
    }[metric]
    with pytest.raises(exceptions.InvalidArgument) as caught:
        measured.aligned(aligner, metric)
    assert caught.value.message == (
        f'Field aggregation.perSeriesAligner had an invalid value of "{aligner}": The aligner cannot be '
        f"applied to metrics with kind {kind} and value type {value_type}."
    )


def test_a_change_in_percent_is_not_offered(measured: Measured) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="ALIGN_PERCENT_CHANGE"):
        measured.aligned("ALIGN_PERCENT_CHANGE")


@pytest.mark.parametrize("period", [0, 0.5, 59.9 / 60, 104 * 7 * 24 * 60 + 1])
def test_the_period_is_a_minute_at_least_and_104_weeks_at_most(measured: Measured, period: float) -> None:
    """alignment_period ≥ 60 s; required when aligner ≠ ALIGN_NONE."""
    with pytest.raises(exceptions.InvalidArgument, match="at least 60 seconds"):
        measured.aligned("ALIGN_DELTA", period=period)


def test_a_reducer_requires_an_aligner(measured: Measured) -> None:
    """Reducer requires an aligner."""
    with pytest.raises(exceptions.InvalidArgument, match="per_series_aligner"):
        measured.aligned("ALIGN_NONE", reducer="REDUCE_SUM")
