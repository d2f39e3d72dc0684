"""Which metrics and monitored resources there are, and what their descriptors say."""

from datetime import timedelta

import pytest
from google.api import label_pb2, metric_pb2
from google.api_core import exceptions

from contracts.conftest import SECONDS, Google

from .measured import (
    COUNT,
    END_TO_END,
    INSTANCES,
    LATENCIES,
    PENDING,
    STARTUPS,
    Measured,
    measured_by,
)

Kind = metric_pb2.MetricDescriptor.MetricKind
ValueType = metric_pb2.MetricDescriptor.ValueType
ANSWER = ["response_code", "response_code_class", "route"]


@pytest.fixture
def measured(google: Google) -> Measured:
    return measured_by(google)


@pytest.mark.parametrize(
    ("metric", "kind", "value_type", "unit", "labels"),
    [
        (COUNT, Kind.DELTA, ValueType.INT64, "1", ANSWER),
        (LATENCIES, Kind.DELTA, ValueType.DISTRIBUTION, "ms", ANSWER),
        (END_TO_END, Kind.DELTA, ValueType.DISTRIBUTION, "ms", ANSWER),
        (PENDING, Kind.GAUGE, ValueType.INT64, "1", []),
        (INSTANCES, Kind.GAUGE, ValueType.INT64, "1", ["state"]),
        (STARTUPS, Kind.DELTA, ValueType.DISTRIBUTION, "ms", []),
    ],
)
def test_each_metric_has_google_s_kind_type_unit_and_labels(
    google: Google, metric: str, kind: int, value_type: int, unit: str, labels: list[str]
) -> None:
    found = google.metrics.get_metric_descriptor(
        name=f"projects/demo/metricDescriptors/{metric}", timeout=SECONDS
    )
    assert (found.metric_kind, found.value_type, found.unit) == (kind, value_type, unit)
    assert [label.key for label in found.labels] == labels
    assert list(found.monitored_resource_types) == ["cloud_run_revision"]


def test_the_response_code_is_a_number_and_its_class_is_text(google: Google) -> None:
    found = google.metrics.get_metric_descriptor(
        name=f"projects/demo/metricDescriptors/{COUNT}", timeout=SECONDS
    )
    types = {label.key: label.value_type for label in found.labels}
    assert types["response_code"] == label_pb2.LabelDescriptor.INT64
    assert types["response_code_class"] == label_pb2.LabelDescriptor.STRING


def test_every_descriptor_says_sampled_every_60_seconds_and_visible_after_120(google: Google) -> None:
    for found in google.metrics.list_metric_descriptors(name="projects/demo", timeout=SECONDS):
        assert found.metadata.sample_period.seconds == 60
        assert found.metadata.ingest_delay.seconds == 120


def test_descriptors_are_listed_by_pages(google: Google) -> None:
    request = {"name": "projects/demo", "page_size": 4}
    pages = [
        [one.type for one in page.metric_descriptors]
        for page in google.metrics.list_metric_descriptors(request=request, timeout=SECONDS).pages
    ]
    assert [len(page) for page in pages] == [4, 2]
    assert {COUNT, LATENCIES, END_TO_END, PENDING, INSTANCES, STARTUPS} == {*pages[0], *pages[1]}


@pytest.mark.parametrize("size", [0, -1, 10_001])
def test_a_page_size_of_descriptors_out_of_range_gives_the_largest_page(google: Google, size: int) -> None:
    request = {"name": "projects/demo", "page_size": size}
    pages = google.metrics.list_metric_descriptors(request=request, timeout=SECONDS).pages
    assert [len(page.metric_descriptors) for page in pages] == [6]


def test_starts_with_chooses_metric_types_of_descriptors(google: Google) -> None:
    request = {
        "name": "projects/demo",
        "filter": 'metric.type = starts_with("run.googleapis.com/container/")',
    }
    found = google.metrics.list_metric_descriptors(request=request, timeout=SECONDS)
    assert {one.type for one in found} == {INSTANCES, STARTUPS}


def test_active_descriptors_are_those_with_points_in_the_last_25_hours(measured: Measured) -> None:
    measured.counts([1])

    def active() -> set[str]:
        request = {"name": "projects/demo", "active_only": True}
        found = measured.google.metrics.list_metric_descriptors(request=request, timeout=SECONDS)
        return {one.type for one in found}

    assert active() == {COUNT, LATENCIES, END_TO_END}
    measured.google.local.advance(timedelta(hours=25))
    assert active() == set()


@pytest.mark.parametrize(
    "metric", ["run.googleapis.com/container/restart_count", "custom.googleapis.com/nowhere", ""]
)
def test_there_is_no_descriptor_of_other_metrics(google: Google, metric: str) -> None:
    """There is no container/restart_count: do not invent names."""
    with pytest.raises(exceptions.NotFound, match="Could not find descriptor for metric"):
        google.metrics.get_metric_descriptor(
            name=f"projects/demo/metricDescriptors/{metric}", timeout=SECONDS
        )


def test_the_monitored_resource_is_a_revision(google: Google) -> None:
    name = "projects/demo/monitoredResourceDescriptors/cloud_run_revision"
    found = google.metrics.get_monitored_resource_descriptor(name=name, timeout=SECONDS)
    assert found.type == "cloud_run_revision"
    assert {label.key for label in found.labels} == {
        "project_id",
        "location",
        "service_name",
        "revision_name",
        "configuration_name",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["cloud_run_revision"]),
        ('resource.type = starts_with("cloud_run_")', ["cloud_run_revision"]),
        ("resource.label:revision_name", ["cloud_run_revision"]),
        ("resource.label:instance_id", []),
        ('resource.type = "gce_instance"', []),
    ],
)
def test_monitored_resources_are_listed(google: Google, text: str, found: list[str]) -> None:
    request = {"name": "projects/demo", "filter": text}
    listed = google.metrics.list_monitored_resource_descriptors(request=request, timeout=SECONDS)
    assert [one.type for one in listed] == found


def test_there_is_no_other_monitored_resource(google: Google) -> None:
    name = "projects/demo/monitoredResourceDescriptors/gce_instance"
    with pytest.raises(exceptions.NotFound, match="gce_instance"):
        google.metrics.get_monitored_resource_descriptor(name=name, timeout=SECONDS)
