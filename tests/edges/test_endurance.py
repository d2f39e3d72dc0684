"""What a controller withstands for long: an API that is away, and very many passes."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from .conftest import ROOT, SECONDS, in_force, until
from .simulated import USERS_RPS, a_simulated_cloud

pytestmark = pytest.mark.processes

PASSES = 500
BLOCKS_A_PASS = 4
"""Pieces of memory: a minute of evidence is some hundreds, and comes with every fourth pass."""


def test_a_controller_does_not_grow_with_its_passes() -> None:
    program = [sys.executable, str(ROOT / "benchmarks" / "endurance.py")]
    chosen = ("--passes", str(PASSES), "--states", "stepping", "--json")
    done = subprocess.run([*program, *chosen], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    marks = json.loads(done.stdout)["marks"]
    assert marks[-1]["passes"] == PASSES
    assert len({(mark["threads"], mark["files"]) for mark in marks}) == 1, marks
    middle, last = marks[len(marks) // 2 - 1], marks[-1]
    passes = last["passes"] - middle["passes"]
    assert last["blocks"] - middle["blocks"] < BLOCKS_A_PASS * passes, marks


@pytest.mark.parametrize(
    ("knobs", "code", "serving"), [({}, 0, {"v2": 100}), ({"ERROR_SHARE": "0.3"}, 3, {"v1": 100})]
)
def test_a_rollout_outlives_a_restart_of_the_api(
    tmp_path: Path, knobs: dict[str, str], code: int, serving: dict[str, int]
) -> None:
    kept = str(tmp_path / "kept")
    with ExitStack() as stack:
        with a_simulated_cloud(tmp_path, speed=240, state=kept) as before:
            name = before.candidate(**knobs)
            running = stack.enter_context(before.rollout(name, before.sure))
            running.until(in_force(20))
        # Away for longer than one call is tried again.
        assert not until(lambda: running.process.poll() is not None, seconds=6), running.stderr
        with a_simulated_cloud(tmp_path, speed=240, state=kept) as after:
            assert after.at == before.at
            after.local.users(name, USERS_RPS)
            assert running.end() == code, running.stderr
            assert after.serving(name) == serving
            assert after.tags(name) == set()
