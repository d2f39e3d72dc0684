"""Commands beside a rollout, as processes: check, history, replay, release, rollback --to, status --wait."""

import getpass
import json
from collections.abc import Iterator

import pytest

from controller.core.pause_ahead import PAUSED

from .conftest import PATIENT, Cloud, Report, a_cloud, as_read, in_force, reports_in

pytestmark = pytest.mark.processes

GATED = PATIENT.replace("at_least: 12h", "at_least: 1m").replace(
    "steps: [20%, 50%]", "steps: [{traffic: 20%, gate: manual}]"
)
DAMAGED = '{"format": 1, "phase": "\x1b[31mred"}'


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A local Cloud Run with no services of other tests."""
    with a_cloud(tmp_path_factory.mktemp("alone"), speed=240) as cloud:
        yield cloud


def at_twenty(cloud: Cloud) -> str:
    """Return a service whose rollout is in force at 20 %, and whose controller was killed."""
    name = cloud.two_revisions()
    with cloud.rollout(name, cloud.patient) as follower:
        follower.until(in_force(20))
    return name


# --- check ---


def test_check_passes_over_every_service_and_tells_of_each(alone: Cloud) -> None:
    nothing = alone("check", *alone.at)
    assert (nothing.returncode, nothing.stderr) == (0, "")
    assert nothing.stdout.startswith("No service has a rollout on record; begin one with: canary rollout")

    died, broken, plain = at_twenty(alone), alone.a_service(), alone.a_service()
    alone.set_record(broken, DAMAGED)
    checked, as_json = alone.one_after_the_other(["check", *alone.at], ["check", *alone.at, "--json"])[0]
    assert (checked.returncode, as_json.returncode) == (2, 2)
    lines = {line.split()[0]: line for line in checked.stdout.splitlines()}
    assert set(lines) == {died, broken}, f"{plain} has no record"
    assert "stepping" in lines[died]
    assert "cannot be read" in lines[broken]
    assert "\x1b" not in checked.stdout + checked.stderr + as_json.stdout
    reports = {report["service"]: report for report in reports_in(as_json.stdout)}
    assert reports[died]["phase"] == "stepping"
    assert "cannot be read" in reports[broken]["error"]
    assert alone.record(broken) == DAMAGED


def test_check_goes_on_with_a_rollout_whose_controller_was_killed(alone: Cloud) -> None:
    name = alone.two_revisions()
    with alone.rollout(name) as follower, alone.users(name):
        follower.until(in_force(20))
        follower.process.kill()
        for _ in range(20):
            ends, _ = alone.one_after_the_other(*[("check", *alone.at)] * 5)
            assert {end.returncode for end in ends} == {0}
            if alone.serving(name) == {"v2": 100}:
                break
    assert alone.serving(name) == {"v2": 100}


# --- history and replay ---


def test_history_and_replay_of_a_rollout(cloud: Cloud) -> None:
    name = at_twenty(cloud)
    cloud.canary("rollback", name)
    table, whole, one, other, last, again, as_json = cloud.commands(
        name,
        "history",
        "history --json",
        f"history --rollout {json.loads(cloud.record(name))['id']}",
        "history --rollout 0000aaaa",
        "history --limit 1",
        "replay",
        "replay --json",
    )
    assert {end.returncode for end in (table, whole, one, other, last, again, as_json)} == {0}
    assert {end.stderr for end in (table, whole, one, other, last, again, as_json)} == {""}
    rows = [line.split() for line in table.stdout.splitlines()]
    assert [row[3] for row in rows[1:]] == ["opened", "ready", "checked", "rollback"]
    assert rows[0][:5] == ["time", "rollout", "event", "phase", "users"]
    assert one.stdout == table.stdout
    assert other.stdout.startswith(f"No such transition of {name} is in the audit log")
    assert last.stdout.splitlines()[1].split() == rows[-1]
    transitions = reports_in(whole.stdout)
    assert [each["event"] for each in transitions] == [
        None,
        "candidate is ready",
        "checks passed",
        "rollback",
    ]
    assert transitions[-1]["after"]["phase"] == "rolled_back"
    assert transitions[0]["after"]["policy"]["steps"] == ["20%", "50%"]
    assert again.stdout.count("the same") == 3
    assert [(each["event"], each["differs"]) for each in reports_in(as_json.stdout)] == [
        ("opened", False),
        ("ready", False),
        ("checked", False),
        ("rollback", False),
    ]


def test_history_where_there_is_none_says_so(cloud: Cloud) -> None:
    name = cloud.a_service()
    for end in cloud.commands(name, "history", "replay"):
        assert (end.returncode, end.stderr) == (0, "")
        assert end.stdout.startswith(f"No such transition of {name} is in the audit log")
    as_json = cloud.canary("history", name, "--json")
    assert (as_json.returncode, as_json.stdout) == (0, "")


def test_history_of_a_service_that_is_not_there_is_a_mistake(cloud: Cloud) -> None:
    for command in ("history", "replay", "history --json", "replay --json"):
        (end,) = cloud.commands("nope", command)
        assert (end.returncode, end.stdout) == (2, "")
        assert "there is no service 'nope'" in end.stderr


# --- status --wait ---


def test_waiting_for_a_gate_and_for_the_end_in_scripts(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    policy = cloud.file("gated.yaml", GATED)
    with cloud.rollout(name, policy) as follower, cloud.users(name):
        follower.until(in_force(20))
        with cloud.start("status", name, *cloud.at, "--wait-for", "paused", "--json") as waiting:
            assert waiting.end() == 0
        assert waiting.reports[-1]["phase"] == "paused"
        assert f"It waits at a gate for a person: canary resume {name}" in cloud.canary("status", name).stdout
        assert cloud.serving(name) == {"v1": 80, "v2": 20}
        with cloud.start("status", name, *cloud.at, "--wait", "--json") as ending:
            resumed = cloud.canary("resume", name)
            assert resumed.returncode == 0, resumed.stderr
            assert ending.end() == 0
    assert ending.reports[-1]["ended"].startswith("Promoted:")
    assert cloud.serving(name) == {"v2": 100}


def test_waiting_that_takes_too_long_ends_with_a_code_of_its_own_and_the_next_step(cloud: Cloud) -> None:
    name = at_twenty(cloud)
    late, now, already = cloud.commands(
        name, "status --wait --timeout 1m", "status --wait-for stepping", "status --timeout 0s"
    )
    assert late.returncode == already.returncode == 4
    assert f"go on with: canary status {name}" in late.stderr
    assert now.returncode == 0
    assert "stepping" in now.stdout


def test_waiting_ends_as_the_rollout_did(cloud: Cloud) -> None:
    name = at_twenty(cloud)
    cloud.canary("rollback", name)
    wait, wanted, other, as_json = cloud.commands(
        name,
        "status --wait",
        "status --wait-for rolled_back",
        "status --wait-for promoted",
        "status --wait --json",
    )
    assert [end.returncode for end in (wait, wanted, other, as_json)] == [3, 0, 3, 3]
    assert "Rolled back:" in wait.stdout
    assert [report["phase"] for report in reports_in(as_json.stdout)] == ["rolled_back"] * 2


def test_what_cannot_be_waited_for_is_refused_with_what_can(cloud: Cloud) -> None:
    name = cloud.a_service()
    phase, time, nothing, unknown = cloud.commands(
        name, "status --wait-for done", "status --wait --timeout soon", "status --wait", "status --wait"
    )
    assert [end.returncode for end in (phase, time, nothing, unknown)] == [2] * 4
    assert "'done' is none of waiting, checking, stepping, paused, baking" in as_read(phase.stderr)
    assert "--timeout" in time.stderr
    assert f"begin one with: canary rollout {name}" in nothing.stderr


# --- release ---


def test_a_release_takes_all_of_canary_away_and_says_so(cloud: Cloud) -> None:
    name = at_twenty(cloud)
    early, back, done, again, as_json = cloud.commands(
        name, "release", "rollback", "release", "release", "release --json"
    )
    assert early.returncode == 2
    assert f"let it end first: canary rollback {name}" in early.stdout
    assert (back.returncode, done.returncode, again.returncode) == (0, 0, 0)
    assert done.stdout.startswith(f"Done: {name}: canary has let go of it")
    assert again.stdout == "Nothing to do: nothing of canary is on it.\n"
    assert reports_in(as_json.stdout) == [{"note": "Nothing to do: nothing of canary is on it."}]
    assert (cloud.record(name), cloud.tags(name)) == ("", set())
    assert cloud.serving(name) == {"v1": 100}


# --- rollback --to, and pause before a deployment ---


def test_a_rollback_goes_where_it_is_told_or_says_why_not(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    cloud.set_traffic(name, v2=100)
    bare, unknown, bad, done, again, as_json = cloud.commands(
        name,
        "rollback",
        f"rollback --to {name}-v9",
        "rollback --to UPPER",
        f"rollback --to {name}-v1",
        f"rollback --to {name}-v1",
        f"rollback --to {name}-v2 --json",
    )
    assert [end.returncode for end in (bare, unknown, bad, done, again, as_json)] == [0, 2, 2, 0, 0, 0]
    assert f"To bring an earlier revision back: canary rollback {name} --to REVISION" in bare.stdout
    assert f"has no revision '{name}-v9'" in as_read(unknown.stderr)
    assert "is not the name of a revision" in as_read(bad.stderr)
    assert done.stdout.splitlines()[-1].endswith(f"{name}-v1 serves all users.")
    assert again.stdout == f"Nothing to do: {name}-v1 serves all users already.\n"
    assert reports_in(as_json.stdout)[-1]["note"].startswith("Done:")
    assert cloud.serving(name) == {"v2": 100}


def test_a_pause_before_a_deployment_is_said_and_kept(cloud: Cloud) -> None:
    name = cloud.a_service()
    paused, again, status, as_json = cloud.commands(name, "pause", "pause --json", "status", "status --json")
    assert f"The next rollout begins paused, by {getpass.getuser()}" in status.stdout
    assert reports_in(as_json.stdout)[0]["paused_ahead"] is True
    assert (paused.returncode, paused.stderr) == (0, "")
    assert paused.stdout.startswith(f"Done: {name}: the next rollout begins paused")
    assert reports_in(again.stdout)[-1]["note"].startswith("Nothing to do: it is paused already")
    assert PAUSED in cloud.service(name).annotations
    cloud.deploy(name, "v2")
    assert cloud.serving(name) == {"v1": 100}

    def is_paused(report: Report) -> bool:
        return report.get("phase") == "paused"

    with cloud.rollout(name) as follower:
        assert follower.until(is_paused)["candidate_percent"] == 0
    resumed, twice = cloud.commands(name, "resume", "resume")
    assert (resumed.returncode, twice.returncode) == (0, 0)
    assert PAUSED not in cloud.service(name).annotations
