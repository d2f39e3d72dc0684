"""What a project needs: the commands say each permission that is needed, and no other."""

import re
import shlex

import pytest

from controller.core.permissions import BUILD, CONTROLLER
from controller.core.setup import Command, Setup, commands_of, commands_where_needed
from controller.core.setup_files import files_of

SETUP = Setup("my-project", "europe-west1", ("web", "shop"), "web-staging")
ALWAYS, SOMETIMES = commands_of(SETUP), commands_where_needed(SETUP)
JOB = "canary@my-project.iam.gserviceaccount.com"
FROM_BUILD = "canary-build@my-project.iam.gserviceaccount.com"


def options(command: Command) -> dict[str, str]:
    """Return the options of a command as a shell understands them."""
    words = shlex.split(command.line)
    return dict(word[2:].split("=", 1) for word in words if word.startswith("--"))


def only(verb: str, commands: tuple[Command, ...] = ALWAYS) -> list[dict[str, str]]:
    return [options(command) for command in commands if command.line.startswith(f"gcloud {verb}")]


def roles_of(account: str, commands: tuple[Command, ...]) -> set[str]:
    given = [options(command) for command in commands if "add-iam-policy-binding" in command.line]
    return {each["role"] for each in given if each["member"] == f"serviceAccount:{account}"}


def test_the_roles_hold_the_least_permissions() -> None:
    held = {each["title"]: each["permissions"].split(",") for each in only("iam roles create")}
    assert held == {"Canary controller": list(CONTROLLER), "Canary build": list(BUILD)}


def test_the_jobs_account_gets_its_role_and_may_start_the_job() -> None:
    own = "projects/my-project/roles/canaryController"
    assert roles_of(JOB, ALWAYS) == {own, "roles/run.invoker"}
    assert [each["role"] for each in only("projects") if each["member"].endswith(f":{JOB}")] == [own]


def test_the_builds_account_rolls_out_deploys_and_starts_the_job() -> None:
    assert roles_of(FROM_BUILD, ALWAYS) == {
        "projects/my-project/roles/canaryController",
        "projects/my-project/roles/canaryBuild",
        "roles/run.developer",
        "roles/artifactregistry.writer",
        "roles/logging.logWriter",
        "roles/iam.serviceAccountUser",
    }


def test_what_only_some_need_stands_apart_with_when() -> None:
    of_notices = {"roles/secretmanager.secretAccessor", "roles/pubsub.publisher"}
    assert roles_of(JOB, SOMETIMES) == {"roles/run.invoker", "roles/iam.serviceAccountUser", *of_notices}
    assert roles_of(FROM_BUILD, SOMETIMES) == {"roles/run.invoker", "roles/storage.objectViewer", *of_notices}
    assert all(re.match(r"(If|For) ", command.why) for command in SOMETIMES)


def test_the_apis_of_notices_are_enabled_only_where_needed() -> None:
    for api in ("secretmanager.googleapis.com", "pubsub.googleapis.com"):
        assert not [command for command in ALWAYS if api in command.line]
        assert [command.line for command in SOMETIMES if api in command.line] == [
            f"gcloud services enable {api} --project=my-project"
        ]


@pytest.mark.parametrize("repository", ["tools", "services"])
def test_each_repository_that_an_image_is_pushed_to_is_created_once(repository: str) -> None:
    setup = Setup("my-project", "europe-west1", ("web",), repository=repository)
    build = files_of(setup, "")["cloudbuild.canary.yaml"]
    used = re.findall(r"-docker\.pkg\.dev/[^/]+/([a-z]+)/", build)
    created = [
        shlex.split(command.line)[4]
        for command in commands_of(setup)
        if "artifacts repositories create" in command.line
    ]
    assert sorted(created) == sorted(set(used))


def test_the_job_is_not_run_again_and_may_take_a_day() -> None:
    (job,) = only("run jobs deploy")
    assert (job["max-retries"], job["task-timeout"], job["args"]) == ("0", "24h", "check")
    assert job["service-account"] == JOB
    assert job["set-env-vars"] == "GOOGLE_CLOUD_PROJECT=my-project,CLOUD_RUN_REGION=europe-west1"


def test_the_schedule_starts_that_job() -> None:
    (schedule,) = only("scheduler jobs create")
    assert schedule["uri"] == (
        "https://run.googleapis.com/v2/projects/my-project/locations/europe-west1/jobs/canary:run"
    )
    assert schedule["oauth-service-account-email"] == JOB
    assert schedule["schedule"] == "*/5 * * * *"


@pytest.mark.parametrize("command", [*ALWAYS, *SOMETIMES], ids=lambda command: command.why[:40])
def test_a_command_is_the_same_on_one_line_and_on_several(command: Command) -> None:
    assert command.text.replace("\\\n", " ").split() == command.line.split()
    assert "my-project" in command.line
    assert "\n" not in command.why


def test_each_thing_is_there_before_it_is_used() -> None:
    lines = [command.line for command in ALWAYS]
    first = {
        verb: next(n for n, line in enumerate(lines) if verb in line) for verb in ("enable", "jobs deploy")
    }
    bound = [n for n, line in enumerate(lines) if "jobs add-iam-policy-binding" in line]
    assert first["enable"] == 0
    assert first["jobs deploy"] < min(bound)
    for created in ("accounts create canary ", "accounts create canary-build ", "create canaryBuild"):
        name = created.split()[-1]
        made = next(n for n, line in enumerate(lines) if created in line)
        uses = [n for n, line in enumerate(lines) if re.search(rf"[:/]{name}(@| )", f"{line} ") and n != made]
        assert uses
        assert made < min(uses)


def test_without_staging_nothing_speaks_of_it() -> None:
    setup = Setup("my-project", "europe-west1", ("web",))
    files = files_of(setup, "first\n#\nsmoke: []                      # rest\n")
    assert "staging" not in "".join(files.values()).lower()
    assert "smoke: [] " in files["canary.yaml"]
