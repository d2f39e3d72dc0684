"""`canary init`: what it writes works, what it prints is known to gcloud, and it overwrites nothing."""

import json
import os
import pty
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli.main import app
from controller.gateways.policy_files import read_policy

from .conftest import CANARY, SECONDS, as_read
from .gcloud_help import help_of, needs_gcloud

ROOT = Path(__file__).parents[2]
PLACE = ("--project", "my-project", "--region", "europe-west1")


def init(folder: Path, *options: str) -> Result:
    place = dict.fromkeys(("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "CLOUD_RUN_REGION"), "")
    return CliRunner(env=place).invoke(app, ["init", "--dir", str(folder), *options])


def plan(folder: Path, *options: str) -> dict[str, Any]:
    done = init(folder, *PLACE, "--service", "web", *options, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def build_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "cloudbuild.canary.yaml").read_text())
    return found


def test_the_policy_is_the_standard_one(tmp_path: Path) -> None:
    assert plan(tmp_path)["files"] == [str(tmp_path / n) for n in ("canary.yaml", "cloudbuild.canary.yaml")]
    assert read_policy(tmp_path / "canary.yaml") == read_policy(ROOT / "policies/standard.yaml")
    text = (tmp_path / "canary.yaml").read_text()
    assert not re.search(r"\S+\.(json|yaml)\b(?<!canary\.yaml)", text), "it names no file that is not there"


def test_with_staging_the_policy_asks_something_and_staging_is_asked_it(tmp_path: Path) -> None:
    plan(tmp_path, "--staging-service", "web-staging")
    assert read_policy(tmp_path / "canary.yaml").smoke
    build = build_of(tmp_path)
    assert [step["id"] for step in build["steps"]] == ["staging", "check-staging", "deploy", "canary"]
    assert build["substitutions"]["_STAGING_SERVICE"] == "web-staging"
    assert build["steps"][1]["args"][0] == "probe"


@pytest.mark.parametrize("more", [(), ("--staging-service", "web-staging")])
def test_the_build_is_one_and_ends_with_the_canary(tmp_path: Path, more: tuple[str, ...]) -> None:
    plan(tmp_path, *more)
    build = build_of(tmp_path)
    last = build["steps"][-1]
    assert (last["id"], last["args"][0]) == ("canary", "rollout")
    assert last["name"] == "${_CANARY_IMAGE}"
    used = set(re.findall(r"\$\{(_\w+)\}", json.dumps(build)))
    assert used == set(build["substitutions"]), "Cloud Build refuses what is missing, and what is not used"


@pytest.mark.parametrize("more", [(), ("--staging-service", "web-staging")])
def test_the_build_has_the_steps_of_the_whole_pipeline(tmp_path: Path, more: tuple[str, ...]) -> None:
    plan(tmp_path, *more)
    whole, own = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text()), build_of(tmp_path)
    ids = [step["id"] for step in own["steps"]]
    assert [step for step in whole["steps"] if step["id"] in ids] == own["steps"]
    assert {name: whole[name] for name in ("options", "timeout")} == {
        name: own[name] for name in ("options", "timeout")
    }
    assert own["substitutions"]["_IMAGE"] == whole["substitutions"]["_IMAGE"]


