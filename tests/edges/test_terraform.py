"""The Terraform files: the same as the commands of `canary init`, and whole without asking the provider."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

from controller.core.permissions import BUILD, CONTROLLER
from controller.core.setup import APIS, EVERY, Setup, commands_of, commands_where_needed

from .conftest import SECONDS

FOLDER = Path(__file__).parents[2] / "deploy/terraform"
FILES = sorted(FOLDER.glob("*.tf"))
PLAIN = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
SETUP = Setup("my-project", "europe-west1", ("web",))
Blocks = dict[str, Any]

PLANS = {"controller": SETUP.account, "build": SETUP.build_account}
"""The accounts, by their names in Terraform."""


def blocks(kind: str) -> Blocks:
    """Return all blocks of a kind by name, or by type and name."""
    found: Blocks = {}
    for file in FILES:
        for each in hcl2.loads(file.read_text(), serialization_options=PLAIN).get(kind, []):
            for name, body in each.items():
                if kind in {"resource", "data"}:
                    found |= {f"{name}.{inner}": content for inner, content in body.items()}
                else:
                    found[name] = body
    return found


RESOURCES = blocks("resource")


def code() -> str:
    """Return all that is not a comment."""
    lines = "\n".join(file.read_text() for file in FILES).splitlines()
    return "\n".join(line.partition("# ")[0] for line in lines if not line.lstrip().startswith("#"))


def test_the_roles_hold_the_least_permissions() -> None:
    roles = {name: body["permissions"] for name, body in RESOURCES.items() if "custom_role" in name}
    assert roles == {
        "google_project_iam_custom_role.controller": list(CONTROLLER),
        "google_project_iam_custom_role.build": list(BUILD),
    }


def test_each_variable_is_declared_and_used() -> None:
    declared = blocks("variable")
    assert set(re.findall(r"\bvar\.(\w+)", code())) == set(declared)
    assert all(body["description"] and body["type"] for body in declared.values())
    assert {name for name, body in declared.items() if "default" not in body} == {
        "project",
        "region",
        "services",
    }


def test_each_reference_leads_to_something() -> None:
    data = {f"data.{name}" for name in blocks("data")}
    used = set(re.findall(r"(?<![\"\w.])((?:data\.)?google_\w+\.\w+)", code()))
    assert len(used) > 5
    assert used <= set(RESOURCES) | data
    assert set(re.findall(r"\blocal\.(\w+)", code())) == set(blocks("locals"))


def test_the_job_is_the_one_of_init() -> None:
    (job,) = [shlex.split(each.line) for each in commands_of(SETUP) if "run jobs deploy" in each.line]
    given = dict(word[2:].split("=", 1) for word in job if word.startswith("--"))
    (template,) = RESOURCES["google_cloud_run_v2_job.controller"]["template"]
    (task,) = template["template"]
    (container,) = task["containers"]
    assert task["max_retries"] == int(given["max-retries"])
    assert task["timeout"] == f"{int(given['task-timeout'].removesuffix('h')) * 3600}s"
    assert container["args"] == given["args"].split(",")
    names = [each.partition("=")[0] for each in given["set-env-vars"].split(",")]
    assert [each["name"] for each in container["env"]] == names


def test_the_apis_and_the_schedule_are_those_of_init() -> None:
    apis = re.findall(r"(\w+)\.googleapis\.com", str(RESOURCES["google_project_service.used"]["for_each"]))
    assert tuple(apis) == APIS
    assert blocks("variable")["schedule"]["default"] == EVERY


@pytest.mark.parametrize("account", PLANS)
def test_each_account_is_given_what_init_gives_it(account: str) -> None:
    plan = (*commands_of(SETUP), *commands_where_needed(SETUP))
    bound = [dict(re.findall(r"--(member|role)=(\S+)", each.line)) for each in plan]
    wanted = {each["role"] for each in bound if each.get("member") == f"serviceAccount:{PLANS[account]}"}
    given = set[str]()
    for name, body in RESOURCES.items():
        if "_iam_member." in name and f".{account}.member" in body["member"]:
            given |= _roles(body)
    assert given == wanted


@pytest.mark.parametrize("account", PLANS)
def test_notices_with_secrets_and_topics_are_for_both_accounts(account: str) -> None:
    secrets = RESOURCES[f"google_secret_manager_secret_iam_member.{account}"]
    topics = RESOURCES[f"google_pubsub_topic_iam_member.{account}"]
    assert (secrets["for_each"], topics["for_each"]) == ("${local.secrets}", "${var.notice_topics}")
    (local,) = (body for name, body in blocks("locals").items() if name == "secrets")
    assert {"var.secrets", "var.notice_secrets"} <= set(re.findall(r"var\.\w+", str(local)))


def test_the_repositories_are_those_of_init() -> None:
    lines = [shlex.split(each.line) for each in commands_of(SETUP) if "repositories create" in each.line]
    local = str(blocks("locals")["repositories"])
    local = local.replace("var.repository", f'"{blocks("variable")["repository"]["default"]}"')
    assert sorted(re.findall(r'"(\w+)"', local)) == sorted(words[4] for words in lines)


def _roles(binding: Blocks) -> set[str]:
    role = str(binding["role"])
    if own := re.search(r"google_project_iam_custom_role\.\w+", role):
        return {f"projects/{SETUP.project}/roles/{RESOURCES[own[0]]['role_id']}"}
    if "each.value" in role:
        return set(re.findall(r"roles/[\w.]+", str(binding["for_each"])))
    return {role}


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
@pytest.mark.processes
def test_the_files_are_formatted_as_terraform_does() -> None:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", str(FOLDER)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
