"""Rollouts followed by real processes that are killed, asked to end, put to sleep, and overruled."""

import signal

import pytest

from .conftest import Cloud, Report, in_force, reports_in, splits_in

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("killed_at", [(), (0, 20, 100)])
def test_a_good_candidate_is_promoted_however_often_the_controller_is_killed(
    cloud: Cloud, killed_at: tuple[int, ...]
) -> None:
    name = cloud.two_revisions()
    reports: list[Report] = []
    with cloud.users(name):
        for percent in killed_at:
            reports += followed_until_killed(cloud, name, percent)
        with cloud.rollout(name) as last:
            code = last.end()
            reports += last.reports
            assert last.stderr == ""
    assert code == 0
    assert reports[-1]["phase"] == "promoted"
    assert splits_in(reports, f"{name}-v2") == [0, 20, 50, 100]
    assert cloud.serving(name) == {"v2": 100}
    assert cloud.tags(name) == set()
    assert len({report["rollout"] for report in reports if "rollout" in report}) == 1


@pytest.mark.parametrize("killed_at", [(), (20,)])
def test_a_bad_candidate_is_rolled_back_even_if_the_controller_is_killed(
    cloud: Cloud, killed_at: tuple[int, ...]
) -> None:
    name = cloud.two_revisions(ERROR_SHARE="0.3")
    reports: list[Report] = []
    with cloud.users(name, rps=200):
        for percent in killed_at:
            reports += followed_until_killed(cloud, name, percent, cloud.sure)
        with cloud.rollout(name, cloud.sure) as last:
            code = last.end()
            reports += last.reports
    assert code == 3
    assert reports[-1]["phase"] == "rolled_back"
    assert "errors: candidate" in reports[-1]["reason"]
    assert splits_in(reports, f"{name}-v2") == [0, 20, 0]
    assert cloud.serving(name) == {"v1": 100}
    assert cloud.tags(name) == set()


def followed_until_killed(cloud: Cloud, name: str, percent: int, policy: str = "") -> list[Report]:
    """Follow a rollout and kill its controller when the percent is in force; 0 is at its first word."""
    with cloud.rollout(name, policy) as running:
        running.until(in_force(percent) if percent else lambda report: "phase" in report)
        running.send(signal.SIGKILL)
        assert running.end() == -signal.SIGKILL
        return running.reports


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_controller_that_is_asked_to_end_says_how_to_go_on(
    cloud: Cloud, number: signal.Signals, code: int, word: str
) -> None:
    name = cloud.two_revisions()
    with cloud.users(name):
        with cloud.rollout(name, cloud.short) as first:
            before, record = first.until(in_force(20)), cloud.record(name)
            first.send(number)
            assert first.end(seconds=5) == code
            said = first.stderr
        assert said.startswith(f"canary: {word}; ")
        assert "rollout stays as it is, and the same command goes on with it" in said
        assert "Traceback" not in said
        assert cloud.record(name) == record
        after = cloud.status(name)
        same = ("rollout", "phase", "step", "candidate_percent", "since", "serving")
        assert [after[field] for field in same] == [before[field] for field in same]
        with cloud.rollout(name, cloud.short) as last:
            assert last.end() == 0
    assert cloud.serving(name) == {"v2": 100}


def test_pause_resume_promote_and_rollback_reach_a_rollout_that_is_followed_elsewhere(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    with cloud.rollout(name, cloud.patient) as follower:
        follower.until(in_force(20))

        paused = cloud.canary("pause", name)
        assert paused.returncode == 0
        assert f"Done: {name} is paused with the candidate at 20 %." in paused.stdout
        assert follower.until(lambda report: report["phase"] == "paused")["serving"][f"{name}-v2"] == 20

        resumed = cloud.canary("resume", name)
        assert resumed.returncode == 0
        assert f"canary rollout {name}" in resumed.stdout
        follower.until(lambda report: report["phase"] == "stepping")

        promoted = cloud.canary("promote", name, "--json")
        assert promoted.returncode == 0
        assert "50 %" in reports_in(promoted.stdout)[-2]["note"]
        follower.until(in_force(50))

        rolled_back = cloud.canary("rollback", name)
        assert rolled_back.returncode == 0
        assert cloud.serving(name) == {"v1": 100}
        assert follower.end() == 3
        assert follower.reports[-1]["ended"].startswith(f"Rolled back: {name}-v1 serves all users of {name}.")
    assert cloud.serving(name) == {"v1": 100}
    assert cloud.tags(name) == set()


def test_a_follower_ends_well_when_a_person_promotes_to_the_end(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    with cloud.rollout(name, cloud.patient) as follower:
        follower.until(in_force(20))
        assert cloud.canary("promote", name, "--full").returncode == 0
        assert cloud.serving(name) == {"v2": 100}
        assert follower.until(in_force(100))["phase"] == "baking"
        assert cloud.canary("promote", name).returncode == 0
        assert follower.end() == 0
    assert cloud.serving(name) == {"v2": 100}
    assert cloud.tags(name) == set()


@pytest.mark.parametrize("is_asleep", [False, True])
def test_a_newer_rollout_ends_the_first_which_writes_no_more(cloud: Cloud, is_asleep: bool) -> None:
    name = cloud.two_revisions()
    with cloud.rollout(name, cloud.patient) as first:
        first.until(in_force(20))
        if is_asleep:
            first.send(signal.SIGSTOP)
        cloud.deploy(name, "v3", no_traffic=True)
        with cloud.rollout(name, cloud.patient) as second:
            report = second.until(in_force(20))
            if is_asleep:
                first.send(signal.SIGCONT)
            assert first.end() == 5
            assert (report["stable"], report["candidate"]) == (f"{name}-v1", f"{name}-v3")
            assert cloud.serving(name) == {"v1": 80, "v3": 20}
            assert cloud.tags(name) == {f"stable-{report['rollout']}", f"canary-{report['rollout']}"}
            second.send(signal.SIGTERM)
            assert second.end() == 143
