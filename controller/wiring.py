"""BUILDS everything once; nothing is built at import."""

from dataclasses import dataclass

from controller.emulator.principal import calling_as
from controller.engine.outside import Outside
from controller.gateways import channels
from controller.gateways.audit_log import LoggingGateway
from controller.gateways.clock import EmulatorClock, SystemClock
from controller.gateways.cloud_run import CloudRunGateway
from controller.gateways.monitoring import MonitoringGateway
from controller.gateways.probes import HttpProbes


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
    if not place.emulator:
        clock = SystemClock()
        return Outside(
            CloudRunGateway(place.project, place.region, clock.sleep),
            MonitoringGateway(place.project, place.region, clock.sleep),
            clock,
            HttpProbes(clock.sleep),
            LoggingGateway(place.project, place.region, clock.sleep),
        )
    channel = channels.local(place.emulator)
    if place.principal:
        channel = calling_as(channel, place.principal)
    local = EmulatorClock(channel)
    return Outside(
        CloudRunGateway(place.project, place.region, SystemClock().sleep, channel),
        MonitoringGateway(place.project, place.region, SystemClock().sleep, channel),
        local,
        HttpProbes(SystemClock().sleep),
        LoggingGateway(place.project, place.region, SystemClock().sleep, channel),
    )
