"""Executions: one task each, tried again as its job says, ended by its exit code, its time or a person."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.errors import failed_precondition, not_found
from controller.emulator.instants import seconds_of, stamp
from controller.emulator.names import check_job_name, execution_id, short, uid_of
from controller.emulator.paging import paged
from controller.emulator.run import etags
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.tasks import AttemptKey, Ended, TaskRuntime
from controller.emulator.settings import Settings

State = run_v2.Condition.State
Reason = run_v2.Condition.ExecutionReason
Status = run_v2.ExecutionReference.CompletionStatus
NO_CODE = 1
"""Shown where a try could not be started at all."""


@dataclass
class ExecutionState:
    """An execution as the API shows it, and its task."""

    proto: run_v2.Execution
    attempt: int = 0
    last: Ended | None = None
    """How the last try that ended did so."""
    timed_out: bool = False
    """Whether the present try was ended because its time was up."""
    cancelled: bool = False

    @property
    def is_over(self) -> bool:
        """Return whether nothing of it runs any more."""
        return "completion_time" in self.proto

    @property
    def key(self) -> AttemptKey:
        """Return what names the present try."""
        _, _, _, location, _, job, _, execution = self.proto.name.split("/")
        return AttemptKey(location, job, execution, self.attempt)


@dataclass
class JobState:
    """A job as the API shows it, and its executions by short name, the oldest first."""

    proto: run_v2.Job
    executions: dict[str, ExecutionState] = field(default_factory=dict)


class JobCatalog:
    """All jobs, by full name."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobState] = {}

    def job(self, name: str) -> JobState:
        """Return a job by its full name."""
        check_job_name(name)
        if name not in self.jobs:
            raise not_found(name)
        return self.jobs[name]

    def execution(self, name: str) -> tuple[JobState, ExecutionState]:
        """Return an execution by its full name, and its job."""
        job_name, _, execution = name.rpartition("/executions/")
        check_job_name(job_name)
        job = self.jobs.get(job_name)
        if job is None or execution not in job.executions:
            raise not_found(name)
        return job, job.executions[execution]

    def located(self, parent: str) -> Iterator[JobState]:
        """Give the jobs of `projects/P/locations/L`, by name; the location `-` means every one."""
        place, _, region = parent.rpartition("/")
        prefix = f"{place}/" if region == "-" else f"{parent}/"
        return (job for name, job in sorted(self.jobs.items()) if name.startswith(prefix))


