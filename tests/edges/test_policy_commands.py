"""The policy commands: what they print, how they end, and what they do not load."""

import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from world import SERVICE, a_world

from controller.cli.policy import app
from controller.core.policy import Policy, policy_digest
from controller.core.policy_schema import policy_reference, policy_schema
from controller.core.units import parse_share

ROOT = Path(__file__).parents[2]
STANDARD = str(ROOT / "policies/standard.yaml")
CAREFUL = str(ROOT / "policies/careful.yaml")
CUSTOM = str(ROOT / "policies/custom.yaml")
AUTO = "version: 1\nsteps: auto\n"
BAD = "version: 1\nstesp: [5]\nhold: 10\n"


def a_bad_file(folder: Path) -> str:
    file = folder / "bad.yaml"
    file.write_text(BAD)
    return str(file)


def explained(file: str, rps: float, *more: str) -> Result:
    """Explain a policy at a service that has had users for an hour."""
    with a_world(rps=rps) as world:
        world.wait(timedelta(minutes=70).total_seconds())
        place = world.local.settings
        at = ["--emulator", world.local.grpc_address, "--project", place.project, "--region", place.region]
        return CliRunner().invoke(app, ["explain", file, "--service", SERVICE, *at, *more])


def test_check_says_ok_for_each_sound_file() -> None:
    result = CliRunner().invoke(app, ["check", STANDARD, CAREFUL, CUSTOM])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{STANDARD}: ok", f"{CAREFUL}: ok", f"{CUSTOM}: ok"]


def test_check_lists_every_mistake_and_ends_with_2(tmp_path: Path) -> None:
    bad = a_bad_file(tmp_path)
    result = CliRunner().invoke(app, ["check", bad, STANDARD, str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"{bad}:2: stesp: unknown field 'stesp'; did you mean 'steps'?",
        f"{bad}:3: hold.at_least: 10 has no unit; write 10m or 10s",
        f"{STANDARD}: ok",
        f"{tmp_path / 'none.yaml'}: there is no such file; check the path",
    ]


def test_check_as_json_gives_one_object_with_each_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", "--json", STANDARD, a_bad_file(tmp_path)])
    assert result.exit_code == 2
    good, bad = json.loads(result.stdout)["files"]
    assert good["ok"] is True
    assert good["digest"] == policy_digest(Policy())
    assert bad["ok"] is False
    assert [(each["line"], each["path"]) for each in bad["mistakes"]] == [(2, "stesp"), (3, "hold.at_least")]


def test_explain_tells_a_person_what_will_happen() -> None:
    result = CliRunner().invoke(app, ["explain", STANDARD])
    assert result.exit_code == 0
    assert "A good release takes about 48m" in result.stdout
    assert f"canary simulate {STANDARD} --rps 10" in result.stdout


def test_explain_tells_what_each_custom_guard_does() -> None:
    result = CliRunner().invoke(app, ["explain", CUSTOM])
    assert result.exit_code == 0
    assert "It rolls back when the bad share of refused-payments is more than 1.25 times" in result.stdout
    assert "It rolls back when good-answers is more than 1.21 times" in result.stdout


def test_explain_as_json_gives_the_times() -> None:
    result = CliRunner().invoke(app, ["explain", STANDARD, "--json"])
    plain = json.loads(result.stdout)
    assert (plain["least"], plain["most"], len(plain["steps"])) == ("48m", "2h30m", 3)


def test_explain_of_a_bad_file_ends_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["explain", a_bad_file(tmp_path)])
    assert result.exit_code == 2
    assert "did you mean 'steps'?" in result.output
    as_json = CliRunner().invoke(app, ["explain", "--json", a_bad_file(tmp_path)])
    assert as_json.exit_code == 2
    assert json.loads(as_json.stdout)["ok"] is False


def test_explain_says_that_steps_are_chosen_when_a_rollout_begins(tmp_path: Path) -> None:
    file = tmp_path / "auto.yaml"
    file.write_text(AUTO)
    result = CliRunner().invoke(app, ["explain", str(file)])
    assert result.exit_code == 0
    assert "the worst candidate fails about 50 requests at most in a step" in result.stdout


def test_explain_at_a_service_shows_the_steps_that_fit_its_traffic(tmp_path: Path) -> None:
    file = tmp_path / "auto.yaml"
    file.write_text(AUTO)
    result = explained(str(file), rps=20)
    assert result.exit_code == 0, result.output
    assert re.search(
        r"In the last hour, stable had (20|19.9|20.1) requests a second, of which", result.stdout
    )
    assert "1%: 12 requests a minute. The worst that is still possible fails" in result.stdout
    assert "Step 1: 1% are 12 requests a minute; with 50 requests to each revision it takes" in result.stdout
    assert "Warning: steps chosen for" in result.stdout


def test_explain_at_a_service_as_json_gives_its_traffic_and_steps(tmp_path: Path) -> None:
    file = tmp_path / "auto.yaml"
    file.write_text(AUTO)
    plain = json.loads(explained(str(file), 20, "--json").stdout)
    assert plain["policy"]["steps"] == {"at_most": 50}
    assert [step["traffic"] for step in plain["at_service"]["steps"]] == ["1%", "5%", "25%", "50%"]
    assert plain["at_service"]["traffic"]["a_minute"] == pytest.approx(1200, rel=0.05)


def test_explain_suggests_a_simulation_of_the_traffic_measured() -> None:
    suggested = explained(STANDARD, rps=20).stdout.splitlines()[-1]
    found = re.search(r"canary simulate \S+ --rps (\S+) --errors (\S+)$", suggested)
    assert found
    assert float(found[1]) == pytest.approx(20, rel=0.05)
    assert parse_share(found[2]) < 0.005


def test_the_file_of_a_suggested_simulation_is_safe_to_show_and_to_paste(tmp_path: Path) -> None:
    file = tmp_path / "a b\x1b[31m.yaml"
    file.write_text("version: 1\n")
    shown = CliRunner().invoke(app, ["explain", str(file)]).stdout.splitlines()[-1]
    assert f"canary simulate '{tmp_path}/a b\\x1b[31m.yaml' --rps 10 --errors 0.5%" in shown


def test_explain_at_a_quiet_service_says_what_is_out_of_reach() -> None:
    result = explained(STANDARD, rps=0.05)
    assert result.exit_code == 0, result.output
    assert "what steps 1, 2, 3 must show is out of reach: with 5%, 50 requests to each" in result.stdout


def test_explain_at_a_service_without_users_says_so() -> None:
    result = explained(STANDARD, rps=0)
    assert result.exit_code == 0, result.output
    assert "In the last hour, stable had no request" in result.stdout


def test_schema_and_reference_are_printed() -> None:
    assert json.loads(CliRunner().invoke(app, ["schema"]).stdout) == policy_schema()
    assert CliRunner().invoke(app, ["reference"]).stdout == policy_reference()


def test_check_loads_nothing_of_google_and_no_network() -> None:
    program = (
        "import sys\n"
        "from controller.cli.policy import app\n"
        f"app(['check', {STANDARD!r}], standalone_mode=False)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'google', 'grpc', 'structlog', 'aiohttp', 'tenacity'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == [f"{STANDARD}: ok", "[]"]


def test_a_wrong_file_name_shows_no_traceback(tmp_path: Path) -> None:
    program = "from controller.cli.policy import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", program, "check", str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
