"""Jobs and executions: real processes, tried again, out of time, overridden, cancelled.

Facts: section 5, and the pages cloud.google.com/run/docs/...
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from google.api_core import exceptions
from google.cloud import run_v2
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcTransport
from google.cloud.run_v2.services.tasks.transports import TasksGrpcTransport
from google.longrunning import operations_pb2

from contracts.conftest import PARENT, SECONDS, Google, a_google
from controller.emulator.settings import EtagMode, Settings

pytestmark = pytest.mark.processes

QUICK = Settings(speed=60, reconcile_delay=timedelta(milliseconds=100), grace_seconds=0.5)
Overrides = run_v2.RunJobRequest.Overrides
Status = run_v2.ExecutionReference.CompletionStatus
PRINT_ENVIRONMENT = """
import os
for name in sorted(os.environ):
    if name.startswith(("CLOUD_RUN_", "CANARY_EMULATOR", "COLOUR", "SIZE")):
        print(name, os.environ[name])
"""
FAIL_AT_FIRST = "import os, sys; sys.exit(3 if os.environ['CLOUD_RUN_TASK_ATTEMPT'] == '0' else 0)"
SLEEP = "import time; print('asleep', flush=True); time.sleep(600)"
IGNORE_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@dataclass
class Workshop:
    """The clients of jobs, and a job `task`."""

    google: Google

    def __post_init__(self) -> None:
        channel = self.google.channel
        self.jobs = run_v2.JobsClient(transport=JobsGrpcTransport(channel=channel))
        self.executions = run_v2.ExecutionsClient(transport=ExecutionsGrpcTransport(channel=channel))
        self.tasks = run_v2.TasksClient(transport=TasksGrpcTransport(channel=channel))
        self.name = f"{PARENT}/jobs/task"

    def create(self, program: str, **fields: Any) -> run_v2.Job:
        made: run_v2.Job = self.jobs.create_job(
            parent=PARENT, job_id="task", job=a_job(program, **fields), timeout=SECONDS
        ).result(SECONDS)
        return made

    def run(self, overrides: Overrides | None = None) -> operations_pb2.Operation:
        request = run_v2.RunJobRequest(name=self.name, overrides=overrides)
        operation: operations_pb2.Operation = self.jobs.run_job(request=request, timeout=SECONDS).operation
        return operation

    def ended(self, overrides: Overrides | None = None) -> run_v2.Execution:
        """Run the job to its end."""
        operation = self.google.wait(self.run(overrides).name)
        assert operation.done
        return an_execution(operation.response)

    def task_of(self, execution: run_v2.Execution) -> run_v2.Task:
        (task,) = self.tasks.list_tasks(parent=execution.name, timeout=SECONDS)
        return task

    def entries(self, execution: run_v2.Execution) -> list[LogEntry]:
        short = execution.name.rpartition("/")[2]
        request = ListLogEntriesRequest(
            resource_names=["projects/demo"],
            filter='resource.type="cloud_run_job" AND resource.labels.job_name="task" AND '
            f'labels."run.googleapis.com/execution_name"="{short}"',
        )
        return list(self.google.logs.list_log_entries(request=request, timeout=SECONDS))

    def printed(self, execution: run_v2.Execution) -> list[str]:
        found = self.entries(execution)
        return [each.text_payload for each in found if "stdout" in each.log_name]


def a_job(program: str, *, max_retries: int | None = 0, timeout: int = 0, **env: str) -> run_v2.Job:
    task = run_v2.TaskTemplate(
        containers=[
            run_v2.Container(
                command=[sys.executable, "-c", program],
                env=[run_v2.EnvVar(name=name, value=value) for name, value in env.items()],
            )
        ]
    )
    if max_retries is not None:
        task.max_retries = max_retries
    if timeout:
        run_v2.TaskTemplate.pb(task).timeout.FromSeconds(timeout)
    return run_v2.Job(template=run_v2.ExecutionTemplate(template=task))


def an_execution(packed: Any) -> run_v2.Execution:
    assert packed.type_url == "type.googleapis.com/google.cloud.run.v2.Execution"
    execution: run_v2.Execution = run_v2.Execution.deserialize(packed.value)
    return execution


def until(is_true: Callable[[], bool]) -> bool:
    deadline, never = time.monotonic() + SECONDS, threading.Event()
    while not is_true() and time.monotonic() < deadline:
        never.wait(0.02)
    return is_true()


@pytest.fixture
def shop() -> Iterator[Workshop]:
    for google in a_google(QUICK):
        yield Workshop(google)


def test_a_job_has_the_defaults_of_cloud_run(shop: Workshop) -> None:
    """Fact 5 [P,D]: "Task timeout default 10 min ...; max_retries default 3, max 10, 0 = once"."""
    job = shop.create("pass", max_retries=None)
    task = job.template.template
    assert (job.template.task_count, task.max_retries) == (1, 3)
    assert task.timeout == timedelta(minutes=10)
    assert job.terminal_condition.state == run_v2.Condition.State.CONDITION_SUCCEEDED
    assert (job.generation, job.observed_generation, job.execution_count) == (1, 1, 0)
    assert [each.name for each in shop.jobs.list_jobs(parent=PARENT, timeout=SECONDS)] == [shop.name]


def test_a_task_is_told_where_it_is_and_finds_the_local_cloud_run(shop: Workshop) -> None:
    """Fact 5 [D]: "env: CLOUD_RUN_JOB, CLOUD_RUN_EXECUTION, CLOUD_RUN_TASK_INDEX, ..._ATTEMPT, ..._COUNT"."""
    shop.create(PRINT_ENVIRONMENT, COLOUR="red")
    execution = shop.ended()
    short = execution.name.rpartition("/")[2]
    assert short.startswith("task-")
    assert shop.printed(execution) == [
        f"CANARY_EMULATOR_PRINCIPAL {execution.template.service_account}",
        f"CLOUD_RUN_EMULATOR_HOST {shop.google.local.grpc_address}",
        f"CLOUD_RUN_EXECUTION {short}",
        "CLOUD_RUN_JOB task",
        "CLOUD_RUN_TASK_ATTEMPT 0",
        "CLOUD_RUN_TASK_COUNT 1",
        "CLOUD_RUN_TASK_INDEX 0",
        "COLOUR red",
    ]
    assert (execution.succeeded_count, execution.failed_count, execution.running_count) == (1, 0, 0)
    latest = shop.jobs.get_job(name=shop.name, timeout=SECONDS).latest_created_execution
    assert (latest.name, latest.completion_status) == (short, Status.EXECUTION_SUCCEEDED)


def test_the_operation_of_a_run_shows_the_execution_at_once_and_is_done_when_it_is_over(
    shop: Workshop,
) -> None:
    """The method jobs.run answers with an Operation whose metadata and response are an Execution [P]."""
    shop.create(SLEEP)
    operation = shop.run()
    running = an_execution(operation.metadata)
    assert not operation.done
    assert (running.running_count, running.reconciling) == (1, True)
    assert shop.executions.get_execution(name=running.name, timeout=SECONDS).running_count == 1
    cancelled = shop.executions.cancel_execution(name=running.name, timeout=SECONDS).result(SECONDS)
    assert (cancelled.cancelled_count, cancelled.running_count) == (1, 0)
    assert shop.google.operation(operation.name).done
    with pytest.raises(exceptions.FailedPrecondition):
        shop.executions.cancel_execution(name=running.name, timeout=SECONDS)


def test_an_exit_code_that_is_not_zero_fails_the_execution(shop: Workshop) -> None:
    """Fact 5: "Exit code: 0 success; non-zero" is a failure; the Tasks API shows `exit_code` [P]."""
    shop.create("import sys; print('no', file=sys.stderr); sys.exit(3)")
    execution = shop.ended()
    (completed,) = [each for each in execution.conditions if each.type_ == "Completed"]
    assert (execution.failed_count, execution.retried_count) == (1, 0)
    assert completed.state == run_v2.Condition.State.CONDITION_FAILED
    assert completed.execution_reason == run_v2.Condition.ExecutionReason.NON_ZERO_EXIT_CODE
    assert shop.task_of(execution).last_attempt_result.exit_code == 3
    said = {each.log_name.rpartition("%2F")[2]: each.text_payload for each in shop.entries(execution)}
    assert said == {"stderr": "no", "system": "Container called exit(3)."}


def test_a_failed_task_is_tried_again_as_often_as_the_job_says(shop: Workshop) -> None:
    """Fact 5: "non-zero ⇒ retried ⇒ controller must be idempotent"; the attempt counts from 0 [D]."""
    shop.create(FAIL_AT_FIRST, max_retries=1)
    execution = shop.ended()
    assert (execution.succeeded_count, execution.retried_count) == (1, 1)
    attempts = {each.labels["run.googleapis.com/task_attempt"] for each in shop.entries(execution)}
    assert attempts == {"0", "1"}


@pytest.mark.parametrize("program", [SLEEP, IGNORE_SIGTERM])
def test_a_task_is_ended_when_its_time_is_up(shop: Workshop, program: str) -> None:
    """Fact 5: "Timeout applies per attempt"; "SIGTERM then SIGKILL after 10 s"."""
    shop.create(program, timeout=30)  # half a second here
    execution = shop.ended()
    assert execution.failed_count == 1
    assert "timeout" in execution.conditions[0].message
    assert shop.task_of(execution).last_attempt_result.exit_code == (143 if program == SLEEP else 137)


def test_a_run_overrides_arguments_variables_and_time_of_this_execution_alone(shop: Workshop) -> None:
    """Fact 5 [P]: "RunJob overrides: container_overrides{name,args,env,clear_args}, task_count, timeout"."""
    shop.create(
        "import os, sys; print(sys.argv[1:], os.environ['COLOUR'], os.environ.get('SIZE'))", COLOUR="red"
    )
    container = Overrides.ContainerOverride(
        args=["a", "b c"],
        env=[run_v2.EnvVar(name="COLOUR", value="blue"), run_v2.EnvVar(name="SIZE", value="7")],
    )
    changed = shop.ended(Overrides(container_overrides=[container], task_count=1, timeout=timedelta(hours=2)))
    assert shop.printed(changed) == ["['a', 'b c'] blue 7"]
    assert changed.template.timeout == timedelta(hours=2)
    assert shop.printed(shop.ended()) == ["[] red None"]
    clear = Overrides(container_overrides=[Overrides.ContainerOverride(clear_args=True)])
    assert shop.printed(shop.ended(clear)) == ["[] red None"]
    newest_first = shop.executions.list_executions(parent=shop.name, timeout=SECONDS)
    assert [len(each.template.containers[0].args) for each in newest_first] == [0, 0, 2]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (Overrides(container_overrides=[Overrides.ContainerOverride(name="other")]), "no container 'other'"),
        (Overrides(timeout=timedelta(days=8)), "timeout"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(shop: Workshop, overrides: Overrides, said: str) -> None:
    """Fact 5: the task timeout is at most 168 h."""
    shop.create("pass")
    with pytest.raises(exceptions.InvalidArgument, match=said):
        shop.run(overrides)
    assert not list(shop.executions.list_executions(parent=shop.name, timeout=SECONDS))


def test_an_update_replaces_the_job_as_a_whole(shop: Workshop) -> None:
    """UpdateJobRequest has no update_mask [P]."""
    before = shop.create("print(1)", COLOUR="red")
    wanted = a_job("print(2)", max_retries=5)
    wanted.name = shop.name
    job = shop.jobs.update_job(job=wanted, timeout=SECONDS).result(SECONDS)
    assert (job.uid, job.generation, job.create_time) == (before.uid, 2, before.create_time)
    assert (job.template.template.max_retries, list(job.template.template.containers[0].env)) == (5, [])
    assert shop.printed(shop.ended()) == ["2"]


def test_a_job_that_is_deleted_takes_its_executions_along(shop: Workshop) -> None:
    shop.create(SLEEP)
    running = shop.run()
    shop.jobs.delete_job(name=shop.name, timeout=SECONDS).result(SECONDS)
    with pytest.raises(exceptions.NotFound, match="does not exist"):
        shop.run()
    with pytest.raises(exceptions.NotFound, match="does not exist"):
        shop.executions.get_execution(name=an_execution(running.metadata).name, timeout=SECONDS)
    assert shop.google.wait(running.name).done


def test_what_is_wrong_with_a_job_is_refused(shop: Workshop) -> None:
    shop.create("pass")
    with pytest.raises(exceptions.AlreadyExists):
        shop.create("pass")
    for job, said in (
        (run_v2.Job(), "one container"),
        (a_job("pass", max_retries=11), "from 0 to 10"),
        (a_job("pass", timeout=8 * 24 * 3600), "604800 seconds"),
    ):
        with pytest.raises(exceptions.InvalidArgument, match=said):
            shop.jobs.create_job(parent=PARENT, job_id="other", job=job, timeout=SECONDS)
    with pytest.raises(exceptions.InvalidArgument, match="job_id"):
        shop.jobs.create_job(parent=PARENT, job_id="Other", job=a_job("pass"), timeout=SECONDS)


def test_an_image_stands_for_its_local_command(shop: Workshop) -> None:
    job = a_job("")
    job.template.template.containers = [run_v2.Container(image="eu/tools/echo:7", args=["web"])]
    shop.jobs.create_job(parent=PARENT, job_id="task", job=job, timeout=SECONDS).result(SECONDS)
    unknown = shop.ended()
    assert unknown.failed_count == 1
    assert "canary local image eu/tools/echo:7" in unknown.conditions[0].message
    program = "import os, sys; print(sys.argv[1:], os.environ['SIZE'])"
    shop.google.local.image("eu/tools/echo", [sys.executable, "-c", program], SIZE="7")
    assert shop.printed(shop.ended()) == ["['web'] 7"]


def test_a_stale_etag_is_refused_where_etags_are_enforced() -> None:
    for google in a_google(replace(QUICK, etag=EtagMode.ENFORCE)):
        shop = Workshop(google)
        shop.create("pass")
        request = run_v2.RunJobRequest(name=shop.name, etag='"stale"')
        with pytest.raises(exceptions.Aborted):
            shop.jobs.run_job(request=request, timeout=SECONDS)


def test_jobs_and_executions_are_kept_and_what_ran_has_ended(tmp_path: Path) -> None:
    kept = contextmanager(a_google)
    with kept(replace(QUICK, state=str(tmp_path))) as google:
        shop = Workshop(google)
        shop.create(SLEEP)
        running = an_execution(shop.run().metadata)
        assert until(lambda: shop.printed(running) == ["asleep"])
    with kept(replace(QUICK, state=str(tmp_path))) as google:
        again = Workshop(google).executions.get_execution(name=running.name, timeout=SECONDS)
        assert again.failed_count == 1
        assert "the local Cloud Run was stopped" in again.conditions[0].message


def test_no_task_outlives_the_local_cloud_run(tmp_path: Path) -> None:
    """Tasks are ended like instances, with whatever they have started."""
    pid_file = tmp_path / "pid"
    program = f"""
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path({str(pid_file)!r}).write_text(f"{{os.getpid()}} {{child.pid}} ")
time.sleep(600)
"""
    for google in a_google(QUICK):
        shop = Workshop(google)
        shop.create(program, max_retries=3)
        shop.run()
        assert until(lambda: pid_file.exists() and pid_file.read_text().endswith(" "))
    assert not [pid for pid in pid_file.read_text().split() if is_alive(int(pid))]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
