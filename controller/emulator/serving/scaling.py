"""How many instances a revision keeps at least and may have at most."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.cloud import run_v2

from controller.emulator.run.traffic import WHOLE, Split

MANUAL = run_v2.ServiceScaling.ScalingMode.MANUAL
UNLIMITED = 100
"""What a revision may have when nothing is said."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Instances of one revision, least and most; while requests wait there may be fewer than the least."""

    least: int = 0
    most: int = UNLIMITED


def bounds(
    revision: str, own: run_v2.RevisionScaling, service: run_v2.ServiceScaling, split: Split
) -> Bounds:
    """Return the bounds of a revision (short name) under the split that is served.

    Its own minimum counts while the split or a tag refers to it, at 0 % too. What the service asks for is
    divided among the revisions by their percents, so that a revision that has only a tag gets nothing of it.
    """
    most = own.max_instance_count or UNLIMITED
    if service.scaling_mode == MANUAL and revision in split.percents:
        exactly = divided(service.manual_instance_count, split.percents).get(revision, 0)
        return Bounds(exactly, exactly)
    if service.max_instance_count and split.percents.get(revision):
        most = min(most, max(1, divided(service.max_instance_count, split.percents)[revision]))
    is_referenced = revision in split.referenced | split.revisions()
    least = own.min_instance_count if is_referenced else 0
    least = max(least, divided(service.min_instance_count, split.percents).get(revision, 0))
    return Bounds(min(least, most), most)


def divided(total: int, percents: Mapping[str, int]) -> dict[str, int]:
    """Divide instances by percents into whole numbers with the same sum, the largest remainders first."""
    shares = {name: total * percent // WHOLE for name, percent in percents.items()}
    by_remainder = sorted(percents, key=lambda name: -(total * percents[name] % WHOLE))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
