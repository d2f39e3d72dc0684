"""Gates of steps: evidence must pass before one, and goes on being watched while it is closed."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import (
    ID,
    NOW,
    a_policy,
    a_revision,
    a_rollout,
    a_sample,
    a_service,
    a_split,
    an_assessment,
    an_observation,
)

from controller.core.assessment import assess
from controller.core.decision import Command, Decision, decide, needs_evidence
from controller.core.evidence import Evidence, Sample, Window
from controller.core.mistakes import PolicyInvalid
from controller.core.observation import Observation, unread
from controller.core.placement import wanted_split
from controller.core.policy import Policy, policy_as_plain
from controller.core.policy_fields import Gate
from controller.core.record import parse_record, write_record
from controller.core.rollout import Event, Pause, Phase, Rollout, Stay
from controller.core.traffic import Split, Target

GOOD, BAD = a_sample(1000), a_sample(1000, 300)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def gated(gate: str = "manual") -> Policy:
    return a_policy(steps=[{"traffic": 5, "gate": gate}, 50])


def stepping(gate: str = "manual") -> Rollout:
    """A rollout whose gated step has been in force for ten minutes."""
    begun = NOW - 10 * MINUTE
    return a_rollout(policy=gated(gate), observed_at=begun, windows=(Window(5, begun),))


def seen_of(
    rollout: Rollout, sample: Sample | None = None, now: datetime = NOW, **fields: Any
) -> Observation:
    """What is seen when the rollout is served as it was written, with evidence if a sample is given."""
    seen = an_observation(a_service(wanted_split(rollout, a_service())), now=now, **fields)
    if sample is None:
        return seen
    assessment = an_assessment(GOOD, sample, rollout.policy, percent=rollout.percent)
    return replace(seen, assessment=assessment)


def at_gate(gate: str = "manual") -> Rollout:
    """A rollout that came to the gate of its step just now, and is seen there."""
    rollout = stepping(gate)
    reached = decide(rollout, seen_of(rollout, GOOD)).rollout
    return decide(reached, seen_of(reached)).rollout


def commanded(rollout: Rollout, event: Event, seen: Observation | None = None) -> Decision:
    return decide(rollout, seen or seen_of(rollout), Command(event, "ada", "c1", ID))


def shares(split: Split | None) -> dict[str, int]:
    return {target.revision: target.percent for target in split or () if target.percent}


# --- the way to it ---


def test_evidence_that_passes_stops_at_the_gate_with_the_split_as_it_was() -> None:
    rollout = stepping()
    decision = decide(rollout, seen_of(rollout, GOOD))
    after = decision.rollout
    assert decision.event is Event.GATED
    assert (after.phase, after.pause, after.percent, after.step) == (Phase.PAUSED, Pause.GATE, 5, 0)
    assert shares(decision.split) == shares(wanted_split(rollout, a_service()))
    assert after.windows == rollout.windows
    assert "waits for a person" in after.reason


def test_a_gate_is_no_hold_by_the_limit() -> None:
    assert at_gate().at_gate
    assert not at_gate().held


def test_harm_is_no_reason_to_wait_at_the_gate() -> None:
    rollout = stepping()
    assert decide(rollout, seen_of(rollout, BAD)).rollout.phase is Phase.ROLLED_BACK


def test_a_step_without_a_gate_goes_on_by_itself() -> None:
    begun = NOW - 10 * MINUTE
    rollout = a_rollout(policy=gated(), step=0)
    rollout = replace(rollout, policy=a_policy(steps=[5, 50]), observed_at=begun, windows=(Window(5, begun),))
    assert decide(rollout, seen_of(rollout, GOOD)).event is Event.PASSED


def test_evidence_that_never_suffices_is_held_by_the_limit_and_not_by_the_gate() -> None:
    rollout = stepping()
    late = NOW + rollout.hold.at_most
    decision = decide(rollout, seen_of(rollout, Sample(), now=late))
    assert decision.rollout.pause is Pause.LIMIT
    assert not decision.rollout.at_gate


def test_a_candidate_that_is_not_ready_does_not_reach_the_gate() -> None:
    rollout = stepping()
    seen = seen_of(rollout, GOOD, candidate=a_revision(ready=False))
    assert decide(rollout, seen).event is None


# --- in front of it ---


def test_the_evidence_goes_on_being_read_at_a_gate_and_at_a_limit_but_not_where_a_person_paused() -> None:
    waiting = at_gate()
    assert needs_evidence(waiting)
    assert waiting.observed_at == NOW
    assert needs_evidence(replace(waiting, pause=Pause.LIMIT))
    assert not needs_evidence(replace(waiting, pause=Pause.PERSON))


def test_a_manual_gate_stays_closed_however_long_the_evidence_passes() -> None:
    waiting = at_gate()
    decision = decide(waiting, seen_of(waiting, GOOD, now=NOW + 100 * HOUR))
    assert (decision.event, decision.rollout) == (None, waiting)


def test_harm_at_the_gate_is_rolled_back() -> None:
    waiting = at_gate()
    decision = decide(waiting, seen_of(waiting, BAD, now=NOW + HOUR))
    assert decision.event is Event.HARMED
    assert decision.rollout.phase is Phase.ROLLED_BACK
    assert all(window.end for window in decision.rollout.windows)


def test_a_time_that_is_up_at_the_gate_holds_nothing() -> None:
    waiting = at_gate()
    decision = decide(waiting, seen_of(waiting, Sample(), now=NOW + 100 * HOUR))
    assert decision.rollout == waiting


def test_a_newer_revision_and_an_edit_by_hand_end_it_at_the_gate() -> None:
    waiting = at_gate()
    newer = seen_of(waiting, GOOD)
    newer = replace(newer, service=replace(newer.service, latest_created="web-00003-ghi"))
    assert decide(waiting, newer).event is Event.OVERTAKEN
    edited = an_observation(a_service(a_split(50, 50)))
    assert decide(waiting, edited).event is Event.EDITED


def test_a_record_keeps_the_gate() -> None:
    waiting = at_gate("2h")
    read = parse_record(write_record(waiting))
    assert read == waiting
    assert read.gate == Gate(2 * HOUR)


# --- opening by time ---


@pytest.mark.parametrize(("minutes", "event"), [(119, None), (120, Event.OPENED)])
def test_a_gate_opens_after_its_time_by_evidence_that_passes(minutes: int, event: Event | None) -> None:
    waiting = at_gate("2h")
    decision = decide(waiting, seen_of(waiting, GOOD, now=NOW + minutes * MINUTE))
    assert decision.event is event
    assert decision.rollout.percent == (50 if event else 5)
    if event:
        assert (decision.rollout.phase, decision.rollout.step) == (Phase.STEPPING, 1)
        assert "after 120 minutes" in decision.reason


@pytest.mark.parametrize("sample", [None, Sample()], ids=["unread", "no requests"])
def test_time_alone_opens_no_gate(sample: Sample | None) -> None:
    waiting = at_gate("2h")
    assert decide(waiting, seen_of(waiting, sample, now=NOW + 10 * HOUR)).rollout == waiting


@pytest.mark.parametrize("state", [a_revision(ready=False), unread("web-00002-def", "denied")])
def test_no_gate_opens_for_a_candidate_that_is_not_known_to_be_ready(state: Any) -> None:
    waiting = at_gate("2h")
    decision = decide(waiting, seen_of(waiting, GOOD, now=NOW + 10 * HOUR, candidate=state))
    assert decision.rollout == waiting


# --- people ---


@pytest.mark.parametrize("event", [Event.RESUME, Event.PROMOTE])
def test_a_person_lets_it_through_to_the_next_step(event: Event) -> None:
    decision = commanded(at_gate(), event)
    after = decision.rollout
    assert (after.phase, after.step, after.percent, after.pause) == (Phase.STEPPING, 1, 50, None)
    assert all(window.end for window in after.windows)
    assert after.obeyed == ("c1",)
    assert "by ada" in decision.reason


def test_a_person_may_send_it_to_the_bake_or_back() -> None:
    assert commanded(at_gate(), Event.PROMOTE_FULL).rollout.phase is Phase.BAKING
    assert commanded(at_gate(), Event.ROLLBACK).rollout.phase is Phase.ROLLED_BACK


def test_a_persons_pause_at_the_gate_takes_its_place_and_the_step_is_judged_again_after_it() -> None:
    paused = commanded(at_gate("2h"), Event.PAUSE).rollout
    assert (paused.phase, paused.pause, paused.percent) == (Phase.PAUSED, Pause.PERSON, 5)
    assert all(window.end for window in paused.windows)
    later = decide(paused, seen_of(paused, GOOD, now=NOW + 10 * HOUR))
    assert later.rollout.phase is Phase.PAUSED
    resumed = commanded(later.rollout, Event.RESUME).rollout
    assert resumed.phase is Phase.PAUSED, "the same command is obeyed once"
    resumed = decide(later.rollout, seen_of(paused), Command(Event.RESUME, "ada", "c2", ID)).rollout
    assert (resumed.phase, resumed.step) == (Phase.STEPPING, 0)


def test_a_second_pause_by_a_person_changes_nothing() -> None:
    paused = commanded(at_gate(), Event.PAUSE).rollout
    again = decide(paused, seen_of(paused), Command(Event.PAUSE, "bob", "c2", ID))
    assert isinstance(again.answer, Stay)
    assert again.rollout.by == "ada"


def test_after_the_last_gate_comes_the_bake() -> None:
    policy = a_policy(steps=[{"traffic": 5, "gate": "manual"}])
    waiting = replace(at_gate(), policy=policy)
    assert commanded(waiting, Event.RESUME).rollout.phase is Phase.BAKING


def test_tags_of_others_stay_at_the_gate() -> None:
    rollout, blue = stepping(), Target("web-00002-def", 0, "blue")
    seen = seen_of(rollout, GOOD)
    seen = replace(seen, service=a_service((*seen.service.traffic, blue)))
    assert blue in (decide(rollout, seen).split or ())


# --- as it is written ---


@pytest.mark.parametrize("written", ["manual", "2h", "30m"])
def test_a_gate_is_written_as_it_is_read(written: str) -> None:
    policy = gated(written)
    assert policy_as_plain(policy)["steps"][0]["gate"] == written


@pytest.mark.parametrize("written", ["off", None, False])
def test_a_gate_that_is_off_is_none(written: Any) -> None:
    assert gated(written).steps[0].gate is None


@pytest.mark.parametrize("written", ["auto", "0s", "-1h", 5, True, ["manual"], {"opens_after": "2h"}])
def test_a_gate_that_is_none_is_refused_with_what_to_write(written: Any) -> None:
    with pytest.raises(PolicyInvalid, match="expected manual, a duration such as 2h"):
        gated(written)


def test_the_bake_has_no_gate() -> None:
    with pytest.raises(PolicyInvalid, match="put the gate on the step before"):
        a_policy(steps=[{"traffic": 100, "gate": "manual"}])


def test_a_policy_that_advances_when_unsure_stops_at_a_gate_all_the_same() -> None:
    policy = a_policy(steps=[{"traffic": "5%", "gate": "manual"}, "50%"], when_unsure="advance")
    long_ago = NOW - timedelta(hours=2)
    rollout = a_rollout(policy=policy, observed_at=long_ago, since=long_ago, windows=(Window(5, long_ago),))
    unsure = seen_of(rollout)
    unsure = replace(unsure, assessment=assess(policy, Evidence()))
    decision = decide(rollout, unsure)
    assert decision.event is Event.GATED
    assert decision.rollout.at_gate
