"""What a rollout prints as plain lines, and what is said of one that was there before."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from builders import NOW, a_policy, a_rollout, a_service, an_observation
from world import QUICK, a_world

from controller.cli.exit_codes import ExitCode
from controller.cli.following import followed_to_the_end
from controller.cli.views import PlainView
from controller.core.decision import Decision
from controller.core.findings import VerdictValue
from controller.core.judge import Verdict
from controller.core.rollout import Event, Phase
from controller.engine.reconcile import Pass


def a_pass(seconds: int, reason: str, value: VerdictValue | None = None, **fields: Any) -> Pass:
    event = fields.pop("event", None)
    rollout = replace(a_rollout(observed_at=NOW), **fields)
    verdict = Verdict(value, reason) if value else None
    seen = an_observation(now=NOW + timedelta(seconds=seconds))
    return Pass(a_service(), seen, Decision(rollout, None, reason, event, verdict))


def printed(*passes: Pass) -> list[str]:
    lines: list[str] = []
    view = PlainView(lines.append)
    for seen in passes:
        view.saw(seen)
    return lines


def test_numbers_that_move_are_a_line_every_five_minutes() -> None:
    unsure = VerdictValue.UNSURE
    lines = printed(*(a_pass(seconds, f"{seconds} requests", unsure) for seconds in range(0, 3600, 15)))
    assert [line.partition("unsure: ")[2] for line in lines] == [f"{n} requests" for n in range(0, 3600, 300)]


def test_what_changes_besides_numbers_is_a_line_at_once() -> None:
    unsure, harm = VerdictValue.UNSURE, VerdictValue.FAIL
    passes = [
        a_pass(0, "1 request", unsure),
        a_pass(15, "harm", harm),
        a_pass(30, "rolled back", harm, event=Event.HARMED, phase=Phase.ROLLED_BACK, observed_at=None),
        a_pass(33, "rolled back", phase=Phase.ROLLED_BACK, observed_at=None),
        a_pass(36, "rolled back", phase=Phase.ROLLED_BACK),
    ]
    assert len(printed(*passes)) == len(passes)
    assert len(printed(*(seen for seen in passes for _ in range(3)))) == len(passes)


def test_what_stays_the_same_is_no_new_line_however_old() -> None:
    assert len(printed(a_pass(0, "so"), a_pass(3600, "so"))) == 1


def test_a_retry_with_a_policy_of_its_own_is_suggested_with_that() -> None:
    with a_world() as world:
        world.pin()
        candidate = world.deploy()
        world.roll_out()
        said: list[str] = []
        for policy in (a_policy(), a_policy(**QUICK)):
            code = followed_to_the_end(world.outside, world.request(policy), PlainView(said.append))
            assert code is ExitCode.DONE
    before = f"{candidate} was rolled out before; to try it again"
    assert f"{before}: canary retry web" in said
    assert f"{before}, with the same policy: canary retry web --policy FILE" in said
