"""Reduction: what several series come to, by group, and a second aggregation after that."""

import pytest
from google.api import metric_pb2
from google.api_core import exceptions

from contracts.conftest import Google

from .measured import (
    COUNT,
    INSTANCES,
    LATENCIES,
    MINUTE,
    ONE,
    TWO,
    Measured,
    after,
    doubles,
    ends,
    integers,
    measured_by,
    sizes,
)

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
REVISION, CLASS = "resource.label.revision_name", "metric.label.response_code_class"


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


@pytest.mark.parametrize(
    ("reducer", "value", "value_type"),
    [
        ("REDUCE_SUM", 10, ValueType.INT64),
        ("REDUCE_MIN", 1, ValueType.INT64),
        ("REDUCE_MAX", 6, ValueType.INT64),
        ("REDUCE_COUNT", 3, ValueType.INT64),
        ("REDUCE_MEAN", 10 / 3, ValueType.DOUBLE),
        ("REDUCE_STDDEV", (38 / 9) ** 0.5, ValueType.DOUBLE),
        ("REDUCE_PERCENTILE_50", 3.0, ValueType.DOUBLE),
        ("REDUCE_PERCENTILE_05", 1.2, ValueType.DOUBLE),
        ("REDUCE_PERCENTILE_95", 5.7, ValueType.DOUBLE),
        ("REDUCE_PERCENTILE_99", 5.94, ValueType.DOUBLE),
    ],
)
def test_reducers_of_counts(measured: Measured, reducer: str, value: float, value_type: int) -> None:
    for code, count in ((200, 6), (404, 3), (500, 1)):
        measured.counts([count], code=code)
    (series,) = measured.aligned("ALIGN_DELTA", reducer=reducer, end=1)
    found = integers(series) if value_type == ValueType.INT64 else doubles(series)
    assert found == pytest.approx([value])
    assert series.value_type == value_type


@pytest.mark.parametrize("reducer", ["REDUCE_MIN", "REDUCE_MAX", "REDUCE_COUNT_TRUE", "REDUCE_FRACTION_TRUE"])
def test_a_reducer_that_does_not_fit_the_metric_is_refused(measured: Measured, reducer: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=f'"{reducer}": The reducer cannot be applied'):
        measured.aligned("ALIGN_DELTA", LATENCIES, reducer=reducer)


def test_distributions_are_merged(measured: Measured) -> None:
    """DELTA DISTRIBUTION: ALIGN_DELTA (or ALIGN_SUM) + REDUCE_SUM → merged DISTRIBUTION."""
    measured.record(1, 20, 20, code=200)
    measured.record(1, 500, code=500)
    for aligner in ("ALIGN_DELTA", "ALIGN_SUM"):
        (series,) = measured.aligned(aligner, LATENCIES, reducer="REDUCE_SUM", end=1)
        merged = series.points[0].value.distribution_value
        assert merged.count == sum(merged.bucket_counts) == 3
        assert merged.mean == pytest.approx(180)
        assert merged.sum_of_squared_deviation == pytest.approx(2 * 160**2 + 320**2)


def test_merging_leaves_what_was_recorded_alone(measured: Measured) -> None:
    measured.record(1, 20, 20, code=200)
    measured.record(1, 500, code=500)
    measured.aligned("ALIGN_DELTA", LATENCIES, reducer="REDUCE_SUM", end=1)
    assert sorted(sizes(one) for one in measured.ask(LATENCIES)) == [[1], [2]]


@pytest.mark.parametrize(("reducer", "value"), [("REDUCE_MEAN", 180.0), ("REDUCE_STDDEV", 226.2741699796952)])
def test_means_and_deviations_of_distributions(measured: Measured, reducer: str, value: float) -> None:
    measured.record(1, 20, 20, code=200)
    measured.record(1, 500, code=500)
    (series,) = measured.aligned("ALIGN_DELTA", LATENCIES, reducer=reducer, end=1)
    assert doubles(series) == [pytest.approx(value)]


def test_a_reducing_percentile_is_that_of_the_merged_distribution_and_an_aligned_one_is_not(
    measured: Measured,
) -> None:
    """ALIGN_PERCENTILE_99 + REDUCE_PERCENTILE_99 = percentile of percentiles.

    190 requests a minute at p99 302 ms and 10 at 990 ms: far from the p99 of the whole.
    """
    measured.record(1, *[302.0] * 190, code=200)
    measured.record(1, *[302.0] * 9, 990.0, code=500)
    (merged,) = measured.aligned("ALIGN_DELTA", LATENCIES, reducer="REDUCE_PERCENTILE_99", end=1)
    (twice,) = measured.aligned("ALIGN_PERCENTILE_99", LATENCIES, reducer="REDUCE_PERCENTILE_99", end=1)
    assert doubles(merged)[0] == pytest.approx(302, rel=0.1)
    assert doubles(twice)[0] == pytest.approx(990, rel=0.1)
    assert merged.value_type == ValueType.DOUBLE


