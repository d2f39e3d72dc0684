"""The scenarios of progress and promotion."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from scene import LeftError, Stage, Watch, a_stage, both, leave, steps, suffer
from world import SERVICE

from controller.cli.exit_codes import ExitCode
from controller.cli.following import exit_code
from controller.core.mistakes import PolicyInvalid
from controller.core.policy import Policy
from controller.core.rollout import Event, Pause, Phase
from controller.core.traffic import Target
from controller.engine.loop import Ending, Followed
from controller.engine.reconcile import Memory, reconcile
from controller.engine.watching import wait_until


@pytest.fixture
def stage() -> Iterator[Stage]:
    with a_stage() as stage:
        yield stage


GOLDEN = [
    ("waiting", "100/0"),
    ("checking", "100/0"),
    ("stepping", "95/5"),
    ("stepping", "75/25"),
    ("stepping", "50/50"),
    ("baking", "0/100"),
    ("promoted", "0/100"),
]


@pytest.mark.scenario(2)
def test_a_good_candidate_goes_through_every_phase_and_split_for_the_reason_on_record(stage: Stage) -> None:
    stable, candidate = stage.newest(), stage.deploy()
    followed = stage.follow(stage.begin())
    assert followed.ending is Ending.OVER
    assert stage.story == GOLDEN
    passed = r"errors: candidate .*: within limits.*; latency: candidate .*: within limits"
    expected = [
        f"rollout of {candidate} begun by ada",
        f"the candidate {candidate} is ready",
        f"checks passed: {stable} is ready as the way back",
        passed,
        passed,
        passed,
        r"errors: candidate .*: within limits",
    ]
    for reason, pattern in zip(stage.reasons, expected, strict=True):
        assert re.match(pattern, reason), reason
    (target,) = stage.service().traffic
    assert (target.revision, target.percent, target.tag) == (candidate, 100, "")


@pytest.mark.scenario(4)
def test_steps_that_pass_by_evidence_and_steps_with_a_gate_are_gone_through_one_by_one(stage: Stage) -> None:
    stage.deploy()
    manual = {"gate": "manual", "hold": {"at_least": "1m"}}
    mixed = steps(steps=[{"traffic": "5%", **manual}, "25%", {"traffic": "50%", **manual}, "75%"])
    promotions = [
        stage.when(phase, percent, lambda: stage.command(Event.PROMOTE))
        for phase, percent in [(Phase.PAUSED, 5), (Phase.PAUSED, 50), (Phase.STEPPING, 75)]
    ]
    stage.roll_out(mixed, both(*promotions))
    assert stage.story == [
        *GOLDEN[:3],
        ("paused", "95/5"),
        ("stepping", "75/25"),
        ("stepping", "50/50"),
        ("paused", "50/50"),
        ("stepping", "25/75"),
        *GOLDEN[-2:],
    ]
    steps_taken = [tick.record.step for tick in stage.entries if tick.record]
    assert steps_taken == [-1, -1, 0, 0, 1, 2, 2, 3, 4, 4]
    asked = [tick.record.reason for tick in stage.entries if tick.record and tick.record.by == "ada"]
    assert asked[1:] == [f"promoted past {percent} % by ada" for percent in (5, 50, 75)]


@pytest.mark.scenario(5)
def test_promote_while_evidence_is_gathered_goes_to_the_next_step_only(stage: Stage) -> None:
    stage.deploy()
    asked = stage.local.now()
    promote = stage.when(Phase.STEPPING, 5, lambda: stage.command(Event.PROMOTE))
    stage.follow(stage.begin(), promote)
    assert stage.story == GOLDEN
    assert stage.reasons[3] == "promoted past 5 % by ada"
    assert "within limits" in stage.reasons[4]
    first, second = stage.record.windows[:2]
    assert second.start - asked < stage.record.hold.at_least
    assert first.end is not None


@pytest.mark.scenario(5)
def test_promote_full_goes_to_all_users_at_once_and_still_bakes(stage: Stage) -> None:
    stage.deploy()
    promote = stage.when(Phase.STEPPING, 5, lambda: stage.command(Event.PROMOTE_FULL))
    stage.follow(stage.begin(), promote)
    assert stage.story == [*GOLDEN[:3], *GOLDEN[-2:]]
    assert stage.reasons[3] == "promoted to all users by ada"


@pytest.mark.scenario(5)
def test_promote_full_of_a_paused_rollout_goes_to_all_users(stage: Stage) -> None:
    stage.deploy()
    pause = stage.when(Phase.STEPPING, 25, lambda: stage.command(Event.PAUSE))
    promote = stage.when(Phase.PAUSED, 25, lambda: stage.command(Event.PROMOTE_FULL))
    stage.follow(stage.begin(), both(pause, promote))
    assert stage.story == [*GOLDEN[:4], ("paused", "75/25"), *GOLDEN[-2:]]


@pytest.mark.scenario(5)
@pytest.mark.parametrize(
    ("event", "story"),
    [
        (Event.PROMOTE, [("stepping", "75/25"), ("stepping", "50/50"), *GOLDEN[-2:]]),
        (Event.PROMOTE_FULL, GOLDEN[-2:]),
    ],
)
def test_from_a_gate_promote_goes_to_the_next_step_and_promote_full_to_all_users(
    stage: Stage, event: Event, story: list[tuple[str, str]]
) -> None:
    stage.deploy()
    promote = stage.when(Phase.PAUSED, 5, lambda: stage.command(event))
    stage.roll_out(gated(), promote)
    assert stage.story == [*GOLDEN[:3], ("paused", "95/5"), *story]


def gated(gate: str = "manual", **fields: Any) -> Policy:
    """Return the policy of the scenarios with a gate at its first step."""
    return steps(steps=[{"traffic": "5%", "gate": gate}, "25%", "50%"], **fields)


@pytest.mark.scenario(6)
@pytest.mark.parametrize("errors", ["0", "0.4"])
def test_promote_full_of_a_finished_rollout_writes_nothing_and_says_so(stage: Stage, errors: str) -> None:
    stage.deploy(ERROR_SHARE=errors)
    stage.roll_out()
    with stage.stays_as_it_is():
        said = stage.canary("promote", "web", "--full")
    assert said.code == 0
    assert "Nothing to do: the rollout is over: " in said.text


@pytest.mark.scenario(6)
def test_promote_full_of_a_candidate_that_is_not_ready_is_refused(stage: Stage) -> None:
    stage.deploy(START_SECONDS="200")
    stage.begin()
    with stage.stays_as_it_is():
        said = stage.canary("promote", "web", "--full")
    assert said.code == 2
    assert "is not ready to serve" in said.text or "is not ready;" in said.text


def waited(stage: Stage, phase: Phase | None = None) -> Followed:
    """Wait as `status --wait` does, while a controller passes whenever the one who waits looks away."""
    memory = Memory()

    def pass_once() -> None:
        stage.saw(reconcile(stage.outside, SERVICE, memory))
        stage.look()

    waiting = replace(stage.outside, clock=Watch(stage.outside.clock, pass_once))
    followed = wait_until(waiting, SERVICE, phase, None, lambda _: None)
    assert followed is not None
    return followed


@pytest.mark.scenario(7)
def test_a_hold_longer_than_the_deadline_of_readiness_is_no_failure_and_is_waited_for(stage: Stage) -> None:
    candidate = stage.deploy()
    stage.begin(steps(steps=["25%"], hold={"at_least": "8m"}, bake="1m", ready_within="1m"))
    followed = waited(stage)
    assert (followed.ending, exit_code(followed)) == (Ending.OVER, ExitCode.DONE)
    assert stage.story == [*GOLDEN[:2], GOLDEN[3], *GOLDEN[-2:]]
    step, _ = stage.record.windows
    assert step.end is not None
    assert step.end - step.start >= timedelta(minutes=8)
    assert stage.serving() == {candidate: 100}


@pytest.mark.scenario(8)
def test_a_manual_gate_never_opens_by_itself(stage: Stage) -> None:
    stage.deploy()
    with pytest.raises(LeftError):
        stage.follow(stage.begin(gated()), stage.when(Phase.PAUSED, 5, leave))
    with stage.stays_as_it_is():
        for _ in range(3):
            stage.wait(3600)
            stage.saw(reconcile(stage.outside, SERVICE, Memory()))
    assert stage.record.pause is Pause.GATE
    assert stage.record.reason.startswith("waits for a person to let it go on; errors: candidate ")
    assert f"It waits at a gate for a person: canary resume {SERVICE}" in stage.canary("status", SERVICE).text
    stage.command(Event.RESUME)
    stage.follow(stage.begin())
    assert stage.story == [*GOLDEN[:3], ("paused", "95/5"), *GOLDEN[3:]]
    assert stage.reasons[4] == "let through the gate by ada"


@pytest.mark.scenario(8)
def test_a_gate_with_a_time_opens_when_it_is_up_and_not_before(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out(gated("30m"))
    assert stage.story == [*GOLDEN[:3], ("paused", "95/5"), *GOLDEN[3:]]
    assert stage.reasons[4].startswith("the gate opened after 30 minutes; errors: candidate ")
    _, _, _, gate, opened, *_ = (tick.record for tick in stage.entries)
    assert gate is not None
    assert opened is not None
    assert timedelta(minutes=30) <= opened.since - gate.since < timedelta(minutes=31)


@pytest.mark.scenario(8)
def test_at_a_gate_a_candidate_that_turns_bad_is_taken_back(stage: Stage) -> None:
    candidate = stage.deploy()
    harm = stage.when(Phase.PAUSED, 5, lambda: stage.local.behave(candidate, error_share=0.5))
    stage.roll_out(gated("3h"), harm)
    assert stage.story == [*GOLDEN[:3], ("paused", "95/5"), ("rolled_back", "100/0")]


@pytest.mark.scenario(9)
def test_a_pause_before_a_deployment_keeps_the_candidate_from_all_users_until_it_is_resumed(
    stage: Stage,
) -> None:
    stable = stage.newest()
    assert stage.command(Event.PAUSE).done
    stage.deploy()
    paused = stage.begin().rollout
    assert (paused.phase, paused.pause) == (Phase.PAUSED, Pause.PERSON)
    for _ in range(4):
        stage.wait(6 * 3600)
        stage.saw(reconcile(stage.outside, SERVICE, Memory()))
    assert stage.story == [("paused", "100/0")]
    assert stage.serving() == {stable: 100}
    stage.command(Event.RESUME)
    stage.follow(stage.begin())
    assert stage.story == [("paused", "100/0"), *GOLDEN]
    assert stage.reasons[1] == "resumed by ada"


@pytest.mark.scenario(10)
def test_waiting_for_a_pause_ends_when_it_pauses_and_not_before(stage: Stage) -> None:
    stage.deploy()
    stage.begin(gated())
    followed = waited(stage, Phase.PAUSED)
    assert (followed.rollout, followed.rollout.at_gate) == (stage.record, True)
    assert stage.story == [*GOLDEN[:3], ("paused", "95/5")]
    with stage.stays_as_it_is():
        assert stage.canary("status", SERVICE, "--wait-for", "paused").code == 0


@pytest.mark.scenario(10)
def test_waiting_for_a_pause_that_never_comes_ends_with_the_end(stage: Stage) -> None:
    stage.deploy(ERROR_SHARE="0.5")
    stage.begin(gated())
    followed = waited(stage, Phase.PAUSED)
    assert (followed.rollout.phase, exit_code(followed)) == (Phase.ROLLED_BACK, ExitCode.ROLLED_BACK)


REFUSED = {
    "an unknown service": (["status", "wob"], 2, "there is no service 'wob' in projects/demo"),
    "an unknown revision": (["rollout", "web", "--candidate", "web-9"], 2, "has no revision 'web-9'"),
    "conflicting flags": (["promote", "web", "--full", "--local", "--emulator", "x"], 2, "give one of them"),
}


@pytest.mark.scenario(11)
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_is_said_with_its_exit_code_and_nothing_is_written(
    stage: Stage, what: str
) -> None:
    words, code, text = REFUSED[what]
    stage.deploy()
    with stage.stays_as_it_is():
        said = stage.canary(*words)
    assert (said.code, text in said.text) == (code, True), said.text


@pytest.mark.scenario(11)
def test_a_write_that_is_not_allowed_is_said_with_its_permission_and_nothing_is_written(stage: Stage) -> None:
    stage.deploy()
    suffer(stage, kind="error", method="UpdateService", code="PERMISSION_DENIED")
    with stage.stays_as_it_is():
        said = stage.canary("rollout", "web")
    assert said.code == 7
    assert "not allowed; it needs the permission run.services.update" in said.text


@pytest.mark.scenario(12)
def test_steps_of_any_shares_are_honoured(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out(steps(steps=["1%", "2%", "10%", "80%"]))
    served = ["100/0", "100/0", "99/1", "98/2", "90/10", "20/80", "0/100", "0/100"]
    assert [split for _, split in stage.story] == served


@pytest.mark.scenario(12)
def test_one_step_of_100_percent_moves_everybody_at_once_and_bakes(stage: Stage) -> None:
    stage.deploy()
    stage.roll_out(steps(steps=["100%"]))
    assert stage.story == [*GOLDEN[:2], *GOLDEN[-2:]]


@pytest.mark.scenario(12)
@pytest.mark.parametrize(("shares", "why"), [([], "at least one step"), (["10%", "200%"], "200")])
def test_steps_that_cannot_be_are_refused(shares: list[str], why: str) -> None:
    with pytest.raises(PolicyInvalid, match=why):
        steps(steps=shares)


@pytest.mark.scenario(13)
def test_a_finished_service_is_its_owners_to_deploy_and_edit_as_before(stage: Stage) -> None:
    stage.set_traffic((Target("", 100), Target(stage.newest(), 0, "blue")))
    stage.set_annotations(team="payments", note="x\ty  z")
    stage.deploy(START_SECONDS="20")
    assert stage.roll_out().rollout.phase is Phase.PROMOTED
    newest = stage.deploy()
    assert stage.serving() == {newest: 100}
    older = stage.record.stable
    stage.set_traffic((Target(older, 60), Target(newest, 40), Target(older, 0, "blue")))
    stage.wait(3600)
    assert stage.serving() == {older: 60, newest: 40}
    service = stage.service()
    assert [(one.revision, one.tag) for one in service.traffic if one.tag] == [(older, "blue")]
    assert dict(service.annotations).items() >= {"team": "payments", "note": "x\ty  z"}.items()


@pytest.mark.scenario(13)
def test_foreign_tags_labels_and_annotations_are_kept_byte_for_byte(stage: Stage) -> None:
    stable = stage.newest()
    stage.set_traffic((Target(stable, 100), Target(stable, 0, "blue"), Target("", 0, "next")))
    stage.set_annotations(team="payments", example__com="x\ty  é")
    stage.set_labels(cost="42", empty="")
    stage.deploy()
    stage.roll_out()
    service = stage.service()
    assert {(one.tag, one.revision) for one in service.traffic if one.tag} == {("blue", stable), ("next", "")}
    assert dict(service.annotations).items() >= {"team": "payments", "example/com": "x\ty  é"}.items()
    assert dict(service.labels) == {"cost": "42", "empty": ""}
