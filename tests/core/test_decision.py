from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from builders import (
    CANDIDATE,
    ID,
    NOW,
    STABLE,
    a_policy,
    a_revision,
    a_rollout,
    a_sample,
    a_service,
    a_split,
    an_assessment,
    an_observation,
    some_evidence,
)

from controller.core.assessment import assess
from controller.core.decision import REFUSED_AFTER, Command, Decision, decide, needs_evidence
from controller.core.evidence import Evidence, Sample, Stage, Window
from controller.core.findings import VerdictValue
from controller.core.observation import Observation, unread
from controller.core.placement import wanted_split
from controller.core.rollout import Event, Phase, Refuse, Rollout, Stay
from controller.core.traffic import LATEST, Split, Target

GOOD, BAD = a_sample(100), a_sample(100, 30)
NEWER = "web-00003-ghi"
MINUTE = timedelta(minutes=1)


UNREADABLE = assess(a_policy(), Evidence(problem="out of reach"))


def at_step(step: int = 0, minutes: int = 10, **fields: Any) -> Rollout:
    """A rollout whose step's split has been in force for so many minutes."""
    since = NOW - minutes * MINUTE
    rollout = a_rollout(Phase.STEPPING, step, **fields)
    return replace(rollout, observed_at=since, windows=(Window(rollout.percent, since),))


def in_bake(minutes: int = 20, **fields: Any) -> Rollout:
    since = NOW - minutes * MINUTE
    rollout = a_rollout(Phase.BAKING, 3, **fields)
    return replace(rollout, observed_at=since, windows=(Window(100, since),))


def serving(rollout: Rollout, served: Split | None = None, **fields: Any) -> Observation:
    """What is seen when the service asks for what the rollout wrote, and serves it unless said otherwise."""
    service = a_service(wanted_split(rollout, a_service()), served, **fields)
    return an_observation(service)


def judged(rollout: Rollout, stable: Sample, candidate: Sample, **fields: Any) -> Decision:
    assessment = an_assessment(stable, candidate, rollout.policy, percent=rollout.percent, **fields)
    return decide(rollout, replace(serving(rollout), assessment=assessment))


def state(decision: Decision) -> tuple[Phase, int]:
    return decision.rollout.phase, decision.rollout.percent


def shares(decision: Decision) -> dict[str, int]:
    assert decision.split is not None
    return {target.revision: target.percent for target in decision.split if target.percent}


# --- before the first step ---


def test_a_ready_candidate_gets_its_tag_and_no_users_yet() -> None:
    rollout = a_rollout(Phase.WAITING, step=-1)
    decision = decide(rollout, serving(rollout))
    assert state(decision) == (Phase.CHECKING, 0)
    assert shares(decision) == {STABLE: 100}
    assert Target(CANDIDATE, 0, rollout.candidate_tag) in (decision.split or ())


def test_a_candidate_that_is_not_ready_is_waited_for_without_a_tag() -> None:
    rollout = a_rollout(Phase.WAITING, step=-1, observed_at=NOW, since=NOW)
    seen = replace(serving(rollout), candidate=a_revision(ready=False))
    decision = decide(rollout, seen)
    assert (decision.rollout, decision.split) == (rollout, None)
    assert rollout.candidate_tag not in {target.tag for target in wanted_split(rollout, seen.service)}


def test_a_candidate_that_failed_ends_the_rollout_with_its_message() -> None:
    rollout = a_rollout(Phase.WAITING, step=-1)
    broken = a_revision(ready=False, failed=True, message="The user-provided container failed to start.")
    decision = decide(rollout, replace(serving(rollout), candidate=broken))
    assert state(decision) == (Phase.FAILED, 0)
    assert "failed to start" in decision.reason
    assert shares(decision) == {STABLE: 100}


def test_a_candidate_that_is_not_ready_in_time_fails() -> None:
    rollout = a_rollout(Phase.WAITING, step=-1, since=NOW - 10 * MINUTE)
    decision = decide(rollout, replace(serving(rollout), candidate=a_revision(ready=False)))
    assert decision.rollout.phase is Phase.FAILED
    assert "not ready within 10 minutes" in decision.reason


def test_the_first_step_begins_when_the_tag_is_served_and_there_is_a_way_back() -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1)
    decision = decide(rollout, serving(rollout))
    assert state(decision) == (Phase.STEPPING, 5)
    assert shares(decision) == {STABLE: 95, CANDIDATE: 5}


