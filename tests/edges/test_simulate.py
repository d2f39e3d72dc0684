"""The command that foresees: what it prints, that it is the same again, and what bad input gets."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli.main import app
from controller.core.policy import parse_policy
from controller.gateways.policy_files import PolicyFileInvalid
from controller.simulation.power import outcomes, simulate_many
from controller.simulation.rollouts import Ending, simulate
from controller.simulation.users import Behaviour, Latency, Users

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, Any] = {
    "version": 1,
    "steps": ["20%", "50%"],
    "hold": {"at_least": "3m", "at_most": "20m", "requests": 50},
    "bake": {"at_least": "3m", "at_most": "20m", "requests": 50},
}
POLICY = parse_policy(PLAIN)
GOOD = Behaviour(0.01, Latency(100, 250))


def users(candidate: Behaviour = GOOD, rps: float = 10.0) -> Users:
    return Users(rps, GOOD, candidate)


def policy_file(folder: Path, **fields: Any) -> str:
    file = folder / "policy.json"
    file.write_text(json.dumps(PLAIN | fields))
    return str(file)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "120"})
    return result.exit_code, result.output


# --- what is foreseen ---


@pytest.mark.parametrize(
    ("candidate", "rps", "ending"),
    [
        (GOOD, 10, Ending.PROMOTED),
        (Behaviour(0.2, GOOD.latency), 10, Ending.ROLLED_BACK),
        (Behaviour(0.01, Latency(300, 900)), 10, Ending.ROLLED_BACK),
        (GOOD, 0.0001, Ending.UNSURE),
    ],
)
def test_rollouts_end_as_they_should(candidate: Behaviour, rps: float, ending: Ending) -> None:
    assert {simulate(POLICY, users(candidate, rps), f"1/{seed}").ending for seed in range(6)} == {ending}


def test_a_good_rollout_takes_the_time_that_the_policy_says() -> None:
    outcome = simulate(POLICY, users(), "1")
    # Three stages of three minutes, each with half a minute to settle and three until its minutes are final.
    assert outcome.minutes == 3 * (3 + 1 + 3)


def test_the_users_of_a_bad_candidate_are_counted_until_it_is_rolled_back() -> None:
    outcome = simulate(POLICY, users(Behaviour(0.2, GOOD.latency)), "1")
    assert outcome.requests == pytest.approx(600 * 0.2 * outcome.minutes, rel=0.1)
    assert outcome.failed == pytest.approx(0.2 * outcome.requests, rel=0.2)
    assert "beyond doubt" in outcome.reason


def test_the_same_seed_gives_the_same_whatever_the_number_of_processes() -> None:
    in_one = [simulate(POLICY, users(), f"7/{number}") for number in range(12)]
    assert list(outcomes(POLICY, users(), 12, 7)) == in_one
    assert [simulate(POLICY, users(), f"8/{number}") for number in range(12)] != in_one


def test_shares_add_up_and_times_are_in_order() -> None:
    power = simulate_many(POLICY, users(Behaviour(0.03, GOOD.latency), rps=2), 40, 1)
    shares = [times.share for times in (power.rolled_back, power.promoted, power.unsure)]
    assert sum(shares) == pytest.approx(1)
    assert power.rolled_back.median is not None
    assert power.rolled_back.p90 is not None
    assert power.rolled_back.median <= power.rolled_back.p90


# --- what is printed ---


def test_it_prints_how_often_how_soon_and_at_what_cost(tmp_path: Path) -> None:
    code, output = run(policy_file(tmp_path), "--candidate-errors", "20%", "--runs", "6")
    assert code == 0
    assert "6 rollouts at 10 requests a second; stable: 0.5 % errors, p50 100 ms, p95 300 ms" in output
    assert "candidate: 20 % errors" in output
    for row in ("rolled back", "promoted", "unsure", "requests before a rollback"):
        assert row in output
    assert "beyond doubt" in output


def test_as_json_it_gives_the_same_numbers_again(tmp_path: Path) -> None:
    arguments = (policy_file(tmp_path), "--candidate-latency", "x2", "--runs", "5", "--json")
    code, output = run(*arguments)
    assert (code, output) == (0, run(*arguments)[1])
    found = json.loads(output)
    assert found["users"]["candidate"]["latency"] == {"median": 200, "p95": 600}
    assert found["rolled_back"]["share"] == 1
    assert found["promoted"] == {"share": 0, "median_minutes": None, "p90_minutes": None}
    assert found["failed_before_rollback"] >= 0


def test_a_sweep_prints_a_table_and_a_curve(tmp_path: Path) -> None:
    code, output = run(policy_file(tmp_path), "--sweep", "--errors", "2%", "--runs", "4")
    assert code == 0
    rows = [line for line in output.splitlines() if line.startswith("│ x")]
    assert [row.split()[1] for row in rows] == ["x1", "x1.25", "x1.5", "x2", "x3", "x5", "x10"]
    assert "●" in output
    assert "100 % ┤" in output


def test_a_sweep_of_latency_finds_the_slow_ones(tmp_path: Path) -> None:
    arguments = ("--sweep", "--candidate-latency", "x2", "--runs", "4", "--json")
    code, output = run(policy_file(tmp_path), *arguments)
    assert code == 0
    points = json.loads(output)["sweep"]
    assert [point["candidate"] for point in points] == ["x1", "x1.1", "x1.25", "x1.5", "x2", "x3"]
    assert points[0]["rolled_back"]["share"] == 0
    assert points[-1]["rolled_back"]["share"] == 1


def test_custom_guards_are_left_out_and_it_says_so(tmp_path: Path) -> None:
    custom = {"payments": {"bad": 'metric.type="x"', "total": 'metric.type="y"'}}
    code, output = run(policy_file(tmp_path, guards={"custom": custom}), "--runs", "2")
    assert code == 0
    assert "Note: without the custom guards (payments): their metrics cannot be drawn." in output
    alone = {"errors": "off", "latency": "off", "custom": custom}
    code, output = run(policy_file(tmp_path, guards=alone), "--runs", "2")
    assert code == 2
    assert "only custom guards decide" in " ".join(output.split())


@pytest.mark.parametrize("policy", ["standard", "careful", "fast"])
def test_the_example_policies_promote_a_good_release(policy: str) -> None:
    code, output = run(str(ROOT / f"policies/{policy}.yaml"), "--rps", "40", "--runs", "2", "--json")
    assert code == 0
    assert json.loads(output)["promoted"]["share"] == 1


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_it_ends_at_once_and_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "controller", "simulate", policy_file(tmp_path), "--runs", "100000"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    wait_for(lambda: len(children(running.pid)) > 1)
    if number is signal.SIGINT:  # a terminal sends it to all of them
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == code
    assert "Traceback" not in errors
    wait_for(lambda: not is_there(running.pid))


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.05)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rps", "0"], "0 is not above 0"),
        (["--rps", "nan"], "nan is not above 0"),
        (["--rps", "many"], "should be a valid number"),
        (["--errors", "1"], "expected a share such as 5%"),
        (["--errors", "120%"], "is not between 0% and 100%"),
        (["--candidate-errors", "x1000"], "more than all requests would fail"),
        (["--candidate-errors", "twice"], "expected a share such as 5%"),
        (["--latency", "100"], "has no unit"),
        (["--latency", "300ms:100ms"], "is not a median and a 95th percentile"),
        (["--latency", "0ms"], "is not a median"),
        (["--candidate-latency", "x0"], "expected a duration"),
        (["--runs", "0"], "greater than or equal to 1"),
        (["--sweep", "--errors", "0"], "a sweep multiplies stable's errors; give some"),
        (["--sweep", "--candidate-errors", "x2"], "a sweep tries errors of its own"),
    ],
)
def test_bad_options_are_refused_with_what_to_write(tmp_path: Path, arguments: list[str], words: str) -> None:
    code, output = run(policy_file(tmp_path), *arguments)
    assert code == 2
    assert words in " ".join(output.replace("│", " ").split())


def test_a_bad_policy_is_refused_with_its_mistakes(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", policy_file(tmp_path, stesp=[5])])
    assert isinstance(result.exception, PolicyFileInvalid)
    assert "did you mean 'steps'?" in str(result.exception)
