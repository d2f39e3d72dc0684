"""Traffic of a service: what may be asked for, what it resolves to, and the split requests follow."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from google.cloud import run_v2

from controller.emulator.errors import invalid
from controller.emulator.names import DNS_LABEL, by_id

LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
WHOLE = 100
LONGEST_TAG_AND_SERVICE = 46


@dataclass(frozen=True)
class Split:
    """Who gets what: percent by revision (short names; sums to 100 or is empty), and revision by tag."""

    percents: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    referenced: frozenset[str] = frozenset()
    """Every revision that a target refers to, at 0 % too."""

    def revisions(self) -> set[str]:
        """Return every revision that can be reached, by share or by tag."""
        return {name for name, percent in self.percents.items() if percent} | set(self.tags.values())


def normalised(targets: Iterable[run_v2.TrafficTarget], service: str) -> list[run_v2.TrafficTarget]:
    """Return the targets of a service (full name) with their type filled in and short names of revisions.

    None at all means everything to the latest.
    """
    result = [
        run_v2.TrafficTarget(
            type_=_kind(target),
            revision=_short(target.revision, service),
            percent=target.percent,
            tag=target.tag,
        )
        for target in targets
    ]
    return result or [run_v2.TrafficTarget(type_=LATEST, percent=WHOLE)]


def _short(revision: str, service: str) -> str:
    """Return a revision's short name if it is one of this service; any other stays what it is."""
    _, project, *_ = service.split("/")
    return by_id(revision, project).removeprefix(f"{service}/revisions/")


def _kind(target: run_v2.TrafficTarget) -> run_v2.TrafficTargetAllocationType:
    if int(target.type_):
        return target.type_
    return run_v2.TrafficTargetAllocationType(REVISION if target.revision else LATEST)


def check(service_id: str, targets: list[run_v2.TrafficTarget]) -> None:
    """Refuse targets that Cloud Run refuses at once, before looking at any revision."""
    for position, target in enumerate(targets):
        _check_target(service_id, target, f"service.traffic[{position}]")
    total = sum(target.percent for target in targets)
    if total != WHOLE:
        raise invalid(f"Traffic targets sum to {total}, want {WHOLE}.", "service.traffic")
    tags = Counter(target.tag for target in targets if target.tag)
    for tag, uses in tags.items():
        if uses > 1:
            raise invalid(f"Multiple definitions for traffic tag '{tag}'.", "service.traffic")


def _check_target(service_id: str, target: run_v2.TrafficTarget, path: str) -> None:
    if not 0 <= target.percent <= WHOLE:
        raise invalid(
            f"{path}.percent: {target.percent} is out of bounds, expected 0 to {WHOLE}.", f"{path}.percent"
        )
    if target.type_ == LATEST and target.revision:
        raise invalid(
            f"{path}.revision: a target of type LATEST must not name a revision.", f"{path}.revision"
        )
    if target.type_ == REVISION and not target.revision:
        raise invalid(f"{path}.revision: a target of type REVISION must name a revision.", f"{path}.revision")
    if "/" in target.revision:
        raise invalid(
            f"{path}.revision: '{target.revision}' is not a revision of the service '{service_id}'.",
            f"{path}.revision",
        )
    if target.tag and not DNS_LABEL.fullmatch(target.tag):
        raise invalid(
            f"{path}.tag: '{target.tag}' must use only lowercase letters, digits and hyphens, start with a "
            "letter and not end with a hyphen.",
            f"{path}.tag",
        )
    if target.tag and len(target.tag) + len(service_id) > LONGEST_TAG_AND_SERVICE:
        raise invalid(
            f"spec.traffic.tag: traffic tag '{target.tag}' and service name '{service_id}' together are "
            "too long. Combined traffic tag and service name cannot exceed "
            f"{LONGEST_TAG_AND_SERVICE} characters.",
            "spec.traffic.tag",
        )


def resolve(targets: Iterable[run_v2.TrafficTarget], latest_ready: str) -> Split:
    """Return the split that the targets mean; `latest_ready` is a short name, or ""."""
    percents: Counter[str] = Counter()
    tags = {}
    referenced = set()
    for target in targets:
        revision = target.revision or latest_ready
        referenced.add(revision)
        if target.percent:
            percents[revision] += target.percent
        if target.tag:
            tags[target.tag] = revision
    return Split(dict(percents), tags, frozenset(referenced))


def statuses(
    targets: Iterable[run_v2.TrafficTarget], uri: Mapping[str, str]
) -> list[run_v2.TrafficTargetStatus]:
    """Return what the API reports as served: LATEST names no revision, only tags have a URI."""
    return [
        run_v2.TrafficTargetStatus(
            type_=target.type_,
            revision=target.revision,
            percent=target.percent,
            tag=target.tag,
            uri=uri.get(target.tag, ""),
        )
        for target in targets
    ]
