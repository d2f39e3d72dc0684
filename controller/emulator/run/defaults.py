"""What Cloud Run fills in where a service says nothing."""

from datetime import timedelta

from google.api import launch_stage_pb2
from google.cloud import run_v2

from controller.emulator.instants import duration
from controller.emulator.names import default_service_account
from controller.emulator.run import traffic
from controller.emulator.settings import STARTUP_SECONDS

MAX_INSTANCES = 100
CONCURRENCY = 80
PORT = 8080
TIMEOUT = timedelta(minutes=5)
PROBE_TIMEOUT, PROBE_PERIOD, PROBE_FAILURES = 1, 10, 3
"""Of a probe that says nothing of them; times in seconds."""
LIMITS = {"cpu": "1000m", "memory": "512Mi"}


def fill_in(service: run_v2.Service) -> None:
    """Fill in the defaults of a service and its template."""
    if not int(service.ingress):
        service.ingress = run_v2.IngressTraffic(run_v2.IngressTraffic.INGRESS_TRAFFIC_ALL)
    if not int(service.launch_stage):
        service.launch_stage = launch_stage_pb2.GA
    service.traffic = traffic.normalised(service.traffic, service.name)
    _, project, *_ = service.name.split("/")
    _fill_in_template(service.template, project)


def _fill_in_template(template: run_v2.RevisionTemplate, project: str) -> None:
    template.scaling.max_instance_count = template.scaling.max_instance_count or MAX_INSTANCES
    # Not by way of Python's timedelta, which is too small for some of what may be asked for.
    if not run_v2.RevisionTemplate.pb(template).timeout.ToNanoseconds():
        template.timeout = duration(TIMEOUT)
    template.max_instance_request_concurrency = template.max_instance_request_concurrency or CONCURRENCY
    template.service_account = template.service_account or default_service_account(project)
    for container in template.containers:
        _fill_in_resources(container)
        if container.ports or len(template.containers) == 1:
            _fill_in_port(container)


def _fill_in_resources(container: run_v2.Container) -> None:
    if "resources" not in container:
        container.resources.cpu_idle = True
    for name, limit in LIMITS.items():
        if name not in container.resources.limits:
            container.resources.limits[name] = limit


def _fill_in_port(container: run_v2.Container) -> None:
    if not container.ports:
        container.ports = [run_v2.ContainerPort(name="http1", container_port=PORT)]
    if "startup_probe" not in container:
        container.startup_probe = startup_probe(container.ports[0].container_port)


def startup_probe(port: int) -> run_v2.Probe:
    """Return the startup probe of a container that has none of its own."""
    return run_v2.Probe(
        timeout_seconds=STARTUP_SECONDS,
        period_seconds=STARTUP_SECONDS,
        failure_threshold=1,
        tcp_socket=run_v2.TCPSocketAction(port=port),
    )
