"""Splits of traffic between revisions: what is served, what is wanted, and what must be kept."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LONGEST_TAG_AND_SERVICE = 46
"""Cloud Run refuses a tag that is longer than this together with the service's name."""


class SplitInvalid(Exception):
    """A split that must not be sent, with the reason."""


@dataclass(frozen=True)
class Target:
    """One entry of a split: whole percent of the requests, and a tag or none.

    An empty `revision` is Cloud Run's LATEST: whichever revision became ready last.
    """

    revision: str
    percent: int = 0
    tag: str = ""


Split = tuple[Target, ...]
LATEST = ""
ALL = 100
"""All users, in percent."""


def shares_of(split: Split, latest: str) -> dict[str, int]:
    """Return the percent of each revision that has any, with LATEST read as the revision `latest`."""
    shares: Counter[str] = Counter()
    for target in split:
        shares[target.revision or latest] += target.percent
    return {revision: percent for revision, percent in shares.items() if percent}


def tags_of(split: Split) -> dict[str, str]:
    """Return the revision behind each tag; LATEST stays empty."""
    return {target.tag: target.revision for target in split if target.tag}


def follows_latest(split: Split) -> bool:
    """Tell whether a part of the users goes to whatever revision is deployed next."""
    return any(target.revision == LATEST and target.percent for target in split)


def split_between(shares: Mapping[str, int], tags: Mapping[str, str]) -> Split:
    """Return the split that gives each revision its percent and each tag its revision.

    Tags stand in entries of their own at 0 %, as gcloud writes them, so that a tag never moves users.
    """
    serving = tuple(Target(revision, percent) for revision, percent in shares.items() if percent)
    tagged = tuple(Target(revision, 0, tag) for tag, revision in tags.items())
    return serving + tagged


def without_tags(split: Split, tags: Iterable[str]) -> Split:
    """Return the split without these tags, and without entries that were there for them alone."""
    gone = set(tags) - {""}
    untagged = (Target(target.revision, target.percent) if target.tag in gone else target for target in split)
    return tuple(target for target in untagged if target.percent or target.tag)


def same_split(one: Split, other: Split, latest: str) -> bool:
    """Tell whether two lists serve users and tags alike, however their entries are grouped."""
    return shares_of(one, latest) == shares_of(other, latest) and tags_of(one) == tags_of(other)


def check_split(split: Split, known: Iterable[str]) -> None:
    """Raise SplitInvalid unless the percents add up to 100 and only `known` revisions get any."""
    total = sum(target.percent for target in split)
    if total != ALL or any(target.percent < 0 for target in split):
        raise SplitInvalid(f"the split adds up to {total} %, not 100 %")
    strangers = {target.revision for target in split if target.percent} - set(known)
    if strangers:
        raise SplitInvalid(f"the split sends users to unknown revisions: {', '.join(sorted(strangers))}")
    tags = Counter(target.tag for target in split if target.tag)
    twice = [tag for tag, uses in tags.items() if uses > 1]
    if twice:
        raise SplitInvalid(f"the split uses a tag twice: {', '.join(twice)}")


def tag_for(role: str, rollout_id: str, service: str) -> str:
    """Return a tag of our own such as `canary-1f2e3d4c`, shortened to what the service's name leaves.

    An empty string means that the name leaves no room for a tag that is still unique.
    """
    room = LONGEST_TAG_AND_SERVICE - len(service)
    for tag in (f"{role}-{rollout_id}", f"{role[0]}-{rollout_id}", f"{role[0]}{rollout_id[:4]}"):
        if len(tag) <= room:
            return tag
    return ""


def written(split: Split | Mapping[str, int]) -> str:
    """Return the split as people read it: `web-00001-abc 95 %, web-00002-def 5 %`."""
    shares = split if isinstance(split, Mapping) else shares_of(split, "LATEST")
    return ", ".join(f"{revision} {percent} %" for revision, percent in shares.items()) or "nothing"
