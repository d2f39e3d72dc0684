"""The decision: one rollout and one observation in, the rollout and the split that should be out.

Asked in this order, so that no metric can delay what matters more: an ended rollout, a person's rollback,
traffic edited by hand, a candidate that is gone or overtaken, other commands, deadlines, and only then
evidence.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.core.findings import VerdictValue
from controller.core.judge import Verdict, judge
from controller.core.observation import Observation, RevisionState, ServiceState
from controller.core.placement import (
    is_as_written,
    is_in_place,
    is_served,
    wanted_split,
    without_unserved_tags,
)
from controller.core.policy_choices import OnDeadline, OnNewRevision, WhenUnsure
from controller.core.rollout import COMMANDS, Event, Phase, Refuse, Rollout, Stay, moved, observed
from controller.core.traffic import Split, written

COMMANDS_KEPT = 8
"""How many ids of commands a record remembers."""

REFUSED_AFTER = timedelta(minutes=5)
"""A split that is still not served after this time is taken for refused."""


@dataclass(frozen=True)
class Command:
    """What a person asks for, and who it is.

    The `id` goes into the record, so that the command can be given again until it is there and yet is obeyed
    once. A promotion goes past the step `past` and no further, whoever else went past it in the meantime.
    """

    event: Event
    by: str
    id: str
    rollout: str
    """The id of the rollout that it is about: no other one obeys it."""
    past: int | None = None
    to: str = ""
    """The revision that a rollback goes to; stable if it is not given."""

    def __post_init__(self) -> None:
        if self.event not in COMMANDS:
            raise ValueError(f"{self.event} is not a command")


@dataclass(frozen=True)
class Decision:
    """The desired state: the rollout's record, and the split (None: leave it as it is).

    `event` is None where nothing happened; `answer` is what a command that changes nothing is told.
    """

    rollout: Rollout
    split: Split | None
    reason: str
    event: Event | None = None
    verdict: Verdict | None = None
    answer: Stay | Refuse | None = None


def decide(rollout: Rollout, observation: Observation, command: Command | None = None) -> Decision:
    """Return what should be, given where the rollout stands and what is seen."""
    service = observation.service
    if command and command.id in rollout.obeyed:
        command = None
    verdict = _verdict(rollout, observation)
    if rollout.phase.is_terminal:
        answer = _answer(rollout, observation, command)
        return _settled(rollout, observation, verdict, answer)
    if command and (objection := _objection(rollout, observation, command)):
        return _settled(rollout, observation, verdict, objection)
    happened = _what_happened(rollout, observation, command, verdict)
    if happened is None:
        return _settled(rollout, observation, verdict, None)
    event, reason, by = happened
    obeying = command is not None and event is command.event
    going_to = command.to if command and obeying else ""
    after = moved(replace(rollout, stable=going_to or rollout.stable), event, observation.now, reason, by)
    if isinstance(after, Stay | Refuse):
        return _settled(rollout, observation, verdict, after)
    if command and obeying:
        after = replace(after, obeyed=(*rollout.obeyed, command.id)[-COMMANDS_KEPT:])
    if event is Event.EDITED:
        after = observed(after, observation.now)
    split = wanted_split(after, service, edited=event is Event.EDITED)
    return Decision(after, split, after.reason, event, verdict)


_ANOTHERS = Refuse("another rollout began in the meantime; give the command again")


def _objection(rollout: Rollout, observation: Observation, command: Command) -> Stay | Refuse | None:
    """Return why a command must not be obeyed: readiness and a way back are required of a person, too."""
    if command.rollout != rollout.id:
        return _ANOTHERS
    if command.to == rollout.candidate:
        return Refuse(f"{command.to} is the candidate; to send it all users: canary promote --full")
    onwards = {Event.PROMOTE, Event.PROMOTE_FULL, *({Event.RESUME} if rollout.at_gate else ())}
    if command.event not in onwards:
        return None
    if command.event is Event.PROMOTE and command.past is not None and rollout.step > command.past:
        return Stay("it is past that step already")
    candidate = observation.candidate
    if candidate is None or not candidate.ready:
        state = _state_of(candidate) if candidate else f"{rollout.candidate} was deleted"
        return Refuse(f"the candidate {state}; wait, or roll back")
    if rollout.percent == 0 and (observation.stable is None or not observation.stable.ready):
        return Refuse(f"stable {rollout.stable} is not ready, so there would be no way back")
    return None


def needs_evidence(rollout: Rollout) -> bool:
    """Tell whether a decision in this phase may rest on metrics."""
    watched = rollout.phase in {Phase.STEPPING, Phase.BAKING} or rollout.at_gate or rollout.held
    return watched and rollout.window is not None


def needs_stable(rollout: Rollout) -> bool:
    """Tell whether a decision in this phase may rest on stable's state: before the first user is moved."""
    return bool(rollout.stable) and rollout.percent == 0


def needs_smoke_test(rollout: Rollout, service: ServiceState, now: datetime) -> bool:
    """Tell whether the candidate can and must be asked the policy's paths and probes now."""
    asks = rollout.phase is Phase.CHECKING and bool(rollout.policy.smoke or rollout.policy.probes)
    return asks and _is_observed(rollout, service, now)