def test_the_first_step_waits_for_the_tag_to_be_served() -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1, since=NOW)
    decision = decide(rollout, serving(rollout, served=a_split()))
    assert state(decision) == (Phase.CHECKING, 0)
    assert decision.split is None


def test_a_failed_smoke_test_ends_the_rollout_before_any_user_meets_the_candidate() -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1, policy=a_policy(smoke="/healthz"))
    seen = serving(rollout)
    assert state(decide(rollout, seen)) == (Phase.CHECKING, 0)
    failed = decide(rollout, replace(seen, smoke=("GET /healthz was answered with 500",)))
    assert state(failed) == (Phase.ROLLED_BACK, 0)
    assert "answered with 500" in failed.reason
    waited = decide(rollout, seen).rollout
    assert state(decide(waited, replace(seen, smoke=()))) == (Phase.STEPPING, 5)


@pytest.mark.parametrize("stable", [None, a_revision(STABLE, ready=False)])
def test_without_a_way_back_no_user_is_sent_to_the_candidate(stable: Any) -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1)
    decision = decide(rollout, replace(serving(rollout), stable=stable))
    assert state(decision) == (Phase.ROLLED_BACK, 0)
    assert "no way back" in decision.reason


# --- a step's clock ---


def test_a_steps_time_begins_when_its_split_is_seen_served() -> None:
    rollout = a_rollout(Phase.STEPPING, since=NOW - MINUTE)
    assert not needs_evidence(rollout)
    decision = decide(rollout, serving(rollout))
    assert decision.rollout.observed_at == NOW
    assert decision.rollout.windows == (Window(5, NOW + timedelta(seconds=30)),)
    assert decision.split is None
    assert needs_evidence(decision.rollout)


def test_a_split_that_is_not_served_yet_starts_no_clock() -> None:
    rollout = a_rollout(Phase.STEPPING, since=NOW - MINUTE)
    for seen in (serving(rollout, served=a_split()), serving(rollout, settled=False)):
        assert decide(rollout, seen) == Decision(rollout, None, "because")


def test_a_split_that_cloud_run_refuses_is_taken_back() -> None:
    rollout = a_rollout(Phase.STEPPING, since=NOW - MINUTE)
    seen = serving(rollout, served=a_split(), failed=True, message="Revision is not ready")
    decision = decide(rollout, seen)
    assert state(decision) == (Phase.ROLLED_BACK, 0)
    assert shares(decision) == {STABLE: 100}
    assert "Revision is not ready" in decision.reason


def test_a_failed_newest_revision_does_not_hide_a_split_that_is_served() -> None:
    rollout = a_rollout(Phase.STEPPING, since=NOW - MINUTE)
    assert decide(rollout, serving(rollout, failed=True)).rollout.observed_at == NOW


def test_a_service_that_is_never_settled_does_not_stop_the_clock_of_a_step_in_place() -> None:
    rollout = a_rollout(Phase.STEPPING, since=NOW - REFUSED_AFTER + timedelta(seconds=1))
    seen = serving(rollout, settled=False)
    assert decide(rollout, seen).rollout == rollout
    decision = decide(rollout, replace(seen, now=NOW + timedelta(seconds=1)))
    assert (decision.event, decision.rollout.observed_at) == (None, NOW + timedelta(seconds=1))
    assert decision.rollout.window is not None


def test_a_service_that_is_never_settled_does_not_stop_the_checks() -> None:
    checking = a_rollout(Phase.CHECKING, step=-1, since=NOW - REFUSED_AFTER)
    seen = replace(serving(checking, settled=False), stable=a_revision(STABLE))
    assert state(decide(checking, seen)) == (Phase.STEPPING, 5)


# --- verdicts ---


def test_a_step_that_passes_leads_to_the_next() -> None:
    decision = judged(at_step(), GOOD, GOOD)
    assert state(decision) == (Phase.STEPPING, 25)
    assert shares(decision) == {STABLE: 75, CANDIDATE: 25}


def test_the_last_step_leads_to_the_bake_with_stable_tagged() -> None:
    rollout = at_step(2)
    decision = judged(rollout, GOOD, GOOD)
    assert state(decision) == (Phase.BAKING, 100)
    assert Target(STABLE, 0, rollout.stable_tag) in (decision.split or ())


