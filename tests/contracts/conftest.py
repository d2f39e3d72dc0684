"""A local Cloud Run for each test, and the official clients pointed at it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest
from google.cloud import monitoring_v3, run_v2
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import field_mask_pb2

from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import EtagMode, RuntimeKind, Settings

PARENT = "projects/demo/locations/local-1"
SECONDS = 20.0
RECONCILED = timedelta(seconds=10)
"""Long enough for a simulated revision to start and for the split to reach the data plane."""


@dataclass
class Google:
    """The clients, and short words for what many tests do."""

    local: LocalCloudRun
    channel: grpc.Channel

    def __post_init__(self) -> None:
        self.services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=self.channel))
        self.revisions = run_v2.RevisionsClient(transport=RevisionsGrpcTransport(channel=self.channel))
        self.metrics = monitoring_v3.MetricServiceClient(
            transport=MetricServiceGrpcTransport(channel=self.channel)
        )
        self.logs = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=self.channel))
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    def create(self, name: str = "web", *, revision: str = "", **env: str) -> operations_pb2.Operation:
        service = run_v2.Service(template=a_template(revision=revision, **env))
        created: operations_pb2.Operation = self.services.create_service(
            parent=PARENT, service_id=name, service=service, timeout=SECONDS
        ).operation
        return created

    def update(self, name: str = "web", *, mask: str = "", **fields: Any) -> operations_pb2.Operation:
        """Update with a mask: by default, the fields that are given."""
        service = run_v2.Service(name=f"{PARENT}/services/{name}", **fields)
        paths = [path for path in (mask.split(",") if mask else list(fields)) if path != "etag"]
        updated: operations_pb2.Operation = self.services.update_service(
            service=service, update_mask=field_mask_pb2.FieldMask(paths=paths), timeout=SECONDS
        ).operation
        return updated

    def get(self, name: str = "web") -> run_v2.Service:
        return self.services.get_service(name=f"{PARENT}/services/{name}", timeout=SECONDS)

    def revision_names(self, name: str = "web") -> list[str]:
        found = self.revisions.list_revisions(parent=f"{PARENT}/services/{name}", timeout=SECONDS)
        return [revision.name.rsplit("/", 1)[-1] for revision in found]

    def operation(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        found: operations_pb2.Operation = self.operations.GetOperation(request, timeout=SECONDS)
        return found

    def wait(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromTimedelta(timedelta(seconds=SECONDS))
        found: operations_pb2.Operation = self.operations.WaitOperation(request, timeout=SECONDS + 1)
        return found

    def settle(self) -> None:
        self.local.advance(RECONCILED)

    def two_revisions(self, **second: str) -> None:
        """Deploy web-one, which serves everything, and web-two, which serves nothing."""
        self.create(revision="web-one", LATENCY_MS="50")
        self.settle()
        self.update(template=a_template(revision="web-two", **second), traffic=[to("web-one", 100)])
        self.settle()

    def series(self, metric: str, start: datetime, end: datetime, **aggregation: Any) -> list[Any]:
        fields = aggregation.pop("group_by", [])
        request = monitoring_v3.ListTimeSeriesRequest(
            name="projects/demo",
            filter=f'metric.type="run.googleapis.com/{metric}" AND resource.type="cloud_run_revision"',
            interval=monitoring_v3.TimeInterval(start_time=start, end_time=end),
            aggregation=monitoring_v3.Aggregation(group_by_fields=fields, **aggregation),
        )
        return list(self.metrics.list_time_series(request=request, timeout=SECONDS))


def a_template(*, revision: str = "", **env: str) -> run_v2.RevisionTemplate:
    return run_v2.RevisionTemplate(
        revision=revision,
        containers=[
            run_v2.Container(
                command=[sys.executable, "-m", "controller.emulator.sample"],
                env=[run_v2.EnvVar(name=name, value=value) for name, value in env.items()],
            )
        ],
    )


def to(revision: str, percent: int, tag: str = "") -> run_v2.TrafficTarget:
    """Return a target; the revision "" is LATEST."""
    kinds = run_v2.TrafficTargetAllocationType
    kind = (
        kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        if revision
        else kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
    )
    return run_v2.TrafficTarget(type_=kind, revision=revision, percent=percent, tag=tag)


def percents(service: run_v2.Service) -> Mapping[str, int]:
    """Return what is served, by revision ("" = LATEST)."""
    result: dict[str, int] = {}
    for status in service.traffic_statuses:
        result[status.revision] = result.get(status.revision, 0) + status.percent
    return {revision: percent for revision, percent in result.items() if percent}


def a_google(settings: Settings) -> Iterator[Google]:
    with LocalCloudRun.started(settings) as local:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            yield Google(local, channel)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with simulated revisions and a clock that only the test moves."""
    yield from a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0))


@pytest.fixture
def strict_google() -> Iterator[Google]:
    """The same, where a stale etag is refused."""
    yield from a_google(Settings(runtime=RuntimeKind.SIMULATED, speed=0, etag=EtagMode.ENFORCE))
