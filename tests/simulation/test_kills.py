"""A controller is killed before and after each call it makes; another goes on, and nobody can tell.

`make simulate ARGS=--kills` kills at every single call; here, at each call in each state once.
"""

import pytest
from kills import CANDIDATES, check_kill, distinct_kills, undisturbed

from controller.core.rollout import Phase
from controller.emulator.settings import EtagMode

pytestmark = pytest.mark.repeats

PARTS = 6
SAMPLE = 4
"""Where etags are enforced, each so-many-th kill is tried."""
ENDS = {"good": Phase.PROMOTED, "bad": Phase.ROLLED_BACK}


@pytest.mark.scenario(52)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_kill_at_any_call_changes_nothing(candidate: str, part: int) -> None:
    _, points = undisturbed(candidate, EtagMode.IGNORE)
    for point, moment in list(distinct_kills(points))[part::PARTS]:
        check_kill(candidate, EtagMode.IGNORE, point, moment)


@pytest.mark.scenario(52)
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_a_kill_changes_nothing_where_etags_are_enforced(candidate: str) -> None:
    _, points = undisturbed(candidate, EtagMode.ENFORCE)
    for point, moment in list(distinct_kills(points))[::SAMPLE]:
        check_kill(candidate, EtagMode.ENFORCE, point, moment)


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_the_rollouts_that_are_killed_go_through_all_their_phases(candidate: str) -> None:
    outcome, points = undisturbed(candidate, EtagMode.IGNORE)
    last, _ = outcome.transitions[-1]
    assert last is ENDS[candidate]
    assert len(outcome.trail) == len(outcome.transitions)
    assert {Phase.WAITING, Phase.CHECKING, Phase.STEPPING} < {phase for phase, _ in outcome.transitions}
    called = {point.name for point in points}
    assert {"cloud_run.write_service", "metrics.read_minutes", "probes.ask", "clock.sleep"} < called
