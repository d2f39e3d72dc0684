"""The release of a service: all that canary put on it is taken away, and its traffic is set as it was."""

from dataclasses import replace

from controller.core.change import Change
from controller.core.observation import ServiceState
from controller.core.pause_ahead import PAUSED, read_pause_ahead, with_latest
from controller.core.record import ANNOTATION
from controller.core.rollout import Refuse, Rollout, Stay
from controller.core.traffic import Split, follows_latest, without_tags, written
from controller.core.trail import UNLOGGED

OWN = (ANNOTATION, UNLOGGED, PAUSED)


def release(service: ServiceState, rollout: Rollout | None) -> Change | Stay | Refuse:
    """Return the change that lets go of a service, whose record says `rollout`.

    LATEST comes back where the service followed it, unless that would send users to another revision: one
    that was rejected, or that nobody has tried.
    """
    if rollout and not rollout.phase.is_terminal:
        return Refuse(
            f"the rollout of {rollout.candidate} is {rollout.phase}; let it end first: canary rollback"
            f" {service.name}, or canary promote --full {service.name}"
        )
    if rollout and not rollout.is_over:
        return Refuse(
            f"the rollout of {rollout.candidate} is {rollout.phase}, but that is not in force yet; see it"
            f" through first: canary rollout {service.name} --candidate {rollout.candidate}"
        )
    if not any(key in service.annotations for key in OWN):
        return Stay("nothing of canary is on it")
    tags = (rollout.candidate_tag, rollout.stable_tag) if rollout else ()
    kept = replace(service, traffic=without_tags(service.traffic, tags))
    latest, how = _latest_again(kept, rollout)
    split = latest or (kept.traffic if kept.traffic != service.traffic else None)
    return Change(dict.fromkeys(OWN), split, done=f"canary has let go of it; {how}")


def _latest_again(service: ServiceState, rollout: Rollout | None) -> tuple[Split | None, str]:
    """Return the split that follows LATEST again, if it should and may, and what to say of it."""
    mark = read_pause_ahead(service)
    followed = bool(rollout and rollout.follows_latest) or bool(mark and mark.follows_latest)
    if follows_latest(service.traffic) or not followed:
        return None, f"traffic stays as it is: {written(service.shares_wanted)}"
    split = with_latest(service)
    if split is None:
        why = f"LATEST would send all users to {service.latest_created}"
        return None, f"traffic stays pinned ({written(service.shares_wanted)}), as {why}"
    return split, "traffic follows LATEST again"
