"""BUILDS everything once; nothing is built at import."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from controller.engine.outside import Outside
from controller.gateways import channels
from controller.gateways.audit_log import PROBE_LOG_ID, LoggingGateway
from controller.gateways.clock import EmulatorClock, SystemClock
from controller.gateways.cloud_run import CloudRunGateway
from controller.gateways.jobs import JobsGateway
from controller.gateways.log_budget import LogBudget
from controller.gateways.monitoring import MonitoringGateway
from controller.gateways.notices import NoticeGateway
from controller.gateways.probes import HttpProbes
from controller.gateways.request_logs import RequestLogGateway
from controller.ports import Clock, Jobs
from controller.principal import calling_as


@dataclass(frozen=True)
class Place:
    """A project and region of Google Cloud, or of a local Cloud Run at `emulator` (HOST:PORT)."""

    project: str
    region: str
    emulator: str = ""
    principal: str = ""
    """Who calls the local Cloud Run; by default nobody in particular."""


def connect(place: Place) -> Outside:
    """Return the gateways to a place."""
    channel = _channel(place)
    if channel is None:
        clock = SystemClock()
        return _connected(place, clock, clock.sleep, None)
    return _connected(place, EmulatorClock(channel), SystemClock().sleep, channel)


def connect_jobs(place: Place) -> Jobs:
    """Return the gateway to the jobs of a place."""
    return JobsGateway(place.project, place.region, SystemClock().sleep, _channel(place))


def _channel(place: Place) -> grpc.Channel | None:
    """Return the channel to a local Cloud Run; Google's own clients open theirs by themselves."""
    if not place.emulator:
        return None
    return calling_as(channels.local(place.emulator), place.principal)


def _connected(
    place: Place, clock: Clock, sleep: Callable[[float], None], channel: grpc.Channel | None
) -> Outside:
    """Return the gateways, which wait by `sleep` between two tries; `clock` is what everybody lives by."""
    project, region = place.project, place.region
    return Outside(
        CloudRunGateway(project, region, sleep, channel),
        MonitoringGateway(project, region, sleep, channel),
        clock,
        HttpProbes(SystemClock().now),  # answers take real time, however fast the other clock runs
        LoggingGateway(project, region, sleep, channel),
        RequestLogGateway(project, region, sleep, channel, LogBudget(clock.now)),
        LoggingGateway(project, region, sleep, channel, PROBE_LOG_ID),
        NoticeGateway(project, region, has_console=channel is None),
    )
