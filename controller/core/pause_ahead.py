"""A pause ahead: while no rollout is under way, a mark on the service by which the next begins paused."""

import json
from dataclasses import dataclass

from controller.core.change import Change
from controller.core.observation import ServiceState
from controller.core.plain_text import LONGEST_NAME, plain
from controller.core.rollout import Stay
from controller.core.traffic import (
    ALL,
    LATEST,
    Split,
    Target,
    follows_latest,
    shares_of,
    split_between,
    tags_of,
)

PAUSED = "cloud-run-canary/paused"
"""The key of the annotation."""


@dataclass(frozen=True)
class PauseAhead:
    """Who asked for the pause, and whether the service sent its users to LATEST before."""

    by: str
    follows_latest: bool


def read_pause_ahead(service: ServiceState) -> PauseAhead | None:
    """Return the mark on a service; one that cannot be read is still a pause, by somebody."""
    text = service.annotations.get(PAUSED)
    if text is None:
        return None
    try:
        read = json.loads(text)
        return PauseAhead(plain(str(read["by"]), LONGEST_NAME), read["follows_latest"] is True)
    except (ValueError, TypeError, KeyError, RecursionError):
        return PauseAhead("somebody", follows_latest=False)


def pause_ahead(service: ServiceState, by: str) -> Change | Stay:
    """Return the change that makes the next rollout begin paused.

    LATEST is pinned, so that nobody is sent to what is deployed meanwhile.
    """
    if read_pause_ahead(service):
        return Stay("it is paused already; the next rollout begins paused")
    follows = follows_latest(service.traffic) and bool(service.latest_ready)
    text = json.dumps({"by": by, "follows_latest": follows}, sort_keys=True)
    reason = "the next rollout begins paused, and no user is sent to a new revision until somebody resumes"
    return Change({PAUSED: text}, _pinned(service) if follows else None, done=reason)


def resume_ahead(service: ServiceState) -> Change | Stay:
    """Return the change that takes the pause back; LATEST only where that sends nobody elsewhere."""
    mark = read_pause_ahead(service)
    if mark is None:
        return Stay("it is not paused")
    if not mark.follows_latest:
        return Change({PAUSED: None}, done="the next rollout begins at once")
    split = with_latest(service)
    if split is None:
        reason = (
            f"the next rollout begins at once; traffic stays pinned, as LATEST would send all users to"
            f" {service.latest_created}"
        )
        return Change({PAUSED: None}, done=reason)
    return Change(
        {PAUSED: None}, split, done="the next rollout begins at once, and traffic follows LATEST again"
    )


def with_latest(service: ServiceState) -> Split | None:
    """Return the split with LATEST in place of the revision that it is now; None where that moves users.

    A revision that is still starting would get them, too, as soon as it is ready.
    """
    only = {service.latest_created: ALL}
    if service.latest_ready != service.latest_created or service.shares_wanted != only:
        return None
    return (Target(LATEST, ALL), *split_between({}, tags_of(service.traffic)))


def _pinned(service: ServiceState) -> Split:
    return split_between(shares_of(service.traffic, service.latest_ready), tags_of(service.traffic))
