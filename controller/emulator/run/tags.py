"""The most traffic tags that the services of one project and region may have."""

from collections.abc import Iterable
from datetime import datetime

from controller.emulator.run.catalog import ServiceState

MOST_TAGS = 2000


def note(service: ServiceState, now: datetime) -> None:
    """Write down when each tag of a service was first asked for."""
    tags = [target.tag for target in service.proto.traffic if target.tag]
    service.tagged = {tag: service.tagged.get(tag, now) for tag in tags}


def drop_excess(services: Iterable[ServiceState]) -> list[ServiceState]:
    """Take the oldest tags without traffic off the services that have too many; return whom that changed."""
    found = list(services)
    excess = sum(len(service.tagged) for service in found) - MOST_TAGS
    if excess <= 0:
        return []
    idle = sorted(
        (
            (since, service.proto.name, tag, service)
            for service in found
            for tag, since in _idle_tags(service)
        ),
        key=lambda known: known[:3],
    )
    changed = {}
    for _, name, tag, service in idle[:excess]:
        del service.tagged[tag]
        changed[name] = service
    for service in changed.values():
        service.proto.traffic = [
            target for target in service.proto.traffic if not target.tag or target.tag in service.tagged
        ]
    return list(changed.values())


def _idle_tags(service: ServiceState) -> Iterable[tuple[str, datetime]]:
    """Give the tags on targets that get no traffic, with the time they were first asked for."""
    for target in service.proto.traffic:
        if target.tag and not target.percent:
            yield target.tag, service.tagged[target.tag]