def _verdict(rollout: Rollout, observation: Observation) -> Verdict | None:
    if observation.assessment is None or not needs_evidence(rollout):
        return None
    return judge(rollout.policy, rollout.hold, observation.assessment, observation.others)


Happened = tuple[Event, str, str]
CONTROLLER = "controller"


def _what_happened(
    rollout: Rollout, observation: Observation, command: Command | None, verdict: Verdict | None
) -> Happened | None:
    if command and command.event is Event.ROLLBACK:
        to = f" to {command.to}" if command.to else ""
        return Event.ROLLBACK, f"rolled back{to} by {command.by}", command.by
    if interfered := _interference(rollout, observation):
        return interfered
    if command:
        return command.event, _asked(rollout, command), command.by
    return (
        _of_the_candidate(rollout, observation)
        or _of_the_split(rollout, observation)
        or _of_the_evidence(rollout, observation, verdict)
    )


def _asked(rollout: Rollout, command: Command) -> str:
    words = {
        Event.PROMOTE: f"promoted past {_place(rollout)} by {command.by}",
        Event.PROMOTE_FULL: f"promoted to all users by {command.by}",
        Event.PAUSE: f"paused at {rollout.percent} % by {command.by}",
        Event.RESUME: f"{'let through the gate' if rollout.at_gate else 'resumed'} by {command.by}",
    }
    return words[command.event]


def _place(rollout: Rollout) -> str:
    if rollout.step >= len(rollout.policy.steps):
        return "the bake"
    return f"{rollout.percent} %"


def _interference(rollout: Rollout, observation: Observation) -> Happened | None:
    """Find what other people did to the service since the record was written."""
    service = observation.service
    if not is_as_written(rollout, service):
        found = written(service.shares_wanted)
        reason = f"traffic was changed by hand to {found}; it stays as it was changed"
        return Event.EDITED, reason, CONTROLLER
    if observation.candidate is None:
        return Event.GONE, f"the candidate {rollout.candidate} was deleted", CONTROLLER
    newer = service.latest_created
    if (
        newer not in {rollout.newest, rollout.candidate, rollout.stable, ""}
        and rollout.policy.on_new_revision is OnNewRevision.SUPERSEDE
    ):
        serves = rollout.stable or rollout.candidate
        reason = f"a newer revision, {newer}, was deployed; {serves} serves all users"
        return Event.OVERTAKEN, reason, CONTROLLER
    return None


def _of_the_candidate(rollout: Rollout, observation: Observation) -> Happened | None:
    candidate = observation.candidate
    if candidate is None:
        return None
    if candidate.failed:
        return (
            Event.BROKEN,
            f"the candidate {candidate.name} failed: {_one_line(candidate.message)}",
            CONTROLLER,
        )
    if rollout.phase is not Phase.WAITING:
        return None
    if candidate.ready:
        return Event.READY, f"the candidate {candidate.name} is ready", CONTROLLER
    limit = rollout.policy.ready_within
    if observation.now - rollout.since < limit or rollout.overdue:
        return None
    reason = f"the candidate {candidate.name} was not ready within {_minutes(limit)}"
    if candidate.message:
        reason += f": {_one_line(candidate.message)}"
    if rollout.policy.on_deadline is OnDeadline.REPORT:
        return Event.OVERDUE, f"{reason}; it is waited for", CONTROLLER
    return Event.LATE, reason, CONTROLLER


def _of_the_split(rollout: Rollout, observation: Observation) -> Happened | None:
    """Find a split that is seen served, or that will never be."""
    if rollout.observed_at is not None and rollout.phase is not Phase.CHECKING:
        return None
    service = observation.service
    if _is_observed(rollout, service, observation.now):
        return _checked(rollout, observation) if rollout.phase is Phase.CHECKING else None
    late = observation.now - rollout.since >= REFUSED_AFTER
    exposed = rollout.phase in {Phase.STEPPING, Phase.BAKING, Phase.CHECKING}
    if exposed and ((service.settled and service.failed) or late):
        why = _one_line(service.message) or "it is not served"
        return Event.REFUSED, f"Cloud Run did not take the split over: {why}", CONTROLLER
    return None


def _is_observed(rollout: Rollout, service: ServiceState, now: datetime) -> bool:
    """Tell whether the split counts as served: a service that is never settled must not stop the clock."""
    lasts = now - rollout.since >= REFUSED_AFTER
    return is_served(rollout, service) or (lasts and is_in_place(rollout, service))


