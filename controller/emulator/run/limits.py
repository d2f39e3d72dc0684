"""The numbers of a service and its template: how many of each Cloud Run takes, and from where to where."""

from collections.abc import Sequence
from typing import Any

from google.cloud import run_v2

from controller.emulator.errors import violation
from controller.emulator.run.defaults import PROBE_PERIOD, PROBE_TIMEOUT

MOST_INSTANCES = 1000
"""Of a revision and of a service. Google's own bound depends on the region, and can be raised."""
MOST_REQUESTS = 1000
LONGEST_TIMEOUT = 3600
LONGEST_STARTUP, LONGEST_PROBE = 240, 3600
LARGEST_INT = 2**31 - 1
LARGEST_PORT = 2**16 - 1
NANOSECONDS = 10**9


def check(path: str, service: run_v2.Service) -> None:
    """Refuse numbers outside their ranges."""
    _check_service_scaling(f"{path}.scaling", service.scaling)
    _check_template(f"{path}.template", service.template)


def check_enums(path: str, message: Any) -> None:
    """Refuse values of enums that nobody knows, in a message and all that it holds."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name.removesuffix('_')}"
        if field.enum_type is not None and value not in field.enum_type.values_by_number:
            raise violation(here, f"{value} is not a value of {field.enum_type.name}.")
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        if isinstance(value, Sequence):
            for position, one in enumerate(value):
                check_enums(f"{here}[{position}]", one)
        else:
            check_enums(here, value)


def _check_service_scaling(path: str, scaling: run_v2.ServiceScaling) -> None:
    _check_range(f"{path}.manual_instance_count", scaling.manual_instance_count, 0, MOST_INSTANCES)
    _check_instances(path, scaling.min_instance_count, scaling.max_instance_count)


def _check_template(path: str, template: run_v2.RevisionTemplate) -> None:
    _check_instances(
        f"{path}.scaling", template.scaling.min_instance_count, template.scaling.max_instance_count
    )
    requests = template.max_instance_request_concurrency
    _check_range(f"{path}.max_instance_request_concurrency", requests, 1, MOST_REQUESTS)
    timeout = run_v2.RevisionTemplate.pb(template).timeout
    if not 0 <= timeout.ToNanoseconds() <= LONGEST_TIMEOUT * NANOSECONDS:
        raise violation(
            f"{path}.timeout", f"must be from 0 to {LONGEST_TIMEOUT} seconds, not {timeout.seconds}."
        )
    if not template.containers:
        raise violation(f"{path}.containers", "must have one container.")
    for position, container in enumerate(template.containers):
        _check_container(f"{path}.containers[{position}]", container)
    if sum(bool(container.ports) for container in template.containers) != 1:
        raise violation(f"{path}.containers", "exactly one container must have a port.")


def _check_container(path: str, container: run_v2.Container) -> None:
    if len(container.ports) > 1:
        raise violation(f"{path}.ports", "ports should contain 0 or 1 port.")
    for port in container.ports:
        _check_range(f"{path}.ports[0].container_port", port.container_port, 1, LARGEST_PORT)
    _check_probe(f"{path}.startup_probe", container.startup_probe, LONGEST_STARTUP)
    _check_probe(f"{path}.liveness_probe", container.liveness_probe, LONGEST_PROBE)


def _check_probe(path: str, probe: run_v2.Probe, longest: int) -> None:
    """Refuse times that Cloud Run does not take; everywhere 0 stands for the default."""
    period = probe.period_seconds or PROBE_PERIOD
    _check_range(f"{path}.initial_delay_seconds", probe.initial_delay_seconds, 0, longest)
    _check_range(f"{path}.period_seconds", period, 1, longest)
    _check_range(f"{path}.timeout_seconds", probe.timeout_seconds or PROBE_TIMEOUT, 1, LONGEST_PROBE)
    _check_range(f"{path}.failure_threshold", probe.failure_threshold, 0, LARGEST_INT)
    if probe.timeout_seconds > period:
        raise violation(
            f"{path}.timeout_seconds",
            f"{probe.timeout_seconds} must not be more than the {period} of period_seconds.",
        )
    for kind, port in (
        ("http_get", probe.http_get.port),
        ("tcp_socket", probe.tcp_socket.port),
        ("grpc", probe.grpc.port),
    ):
        _check_range(f"{path}.{kind}.port", port, 0, LARGEST_PORT)


def _check_instances(path: str, least: int, most: int) -> None:
    _check_range(f"{path}.min_instance_count", least, 0, MOST_INSTANCES)
    _check_range(f"{path}.max_instance_count", most, 0, MOST_INSTANCES)
    if most and least > most:
        raise violation(
            f"{path}.min_instance_count", f"{least} must not be more than the {most} of max_instance_count."
        )


def _check_range(path: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise violation(path, f"must be from {least} to {most}, not {value}.")
