"""The commands at the edges of a rollout: what they say, what they load, and how they end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from controller.cli.main import app

from .conftest import CANARY, ROOT, SECONDS, Cloud, Shell, as_read, in_force, reports_in

pytestmark = pytest.mark.processes

STANDARD = str(ROOT / "policies/standard.yaml")
SLOW_TO_LOAD = {"google", "grpc", "aiohttp", "structlog", "tenacity"}


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from all_commands(inner, (*path, name))


def test_help_version_and_policy_checks_load_nothing_that_is_slow(shell: Shell) -> None:
    lines = [[*path, "--help"] for path in all_commands(get_command(app))]
    lines += [["--version"], ["policy", "check", STANDARD]]
    assert ["rollout", "--help"] in lines
    assert ["local", "deploy", "--help"] in lines
    ends, loaded = shell.one_after_the_other(*lines)
    assert {(" ".join(line), end.returncode, end.stderr) for line, end in zip(lines, ends, strict=True)} == {
        (" ".join(line), 0, "") for line in lines
    }
    assert SLOW_TO_LOAD.isdisjoint(loaded)


def test_help_is_what_a_person_sees_first(shell: Shell) -> None:
    shown = shell("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f" {name} " in shown.stdout
    bare = shell()
    assert bare.returncode == 2
    assert as_read(bare.stdout + bare.stderr) == as_read(shown.stdout)


def test_a_service_with_one_revision_has_no_status_and_nothing_to_roll_out(cloud: Cloud) -> None:
    name = cloud.a_service()
    before = cloud.service(name)
    status, rollout, as_json = cloud.commands(name, "status", "rollout", "rollout --json")
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout == f"{name} serves {name}-v1 100 %; no rollout is on record\n"
    assert (rollout.returncode, rollout.stderr) == (0, "")
    why = f"Nothing to do: {name}-v1 is the first revision of {name} that works and serves all users."
    assert rollout.stdout == f"{why}\n"
    assert (as_json.returncode, reports_in(as_json.stdout)) == (0, [{"note": why}])
    assert cloud.service(name) == before


def test_status_rejection_and_retry(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    with cloud.rollout(name, cloud.patient) as follower:
        first = follower.until(in_force(20))
        before = cloud.service(name).generation
        as_text, as_json = cloud.commands(name, "status", "status --json")
        assert cloud.service(name).generation == before
        rolled_back, again = cloud.commands(name, "rollback --json", "rollout")
        assert follower.end() == 3
    assert (as_text.returncode, as_text.stderr) == (0, "")
    for words in (f"canary rollout {name}", f"{name}-v1", f"{name}-v2", "80 %", "[20 %]", first["rollout"]):
        assert words in as_text.stdout
    assert not set("╭│╰") & set(as_text.stdout)
    (report,) = reports_in(as_json.stdout)
    assert (report["phase"], report["candidate_percent"]) == ("stepping", 20)
    assert report["serving"] == {f"{name}-v1": 80, f"{name}-v2": 20}
    assert rolled_back.returncode == 0
    assert reports_in(rolled_back.stdout)[-1]["note"].startswith(f"Done: {name} is rolled_back")
    assert again.returncode == 3
    assert f"{name}-v2 was rolled out before; to try it again: canary retry {name}" in again.stdout

    with cloud.start("retry", name, *cloud.at, "--policy", cloud.patient, "--json") as retried:
        second = retried.until(in_force(20))
    assert second["rollout"] != first["rollout"]
    assert cloud.serving(name) == {"v1": 80, "v2": 20}


def read_by_nobody(shell: Shell, *arguments: str) -> tuple[int, str]:
    """Run a command whose reader is gone, as `head` is once it has seen enough; return code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*CANARY, *arguments],
            env=shell.environment,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("policy", "schema"), ("policy", "check", STANDARD)])
def test_a_reader_who_is_gone_is_nothing_to_complain_of(shell: Shell, arguments: tuple[str, ...]) -> None:
    _, errors = read_by_nobody(shell, *arguments)
    assert errors == ""


def test_a_command_whose_output_is_closed_gives_no_traceback(shell: Shell) -> None:
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *CANARY, "policy", "check", STANDARD],
        env=shell.environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert closed.stderr == ""


@pytest.mark.parametrize("command", ["demo", "local status", "local up", "status web --local"])
def test_without_the_emulator_its_commands_say_how_to_get_it(shell: Shell, command: str) -> None:
    """As in the image of the controller, which does not carry it."""
    script = "import sys; sys.modules['controller.emulator'] = None; from controller.__main__ import main; "
    ended = subprocess.run(
        [sys.executable, "-c", f"{script}sys.exit(main())", *command.split()],
        env=shell.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "pip install 'cloud-run-canary[emulator]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 1


def test_a_reader_of_a_rollout_who_is_gone_ends_it_without_a_traceback(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    policy = ("--policy", cloud.patient, "--json")
    code, errors = read_by_nobody(cloud, "rollout", name, *cloud.at, *policy)
    assert code != 0
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert cloud.status(name)["phase"] in {"checking", "stepping"}


def test_policy_commands_print_one_json_object(shell: Shell) -> None:
    bad = shell.file("bad.yaml", "version: 2\n")
    for command, file, code in (
        ("check", STANDARD, 0),
        ("check", bad, 2),
        ("explain", STANDARD, 0),
        ("explain", bad, 2),
    ):
        done = shell("policy", command, file, "--json")
        assert (done.returncode, done.stderr) == (code, "")
        assert len(reports_in(done.stdout)) == 1
