"""What the traffic of a service waits for, why it is refused, and what is shown where it is not served."""

from google.cloud import run_v2

from controller.emulator.names import short
from controller.emulator.run import traffic
from controller.emulator.run.catalog import Failure, Reason, RevisionState, ServiceState


def awaited(service: ServiceState) -> set[str]:
    """Return the revisions that are to serve; LATEST is the newest one as long as none is ready."""
    latest = service.newest_ready() or service.latest_created()
    newest = latest.key.revision if latest else ""
    return {target.revision or newest for target in service.proto.traffic}


def are_known(service: ServiceState, names: set[str]) -> bool:
    """Return whether none of these revisions is still starting."""
    return all(service.revisions[name].ready is not None for name in names if name in service.revisions)


def refusal(service: ServiceState) -> Failure | None:
    """Return why the traffic that is asked for cannot be served, once its revisions are known; else None."""
    for target in service.proto.traffic:
        name = target.revision or short(service.proto.latest_ready_revision)
        name = name or short(service.proto.latest_created_revision)
        revision = service.revisions.get(name)
        if revision is None or revision.is_being_deleted:
            return Failure(
                f"Revision '{name}' does not exist or is deleted. "
                "Update all traffic to route to currently available revisions.",
                Reason.REVISION_REASON_UNDEFINED,
            )
        if not revision.ready:
            return _not_ready(revision)
    return None


def broken_newest(service: ServiceState) -> Failure | None:
    """Return the failure of the newest revision: it makes the service not Ready, whoever serves."""
    newest = service.latest_created()
    return _not_ready(newest) if newest and newest.ready is False else None


def move_latest(service: ServiceState) -> str:
    """Let LATEST mean the newest revision that is ready; return the one that it meant before, or ""."""
    before = short(service.proto.latest_ready_revision)
    newest = service.newest_ready()
    if newest is not None:
        service.proto.latest_ready_revision = newest.proto.name
    return before


def keep_serving(service: ServiceState, latest: str) -> None:
    """Show what goes on being served, after a refusal; before anything was served, what is asked for.

    What was served as LATEST is shown by name from when that means another revision than `latest`.
    """
    proto = service.proto
    if not service.split.percents:
        proto.traffic_statuses = traffic.statuses(proto.traffic, {})
    elif latest != short(proto.latest_ready_revision):
        for status in proto.traffic_statuses:
            if status.type_ == traffic.LATEST:
                status.type_ = run_v2.TrafficTargetAllocationType(traffic.REVISION)
                status.revision = latest


def _not_ready(revision: RevisionState) -> Failure:
    text = f"Revision '{revision.key.revision}' is not ready and cannot serve traffic. {revision.failure}"
    return Failure(text)