@pytest.mark.parametrize("there", ["canary.yaml", "cloudbuild.canary.yaml"])
def test_what_is_there_is_left_as_it_is_and_nothing_is_written(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    done = init(tmp_path, *PLACE, "--service", "web")
    assert (done.exit_code, done.stdout) == (2, "")
    said = as_read(done.stderr).replace(" ", "")
    assert f"{tmp_path / there}:therealready;give--force" in said
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"
    assert init(tmp_path, *PLACE, "--service", "web", "--force").exit_code == 0
    assert (tmp_path / there).read_text() != "mine"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "missing --project and --region and --service"),
        (PLACE, "missing --service"),
        ((*PLACE, "--service", ","), "names no service"),
        ((*PLACE, "--service", "web; rm -rf"), "is not the name of a service"),
        ((*PLACE, "--service", "web", "--job", "x"), "'x' is not 6 to 24"),
        ((*PLACE, "--service", "web", "--repository", "A b"), "'A b' is not the name of a repository"),
        (("--project", "a b", "--region", "europe-west1", "--service", "web"), "is not the id of a project"),
        (("--project", "my-project", "--region", "$(id)", "--service", "web"), "'$(id)' is not a region"),
        ((*PLACE, "--service", "web", "--staging-service", "web"), "is in production, too"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_is_written(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = init(tmp_path, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in as_read(done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "canary.yaml").mkdir()
    done = init(tmp_path, *PLACE, "--service", "web", "--force")
    assert done.exit_code == 2
    assert "cannot be written: Is a directory" in as_read(done.stderr)


@pytest.mark.processes
def test_the_commands_alone_leave_the_files_as_they_are(tmp_path: Path) -> None:
    whole = plan(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    alone = plan(tmp_path, "--commands-only")
    assert (alone["files"], alone["commands"]) == ([], whole["commands"])
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_service_whose_deployments_would_have_no_room_for_their_tag_is_refused(tmp_path: Path) -> None:
    done = init(tmp_path, *PLACE, "--service", "x" * 38)
    assert done.exit_code == 2
    assert "leaves 37 characters" in as_read(done.stderr)
    assert init(tmp_path, *PLACE, "--service", "x" * 37).exit_code == 0


def test_on_a_terminal_it_asks_for_what_is_missing(tmp_path: Path) -> None:
    person, terminal = pty.openpty()
    os.write(person, b"my-project\nweb, shop\n")
    done = subprocess.run(
        [*CANARY, "init", "--region", "europe-west1"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
        cwd=tmp_path,
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    os.close(person)
    os.close(terminal)
    assert done.returncode == 0, done.stderr
    assert "".join(done.stderr.split()) == "Project:Services,bycommas:"
    assert build_of(tmp_path)["substitutions"]["_SERVICE"] == "web"
    assert "gcloud run services describe shop" in done.stdout


# --- the commands ---


def test_all_that_is_printed_is_a_script_with_the_commands_of_the_plan(tmp_path: Path) -> None:
    printed = init(tmp_path, *PLACE, "--service", "web").stdout
    checked = subprocess.run(["sh", "-n"], input=printed, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    joined = printed.replace("\\\n", " ").splitlines()
    lines = [" ".join(line.split()) for line in joined if line and not line.startswith("#")]
    found = plan(tmp_path, "--force")
    listed = [each["command"] for each in (*found["commands"], *found["where_needed"])]
    assert lines == [" ".join(line.split()) for line in listed]


@needs_gcloud
@pytest.mark.processes
def test_gcloud_knows_each_command_and_each_of_its_options(tmp_path: Path) -> None:
    found = plan(tmp_path, "--staging-service", "web-staging")
    used: dict[str, set[str]] = {}
    for each in (*found["commands"], *found["where_needed"]):
        for line in (
            re.sub(r'"\$\(.*?\)"', "X", each["command"]),
            *re.findall(r"\$\((.*?)\)\"", each["command"]),
        ):
            words = shlex.split(line)
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            used.setdefault(_group(words), set()).update(options)
    assert len(used) > 8
    for command, options in used.items():
        text = help_of(tmp_path, command)
        unknown = {option for option in options if not re.search(rf"{option}\b", text)}
        assert not unknown, f"{command} --help does not know {unknown}"


def _group(words: list[str]) -> str:
    """Return the words that name a command: up to its verb."""
    verbs = {"enable", "create", "submit", "add-iam-policy-binding", "deploy", "describe"}
    end = next(n for n, word in enumerate(words) if word in verbs)
    named = words[1 : end + 1]
    return " ".join([*named, "http"] if named == ["scheduler", "jobs", "create"] else named)
