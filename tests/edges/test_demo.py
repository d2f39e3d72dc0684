"""The demo as a pipeline sees it: one JSON object a scenario, and nothing left behind."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from controller.cli.demo import OUTCOMES
from controller.cli.exit_codes import ExitCode

from .conftest import CANARY, Shell, as_read, reports_in, until

pytestmark = pytest.mark.processes

FIELDS = [
    "scenario",
    "outcome",
    "exit_code",
    "splits",
    "requests_to_candidate",
    "failed_requests",
    "seconds",
    "reason",
]


def processes_of(shell: Shell) -> list[str]:
    """Return the command lines of everything that this shell's commands started and that still runs."""
    mark = f"CANARY_LOCAL_DIR={shell.folder}".encode()
    mark_of_the_demo = f"CANARY_LOCAL_DIR={shell.folder / 'canary-demo-'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it has ended meanwhile, or is another user's
        if any(pair.startswith((mark, mark_of_the_demo)) for pair in environment):
            found.append(command)
    return found


def test_two_scenarios_give_two_objects_and_leave_nothing_behind(shell: Shell) -> None:
    done = subprocess.run(
        [*CANARY, "demo", "--json", "--only", "errors", "--only", "broken"],
        env=shell.environment | {"TMPDIR": str(shell.folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    errors, broken = reports_in(done.stdout)
    assert list(errors) == FIELDS
    assert list(broken) == FIELDS
    assert (errors["scenario"], errors["outcome"], errors["exit_code"]) == ("errors", "rolled_back", 3)
    assert errors["splits"] == [0, 20, 0]
    assert errors["requests_to_candidate"] > errors["failed_requests"] > 0
    assert ": candidate" in errors["reason"]  # on a busy machine, the latency may speak first
    assert (broken["scenario"], broken["outcome"], broken["exit_code"]) == ("broken", "failed", 6)
    assert broken["splits"] == [0]
    assert (broken["requests_to_candidate"], broken["failed_requests"]) == (0, 0)
    assert broken["reason"]
    assert errors["seconds"] > 0
    assert processes_of(shell) == []


def test_each_way_to_end_has_an_outcome() -> None:
    assert set(OUTCOMES) == set(ExitCode)
    assert len(set(OUTCOMES.values())) == len(ExitCode)


def test_an_unknown_scenario_is_refused_with_the_known_ones(shell: Shell) -> None:
    refused = shell("demo", "--only", "nonsense")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no scenario 'nonsense'; there are good, errors, slow, broken" in as_read(refused.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_asked_to_end_takes_everything_down(
    shell: Shell, number: signal.Signals, code: int
) -> None:
    with shell.start("demo", "--json", "--only", "good", TMPDIR=str(shell.folder)) as demo:
        assert until(lambda: sum("emulator.sample" in each for each in processes_of(shell)) == 2)
        os.killpg(demo.process.pid, number)  # as a terminal does
        assert demo.end() == code
        assert "Traceback" not in demo.stderr
        assert processes_of(shell) == []
    assert list(shell.folder.glob("canary-demo-*")) == []
