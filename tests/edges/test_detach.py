"""`canary rollout --detach`: a Cloud Run job rolls out, in a process of its own, as the command would."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcTransport
from google.cloud.run_v2.services.tasks.transports import TasksGrpcTransport

from .conftest import CANARY, PLACE, SECONDS, Cloud, as_read, reports_in, until

pytestmark = pytest.mark.processes

PARENT = "projects/demo/locations/local-1"
IMAGE = "europe-docker.pkg.dev/demo/tools/canary"


class Jobs:
    """The owner of jobs, which run the very command that the tests run."""

    def __init__(self, cloud: Cloud, channel: grpc.Channel) -> None:
        self.cloud = cloud
        self._jobs = run_v2.JobsClient(transport=JobsGrpcTransport(channel=channel))
        self._executions = run_v2.ExecutionsClient(transport=ExecutionsGrpcTransport(channel=channel))
        self._tasks = run_v2.TasksClient(transport=TasksGrpcTransport(channel=channel))

    def create(self, name: str, *, max_retries: int = 0, hours: int = 168) -> str:
        """Create a job of the controller's image; return its name."""
        task = run_v2.TaskTemplate(
            containers=[run_v2.Container(image=IMAGE)],
            max_retries=max_retries,
            timeout=timedelta(hours=hours),
        )
        job = run_v2.Job(template=run_v2.ExecutionTemplate(template=task))
        self._jobs.create_job(parent=PARENT, job_id=name, job=job, timeout=SECONDS).result(SECONDS)
        return name

    def delete(self, name: str) -> None:
        self._jobs.delete_job(name=f"{PARENT}/jobs/{name}", timeout=SECONDS).result(SECONDS)

    def execution(self, job: str, name: str) -> run_v2.Execution:
        full = f"{PARENT}/jobs/{job}/executions/{name}"
        return self._executions.get_execution(name=full, timeout=SECONDS)

    def exit_code(self, job: str, name: str) -> int:
        """Wait until an execution is over and return the exit code of its last try."""
        assert until(lambda: "completion_time" in self.execution(job, name))
        (task,) = self._tasks.list_tasks(parent=self.execution(job, name).name, timeout=SECONDS)
        return int(task.last_attempt_result.exit_code)

    def count(self, job: str) -> int:
        return len(list(self._executions.list_executions(parent=f"{PARENT}/jobs/{job}", timeout=SECONDS)))


@pytest.fixture(scope="module")
def jobs(cloud: Cloud) -> Iterator[Jobs]:
    command = " ".join((sys.executable, *CANARY[1:]))
    assert cloud("local", "image", IMAGE, "--command", command).returncode == 0
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(cloud.state.grpc_address, options=options) as channel:
        yield Jobs(cloud, channel)


def detached(cloud: Cloud, name: str, *more: str, **environment: str) -> dict[str, Any]:
    done = cloud("rollout", name, *cloud.at, "--detach", "--json", *more, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_detached_rollout_is_promoted_by_the_job(cloud: Cloud, jobs: Jobs) -> None:
    name, job = cloud.two_revisions(), jobs.create("canary")
    with cloud.users(name):
        report = detached(cloud, name, "--policy", cloud.quick, BUILD_ID="1234")
        assert report["warnings"] == []
        awaited = cloud("status", name, *cloud.at, "--wait", "--candidate", f"{name}-v2")
        assert awaited.returncode == 0, awaited.stderr
    assert jobs.exit_code(job, report["execution"]) == 0
    assert jobs.execution(job, report["execution"]).succeeded_count == 1
    assert cloud.serving(name) == {"v2": 100}
    record = json.loads(cloud.record(name))
    opened = reports_in(cloud.canary("history", name, "--json").stdout)[0]
    assert opened["after"]["by"] == f"build 1234, job execution {report['execution']}"
    assert record["policy"]["steps"] == ["20%", "50%"]
    jobs.delete(job)


def test_the_commit_that_is_told_to_github_is_that_of_who_starts_the_job(cloud: Cloud, jobs: Jobs) -> None:
    name, job = cloud.two_revisions(), jobs.create("of-a-commit")
    refs = ("env:COMMIT_SHA", "env:NOWHERE", "env:NO_REF", "main")
    policy = "".join(
        f"  - github: {{repository: my-org/shop{number}, ref: '{ref}'}}\n" for number, ref in enumerate(refs)
    )
    file = cloud.file("told.yaml", f"version: 1\nsteps: [33%]\nnotices:\n{policy}")
    detached(cloud, name, "--policy", file, "--job", job, COMMIT_SHA="0a1b2c3d", NO_REF="no ref")
    assert until(lambda: bool(cloud.record(name)))
    notices = json.loads(cloud.record(name))["policy"]["notices"]
    assert [each["github"]["ref"] for each in notices] == ["0a1b2c3d", *refs[1:]]
    assert cloud("rollback", name, *cloud.at).returncode == 0
    jobs.delete(job)


def test_a_rollback_is_the_exit_code_of_the_execution_which_is_not_tried_again(
    cloud: Cloud, jobs: Jobs
) -> None:
    name, job = cloud.two_revisions(ERROR_SHARE="0.3"), jobs.create("canary-of-bad")
    with cloud.users(name, rps=200):
        report = detached(cloud, name, "--policy", cloud.sure, "--job", job)
        assert jobs.exit_code(job, report["execution"]) == 3
    execution = jobs.execution(job, report["execution"])
    assert (execution.failed_count, execution.retried_count) == (1, 0)
    assert cloud.serving(name) == {"v1": 100}


def test_it_says_where_to_look_and_what_of_the_job_would_harm(cloud: Cloud, jobs: Jobs) -> None:
    name, job = cloud.two_revisions(), jobs.create("impatient", max_retries=3, hours=1)
    done = cloud("rollout", name, *cloud.at, "--detach", "--job", job, "--policy", cloud.patient)
    said = as_read(done.stdout)
    assert done.returncode == 0, done.stderr
    assert "the job impatient is tried again 3 times" in said
    assert "gcloud run jobs update impatient --project=demo --region=local-1 --max-retries=0" in said
    assert "is ended after 1h, and this policy may take 3d10m" in said
    assert "--task-timeout=73h" in said
    assert f"canary status {name} --wait --project=demo --region=local-1" in said
    assert f"--candidate={name}-v2" in said
    assert f"gcloud run jobs executions describe {job}-" in said
    assert "console.cloud.google.com" not in said  # it is not there
    jobs.delete(job)


def test_a_job_that_is_missing_is_made_with_the_command_that_it_names(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    done = cloud("rollout", name, *cloud.at, "--detach", "--job", "nobody-made-it")
    assert done.returncode == 2
    assert "there is no job 'nobody-made-it' in projects/demo/locations/local-1" in done.stderr
    assert "gcloud run jobs create nobody-made-it" in done.stderr
    assert "--max-retries=0" in done.stderr
    assert cloud.serving(name) == {"v1": 100}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--job", "canary"), "give --detach, too"),
        (("--detach", "--job", "No Job"), "is not the name of a job"),
    ],
)
def test_options_that_make_no_sense_are_refused(cloud: Cloud, options: tuple[str, ...], said: str) -> None:
    done = cloud("rollout", "web", *cloud.at, *options)
    assert done.returncode == 2
    assert said in as_read(done.stderr)


