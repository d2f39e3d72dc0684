"""The opening of a rollout: which revision is the candidate, which is stable, and what speaks against it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from difflib import get_close_matches

from controller.core.decision import Command
from controller.core.observation import RevisionState, ServiceState
from controller.core.pause_ahead import read_pause_ahead
from controller.core.placement import is_as_written, wanted_split
from controller.core.policy import Policy
from controller.core.rollout import Pause, Phase, Rollout, rollout_id
from controller.core.traffic import ALL, Split, follows_latest, shares_of, without_tags, written

HALF = 50


class OpeningRefused(Exception):
    """A rollout that must not begin, with the reason and the way out."""


@dataclass(frozen=True)
class NothingToDo:
    """There is no candidate that does not serve everybody already."""

    why: str


@dataclass(frozen=True)
class Opening:
    """A rollout to begin, its first split, and what a person should know before: warnings, or just notes."""

    rollout: Rollout
    split: Split
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def open_rollout(
    service: ServiceState,
    revisions: Sequence[RevisionState],
    policy: Policy,
    now: datetime,
    by: str,
    candidate: str = "",
    previous: Rollout | None = None,
    lost: Sequence[Rollout] = (),
) -> Opening | NothingToDo:
    """Return the opening for the newest revision, or for the `candidate` that is named.

    A `previous` rollout that is still on its way is superseded: its stable is the new one's, too. `lost` ones
    were undone as soon as they were opened; their tags are taken away.
    Raises OpeningRefused where a canary would be unsafe or without meaning.
    """
    by_name = {revision.name: revision for revision in revisions}
    chosen = _candidate(service, by_name, candidate)
    serving = _serving(service, previous)
    if "" in serving:
        raise OpeningRefused(
            f"no revision of {service.name} is ready, so there is no stable to compare with; deploy one that"
            " works first"
        )
    if previous and not previous.phase.is_terminal and chosen.name == previous.stable:
        raise OpeningRefused(
            f"{chosen.name} is the stable of the rollout of {previous.candidate} that is under way; to go"
            f" back to it: canary rollback {service.name}"
        )
    others = {name: share for name, share in serving.items() if name != chosen.name}
    if not others and (stays := _already_serving(service, revisions, chosen, previous)):
        return stays
    if len(others) > 1:
        raise OpeningRefused(
            f"more than two revisions serve {service.name} ({written(serving)}), so there is no"
            f" single stable to compare with; leave one of them first: gcloud run services update-traffic"
            f" {service.name} --to-revisions={max(others, key=lambda name: others[name])}=100"
        )
    stable = _stable(service, by_name, others, serving.get(chosen.name, 0))
    rollout = _paused_ahead(service, _waiting(service, stable, chosen, policy, now, by, previous))
    _raise_if_unreachable(service, rollout)
    kept = replace(service, traffic=without_tags(service.traffic, _tags_left(previous, *lost)))
    warnings = tuple(_warnings(rollout, serving, stable, chosen))
    return Opening(rollout, wanted_split(rollout, kept), warnings, tuple(_notes(previous)))


def open_rollback(
    service: ServiceState,
    to: RevisionState,
    now: datetime,
    command: Command,
    previous: Rollout | None = None,
) -> Opening | NothingToDo:
    """Return the rollout, over as soon as it is served, that brings an earlier revision back at once."""
    serving = service.shares_served | service.shares_wanted | _serving(service, previous)
    away_from = {name: share for name, share in serving.items() if name not in {to.name, ""}}
    if not away_from:
        return NothingToDo(f"{to.name} serves all users already")
    left = max(away_from, key=lambda name: away_from[name])
    policy = previous.policy if previous else Policy()
    waiting = _waiting(service, to, RevisionState(left, now), policy, now, command.by, previous)
    reason = f"rolled back to {to.name} by {command.by}"
    rollout = replace(waiting, phase=Phase.ROLLED_BACK, reason=reason, obeyed=(command.id,))
    kept = replace(service, traffic=without_tags(service.traffic, _tags_left(previous)))
    return Opening(rollout, wanted_split(rollout, kept))


def _waiting(
    service: ServiceState,
    stable: RevisionState | None,
    candidate: RevisionState,
    policy: Policy,
    now: datetime,
    by: str,
    previous: Rollout | None,
) -> Rollout:
    return Rollout(
        id=rollout_id(service.name, candidate.name, now),
        service=service.name,
        stable=stable.name if stable else "",
        candidate=candidate.name,
        newest=service.latest_created,
        follows_latest=_followed_latest(service, previous),
        policy=policy,
        phase=Phase.WAITING,
        step=-1,
        started_at=now,
        since=now,
        reason=f"rollout of {candidate.name} begun by {by}",
        by=by,
    )


def _followed_latest(service: ServiceState, previous: Rollout | None) -> bool:
    mark = read_pause_ahead(service)
    by_mark = mark is not None and mark.follows_latest
    return follows_latest(service.traffic) or by_mark or _was_following(service, previous)


def _paused_ahead(service: ServiceState, rollout: Rollout) -> Rollout:
    mark = read_pause_ahead(service)
    if mark is None:
        return rollout
    return replace(
        rollout,
        phase=Phase.PAUSED,
        paused_phase=Phase.WAITING,
        pause=Pause.PERSON,
        reason=f"paused by {mark.by} before it began",
        by=mark.by,
    )


def _stable(
    service: ServiceState, by_name: dict[str, RevisionState], others: dict[str, int], share: int
) -> RevisionState | None:
    """Return the one revision beside the candidate, which has `share` percent; None where there is none."""
    if not others:
        return None
    name = next(iter(others))
    stable = by_name.get(name)
    if stable is None or not stable.ready:
        raise OpeningRefused(
            f"stable {name} is not ready, so there would be no way back; mend it, or serve another revision"
            " first"
        )
    if share > HALF:
        raise OpeningRefused(
            f"the candidate serves {share} % of the users already, so it is no canary; leave stable most of"
            f" them first: gcloud run services update-traffic {service.name} --to-revisions={stable.name}=100"
        )
    return stable


def _serving(service: ServiceState, previous: Rollout | None) -> dict[str, int]:
    """Return the percents to begin from: what is served, or what a rollout before is on its way to.

    One that is still in its steps is superseded, and its stable is the new one's; but what somebody edited
    by hand since stands, also while it is not in force yet.
    """
    if previous is None or previous.is_over or not is_as_written(previous, service):
        return service.shares_served if service.settled else service.shares_wanted
    if previous.phase.is_terminal:
        return service.shares_wanted
    return {previous.stable or previous.candidate: ALL}


def _tags_left(*earlier: Rollout | None) -> tuple[str, ...]:
    """Return our tags that rollouts before may have left when they were superseded, or lost."""
    return tuple(tag for each in earlier if each for tag in (each.candidate_tag, each.stable_tag))


def _candidate(service: ServiceState, by_name: dict[str, RevisionState], wanted: str) -> RevisionState:
    name = wanted or service.latest_created
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name, by_name, n=1)
    hint = f"did you mean {near[0]}?" if near else f"see: gcloud run revisions list --service={service.name}"
    raise OpeningRefused(f"service {service.name} has no revision {name!r}; {hint}")


def _already_serving(
    service: ServiceState, revisions: Sequence[RevisionState], chosen: RevisionState, previous: Rollout | None
) -> NothingToDo | None:
    """Say why nothing begins, or refuse; None where it is the first that works, after others that did not."""
    if previous and previous.phase is Phase.PROMOTED and previous.candidate == chosen.name:
        return NothingToDo(f"{chosen.name} was promoted and serves all users; there is nothing newer")
    older = [revision for revision in revisions if revision.name != chosen.name and revision.ready]
    if not older and len(revisions) > 1 and chosen.ready:
        return None
    if not older:
        return NothingToDo(
            f"{chosen.name} is the first revision of {service.name} that works and serves all users"
        )
    way_back = max(older, key=lambda revision: revision.created_at).name
    raise OpeningRefused(
        f"{chosen.name} serves all users already: it was deployed without --no-traffic, so nothing is left to"
        f" compare it with. To roll it out in steps, send the users back first:\n"
        f"  gcloud run services update-traffic {service.name} --to-revisions={way_back}=100\n"
        f"  canary rollout {service.name} --candidate {chosen.name}\n"
        f"and deploy with --no-traffic from now on"
    )


def _was_following(service: ServiceState, previous: Rollout | None) -> bool:
    """Tell whether an earlier rollout pinned LATEST and left it pinned, untouched since."""
    if previous is None or not previous.follows_latest:
        return False
    if not previous.phase.is_terminal:
        return True
    left = previous.candidate if previous.phase is Phase.PROMOTED else previous.stable
    return shares_of(service.traffic, service.latest_ready) == {left: 100}


def _raise_if_unreachable(service: ServiceState, rollout: Rollout) -> None:
    """Refuse a policy that asks the candidate where that has no address of its own."""
    asking = [name for name in ("smoke", "probes") if getattr(rollout.policy, name)]
    if not asking:
        return
    named = " and ".join(asking)
    if not rollout.candidate_tag:
        raise OpeningRefused(
            f"the policy asks the candidate on an address of its own ({named}), but the name {service.name}"
            f" leaves no room for the tag that it needs; take {named} out of the policy"
        )
    if not service.has_default_url:
        raise OpeningRefused(
            f"the policy asks the candidate on an address of its own ({named}), but the default URL of"
            f" {service.name} is disabled, and with it that of each tag; take {named} out of the policy, or:"
            f" gcloud run services update {service.name} --default-url (or with gcloud beta)"
        )


def _notes(previous: Rollout | None) -> Iterator[str]:
    if previous and not previous.phase.is_terminal:
        where = f"{previous.phase.value} at {previous.percent} %"
        yield f"this takes the place of the rollout of {previous.candidate}, {where}, which is superseded"


def _warnings(
    rollout: Rollout, serving: dict[str, int], stable: RevisionState | None, candidate: RevisionState
) -> list[str]:
    warnings = []
    if stable is None:
        warnings.append(
            f"no revision but {candidate.name} was ever ready: it serves all users already, is judged by"
            " ceilings alone, and there is none to go back to"
        )
    elif not rollout.stable_tag:
        warnings.append(
            f"the name {rollout.service} leaves no room for a tag, so nothing but its age keeps stable from"
            " being collected during the bake"
        )
    sticky = [each.name for each in (stable, candidate) if each and each.session_affinity]
    if sticky:
        warnings.append(
            f"session affinity is on for {' and '.join(sticky)}: users stay with their revision, so the split"
            " will not be exact and requests are not independent"
        )
    if stable and (share := serving.get(candidate.name)):
        warnings.append(f"{candidate.name} serves {share} % of the users already; it goes back to 0 % first")
    return warnings
