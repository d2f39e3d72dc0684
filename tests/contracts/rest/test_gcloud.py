"""The unmodified gcloud command against a local Cloud Run with real processes behind it."""

import http.client
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

GCLOUD = shutil.which("gcloud")
needs_gcloud = pytest.mark.skipif(
    GCLOUD is None, reason="gcloud is not installed: https://cloud.google.com/sdk/docs/install"
)
pytestmark = pytest.mark.processes
SECONDS = 60.0
BOLD = re.compile(r"\x1b\[[0-9;]*m")
Json = dict[str, Any]
SAMPLE = f"{sys.executable} -m controller.emulator.sample"


@dataclass
class Shell:
    """Runs commands in an environment; bold print is taken out of what they say."""

    environment: Mapping[str, str]

    def __call__(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        done.stdout, done.stderr = BOLD.sub("", done.stdout), BOLD.sub("", done.stderr)
        return done

    def canary(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self(sys.executable, "-m", "controller", "local", *arguments)

    def gcloud(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("gcloud", *arguments)

    def run(self, *arguments: str) -> str:
        """Return what `gcloud run` said, on both streams, after it ended well."""
        done = self.gcloud("run", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def show(self, *arguments: str) -> Any:
        done = self.gcloud("run", *arguments, "--format=json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def deploy(self, service: str, *arguments: str) -> str:
        """Deploy; return the name of the revision."""
        return str(self.show("deploy", service, *arguments)["status"]["latestCreatedRevisionName"])


def evaluated(lines: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a shell has after evaluating lines."""
    script = f'eval "$1" && exec {sys.executable} -c "import json, os; print(json.dumps(dict(os.environ)))"'
    done = subprocess.run(
        ["sh", "-c", script, "sh", lines], env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in which `canary local env` was evaluated, and an image is known."""
    directory = tmp_path_factory.mktemp("a 'local' Cloud Run")
    plain = Shell({**os.environ, "CANARY_LOCAL_DIR": str(directory)})
    plain.canary("up", "--speed", "60")
    try:
        ready = Shell(evaluated(plain.canary("env").stdout, plain.environment))
        ready.canary(
            "image", "gcr.io/demo/hello", "--command", SAMPLE, "--env", "TEXT=one", "--env", "LATENCY_MS=1"
        )
        yield ready
    finally:
        plain.canary("down")


def ask(url: str) -> str:
    """Return what a service answers at the address that was printed; its name needs no DNS."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection("127.0.0.1", parts.port, timeout=SECONDS)) as connection:
        connection.request("GET", "/", headers={"Host": parts.netloc})
        return connection.getresponse().read().decode().strip()


def wait_for(url: str, text: str) -> None:
    """Return when an address answers with a text five times in a row: the split needs a moment."""
    deadline = time.monotonic() + SECONDS
    pause = threading.Event()
    while (answers := {ask(url) for _ in range(5)}) != {text}:
        assert time.monotonic() < deadline, f"{url} still answers {answers}"
        pause.wait(0.02)


def printed_url(text: str, label: str) -> str:
    return next(line.split()[-1] for line in text.splitlines() if label in line)


def percents(pairs: list[Json]) -> dict[str, str]:
    """Return what update-traffic says is in force, by revision or LATEST."""
    named = {
        "LATEST" if one["latestRevision"] else one["revisionName"]: one["statusPercent"] for one in pairs
    }
    return {name: percent for name, percent in named.items() if percent not in {"0", "-"}}


@needs_gcloud
def test_a_service_is_deployed_and_a_candidate_beside_it(shell: Shell) -> None:
    first = shell.run(
        "deploy", "shop", "--image=gcr.io/demo/hello:v1", "--allow-unauthenticated", "--concurrency=7",
        "--max-instances=3", "--session-affinity", "--set-env-vars=A=b",
    )  # fmt: skip
    url = printed_url(first, "Service URL:")
    wait_for(url, "one")
    assert "is serving 100 percent of traffic" in first

    second = shell.run(
        "deploy",
        "shop",
        "--image=gcr.io/demo/hello:v2",
        "--set-env-vars=TEXT=two",
        "--no-traffic",
        "--tag=green",
    )
    tagged = printed_url(second, "can be reached directly at")
    assert tagged.startswith("http://green---shop.localhost:")
    wait_for(tagged, "two")
    assert {ask(url) for _ in range(20)} == {"one"}

    service = shell.show("services", "describe", "shop")
    spec = service["spec"]["template"]["spec"]
    notes = service["spec"]["template"]["metadata"]["annotations"]
    assert spec["containerConcurrency"] == 7
    assert notes["autoscaling.knative.dev/maxScale"] == "3"
    assert notes["run.googleapis.com/sessionAffinity"] == "true"
    assert service["metadata"]["annotations"]["serving.knative.dev/creator"] == "developer@example.com"
    policy = shell.show("services", "get-iam-policy", "shop")
    assert policy["bindings"] == [{"members": ["allUsers"], "role": "roles/run.invoker"}]

    described = shell.run("services", "describe", "shop")
    assert "Service shop in region local-1" in described
    assert "Container None" not in described
    assert "shop" in shell.run("services", "list")
    assert "shop" in shell.run("services", "list", "--region=local-1")
    assert "local-1" in shell.run("regions", "list")


@needs_gcloud
def test_traffic_is_moved_in_every_way_that_gcloud_knows(shell: Shell) -> None:
    first = shell.deploy("moved", "--image=gcr.io/demo/hello:v1", "--no-allow-unauthenticated")
    second = shell.deploy(
        "moved", "--image=gcr.io/demo/hello:v1", "--set-env-vars=TEXT=two", "--no-traffic", "--tag=next"
    )

    def move(*flags: str) -> list[Json]:
        pairs: list[Json] = shell.show("services", "update-traffic", "moved", *flags)
        return pairs

    def tags(pairs: list[Json]) -> set[str]:
        return {tag["tag"] for pair in pairs for tag in pair["tags"] if tag["inStatus"]}

    assert percents(move(f"--to-revisions={first}=90,{second}=10")) == {first: "90", second: "10"}
    assert tags(move(f"--set-tags=stable={first},newer={second}")) == {"stable", "newer"}
    assert tags(move("--update-tags=latest=LATEST")) == {"stable", "newer", "latest"}
    assert percents(move("--to-tags=stable=30")) == {first: "30", second: "70"}
    assert tags(move("--remove-tags=newer")) == {"stable", "latest"}
    said = shell.run("services", "update-traffic", "moved", "--to-latest")
    assert f"100% LATEST (currently {second})" in said
    assert "latest: http://latest---moved.localhost:" in said
    url = printed_url(said, "URL:")
    wait_for(url, "two")
    cleared = move("--clear-tags")
    assert (percents(cleared), tags(cleared)) == ({"LATEST": "100"}, set())
    assert len(shell.show("revisions", "list", "--service=moved")) == 2


@needs_gcloud
def test_a_service_is_updated_replaced_and_deleted(shell: Shell, tmp_path: Path) -> None:
    first = shell.deploy("short", "--image=gcr.io/demo/hello:v1", "--no-allow-unauthenticated")
    service = shell.show("services", "update", "short", "--concurrency=5")
    second = service["status"]["latestReadyRevisionName"]
    (container,) = service["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("gcr.io/demo/hello@sha256:")
    assert shell.show("revisions", "describe", second)["spec"]["containerConcurrency"] == 5

    exported = tmp_path / "service.yaml"
    exported.write_text(shell.run("services", "describe", "short", "--format=export"))
    assert "has been applied" in shell.run("services", "replace", str(exported))
    assert [one["metadata"]["name"] for one in shell.show("revisions", "list", "--service=short")] == [
        second,
        first,
    ]

    shell.run("revisions", "delete", first)
    assert [one["metadata"]["name"] for one in shell.show("revisions", "list", "--service=short")] == [second]
    shell.run("services", "delete", "short")
    gone = shell.gcloud("run", "services", "describe", "short")
    assert (gone.returncode, gone.stderr.strip()) == (
        1,
        "ERROR: (gcloud.run.services.describe) Cannot find service [short]",
    )


@needs_gcloud
def test_what_fails_says_why_and_ends_with_1(shell: Shell) -> None:
    unknown = shell.gcloud("run", "deploy", "wrong", "--image=nobody/knows")
    assert unknown.returncode == 1
    assert 'canary local image nobody/knows --command "..."' in unknown.stderr

    crashed = shell.gcloud("run", "deploy", "wrong", "--image=gcr.io/demo/hello", "--set-env-vars=CRASH=1")
    assert crashed.returncode == 1
    assert "failed to start and listen on the port" in crashed.stderr
    assert "exited with code 3" in crashed.stderr
    assert "Logs URL: http://127.0.0.1:" in crashed.stderr

    shell.canary(
        "fault",
        "add",
        "foreign-write",
        "--service=wrong",
        "--annotation=a=b",
        "--next=1",
        "--method=UpdateService",
    )
    conflict = shell.gcloud("run", "deploy", "wrong", "--image=gcr.io/demo/hello")
    assert conflict.returncode == 1
    assert "ABORTED: Conflict for resource 'wrong': version '" in conflict.stderr

    elsewhere = shell.gcloud("compute", "instances", "list")
    assert elsewhere.returncode == 1
    assert "The local Cloud Run passes nothing on to compute.googleapis.com" in elsewhere.stderr


@needs_gcloud
def test_logs_are_read(shell: Shell) -> None:
    said = shell.run("deploy", "chatty", "--image=gcr.io/demo/hello", "--no-allow-unauthenticated")
    url = printed_url(said, "Service URL:")
    wait_for(url, "one")
    assert f"GET 200 {url}/" in shell.run("services", "logs", "read", "chatty")
    read = shell.gcloud(
        "logging", "read", 'resource.labels.service_name="chatty" AND httpRequest.status=200',
        "--limit=1", "--format=json",
    )  # fmt: skip
    (entry,) = json.loads(read.stdout)
    assert entry["httpRequest"]["requestUrl"] == f"{url}/"
    assert entry["resource"]["type"] == "cloud_run_revision"
    names = shell.gcloud("logging", "logs", "list")
    assert "projects/demo/logs/run.googleapis.com%2Frequests" in names.stdout


# `canary local env` and `image` by themselves


def test_the_environment_can_be_undone(shell: Shell) -> None:
    lines = shell.canary("env").stdout
    before = {"PATH": os.environ["PATH"]}
    assert "CLOUDSDK_CONFIG" in evaluated(lines, before)
    undone = evaluated(f"{lines}\n{shell.canary('env', '--unset').stdout}", before)
    assert not [name for name in undone if name.startswith(("CLOUD", "GOOGLE", "CANARY"))]


def test_gcloud_calls_as_whom_it_is_told(shell: Shell) -> None:
    chosen = evaluated(shell.canary("env", "--as", "ada@example.com").stdout, shell.environment)
    assert Path(chosen["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text() == "ada@example.com"
    assert chosen["CANARY_EMULATOR_PRINCIPAL"] == "ada@example.com"
    assert shell.canary("env", "--as", "a;b").returncode == 2


def test_images_are_listed_and_removed(shell: Shell) -> None:
    added = shell.canary("image", "some/image:v1", "--command", "run 'two words'", "--env", "A=b c")
    assert (added.returncode, added.stdout) == (0, "some/image:v1 runs: run 'two words'\n")
    listed = f"some/image:v1  A='b c' run 'two words'  (in {Path.cwd()})"
    assert listed in shell.canary("image").stdout.splitlines()
    assert shell.canary("image", "some/image:v1", "--remove").returncode == 0
    again = shell.canary("image", "some/image:v1", "--remove")
    assert (again.returncode, "there is no image 'some/image:v1'" in again.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("image", "x"), "what runs in its place?"),
        (("image", "--command", "x"), "which image?"),
        (("image", "x", "--command", "'"), "--command cannot be read"),
        (("image", "x", "--command", "y", "--env", "novalue"), "KEY=VALUE"),
        (("image", "x", "--command", "y", "--remove"), "exclude each other"),
    ],
)
def test_bad_usage_ends_with_2(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    refused = shell.canary(*arguments)
    assert (refused.returncode, words in refused.stderr) == (2, True)


@needs_gcloud
def test_a_job_is_deployed_executed_with_other_arguments_and_described(shell: Shell) -> None:
    """gcloud-client.md: "POST jobs/J:run {} -> Execution; GET executions/E until Started (or Completed)"."""
    program = "import os, sys; print(sys.argv[1:], os.environ['SIZE']); sys.exit(int(os.environ['CODE']))"
    shell.canary("image", "gcr.io/demo/task", "--command", shlex.join((sys.executable, "-c", program)))
    where = ("--image=gcr.io/demo/task:v1", "--args=one", "--set-env-vars=SIZE=1,CODE=0")
    assert "successfully been deployed" in shell.run(
        "jobs", "deploy", "task", *where, "--max-retries=0", "--task-timeout=3h"
    )
    described = shell.run("jobs", "describe", "task")
    assert re.search(r"Task Timeout:\s+3h", described)
    assert re.search(r"Max Retries:\s+0", described)

    first = shell.show("jobs", "execute", "task", "--wait")
    assert first["status"]["succeededCount"] == 1
    other = shell.gcloud(
        "run", "jobs", "execute", "task", "--wait", "--args=two,three", "--update-env-vars=SIZE=2,CODE=3"
    )
    assert other.returncode == 1
    assert "The execution failed" in other.stderr

    executions = shell.show("jobs", "executions", "list", "--job=task")
    assert [each["status"].get("failedCount", 0) for each in executions] == [1, 0]
    failed = executions[0]["metadata"]["name"]
    assert "1 task failed to complete" in shell.run("jobs", "executions", "describe", failed)
    (task,) = shell.show("jobs", "executions", "tasks", "list", f"--execution={failed}")
    assert task["status"]["lastAttemptResult"]["exitCode"] == 3
    logged = shell.gcloud(
        "logging", "read", 'resource.type="cloud_run_job" AND logName:"stdout"', "--format=value(textPayload)"
    )
    assert logged.stdout.split("\n")[:2] == ["['two', 'three'] 2", "['one'] 1"]

    assert "successfully been updated" in shell.run("jobs", "update", "task", "--max-retries=2")
    assert (
        shell.show("jobs", "describe", "task")["spec"]["template"]["spec"]["template"]["spec"]["maxRetries"]
        == 2
    )
    shell.run("jobs", "delete", "task")
    assert shell.show("jobs", "list") == []


@needs_gcloud
def test_an_execution_is_cancelled(shell: Shell) -> None:
    sleep = shlex.join((sys.executable, "-c", "import time; time.sleep(600)"))
    shell.canary("image", "gcr.io/demo/sleep", "--command", sleep)
    shell.run("jobs", "create", "sleeper", "--image=gcr.io/demo/sleep", "--max-retries=3")
    running = shell.show("jobs", "execute", "sleeper")["metadata"]["name"]
    shell.run("jobs", "executions", "cancel", running)
    assert shell.show("jobs", "executions", "describe", running)["status"]["cancelledCount"] == 1
    shell.run("jobs", "delete", "sleeper")
