"""A local Cloud Run for each test, or a real project, and the official clients pointed at it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import monitoring_v3, run_v2
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import EtagMode, RuntimeKind, Settings

from .cloud import SECONDS, Cloud, percents, to
from .live import Place, a_real_cloud, reach

__all__ = ["PARENT", "RECONCILED", "SECONDS", "Google", "a_google", "a_template", "percents", "to"]

PARENT = "projects/demo/locations/local-1"
RECONCILED = timedelta(seconds=10)
"""Long enough for a simulated revision to start and for the split to reach the data plane."""
SIMULATED = Settings(runtime=RuntimeKind.SIMULATED, speed=0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what can run against a real project too: the tests of the fixture `cloud`."""
    here = Path(__file__).parent  # other folders have a fixture of that name too
    for item in items:
        if here in item.path.parents and "cloud" in getattr(item, "fixturenames", ()):
            item.add_marker("live")


@dataclass
class Google(Cloud):
    """The local Cloud Run, with what only it can do."""

    local: LocalCloudRun
    channel: grpc.Channel

    def __post_init__(self) -> None:
        self.parent, self.web = PARENT, "web"
        self.services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=self.channel))
        self.revisions = run_v2.RevisionsClient(transport=RevisionsGrpcTransport(channel=self.channel))
        self.metrics = monitoring_v3.MetricServiceClient(
            transport=MetricServiceGrpcTransport(channel=self.channel)
        )
        self.logs = LoggingServiceV2Client(transport=LoggingServiceV2GrpcTransport(channel=self.channel))

    def template(self, *, revision: str = "", **env: str) -> run_v2.RevisionTemplate:
        return a_template(revision=revision, **env)

    def settle(self) -> None:
        self.local.advance(RECONCILED)

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


def a_google(settings: Settings) -> Iterator[Google]:
    with LocalCloudRun.started(settings) as local:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            yield Google(local, channel)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with simulated revisions and a clock that only the test moves."""
    yield from a_google(SIMULATED)


@pytest.fixture
def strict_google() -> Iterator[Google]:
    """The same, where a stale etag is refused."""
    yield from a_google(replace(SIMULATED, etag=EtagMode.ENFORCE))


@pytest.fixture(scope="session")
def real_place(pytestconfig: pytest.Config) -> Place | str | None:
    """Return the real project that --project names, or why it cannot be reached; None if none is named."""
    project, region, image = (
        pytestconfig.getoption(option) for option in ("--project", "--region", "--live-image")
    )
    return reach(project, region, image) if project else None


@pytest.fixture
def cloud(real_place: Place | str | None) -> Iterator[Cloud]:
    """Cloud Run: the real one with --project, else the same as `google`."""
    if real_place is None:
        yield from a_google(SIMULATED)
    else:
        with a_real_cloud(real_place) as real:
            yield real