def test_harm_takes_all_users_back_and_removes_our_tags() -> None:
    decision = judged(at_step(1), GOOD, BAD)
    assert state(decision) == (Phase.ROLLED_BACK, 0)
    assert decision.split == (Target(STABLE, 100),)
    assert "errors" in decision.reason


def test_harm_in_the_bake_takes_all_users_back() -> None:
    assert state(judged(in_bake(), Sample(), BAD)) == (Phase.ROLLED_BACK, 0)


def test_a_good_bake_promotes() -> None:
    decision = judged(in_bake(), Sample(), GOOD, minutes=15)
    assert state(decision) == (Phase.PROMOTED, 100)
    assert decision.split == (Target(CANDIDATE, 100),)


def test_a_verdict_still_open_changes_nothing() -> None:
    rollout = at_step()
    decision = judged(rollout, GOOD, GOOD, minutes=2)
    assert (decision.rollout, decision.split) == (rollout, None)
    assert decision.verdict is not None
    assert decision.verdict.value is VerdictValue.UNSURE


@pytest.mark.parametrize(
    ("when_unsure", "phase"),
    [("hold", Phase.PAUSED), ("advance", Phase.STEPPING), ("rollback", Phase.ROLLED_BACK)],
)
def test_unsure_past_the_limit_does_what_the_policy_says(when_unsure: str, phase: Phase) -> None:
    rollout = at_step(minutes=31, policy=a_policy(when_unsure=when_unsure))
    decision = judged(rollout, a_sample(3), a_sample(1))
    assert decision.rollout.phase is phase
    assert "not decided within 30 minutes" in decision.reason
    assert decision.rollout.held == (phase is Phase.PAUSED)


@pytest.mark.parametrize("evidence", [Evidence(problem="out of reach"), some_evidence(GOOD, Sample())])
def test_without_any_evidence_a_step_is_never_passed_by_time_alone(evidence: Evidence) -> None:
    rollout = at_step(minutes=300, policy=a_policy(when_unsure="advance"))
    assessment = assess(rollout.policy, evidence)
    decision = decide(rollout, replace(serving(rollout), assessment=assessment))
    assert (decision.rollout.phase, decision.rollout.held) == (Phase.PAUSED, True)


def test_a_metrics_outage_holds_before_the_limit() -> None:
    rollout = at_step(minutes=10)
    decision = decide(rollout, replace(serving(rollout), assessment=UNREADABLE))
    assert decision.rollout == rollout
    assert "out of reach" in decision.reason


def test_when_stable_is_bad_too_a_person_is_asked_at_once() -> None:
    decision = judged(at_step(), BAD, BAD)
    assert (decision.rollout.phase, decision.rollout.held) == (Phase.PAUSED, True)
    assert "not blamed" in decision.reason
    assert shares(decision) == {STABLE: 95, CANDIDATE: 5}


def test_a_candidate_that_breaks_in_the_middle_is_taken_back() -> None:
    rollout = at_step(1)
    seen = replace(serving(rollout), candidate=a_revision(ready=False, failed=True, message="crashed"))
    assert state(decide(rollout, seen)) == (Phase.ROLLED_BACK, 0)


# --- the ends ---


def test_an_end_is_asserted_until_it_is_served() -> None:
    ended = a_rollout(Phase.ROLLED_BACK)
    unserved = decide(ended, serving(ended, served=a_split(75, 25)))
    assert unserved.split == (Target(STABLE, 100),)
    waiting = decide(ended, serving(ended, served=a_split(75, 25), settled=False))
    assert waiting.split is None
    served = decide(ended, serving(ended))
    assert served.rollout.is_over
    assert served.split is None


def test_nothing_is_written_after_the_end() -> None:
    over = a_rollout(Phase.PROMOTED, 3, observed_at=NOW)
    elsewhere = an_observation(a_service(a_split(40, 60)))
    assert decide(over, elsewhere) == Decision(over, None, "because")


def test_an_edit_after_an_end_that_was_never_seen_served_stands() -> None:
    ended = a_rollout(Phase.ROLLED_BACK)
    decision = decide(ended, an_observation(a_service(a_split(0, 100))))
    assert decision.split is None
    assert decision.rollout.is_over


