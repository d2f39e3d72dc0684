"""The scenarios of progress and promotion."""

import re
from collections.abc import Iterator

import pytest
from scene import Stage, a_stage, both, steps, suffer

from controller.core.policy import PolicyInvalid
from controller.core.rollout import Event, Phase
from controller.core.traffic import Target
from controller.engine.loop import Ending


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


REFUSED = {
    "an unknown service": (["status", "wob"], 2, "there is no service 'wob' in projects/demo"),
    "an unknown revision": (["rollout", "web", "--candidate", "web-9"], 2, "has no revision 'web-9'"),
    "conflicting flags": (["promote", "web", "--full", "--local", "--emulator", "x"], 2, "HOST:PORT"),
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