def _checked(rollout: Rollout, observation: Observation) -> Happened | None:
    """Make sure of the way back before the first user is sent to the candidate."""
    stable, candidate = observation.stable, observation.candidate
    if stable and not stable.known:
        return _of_checks_that_last(rollout, observation, f"stable {_state_of(stable)}")
    if rollout.stable and (stable is None or not stable.ready):
        state = "was deleted" if stable is None else "is not ready"
        return Event.UNFIT, f"stable {rollout.stable} {state}, so there would be no way back", CONTROLLER
    if candidate is None:
        return None
    if not candidate.ready:
        return _of_checks_that_last(rollout, observation, f"the candidate {_state_of(candidate)}")
    if needs_smoke_test(rollout, observation.service, observation.now):
        if observation.smoke is None:
            return None
        if observation.smoke:
            what = "the smoke test" if rollout.policy.smoke else "its probes"
            return Event.UNFIT, f"{what} failed: {'; '.join(observation.smoke)}", CONTROLLER
    way_back = f"{rollout.stable} is ready as the way back" if rollout.stable else "no other was ever ready"
    return Event.CHECKED, f"checks passed: {way_back}", CONTROLLER


def _of_checks_that_last(rollout: Rollout, observation: Observation, why: str) -> Happened | None:
    """Give checks up that cannot be made for as long as the candidate may take to become ready."""
    limit = rollout.policy.ready_within
    if observation.now - rollout.since < limit:
        return None
    return Event.UNFIT, f"not checked within {_minutes(limit)}: {why}", CONTROLLER


def _of_the_evidence(rollout: Rollout, observation: Observation, verdict: Verdict | None) -> Happened | None:
    if verdict is None:
        return None
    if verdict.value is VerdictValue.FAIL:
        return Event.HARMED, verdict.reason, CONTROLLER
    passed = verdict.value is VerdictValue.PASS and bool(
        observation.candidate and observation.candidate.ready
    )
    if rollout.at_gate:
        return _of_the_gate(rollout, observation, verdict) if passed else None
    if rollout.held:
        return None
    if verdict.stable_is_bad:
        reason = (
            f"{verdict.reason}; stable is no better, so the candidate is not blamed: a person should look"
        )
        return Event.STUCK, reason, CONTROLLER
    if passed and rollout.gate:
        return Event.GATED, f"waits for a person to let it go on; {verdict.reason}", CONTROLLER
    if passed:
        return Event.PASSED, verdict.reason, CONTROLLER
    return _of_the_limit(rollout, observation, verdict)


def _of_the_gate(rollout: Rollout, observation: Observation, verdict: Verdict) -> Happened | None:
    """Open a gate whose time is up; only evidence that passes lets it open."""
    after = rollout.gate.opens_after if rollout.gate else None
    if after is None or observation.now - rollout.since < after:
        return None
    return Event.OPENED, f"the gate opened after {_minutes(after)}; {verdict.reason}", CONTROLLER


def _of_the_limit(rollout: Rollout, observation: Observation, verdict: Verdict) -> Happened | None:
    if rollout.observed_at is None or observation.now - rollout.observed_at < rollout.hold.at_most:
        return None
    candidate = observation.candidate
    passes = verdict.value is VerdictValue.PASS
    why = (
        f"the evidence passes, but the candidate {_state_of(candidate)}"
        if passes and candidate
        else verdict.reason
    )
    overdue = f"not decided within {_minutes(rollout.hold.at_most)}: {why}"
    match rollout.policy.when_unsure:
        case WhenUnsure.ROLLBACK:
            return Event.GAVE_UP, overdue, CONTROLLER
        case WhenUnsure.ADVANCE if verdict.value is VerdictValue.UNSURE:
            onwards = Event.GATED if rollout.gate else Event.PASSED
            return onwards, f"{overdue}; the policy advances when unsure", CONTROLLER
        case WhenUnsure.ADVANCE | WhenUnsure.HOLD:
            return Event.STUCK, overdue, CONTROLLER


def _state_of(revision: RevisionState) -> str:
    if revision.known:
        return f"{revision.name} is not ready"
    return f"{revision.name} cannot be read: {_one_line(revision.message)}"


def _answer(rollout: Rollout, observation: Observation, command: Command | None) -> Stay | Refuse | None:
    if command is None:
        return None
    if command.rollout != rollout.id:
        return _ANOTHERS
    after = moved(rollout, command.event, observation.now, "", command.by)
    return after if isinstance(after, Stay | Refuse) else None


def _settled(
    rollout: Rollout, observation: Observation, verdict: Verdict | None, answer: Stay | Refuse | None
) -> Decision:
    """Decide where nothing happened: note that the split is served, or see to it that it will be."""
    service, reason = observation.service, verdict.reason if verdict else rollout.reason
    if rollout.held:
        reason = rollout.reason  # what the evidence says is not what it waits for
    if rollout.observed_at is not None:
        return Decision(rollout, None, reason, None, verdict, answer)
    changed_since = rollout.phase.is_terminal and not is_as_written(rollout, service)
    if changed_since or _is_observed(rollout, service, observation.now):
        return Decision(observed(rollout, observation.now), None, reason, None, verdict, answer)
    # Only an end is asked for again and again: a step that is not taken over is a reason to go back.
    again = rollout.phase.is_terminal and service.settled
    split = wanted_split(rollout, service) if again else None
    if split and service.failed:
        split = without_unserved_tags(split, service)
    return Decision(rollout, split, reason, None, verdict, answer)


def _one_line(message: str) -> str:
    return " ".join(message.split())[:400]


def _minutes(duration: timedelta) -> str:
    return f"{duration.total_seconds() / 60:g} minutes"