@pytest.mark.parametrize(
    ("after_promotion", "followed", "target"),
    [
        ("as_found", True, LATEST),
        ("as_found", False, CANDIDATE),
        ("latest", False, LATEST),
        ("pinned", True, CANDIDATE),
    ],
)
def test_after_promotion_traffic_is_as_the_policy_says(
    after_promotion: str, followed: bool, target: str
) -> None:
    rollout = in_bake(policy=a_policy(after_promotion=after_promotion), follows_latest=followed)
    decision = judged(rollout, Sample(), GOOD, minutes=15)
    assert decision.split == (Target(target, 100),)


def test_latest_is_not_restored_when_it_would_be_another_revision() -> None:
    rollout = in_bake(policy=a_policy(after_promotion="latest", on_new_revision="ignore"))
    service = a_service(wanted_split(rollout, a_service()), latest_ready=NEWER, latest_created=NEWER)
    assessment = an_assessment(Sample(), GOOD, minutes=15, percent=100)
    decision = decide(rollout, an_observation(service, assessment=assessment))
    assert decision.split == (Target(CANDIDATE, 100),)


# --- other people ---

FOREIGN = (Target(CANDIDATE, 0, "blue"), Target(LATEST, 0, "next"))


def test_foreign_tags_are_kept_through_every_write() -> None:
    rollout = at_step()
    service = a_service(wanted_split(rollout, a_service(a_split(95, 5, *FOREIGN))))
    for candidate in (GOOD, BAD):
        decision = decide(rollout, an_observation(service, assessment=an_assessment(GOOD, candidate)))
        assert set(FOREIGN) <= set(decision.split or ())


@pytest.mark.parametrize("edit", [a_split(50, 50), a_split(100), (Target(LATEST, 100),), a_split(0, 100)])
def test_an_edit_by_hand_ends_the_rollout_and_stands(edit: Split) -> None:
    rollout = at_step()
    own = Target(CANDIDATE, 0, rollout.candidate_tag)
    service = a_service((*edit, own))
    decision = decide(rollout, an_observation(service, assessment=an_assessment(GOOD, BAD)))
    assert decision.rollout.phase is Phase.SUPERSEDED
    assert decision.rollout.is_over
    assert decision.split == edit
    assert "by hand" in decision.reason


def test_a_foreign_tag_added_in_the_middle_is_no_edit_of_the_split() -> None:
    rollout = at_step()
    service = a_service((*wanted_split(rollout, a_service()), *FOREIGN))
    assert decide(rollout, an_observation(service)).rollout == rollout


def test_a_newer_revision_takes_the_candidates_place_and_stable_serves() -> None:
    rollout = at_step(1)
    decision = decide(rollout, serving(rollout, latest_created=NEWER))
    assert state(decision) == (Phase.SUPERSEDED, 0)
    assert shares(decision) == {STABLE: 100}
    assert NEWER in decision.reason


@pytest.mark.parametrize("choice", ["ignore", "queue"])
def test_a_newer_revision_may_be_told_to_wait(choice: str) -> None:
    rollout = at_step(1, policy=a_policy(on_new_revision=choice))
    assert decide(rollout, serving(rollout, latest_created=NEWER)).rollout == rollout


def test_a_deleted_candidate_ends_the_rollout() -> None:
    rollout = at_step()
    decision = decide(rollout, replace(serving(rollout), candidate=None))
    assert state(decision) == (Phase.FAILED, 0)


# --- commands ---


def commanded(rollout: Rollout, event: Event, seen: Observation | None = None) -> Decision:
    return decide(rollout, seen or serving(rollout), Command(event, "ada", "c1", ID))


def test_a_rollback_by_a_person_wins_over_everything_seen() -> None:
    rollout = at_step(2)
    for seen in (serving(rollout), an_observation(a_service(a_split(10, 90)))):
        decision = commanded(rollout, Event.ROLLBACK, replace(seen, assessment=an_assessment(GOOD, GOOD)))
        assert state(decision) == (Phase.ROLLED_BACK, 0)
        assert decision.reason == "rolled back by ada"
        assert shares(decision) == {STABLE: 100}


def test_promote_goes_one_step_and_full_goes_all_the_way() -> None:
    assert state(commanded(at_step(), Event.PROMOTE)) == (Phase.STEPPING, 25)
    assert state(commanded(at_step(), Event.PROMOTE_FULL)) == (Phase.BAKING, 100)


@pytest.mark.parametrize("event", [Event.PROMOTE, Event.PROMOTE_FULL])
def test_a_candidate_that_is_not_ready_is_not_promoted_by_anybody(event: Event) -> None:
    rollout = at_step()
    decision = commanded(rollout, event, replace(serving(rollout), candidate=a_revision(ready=False)))
    assert decision.rollout == rollout
    assert isinstance(decision.answer, Refuse)