def test_a_policy_with_mistakes_and_one_that_is_too_large_start_nothing(cloud: Cloud, jobs: Jobs) -> None:
    job = jobs.create("unused")
    wrong = cloud.file("wrong.yaml", "version: 1\nsteps: [120%]\n")
    headers = ", ".join(f"X-{number}: '{'x' * 490}'" for number in range(10))
    probes = "".join(f"  - {{path: /{number}, headers: {{{headers}}}}}\n" for number in range(10))
    large = cloud.file("large.yaml", f"version: 1\nprobes:\n{probes}")
    for file, said in ((wrong, "wrong.yaml:2: steps"), (large, "a job can be given 32768")):
        done = cloud("rollout", "web", *cloud.at, "--detach", "--job", job, "--policy", file)
        assert done.returncode == 2
        assert said in as_read(done.stderr)
    assert jobs.count(job) == 0


def test_the_policy_of_the_environment_is_read_where_no_file_is_named(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    wrong = cloud("rollout", name, *cloud.at, CANARY_POLICY='{"version": 1, "steps": ["120%"]}')
    assert wrong.returncode == 2
    assert "$CANARY_POLICY:1: steps[0]" in wrong.stderr
    assert cloud.record(name) == ""
    with cloud.start("rollout", name, *cloud.at, "--json", CANARY_POLICY="version: 1\nsteps: [33%]\n") as one:
        one.until(lambda report: "phase" in report)
    assert json.loads(cloud.record(name))["policy"]["steps"] == ["33%"]


def test_a_permission_that_is_missing_is_named(cloud: Cloud) -> None:
    folder = cloud.folder / "with-iam"
    folder.mkdir()
    iam = cloud.file(
        "iam.yaml",
        """\
roles: {}
bindings:
- {role: roles/run.jobsExecutor, members: ['user:ada@example.com']}
- {role: roles/owner, members: ['user:owner@example.com']}
""",
    )
    local = {"CANARY_LOCAL_DIR": str(folder)}
    up = cloud("local", "up", "--iam", iam, **local)
    assert up.returncode == 0, up.stderr
    try:
        address = json.loads((folder / "local.json").read_text())["grpc_address"]
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            owner = run_v2.JobsClient(transport=JobsGrpcTransport(channel=channel))
            task = run_v2.TaskTemplate(containers=[run_v2.Container(image=IMAGE)])
            job = run_v2.Job(template=run_v2.ExecutionTemplate(template=task))
            request = run_v2.CreateJobRequest(parent=PARENT, job_id="canary", job=job)
            as_owner = [("authorization", "Bearer owner@example.com")]
            owner.create_job(request=request, metadata=as_owner, timeout=SECONDS)
        done = cloud(
            "rollout", "web", "--detach", "--emulator", address, *PLACE,
            CANARY_EMULATOR_PRINCIPAL="ada@example.com",
        )  # fmt: skip
    finally:
        cloud("local", "down", **local)
    assert done.returncode == 7
    assert "starting the job canary: not allowed" in done.stderr
    assert "run.jobs.runWithOverrides" in done.stderr
