"""How many instances a revision keeps at least and may have at most."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.cloud import run_v2

from controller.emulator.run.defaults import MAX_INSTANCES
from controller.emulator.run.traffic import WHOLE, Split

MANUAL = run_v2.ServiceScaling.ScalingMode.MANUAL


@dataclass(frozen=True, slots=True)
class Bounds:
    """Instances of one revision, least and most; while requests wait there may be fewer than the least."""

    least: int = 0
    most: int = MAX_INSTANCES


def own_bounds(scaling: run_v2.RevisionScaling) -> Bounds:
    """Return what a revision's template asks for."""
    return Bounds(scaling.min_instance_count, scaling.max_instance_count or MAX_INSTANCES)


class Division:
    """What a service's own limits leave to each revision, under the split that is served.

    A revision's own minimum counts while the split or a tag refers to it, at 0 % too. What the service asks
    for is divided among the revisions by their percents, so that one that has only a tag gets nothing of it.
    """

    def __init__(self, service: run_v2.ServiceScaling, split: Split) -> None:
        percents = split.percents
        is_manual = service.scaling_mode == MANUAL
        self._exactly = divided(service.manual_instance_count, percents) if is_manual else {}
        self._least = divided(service.min_instance_count, percents)
        limited = divided(service.max_instance_count, percents) if service.max_instance_count else {}
        self._most = {name: max(1, most) for name, most in limited.items() if percents[name]}
        self._referenced = split.referenced | split.revisions()

    def bounds(self, revision: str, own: Bounds) -> Bounds:
        """Return the bounds of a revision (short name) whose template asks for `own`."""
        if (exactly := self._exactly.get(revision)) is not None:
            return Bounds(exactly, exactly)
        most = min(own.most, self._most.get(revision, own.most))
        least = max(own.least if revision in self._referenced else 0, self._least.get(revision, 0))
        return Bounds(min(least, most), most)


def divided(total: int, percents: Mapping[str, int]) -> dict[str, int]:
    """Divide instances by percents into whole numbers with the same sum, the largest remainders first."""
    shares = {name: total * percent // WHOLE for name, percent in percents.items()}
    by_remainder = sorted(percents, key=lambda name: -(total * percents[name] % WHOLE))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
