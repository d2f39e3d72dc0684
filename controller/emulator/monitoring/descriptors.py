"""The descriptors of metrics and of the monitored resource, as MetricService lists them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import grpc
from google.api import label_pb2, metric_pb2, monitored_resource_pb2
from google.cloud import monitoring_v3

from controller.emulator.calls import Call, Method
from controller.emulator.errors import ApiError
from controller.emulator.monitoring.catalog import (
    METRIC_LABELS,
    METRICS,
    NUMBERS,
    RESOURCE,
    RESOURCE_LABELS,
    Metric,
)
from controller.emulator.monitoring.filter import parse_metric_filter
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.projects import check_project
from controller.emulator.monitoring.store import Metrics
from controller.emulator.paging import paged

T = TypeVar("T")

LARGEST_PAGE = 10_000
RECENT = timedelta(hours=25)
_LAUNCHED = "GA"
_Label = label_pb2.LabelDescriptor


class Descriptors:
    """Answers what metrics and resources there are."""

    def __init__(self, project: str, ingest_delay: timedelta, store: Metrics) -> None:
        self._project = project
        self._ingest_delay = ingest_delay
        self._store = store

    def methods(self) -> dict[str, Method]:
        """Return the methods by name."""
        v3 = monitoring_v3
        return {
            "ListMetricDescriptors": Method(
                self._list_metrics,
                v3.ListMetricDescriptorsRequest.deserialize,
                v3.ListMetricDescriptorsResponse.serialize,
            ),
            "GetMetricDescriptor": Method(
                self._get_metric,
                v3.GetMetricDescriptorRequest.deserialize,
                metric_pb2.MetricDescriptor.SerializeToString,
            ),
            "ListMonitoredResourceDescriptors": Method(
                self._list_resources,
                v3.ListMonitoredResourceDescriptorsRequest.deserialize,
                v3.ListMonitoredResourceDescriptorsResponse.serialize,
            ),
            "GetMonitoredResourceDescriptor": Method(
                self._get_resource,
                v3.GetMonitoredResourceDescriptorRequest.deserialize,
                monitored_resource_pb2.MonitoredResourceDescriptor.SerializeToString,
            ),
        }

    def _list_metrics(
        self, call: Call, request: monitoring_v3.ListMetricDescriptorsRequest
    ) -> monitoring_v3.ListMetricDescriptorsResponse:
        check_project(request.name, self._project, "monitoring.metricDescriptors.list")
        matches = parse_metric_filter(request.filter).matches
        found = [
            self._metric(metric)
            for metric in METRICS.values()
            if matches({"metric.type": metric.type, "resource.type": RESOURCE, "project": self._project})
            and (not request.active_only or self._is_active(metric, call))
        ]
        page, token = _page(found, request)
        return monitoring_v3.ListMetricDescriptorsResponse(metric_descriptors=page, next_page_token=token)

    def _get_metric(
        self, _: Call, request: monitoring_v3.GetMetricDescriptorRequest
    ) -> metric_pb2.MetricDescriptor:
        project, metric_type = _parts(request.name, "metricDescriptors")
        check_project(project, self._project, "monitoring.metricDescriptors.get")
        if metric_type not in METRICS:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND, f"Could not find descriptor for metric '{metric_type}'."
            )
        return self._metric(METRICS[metric_type])

    def _list_resources(
        self, _: Call, request: monitoring_v3.ListMonitoredResourceDescriptorsRequest
    ) -> monitoring_v3.ListMonitoredResourceDescriptorsResponse:
        check_project(request.name, self._project, "monitoring.monitoredResourceDescriptors.list")
        labels = {f"resource.labels.{key}": "" for key in RESOURCE_LABELS}
        matches = parse_metric_filter(request.filter).matches({"resource.type": RESOURCE, **labels})
        page, token = _page([self._resource()] if matches else [], request)
        return monitoring_v3.ListMonitoredResourceDescriptorsResponse(
            resource_descriptors=page, next_page_token=token
        )

    def _get_resource(
        self, _: Call, request: monitoring_v3.GetMonitoredResourceDescriptorRequest
    ) -> monitored_resource_pb2.MonitoredResourceDescriptor:
        project, resource = _parts(request.name, "monitoredResourceDescriptors")
        check_project(project, self._project, "monitoring.monitoredResourceDescriptors.get")
        if resource != RESOURCE:
            raise ApiError(
                grpc.StatusCode.NOT_FOUND,
                f"Could not find descriptor for monitored resource '{resource}'.",
            )
        return self._resource()

    def _is_active(self, metric: Metric, call: Call) -> bool:
        newest = int(call.now.timestamp()) // MINUTE * MINUTE
        minutes = range(newest, newest - int(RECENT.total_seconds()), -MINUTE)
        return any(
            value is not None for recorded in metric.series(self._store) for value in recorded.read(minutes)
        )

    def _metric(self, metric: Metric) -> metric_pb2.MetricDescriptor:
        result = metric_pb2.MetricDescriptor(
            name=f"projects/{self._project}/metricDescriptors/{metric.type}",
            type=metric.type,
            metric_kind=metric.kind,
            value_type=metric.value_type,
            unit=metric.unit,
            display_name=metric.title,
            description=metric.description,
            launch_stage=_LAUNCHED,
            monitored_resource_types=[RESOURCE],
            labels=[
                _Label(
                    key=key,
                    description=METRIC_LABELS[key],
                    value_type=_Label.INT64 if key in NUMBERS else _Label.STRING,
                )
                for key in metric.labels
            ],
        )
        result.metadata.sample_period.seconds = MINUTE
        result.metadata.ingest_delay.FromTimedelta(self._ingest_delay)
        return result

    def _resource(self) -> monitored_resource_pb2.MonitoredResourceDescriptor:
        return monitored_resource_pb2.MonitoredResourceDescriptor(
            name=f"projects/{self._project}/monitoredResourceDescriptors/{RESOURCE}",
            type=RESOURCE,
            display_name="Cloud Run Revision",
            description="A revision of a Cloud Run service.",
            labels=[_Label(key=key, description=text) for key, text in RESOURCE_LABELS.items()],
            launch_stage=_LAUNCHED,
        )


def _parts(name: str, collection: str) -> tuple[str, str]:
    """Return `projects/P` and the type, which may hold slashes itself."""
    project, _, descriptor_type = name.partition(f"/{collection}/")
    return project, descriptor_type


def _page(found: Sequence[T], request: Any) -> tuple[Sequence[T], str]:
    """Return one page and the token of the next; a size below 0 is the largest one."""
    return paged(found, max(0, request.page_size), request.page_token, LARGEST_PAGE)
