"""Entries of request logs in tests: written as Cloud Run does, and read back by the gateway."""

from datetime import datetime, timedelta
from typing import Any

from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.logging_v2.types import LogEntry
from google.logging.type import http_request_pb2
from google.protobuf import duration_pb2

from contracts.conftest import Google
from contracts.logs.log_entries import write
from controller.core.request_log import RequestLog
from controller.gateways.log_budget import LogBudget
from controller.gateways.request_logs import REQUESTS, RequestLogGateway

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
BOTH = ["web-one", "web-two"]
STARTING = "Starting new instance. Reason: AUTOSCALING - Instance started due to traffic."


def gateway(google: Google, budget: LogBudget | None = None) -> RequestLogGateway:
    budget = budget or LogBudget(google.local.now)
    return RequestLogGateway("demo", "local-1", lambda _: None, google.channel, budget)


def read(
    google: Google, start: datetime | None = None, end: datetime | None = None, **options: Any
) -> RequestLog:
    """Return what was received of both revisions, by default in the last hour, the present included."""
    start, end = start or google.local.now() - HOUR, end or google.local.now() + SECOND
    return gateway(google).read_requests("web", BOTH, start, end, **options)


def ids(log: RequestLog) -> list[str]:
    return [request.id for request in log.requests]


def log_name(log_id: str) -> str:
    return f"projects/demo/logs/{log_id.replace('/', '%2F')}"


def log(google: Google, *entries: LogEntry, log_id: str = REQUESTS) -> None:
    """Write entries; each is received now, and begins now where it does not say when."""
    write(google, *entries, log_name=log_name(log_id))


def a_resource(**labels: str) -> MonitoredResource:
    place = {"project_id": "demo", "location": "local-1", "service_name": "web", "revision_name": "web-one"}
    return MonitoredResource(type="cloud_run_revision", labels={**place, **labels})


def an_http_request(status: int = 200, milliseconds: float = 12, agent: str = "") -> Any:
    latency = duration_pb2.Duration()
    latency.FromTimedelta(timedelta(milliseconds=milliseconds))
    return http_request_pb2.HttpRequest(status=status, latency=latency, user_agent=agent)


def a_request(identity: str, http: Any = None, **fields: Any) -> LogEntry:
    request = http or an_http_request()
    return LogEntry(**{"insert_id": identity, "http_request": request, "resource": a_resource(), **fields})


def a_start(text: str = STARTING, **fields: Any) -> LogEntry:
    usual = {"text_payload": text, "resource": a_resource(), "labels": {"instanceId": "i1"}}
    return LogEntry(**{**usual, **fields})
