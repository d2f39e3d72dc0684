"""The placement: the split that goes with a rollout, and whether a service asks for it and serves it."""

from controller.core.observation import ServiceState
from controller.core.policy_choices import AfterPromotion
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import (
    ALL,
    LATEST,
    Split,
    Target,
    follows_latest,
    same_split,
    shares_of,
    split_between,
    tags_of,
    without_tags,
)


def wanted_split(rollout: Rollout, service: ServiceState, *, edited: bool = False) -> Split:
    """Return what the service should be asked to serve; tags that are not ours are kept as they are.

    After an edit by hand the edit stands, and only our own tags go.
    """
    own = {rollout.candidate_tag: rollout.candidate, rollout.stable_tag: rollout.stable}
    if edited:
        return without_tags(service.traffic, own)
    foreign = {tag: revision for tag, revision in tags_of(service.traffic).items() if tag not in own}
    if rollout.phase is Phase.PROMOTED and _ends_on_latest(rollout, service):
        return (Target(LATEST, ALL), *split_between({}, foreign))
    shares = {rollout.stable: ALL - rollout.percent, rollout.candidate: rollout.percent}
    return split_between(shares, foreign | _own_tags(rollout))


def _own_tags(rollout: Rollout) -> dict[str, str]:
    """Return our tags in this phase; Cloud Run refuses one on a candidate that is not ready yet."""
    if rollout.phase.is_terminal:
        return {}
    tags = {rollout.stable_tag: rollout.stable}
    if rollout.phase is not Phase.WAITING and rollout.paused_phase is not Phase.WAITING:
        tags[rollout.candidate_tag] = rollout.candidate
    return {tag: revision for tag, revision in tags.items() if tag and revision}


def _ends_on_latest(rollout: Rollout, service: ServiceState) -> bool:
    if {service.latest_ready, service.latest_created} != {rollout.candidate}:
        return False  # what is being deployed would get all users
    choice = rollout.policy.after_promotion
    return choice is AfterPromotion.LATEST or (choice is AfterPromotion.AS_FOUND and rollout.follows_latest)


def is_served(rollout: Rollout, service: ServiceState) -> bool:
    """Tell whether the split that goes with the rollout is in force.

    While it is under way nothing else may be changing, either: what is in force must last. An end does not
    wait for a revision that is being deployed meanwhile.
    """
    return is_in_place(rollout, service) and (service.settled or rollout.phase.is_terminal)


def is_in_place(rollout: Rollout, service: ServiceState) -> bool:
    """Tell whether the shares of the rollout are served, and while it is checked its tags, too."""
    wanted = shares_of(wanted_split(rollout, service), service.latest_ready)
    tagged = _own_tags(rollout).items() <= tags_of(service.served).items()
    return service.shares_served == wanted and (tagged or rollout.phase is not Phase.CHECKING)


def is_as_written(rollout: Rollout, service: ServiceState) -> bool:
    """Tell whether the service still asks for what was written with the record."""
    wanted = wanted_split(rollout, service)
    own = {rollout.candidate_tag, rollout.stable_tag}
    return same_split(
        without_tags(wanted, own), without_tags(service.traffic, own), service.latest_ready
    ) and (follows_latest(wanted) == follows_latest(service.traffic))


def without_unserved_tags(split: Split, service: ServiceState) -> Split:
    """Return the split without tags that are not in force.

    A tag on a revision that cannot serve, such as a deployment that failed, makes Cloud Run refuse the whole
    split. It serves nobody, and must not keep users from being sent back.
    """
    return without_tags(split, tags_of(split).keys() - tags_of(service.served).keys())