def test_fields_that_are_not_grouped_by_are_dropped_from_the_labels(measured: Measured) -> None:
    """Fields not in group_by_fields are dropped from the returned labels; resource.type is implicit."""
    measured.counts([1], code=200)
    measured.counts([2], code=204)
    measured.counts([4], code=500)
    measured.counts([8], code=200, key=TWO)
    found = measured.aligned("ALIGN_DELTA", reducer="REDUCE_SUM", by=[REVISION, CLASS])
    labels = [(dict(one.resource.labels), dict(one.metric.labels), integers(one)) for one in found]
    assert sorted(labels, key=str) == [
        ({"revision_name": "web-one"}, {"response_code_class": "2xx"}, [3]),
        ({"revision_name": "web-one"}, {"response_code_class": "5xx"}, [4]),
        ({"revision_name": "web-two"}, {"response_code_class": "2xx"}, [8]),
    ]
    assert {one.resource.type for one in found} == {"cloud_run_revision"}
    assert {one.metric.type for one in found} == {COUNT}
    assert {one.metric_kind for one in found} == {Kind.DELTA}


def test_service_names_repeat_across_regions(measured: Measured) -> None:
    """Service names repeat across regions → location must be in the group."""
    measured.counts([1], key=ONE)
    measured.counts([2], key=ONE._replace(location="local-2"))
    (together,) = measured.aligned("ALIGN_DELTA", reducer="REDUCE_SUM", by=["resource.label.service_name"])
    apart = measured.aligned(
        "ALIGN_DELTA", reducer="REDUCE_SUM", by=["resource.label.service_name", "resource.label.location"]
    )
    assert integers(together) == [3]
    assert sorted(integers(one) for one in apart) == [[1], [2]]


@pytest.mark.parametrize("field", ["resource.labels.revision_name", 'resource.label."revision_name"'])
def test_a_field_to_group_by_may_be_written_in_each_way(measured: Measured, field: str) -> None:
    measured.counts([1])
    (series,) = measured.aligned("ALIGN_DELTA", reducer="REDUCE_SUM", by=[field])
    assert dict(series.resource.labels) == {"revision_name": "web-one"}


def test_an_unknown_field_to_group_by_is_refused_with_its_place(measured: Measured) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"aggregation.groupByFields\[1\] .*\"revision\""):
        measured.aligned("ALIGN_DELTA", reducer="REDUCE_SUM", by=[REVISION, "revision"])


def test_without_a_reducer_fields_to_group_by_are_ignored(measured: Measured) -> None:
    measured.counts([1])
    (series,) = measured.aligned("ALIGN_DELTA", by=[REVISION])
    assert len(series.resource.labels) == 5


def test_only_series_with_points_in_a_period_are_reduced_in_it(measured: Measured) -> None:
    measured.counts([1, 1, 1], key=ONE)
    measured.record(3, 80, key=TWO)
    (series,) = measured.aligned("ALIGN_DELTA", LATENCIES, reducer="REDUCE_COUNT", end=3)
    assert integers(series) == [2, 1, 1]


def test_instances_can_be_summed_over_their_states(measured: Measured) -> None:
    measured.sample(1, active=2, idle=1)
    measured.sample(2, active=5, idle=0)
    (series,) = measured.aligned("ALIGN_MAX", INSTANCES, reducer="REDUCE_SUM", by=[REVISION], period=2, end=2)
    assert integers(series) == [6]


# --- a second aggregation ---


def test_a_second_aggregation_takes_the_outcome_of_the_first(measured: Measured) -> None:
    """Apply a second aggregation after aggregation is applied: here the largest rate of a service."""
    measured.counts([60, 120, 240, 60], key=ONE)
    measured.counts([60, 60, 60, 60], key=TWO)
    (series,) = measured.ask(
        end=4,
        aggregation={
            "alignment_period": MINUTE,
            "per_series_aligner": "ALIGN_RATE",
            "cross_series_reducer": "REDUCE_SUM",
            "group_by_fields": ["resource.label.service_name"],
        },
        secondary_aggregation={"alignment_period": 4 * MINUTE, "per_series_aligner": "ALIGN_MAX"},
    )
    assert doubles(series) == [pytest.approx(5.0)]
    assert dict(series.resource.labels) == {"service_name": "web"}


def test_a_second_aggregation_needs_a_first_one(measured: Measured) -> None:
    """May only be specified if aggregation is specified."""
    with pytest.raises(exceptions.InvalidArgument, match="may only be specified if aggregation is"):
        measured.ask(
            secondary_aggregation={"alignment_period": 4 * MINUTE, "per_series_aligner": "ALIGN_MAX"}
        )


def test_points_may_be_asked_for_up_to_a_time_that_has_not_come(measured: Measured) -> None:
    measured.counts([5])
    (series,) = measured.aligned("ALIGN_DELTA", end=24 * 60)
    assert ends(series) == [1]
    assert after(24 * 60) > measured.google.local.now()