def test_an_edit_by_hand_is_noticed_before_a_promotion() -> None:
    decision = commanded(at_step(), Event.PROMOTE, an_observation(a_service(a_split(50, 50))))
    assert decision.rollout.phase is Phase.SUPERSEDED


def test_a_command_after_the_end_is_answered_and_writes_nothing() -> None:
    over = a_rollout(Phase.PROMOTED, 3, observed_at=NOW)
    decision = commanded(over, Event.ROLLBACK)
    assert (decision.rollout, decision.split) == (over, None)
    assert isinstance(decision.answer, Stay)


def test_what_a_person_paused_stays_whatever_the_evidence_says() -> None:
    paused = commanded(at_step(), Event.PAUSE).rollout
    seen = replace(serving(paused), assessment=an_assessment(GOOD, BAD))
    assert decide(paused, seen).rollout.phase is Phase.PAUSED


def test_what_is_held_by_its_limit_is_watched_on_and_taken_back_when_harm_is_shown() -> None:
    """Nobody has asked for this pause: metrics that come back may show what was hidden."""
    held = judged(replace(at_step(), observed_at=NOW - timedelta(hours=9)), Sample(), Sample()).rollout
    assert (held.phase, held.held, needs_evidence(held)) == (Phase.PAUSED, True, True)
    seen = serving(held)
    good = decide(held, replace(seen, assessment=an_assessment(GOOD, GOOD)))
    assert (good.event, good.reason) == (None, held.reason)
    bad = decide(held, replace(seen, assessment=an_assessment(GOOD, BAD)))
    assert (bad.event, state(bad)) == (Event.HARMED, (Phase.ROLLED_BACK, 0))


def test_only_the_latest_stage_passes_a_step() -> None:
    rollout = at_step(1)
    stages = (*some_evidence(GOOD, GOOD, percent=5).stages, Stage(25))
    decision = decide(rollout, replace(serving(rollout), assessment=assess(rollout.policy, Evidence(stages))))
    assert decision.rollout == rollout


# --- a deadline, and revisions that cannot be read ---


def waiting(minutes: int, **policy: Any) -> Rollout:
    since = NOW - minutes * MINUTE
    fields = {"ready_within": "10m", **policy}
    return a_rollout(Phase.WAITING, -1, since=since, observed_at=since, policy=a_policy(**fields))


def test_a_deadline_may_be_reported_once_and_the_candidate_is_waited_for() -> None:
    rollout = waiting(10, on_deadline="report")
    starting = replace(serving(rollout), candidate=a_revision(ready=False, message="pulling\nthe image"))
    decision = decide(rollout, starting)
    assert decision.event is Event.OVERDUE
    assert decision.reason.endswith("not ready within 10 minutes: pulling the image; it is waited for")
    assert shares(decision) == {STABLE: 100}
    later = replace(starting, now=NOW + 100 * MINUTE)
    again = decide(decision.rollout, later)
    assert (again.event, again.rollout.overdue) == (None, True)
    assert decide(again.rollout, serving(again.rollout)).event is Event.READY


@pytest.mark.parametrize(("minutes", "event"), [(9, None), (10, Event.LATE)])
def test_a_deadline_is_kept_to_the_minute(minutes: int, event: Event | None) -> None:
    rollout = waiting(minutes)
    decision = decide(rollout, replace(serving(rollout), candidate=a_revision(ready=False)))
    assert decision.event is event


def test_a_deadline_is_kept_although_the_candidate_cannot_be_read() -> None:
    rollout = waiting(10)
    decision = decide(rollout, replace(serving(rollout), candidate=unread(CANDIDATE, "quota used up")))
    assert decision.event is Event.LATE
    assert "quota used up" in decision.reason


def test_a_revision_that_cannot_be_read_is_neither_ready_nor_failed_nor_deleted() -> None:
    away = unread(CANDIDATE, "denied")
    for rollout in (waiting(1), at_step(), in_bake()):
        assert decide(rollout, replace(serving(rollout), candidate=away)).event is None
    rollout = at_step()
    for command in (Event.PROMOTE, Event.PROMOTE_FULL):
        answer = commanded(rollout, command, replace(serving(rollout), candidate=away)).answer
        assert isinstance(answer, Refuse)
        assert "cannot be read: denied" in answer.why


