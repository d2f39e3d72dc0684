from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest
from builders import NOW, a_policy, a_rollout

from controller.core.evidence import Window
from controller.core.record import parse_record, write_record
from controller.core.rollout import (
    COMMANDS,
    LONGEST_REASON,
    MOVES,
    TERMINAL,
    Event,
    IllegalMove,
    Impossible,
    Pause,
    Phase,
    Refuse,
    Rollout,
    Stay,
    moved,
    observed,
)

EVERYTHING = list(product(Phase, Event))


def test_the_table_has_no_gaps() -> None:
    assert set(MOVES) == set(Phase)
    assert all(set(moves) == set(Event) for moves in MOVES.values())


@pytest.mark.parametrize(("phase", "event"), EVERYTHING)
def test_every_move_is_made_refused_or_impossible_and_never_leaves_an_end(phase: Phase, event: Event) -> None:
    rollout = a_rollout(phase)
    if isinstance(MOVES[phase][event], Impossible):
        with pytest.raises(IllegalMove):
            moved(rollout, event, NOW, "so", "me")
        return
    after = moved(rollout, event, NOW, "so", "me")
    if isinstance(after, Rollout):
        assert phase not in TERMINAL
        assert (after.since, after.observed_at, after.reason, after.by) == (NOW, None, "so", "me")
        assert all(window.end for window in after.windows)
    else:
        assert after.why


@pytest.mark.parametrize(("phase", "command"), list(product(Phase, sorted(COMMANDS))))
def test_every_command_works_in_every_phase_or_says_why_not(phase: Phase, command: Event) -> None:
    assert not isinstance(MOVES[phase][command], Impossible)


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_a_command_after_the_end_changes_nothing(phase: Phase) -> None:
    for command in COMMANDS:
        assert isinstance(moved(a_rollout(phase), command, NOW, "so", "me"), Stay)


def after(rollout: Rollout, event: Event, now: datetime = NOW) -> Rollout:
    result = moved(rollout, event, now, "so", "me")
    assert isinstance(result, Rollout)
    return result


def test_passing_each_step_leads_to_the_bake_and_to_the_end() -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1, policy=a_policy(steps=[5, 25]))
    seen = []
    for event in (Event.CHECKED, Event.PASSED, Event.PASSED, Event.PASSED):
        rollout = after(rollout, event)
        seen.append((rollout.phase, rollout.step, rollout.percent))
    assert seen == [
        (Phase.STEPPING, 0, 5),
        (Phase.STEPPING, 1, 25),
        (Phase.BAKING, 2, 100),
        (Phase.PROMOTED, 2, 100),
    ]


def test_a_policy_of_all_at_once_goes_from_the_checks_to_the_bake() -> None:
    rollout = after(a_rollout(Phase.CHECKING, step=-1, policy=a_policy(steps=[100])), Event.CHECKED)
    assert (rollout.phase, rollout.percent) == (Phase.BAKING, 100)


def test_a_pause_keeps_the_share_and_resume_goes_back_to_the_same_step() -> None:
    paused = after(a_rollout(Phase.STEPPING, step=1), Event.PAUSE)
    assert (paused.phase, paused.percent, paused.paused_phase, paused.held) == (
        Phase.PAUSED,
        25,
        Phase.STEPPING,
        False,
    )
    resumed = after(paused, Event.RESUME)
    assert (resumed.phase, resumed.step, resumed.percent, resumed.paused_phase) == (
        Phase.STEPPING,
        1,
        25,
        None,
    )


def test_promote_out_of_a_pause_goes_to_the_step_after_the_paused_one() -> None:
    promoted = after(after(a_rollout(Phase.STEPPING, step=1), Event.PAUSE), Event.PROMOTE)
    assert (promoted.phase, promoted.step, promoted.percent) == (Phase.STEPPING, 2, 50)


def test_promote_out_of_a_paused_bake_ends_it() -> None:
    paused = after(a_rollout(Phase.BAKING, step=3), Event.PAUSE)
    assert paused.percent == 100
    assert after(paused, Event.PROMOTE).phase is Phase.PROMOTED
    assert after(paused, Event.PROMOTE_FULL).phase is Phase.BAKING


def test_a_candidate_that_was_not_ready_when_paused_cannot_be_promoted() -> None:
    paused = after(a_rollout(Phase.WAITING, step=-1), Event.PAUSE)
    for command in (Event.PROMOTE, Event.PROMOTE_FULL):
        assert isinstance(moved(paused, command, NOW, "so", "me"), Refuse)
    assert after(paused, Event.RESUME).phase is Phase.WAITING


def test_a_hold_by_the_policy_is_told_from_a_pause_by_a_person() -> None:
    assert after(a_rollout(), Event.STUCK).held
    assert not after(after(a_rollout(), Event.STUCK), Event.RESUME).held


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.CHECKING, Phase.STEPPING, Phase.PAUSED, Phase.BAKING])
def test_a_rollback_takes_all_users_back_from_any_phase(phase: Phase) -> None:
    rolled_back = after(a_rollout(phase), Event.ROLLBACK)
    assert (rolled_back.phase, rolled_back.percent) == (Phase.ROLLED_BACK, 0)


def test_evidence_counts_from_the_settle_time_after_the_split_is_seen() -> None:
    rollout = observed(a_rollout(), NOW)
    assert rollout.window == Window(5, NOW + timedelta(seconds=30))
    assert after(rollout, Event.PASSED).windows == (Window(5, NOW + timedelta(seconds=30), NOW),)


def test_a_pause_collects_no_evidence() -> None:
    assert observed(a_rollout(Phase.PAUSED), NOW).windows == ()


