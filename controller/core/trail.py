"""The trail of a rollout: each transition with what it was decided from, so that it can be decided again.

A transition is written beside the record, in the same write (the annotation UNLOGGED), until it is in the
audit log. So none is lost with the controller that made it, and none is told that did not happen.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core.decision import Command, Decision
from controller.core.observation import Observation
from controller.core.record import RecordInvalid, parse_record, write_record
from controller.core.rollout import Event, Rollout
from controller.core.summary import evidence_summary, verdict_summary

UNLOGGED = "cloud-run-canary/unlogged"
"""The key of the annotation that holds the transitions which are not known to be in the audit log yet."""
LONGEST_UNLOGGED = 48 * 1024
"""Characters; the oldest transitions go first when the audit log is away for long."""


class TransitionInvalid(Exception):
    """What should be a transition is none."""


@dataclass(frozen=True)
class Transition:
    """One change of a rollout, and what it was decided from.

    `event` is None for the opening; `before` is then the rollout whose place it took, if there was one.
    `observation` is without the evidence, which can be read again, and without the annotations of others.
    """

    time: datetime
    event: Event | None
    before: Rollout | None
    after: Rollout
    observation: Observation | None = None
    command: Command | None = None
    verdict: Mapping[str, Any] | None = None
    evidence: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """A name that no other transition has, and that this one always has: a rollout's sort in order."""
        digest = hashlib.sha256(write_record(self.after).encode()).hexdigest()[:8]
        return f"{self.after.id}-{self.after.number:05d}-{digest}"


def opening_of(rollout: Rollout, previous: Rollout | None) -> Transition:
    """Return the transition that opens a rollout."""
    return Transition(rollout.started_at, None, previous, rollout)


def transition_of(
    before: Rollout, observation: Observation, command: Command | None, decision: Decision
) -> Transition:
    """Return the transition that a decision makes; it must have an event."""
    service = replace(observation.service, annotations={}, addresses={}, address="")
    obeyed = command is not None and command.event is decision.event
    return Transition(
        observation.now,
        decision.event,
        before,
        decision.rollout,
        replace(observation, service=service, assessment=None, others=()),
        command if obeyed else None,
        verdict_summary(decision.verdict) if decision.verdict else None,
        evidence_summary(observation.assessment),
    )


def transition_as_plain(transition: Transition) -> dict[str, Any]:
    """Return a transition as plain values that JSON can carry."""
    before, after = transition.before, transition.after
    plain: dict[str, Any] = _rest().dump_python(transition, mode="json", exclude={"before", "after"})
    plain |= {"before": None, "after": json.loads(write_record(after))}
    if before:
        plain["before"] = json.loads(write_record(before))
        if before.policy == after.policy:
            del plain["before"]["policy"]
    return plain


def parse_transition(plain: object) -> Transition:
    """Return the transition in plain values; raises TransitionInvalid."""
    if not isinstance(plain, Mapping):
        raise TransitionInvalid("it is not an object")
    after, before = plain.get("after"), plain.get("before")
    if not isinstance(after, Mapping) or not isinstance(before, Mapping | None):
        raise TransitionInvalid("it has no records")
    try:
        read = parse_record(json.dumps(after))
        earlier = parse_record(json.dumps({"policy": after.get("policy"), **before})) if before else None
        rest = {name: value for name, value in plain.items() if name not in {"before", "after"}}
        transition: Transition = _rest().validate_python({**rest, "before": earlier, "after": read})
    except RecordInvalid as invalid:
        raise TransitionInvalid(f"a record in it cannot be read: {invalid}") from None
    except (ValidationError, ValueError, RecursionError):
        raise TransitionInvalid("its fields are not those of a transition") from None
    if transition.time.tzinfo is None:
        raise TransitionInvalid("its time has no time zone")
    return transition


def those_that_fit(transitions: Sequence[Transition]) -> tuple[Transition, ...]:
    """Return the newest transitions that the annotation has room for."""
    room = LONGEST_UNLOGGED - 1  # for the last bracket; each text has the first one or a comma before it
    for number, transition in enumerate(reversed(transitions)):
        room -= len(_text(transition)) + 1
        if room < 0:
            return tuple(transitions[len(transitions) - number :])
    return tuple(transitions)


def write_unlogged(transitions: Iterable[Transition]) -> str:
    """Return transitions, which must fit, as the text of the annotation; "" for none."""
    texts = [_text(transition) for transition in transitions]
    return f"[{','.join(texts)}]" if texts else ""


def _text(transition: Transition) -> str:
    return json.dumps(transition_as_plain(transition), separators=(",", ":"), sort_keys=True)


def parse_unlogged(text: str) -> tuple[Transition | TransitionInvalid, ...]:
    """Return the transitions in the annotation, each or what is wrong with it.

    Raises TransitionInvalid where there are none to be seen.
    """
    if len(text) > LONGEST_UNLOGGED:
        raise TransitionInvalid(f"it is longer than {LONGEST_UNLOGGED} characters")
    try:
        plain = json.loads(text) if text else []
    except (ValueError, RecursionError):
        raise TransitionInvalid("it is not JSON") from None
    if not isinstance(plain, list):
        raise TransitionInvalid("it is not a list")
    return tuple(_parsed(each) for each in plain)


def _parsed(plain: object) -> Transition | TransitionInvalid:
    try:
        return parse_transition(plain)
    except TransitionInvalid as invalid:
        return invalid


@cache
def _rest() -> TypeAdapter[Transition]:
    return TypeAdapter(Transition)