def test_a_stable_that_cannot_be_read_lets_nobody_to_the_candidate() -> None:
    rollout = a_rollout(Phase.CHECKING, -1)
    tagged = wanted_split(rollout, a_service())
    seen = replace(serving(rollout, tagged), stable=unread(STABLE, "denied"))
    entered = replace(rollout, since=NOW)
    assert decide(entered, seen).event is None
    given_up = decide(rollout, seen)
    assert given_up.event is Event.UNFIT
    assert given_up.reason == f"not checked within 10 minutes: stable {STABLE} cannot be read: denied"
    assert isinstance(commanded(rollout, Event.PROMOTE, seen).answer, Refuse)


# --- without stable ---


def alone(phase: Phase = Phase.BAKING, step: int = 3, minutes: int = 20) -> Rollout:
    """A rollout of the first revision that works: all users are on it from the beginning."""
    since = NOW - minutes * MINUTE
    windows = (Window(100, since),) if phase is Phase.BAKING else ()
    return a_rollout(phase, step, stable="", observed_at=since, since=since, windows=windows)


def seen_alone(rollout: Rollout, **fields: Any) -> Observation:
    return replace(serving(rollout), **{"stable": None, **fields})


@pytest.mark.parametrize(
    ("candidate", "event", "phase"),
    [(GOOD, Event.PASSED, Phase.PROMOTED), (BAD, Event.HARMED, Phase.FAILED)],
)
def test_without_stable_ceilings_alone_judge(candidate: Sample, event: Event, phase: Phase) -> None:
    rollout = alone()
    many = replace(candidate, codes={code: 20 * number for code, number in candidate.codes.items()})
    weighed = an_assessment(Sample(), many, rollout.policy, percent=100, minutes=20)
    decision = decide(rollout, seen_alone(rollout, assessment=weighed))
    assert (decision.event, decision.rollout.phase) == (event, phase)
    assert shares(decision) == {CANDIDATE: 100}


def test_without_stable_the_users_stay_in_every_phase_and_no_tag_is_empty() -> None:
    for phase, step in ((Phase.WAITING, -1), (Phase.CHECKING, -1), (Phase.BAKING, 3), (Phase.FAILED, 3)):
        split = wanted_split(alone(phase, step), a_service())
        assert {target.revision: target.percent for target in split if target.percent} == {CANDIDATE: 100}
        assert all(target.revision for target in split)


def test_without_stable_a_rollback_needs_a_revision_to_go_to() -> None:
    rollout = alone()
    assert isinstance(commanded(rollout, Event.ROLLBACK).answer, Refuse)
    back = decide(rollout, seen_alone(rollout), Command(Event.ROLLBACK, "ada", "c2", ID, to=STABLE))
    assert state(back) == (Phase.ROLLED_BACK, 0)
    assert shares(back) == {STABLE: 100}


def test_without_stable_it_can_be_paused_resumed_and_promoted() -> None:
    paused = commanded(alone(), Event.PAUSE, seen_alone(alone())).rollout
    assert paused.percent == 100
    resumed = decide(paused, seen_alone(paused), Command(Event.RESUME, "ada", "c2", ID)).rollout
    assert resumed.phase is Phase.BAKING
    assert commanded(alone(), Event.PROMOTE, seen_alone(alone())).rollout.phase is Phase.PROMOTED


# --- a rollback to another revision ---


def test_a_rollback_goes_to_the_revision_that_is_named() -> None:
    rollout, older = at_step(1), "web-00000-old"
    for seen in (serving(rollout), an_observation(a_service(a_split(10, 90)))):
        decision = decide(rollout, seen, Command(Event.ROLLBACK, "ada", "c1", ID, to=older))
        assert shares(decision) == {older: 100}
        assert decision.rollout.stable == older
        assert decision.reason == f"rolled back to {older} by ada"
        again = decide(decision.rollout, serving(decision.rollout))
        assert (again.event, again.rollout.observed_at) == (None, NOW)


def test_a_rollback_to_the_candidate_is_refused_with_what_to_do_instead() -> None:
    rollout = at_step(1)
    decision = decide(rollout, serving(rollout), Command(Event.ROLLBACK, "ada", "c1", ID, to=CANDIDATE))
    assert decision.rollout == rollout
    assert isinstance(decision.answer, Refuse)
    assert "canary promote --full" in decision.answer.why