class Executions:
    """Begins executions and follows them to their end."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        catalog: JobCatalog,
        operations: Operations,
        runtime: TaskRuntime,
        rng: random.Random,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._catalog = catalog
        self._operations = operations
        self._runtime = runtime
        self._rng = rng

    def get(self, name: str) -> ExecutionState:
        """Return an execution by its full name."""
        return self._catalog.execution(name)[1]

    def list(self, request: run_v2.ListExecutionsRequest) -> run_v2.ListExecutionsResponse:
        """Return the executions of a job, newest first; `jobs/-` means those of every job."""
        check_job_name(request.parent)
        location, _, job_id = request.parent.rpartition("/jobs/")
        jobs = self._catalog.located(location) if job_id == "-" else [self._catalog.job(request.parent)]
        found = [execution.proto for job in jobs for execution in reversed(job.executions.values())]
        found.sort(key=lambda each: run_v2.Execution.pb(each).create_time.ToNanoseconds(), reverse=True)
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListExecutionsResponse(executions=page, next_page_token=token)

    def begin(
        self, job: JobState, template: run_v2.ExecutionTemplate, principal: str, now: datetime
    ) -> Operation:
        """Begin an execution; its operation is done when it is over, and shows how it ended."""
        name = f"{job.proto.name}/executions/{self._unused_name(job)}"
        proto = run_v2.Execution(
            name=name, uid=uid_of(name, now), creator=principal, generation=1, observed_generation=1,
            labels=template.labels, annotations=template.annotations, create_time=now, start_time=now,
            update_time=now, launch_stage=job.proto.launch_stage, job=short(job.proto.name),
            parallelism=template.parallelism, task_count=template.task_count, template=template.template,
            etag=etags.etag_of(name, now),
        )  # fmt: skip
        state = ExecutionState(proto)
        job.executions[short(name)] = state
        job.proto.execution_count += 1
        _show_running(job, state, now)
        operation = self._operations.open(name.partition("/jobs/")[0], name, now)
        operation.show(run_v2.Execution.pb(proto))
        self._try(job, state, now)
        return operation

    def cancel(self, request: run_v2.CancelExecutionRequest, now: datetime) -> Operation:
        """Ask an execution to end; the operation is done when it has."""
        _, state = self._catalog.execution(request.name)
        etags.check(self._settings.etag, request.name, state.proto.etag, request.etag)
        if state.is_over:
            raise failed_precondition(f"Execution '{short(request.name)}' is already completed.")
        operation = self._operations.open(request.name.partition("/jobs/")[0], request.name, now)
        operation.show(run_v2.Execution.pb(state.proto))
        if request.validate_only:
            self._operations.succeed_as_shown(operation)
        else:
            self._stop(state)
        return operation

    def abandon(self, job: JobState) -> None:
        """End what still runs of a job that is deleted."""
        for state in job.executions.values():
            if not state.is_over:
                self._stop(state)

    def resume(self, at: datetime) -> None:
        """Take up the executions as they were kept: their processes are gone."""
        for job in self._catalog.jobs.values():
            for state in job.executions.values():
                if not state.is_over:
                    gone = Ended(NO_CODE, "it ended when the local Cloud Run was stopped")
                    self._complete(job, state, at, gone)

    def _try(self, job: JobState, state: ExecutionState, at: datetime) -> None:
        key = state.key
        state.timed_out = False

        def time_is_up(_: datetime) -> None:
            if state.key == key and not state.is_over:
                state.timed_out = True
                self._runtime.stop(key)

        limit = timedelta(seconds=seconds_of(state.proto.template.timeout))
        self._clock.at(at + limit, time_is_up)
        self._runtime.run(key, state.proto, lambda when, ended: self._ended(job, state, when, ended))

    def _stop(self, state: ExecutionState) -> None:
        state.cancelled = True
        self._runtime.stop(state.key)

    def _ended(self, job: JobState, state: ExecutionState, at: datetime, ended: Ended) -> None:
        failed = ended.code != 0 or state.timed_out
        if failed and not state.cancelled and state.attempt < state.proto.template.max_retries:
            state.last = ended
            state.attempt += 1
            state.proto.retried_count += 1
            self._try(job, state, at)
        else:
            self._complete(job, state, at, ended)

    def _complete(self, job: JobState, state: ExecutionState, at: datetime, ended: Ended) -> None:
        state.last = ended
        _show_completed(job, state, at)
        for operation in self._operations.open_for(state.proto.name):
            self._operations.succeed(operation, run_v2.Execution.pb(state.proto))

    def _unused_name(self, job: JobState) -> str:
        name = execution_id(short(job.proto.name), self._rng)
        return self._unused_name(job) if name in job.executions else name


def task_of(state: ExecutionState) -> run_v2.Task:
    """Return the task of an execution, with the exit code of the last try that has ended."""
    execution = state.proto
    name = f"{execution.name}/tasks/{short(execution.name)}-task0"
    task = run_v2.Task(
        name=name, uid=execution.uid, generation=1, observed_generation=1, job=execution.job,
        execution=short(execution.name), create_time=execution.create_time, start_time=execution.start_time,
        update_time=execution.update_time, containers=execution.template.containers,
        max_retries=execution.template.max_retries, timeout=execution.template.timeout,
        service_account=execution.template.service_account, retried=state.attempt, index=0,
        reconciling=execution.reconciling, conditions=execution.conditions, etag=execution.etag,
    )  # fmt: skip
    if state.is_over:
        task.completion_time = execution.completion_time
    if state.last is not None:
        code = state.last.code if state.last.code >= 0 else 128 - state.last.code
        task.last_attempt_result = run_v2.TaskAttemptResult(exit_code=code)
    return task


def _show_running(job: JobState, state: ExecutionState, at: datetime) -> None:
    execution = state.proto
    execution.reconciling, execution.running_count = True, 1
    execution.conditions = [
        run_v2.Condition(type_="Completed", state=State.CONDITION_RECONCILING, last_transition_time=at),
        *(
            run_v2.Condition(type_=kind, state=State.CONDITION_SUCCEEDED, last_transition_time=at)
            for kind in ("ResourcesAvailable", "Started", "ContainerReady")
        ),
    ]
    job.proto.latest_created_execution = run_v2.ExecutionReference(
        name=short(execution.name), create_time=at, completion_status=Status.EXECUTION_RUNNING
    )


def _show_completed(job: JobState, state: ExecutionState, at: datetime) -> None:
    execution = state.proto
    status, reason, message = _outcome(state, at)
    execution.reconciling, execution.running_count = False, 0
    execution.succeeded_count = int(status == Status.EXECUTION_SUCCEEDED)
    execution.failed_count = int(status == Status.EXECUTION_FAILED)
    execution.cancelled_count = int(status == Status.EXECUTION_CANCELLED)
    execution.completion_time = execution.update_time = stamp(at)
    execution.etag = etags.etag_of(execution.name, at)
    is_well = status == Status.EXECUTION_SUCCEEDED
    completed = run_v2.Condition(
        type_="Completed",
        state=State.CONDITION_SUCCEEDED if is_well else State.CONDITION_FAILED,
        message=message,
        last_transition_time=at,
    )
    if not is_well:
        completed.execution_reason = Reason(reason)
    execution.conditions = [completed, *execution.conditions[1:]]
    if job.proto.latest_created_execution.name == short(execution.name):
        job.proto.latest_created_execution.completion_time = stamp(at)
        job.proto.latest_created_execution.completion_status = Status(status)


def _outcome(state: ExecutionState, at: datetime) -> tuple[int, int, str]:
    execution, ended = state.proto, state.last or Ended(NO_CODE)
    name = short(execution.name)
    if state.cancelled:
        return Status.EXECUTION_CANCELLED, Reason.CANCELLED, f"Execution {name} was cancelled."
    if ended.code == 0 and not state.timed_out:
        took = run_v2.Execution.pb(execution).start_time.ToDatetime(at.tzinfo)
        seconds = (at - took).total_seconds()
        nothing = Reason.EXECUTION_REASON_UNDEFINED
        return Status.EXECUTION_SUCCEEDED, nothing, f"Execution completed successfully in {seconds:.2f}s."
    if state.timed_out:
        why = "The configured timeout was reached."
    else:
        why = ended.problem or "The container exited with an error."
    message = f"Task {name}-task0 failed with message: {why}"
    return Status.EXECUTION_FAILED, Reason.NON_ZERO_EXIT_CODE, message