def test_it_is_over_only_when_its_end_is_seen_served() -> None:
    ended = a_rollout(Phase.ROLLED_BACK)
    assert not ended.is_over
    assert replace(ended, observed_at=NOW).is_over


# --- gates, deadlines, and rollouts without stable ---


@pytest.mark.parametrize("phase", sorted(set(Phase) - TERMINAL))
@pytest.mark.parametrize("event", [Event.BROKEN, Event.REFUSED, Event.GONE])
def test_without_stable_what_would_roll_back_fails(phase: Phase, event: Event) -> None:
    failed = after(a_rollout(phase, stable=""), event)
    assert (failed.phase, failed.percent) == (Phase.FAILED, 100)


@pytest.mark.parametrize("event", [Event.HARMED, Event.GAVE_UP])
def test_without_stable_harm_in_the_bake_fails(event: Event) -> None:
    assert after(a_rollout(Phase.BAKING, 3, stable=""), event).phase is Phase.FAILED


@pytest.mark.parametrize("phase", sorted(set(Phase) - TERMINAL))
def test_without_stable_a_person_is_told_that_there_is_no_way_back(phase: Phase) -> None:
    answer = moved(a_rollout(phase, stable=""), Event.ROLLBACK, NOW, "so", "me")
    assert isinstance(answer, Refuse)
    assert "deploy one that works" in answer.why


def test_without_stable_the_checks_lead_to_the_bake_whatever_the_steps() -> None:
    policy = a_policy(steps=[5, {"traffic": 50, "gate": "manual"}])
    rollout = after(a_rollout(Phase.CHECKING, -1, stable="", policy=policy), Event.CHECKED)
    assert (rollout.phase, rollout.step, rollout.gate) == (Phase.BAKING, 2, None)
    assert after(rollout, Event.PASSED).phase is Phase.PROMOTED


def test_every_change_is_counted_and_nothing_else() -> None:
    rollout = a_rollout(Phase.CHECKING, -1)
    for number, event in enumerate((Event.CHECKED, Event.GATED, Event.RESUME, Event.ROLLBACK), 1):
        rollout = observed(after(rollout, event), NOW)
        assert rollout.number == number


def test_an_overdue_rollout_waits_until_the_candidate_is_ready() -> None:
    overdue = after(a_rollout(Phase.WAITING, -1), Event.OVERDUE)
    assert (overdue.phase, overdue.overdue, overdue.held) == (Phase.WAITING, True, False)
    assert not after(overdue, Event.READY).overdue


def test_a_candidate_that_fails_before_it_was_ever_ready_has_failed_although_it_was_paused() -> None:
    paused = after(a_rollout(Phase.WAITING, -1), Event.PAUSE)
    assert after(paused, Event.BROKEN).phase is Phase.FAILED


def test_windows_never_overlap_although_the_clock_is_set_back() -> None:
    first = observed(a_rollout(), NOW)
    second = observed(after(first, Event.PASSED, NOW + timedelta(minutes=9)), NOW + timedelta(minutes=2))
    earlier, later = second.windows
    assert earlier.end is not None
    assert later.start >= earlier.end + second.policy.settle


def test_a_pause_of_an_overdue_rollout_is_a_persons() -> None:
    paused = after(after(a_rollout(Phase.WAITING, -1), Event.OVERDUE), Event.PAUSE)
    assert (paused.overdue, paused.held, paused.pause) == (True, False, Pause.PERSON)
    assert not after(paused, Event.RESUME).overdue


def test_a_gate_keeps_the_evidence_open_and_a_persons_pause_there_closes_it() -> None:
    gated = after(observed(a_rollout(), NOW), Event.GATED)
    assert gated.window is not None
    assert observed(gated, NOW).windows == gated.windows
    paused = after(gated, Event.PAUSE)
    assert (paused.window, paused.pause, paused.paused_phase) == (None, Pause.PERSON, Phase.STEPPING)


def test_a_hold_by_the_limit_may_be_taken_over_by_a_person() -> None:
    held = after(a_rollout(), Event.STUCK)
    taken = after(held, Event.PAUSE)
    assert (held.held, taken.held, taken.paused_phase) == (True, False, Phase.STEPPING)


def test_all_of_it_is_kept_by_a_record() -> None:
    for rollout in (
        after(observed(a_rollout(), NOW), Event.GATED),
        after(a_rollout(Phase.WAITING, -1), Event.OVERDUE),
        after(a_rollout(Phase.BAKING, 3, stable=""), Event.HARMED),
    ):
        assert parse_record(write_record(rollout)) == rollout


def reason_kept(reason: str) -> str:
    after = moved(a_rollout(), Event.HARMED, NOW, reason, "me")
    assert isinstance(after, Rollout)
    assert len(after.reason) <= LONGEST_REASON
    return after.reason


def test_a_long_reason_ends_with_a_whole_part() -> None:
    part = "errors: candidate 3 % of 1,234 requests"
    kept = reason_kept("; ".join([part] * 100))
    assert len(kept) > LONGEST_REASON - len(part) - len("; ...")
    assert kept.split("; ") == [part] * kept.count(part) + ["..."]
    assert reason_kept(kept) == kept


@pytest.mark.parametrize("reason", ["x" * LONGEST_REASON, "; ".join(["x" * 498] * 2)])
def test_a_reason_that_fits_is_kept_as_it_is(reason: str) -> None:
    assert reason_kept(reason) == reason


def test_a_part_that_is_very_long_itself_is_cut() -> None:
    assert reason_kept("short; " + "x" * 2000) == "short; " + "x" * (LONGEST_REASON - 10) + "..."
