"""Telling: each transition to people once, then into the audit log, whoever is killed."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import structlog

from controller.core.notices import notices_of
from controller.core.trail import Transition
from controller.engine.audit import LogMemory, log_transitions
from controller.engine.outside import Outside
from controller.ports import CanaryError, PermanentError

log = structlog.get_logger()

GRACE = timedelta(minutes=2)
"""So long a transition is left to who made it, who tells people of it and then puts it into the audit log."""
LOOK = timedelta(seconds=15)
"""Between two looks into the audit log, of which few a minute are allowed."""


def tell(
    outside: Outside, memory: LogMemory, waiting: Sequence[Transition], made: Transition | None = None
) -> None:
    """Tell people of the transition that was `made`, and put all that are `waiting` into the audit log.

    Who makes a transition tells people of it when it is written, and before it is in the audit log. So one
    that is not there when it is old was made by somebody who was killed in between, and people are told of it
    by whoever finds it. That it can be put there comes first then: else each who passes would tell it again.
    """
    memory.told &= {each.id for each in waiting}
    if made:
        _send(outside, [made])
        memory.told |= {made.id}
    found = [each for each in waiting if each.id not in memory.logged | memory.told and notices_of(each)]
    missed, left = _missed(outside, memory, found)
    log_transitions(outside, memory, [each for each in waiting if each.id not in left])
    _send(outside, [each for each in missed if each.id in memory.logged])


def _missed(
    outside: Outside, memory: LogMemory, found: Sequence[Transition]
) -> tuple[list[Transition], set[str]]:
    """Return those of the found transitions that nobody tells of, and the ids of those to be left for now."""
    now, everything = outside.clock.now(), {each.id for each in found}
    waits = [until for until in (memory.again_at, memory.look_again_at) if until and now < until]
    if not found or waits:
        return [], everything
    memory.look_again_at = now + LOOK
    try:
        there = _logged_of(outside, found)
    except PermanentError as error:  # the log must not wait for what will never be known
        log.warning("whether people were told cannot be found out; they may not have been", error=str(error))
        return [], set()
    except CanaryError as error:
        log.warning("the audit log cannot be read, so a notice may come later", error=str(error))
        return [], everything
    memory.logged |= there & everything
    missing = [each for each in found if each.id not in there]
    young = {each.id for each in missing if now - each.time < GRACE}
    return [each for each in missing if each.id not in young], young


def _logged_of(outside: Outside, transitions: Iterable[Transition]) -> frozenset[str]:
    """Return the ids of all entries of these transitions' rollouts in the audit log."""
    rollouts = {(each.after.service, each.after.id) for each in transitions}
    return frozenset(
        entry.insert_id
        for service, rollout in sorted(rollouts)
        for entry in outside.audit_log.read_entries(service, rollout)
    )


def _send(outside: Outside, transitions: Iterable[Transition]) -> None:
    notices = [notice for each in transitions for notice in notices_of(each)]
    if not notices:
        return
    for problem in outside.notices.send(notices):
        log.warning("a notice could not be sent; the rollout goes on", problem=problem)
