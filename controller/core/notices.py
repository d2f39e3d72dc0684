"""Notices: what people are told of a rollout, as it follows from one of its transitions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote

from controller.core.health import HEALTH_CHECK
from controller.core.plain_text import plain
from controller.core.policy_choices import NoticeKind
from controller.core.policy_notices import Receiver
from controller.core.rollout import Event, Pause, Phase, Rollout
from controller.core.trail import Transition
from controller.core.wording import as_sentence


class Weight(StrEnum):
    """How much a notice matters to who gets it."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Notice:
    """What is told, once, and to whom; `id` is the same whoever tells it."""

    id: str
    time: datetime
    kind: NoticeKind
    weight: Weight
    title: str
    body: str
    rollout: Rollout
    receivers: tuple[Receiver, ...]


_ENDS = {
    Phase.PROMOTED: NoticeKind.PROMOTED,
    Phase.ROLLED_BACK: NoticeKind.ROLLED_BACK,
    Phase.FAILED: NoticeKind.FAILED,
    Phase.SUPERSEDED: NoticeKind.SUPERSEDED,
}
_WEIGHTS = {
    NoticeKind.HELD: Weight.WARNING,
    NoticeKind.PROMOTED: Weight.SUCCESS,
    NoticeKind.ROLLED_BACK: Weight.FAILURE,
    NoticeKind.FAILED: Weight.FAILURE,
    NoticeKind.SUPERSEDED: Weight.WARNING,
}


def notices_of(transition: Transition) -> tuple[Notice, ...]:
    """Return what there is to tell of a transition to whom the policy names; mostly one notice, or none.

    The opening of a rollout that takes the place of another one is news of both; one that begins paused is
    started, and held.
    """
    return tuple(notice for notice in _all_of(transition) if notice.receivers)


def _all_of(transition: Transition) -> Iterator[Notice]:
    before, after = transition.before, transition.after
    if before and before.id != after.id and not before.phase.is_terminal:
        reason = f"the rollout of {after.candidate} took its place"
        told = _notice(transition, before, NoticeKind.SUPERSEDED, _superseded(before), reason)
        yield replace(told, id=f"{transition.id}-superseded")
    yield from _of_the_rollout(transition)


def _of_the_rollout(transition: Transition) -> Iterator[Notice]:
    after = transition.after
    kind = kind_of(transition)
    if kind is None:
        return
    told = _notice(transition, after, kind, _title(kind, after), after.reason)
    if transition.event is None and after.phase.is_terminal:
        # A rollback while no rollout is under way: there is no deployment that it could be the end of.
        told = replace(told, receivers=tuple(each for each in told.receivers if not each.github))
    yield told
    if transition.event is None and after.phase is Phase.PAUSED:
        title = f"rollout of {after.candidate} begins paused"
        held = _notice(transition, after, NoticeKind.HELD, title, after.reason)
        yield replace(held, id=f"{transition.id}-held")


def kind_of(transition: Transition) -> NoticeKind | None:
    """Return which kind of news a transition is; None where it is none."""
    phase, event = transition.after.phase, transition.event
    if phase in _ENDS:
        return _ENDS[phase]
    if event is None:
        return NoticeKind.STARTED
    if phase is Phase.PAUSED or event is Event.OVERDUE:
        return NoticeKind.HELD
    return NoticeKind.STEP if phase in {Phase.STEPPING, Phase.BAKING} else None


def _notice(transition: Transition, rollout: Rollout, kind: NoticeKind, title: str, reason: str) -> Notice:
    return Notice(
        id=transition.id,
        time=transition.time,
        kind=kind,
        weight=_weight(kind, transition),
        title=plain(f"{rollout.service}: {title}"),
        body="\n".join(map(plain, _lines(kind, rollout, reason))),
        rollout=rollout,
        receivers=_wanting(rollout.policy.notices, kind),
    )


def _wanting(receivers: Iterable[Receiver], kind: NoticeKind) -> tuple[Receiver, ...]:
    return tuple(receiver for receiver in receivers if kind in receiver.on)


def _weight(kind: NoticeKind, transition: Transition) -> Weight:
    """Return the weight; what a person asked for alarms nobody."""
    if kind in {NoticeKind.HELD, NoticeKind.ROLLED_BACK} and _is_asked_for(transition):
        return Weight.INFO if kind is NoticeKind.HELD else Weight.WARNING
    return _WEIGHTS.get(kind, Weight.INFO)


def _is_asked_for(transition: Transition) -> bool:
    is_of_a_person = transition.event is None and transition.after.by != HEALTH_CHECK
    return is_of_a_person or transition.event in {Event.PAUSE, Event.ROLLBACK}


def _title(kind: NoticeKind, rollout: Rollout) -> str:
    candidate, percent = rollout.candidate, rollout.percent
    match kind:
        case NoticeKind.STARTED:
            return f"rollout of {candidate} started"
        case NoticeKind.STEP if rollout.phase is Phase.BAKING:
            return f"{candidate} gets all users, and bakes"
        case NoticeKind.STEP:
            return f"{candidate} gets {percent} % of the users"
        case NoticeKind.HELD:
            return _held(rollout)
        case NoticeKind.ROLLED_BACK:
            return f"{candidate} rolled back, all users go to {rollout.stable}"
        case NoticeKind.PROMOTED:
            return f"{candidate} promoted"
        case NoticeKind.FAILED:
            return f"{candidate} failed"
        case NoticeKind.SUPERSEDED:
            return _superseded(rollout)


def _held(rollout: Rollout) -> str:
    match rollout.pause:
        case Pause.PERSON:
            return f"{rollout.candidate} paused at {rollout.percent} %"
        case Pause.GATE:
            return f"{rollout.candidate} waits at the gate of {rollout.percent} %"
        case Pause.LIMIT:
            return f"{rollout.candidate} held at {rollout.percent} %"
        case None:
            return f"{rollout.candidate} is not ready in time, and is waited for"


def _superseded(rollout: Rollout) -> str:
    return f"rollout of {rollout.candidate} superseded"


def _lines(kind: NoticeKind, rollout: Rollout, reason: str) -> Iterator[str]:
    yield as_sentence(reason)
    if kind is NoticeKind.HELD and rollout.phase is Phase.PAUSED:
        yield f"To go on, or back: canary resume, promote or rollback {rollout.service}."
    stable = f", beside {rollout.stable}" if rollout.stable else ""
    yield f"Rollout {rollout.id} of {rollout.candidate}{stable}."


def console_link(project: str, region: str, service: str) -> str:
    """Return the page of a service in the console, where its revisions and their shares are shown."""
    place = "/".join(quote(part, safe="") for part in (region, service))
    return f"https://console.cloud.google.com/run/detail/{place}/revisions?project={quote(project, safe='')}"
