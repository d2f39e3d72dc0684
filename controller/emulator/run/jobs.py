"""The verbs of jobs: create, get, list, update, delete, run."""

import random
from datetime import datetime, timedelta

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.errors import already_exists, violation
from controller.emulator.instants import instant_of, stamp
from controller.emulator.names import check_job_name, check_place, check_service_id, location_of, uid_of
from controller.emulator.paging import paged
from controller.emulator.run import etags, job_rules
from controller.emulator.run.executions import Executions, JobCatalog, JobState, State
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.tasks import TaskRuntime
from controller.emulator.settings import Settings

# What Cloud Run answers and nobody writes.
OUTPUT_ONLY = (
    "uid", "generation", "create_time", "update_time", "delete_time", "expire_time", "creator",
    "last_modifier", "observed_generation", "terminal_condition", "conditions", "execution_count",
    "latest_created_execution", "reconciling", "satisfies_pzs", "etag",
)  # fmt: skip


class Jobs:
    """The jobs of one project; what is written is in force a while later, an execution begins at once."""

    def __init__(
        self, clock: Clock, settings: Settings, operations: Operations, runtime: TaskRuntime
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._operations = operations
        self.catalog = JobCatalog()
        rng = random.Random(f"{settings.seed} executions")
        self.executions = Executions(clock, settings, self.catalog, operations, runtime, rng)

    def get(self, name: str) -> run_v2.Job:
        """Return a job by its full name."""
        return self.catalog.job(name).proto

    def list(self, request: run_v2.ListJobsRequest) -> run_v2.ListJobsResponse:
        """Return the jobs of a location, `-` meaning every one, by name."""
        location_of(request.parent)
        found = [job.proto for job in self.catalog.located(request.parent)]
        page, token = paged(found, request.page_size, request.page_token)
        return run_v2.ListJobsResponse(jobs=page, next_page_token=token)

    def create(self, request: run_v2.CreateJobRequest, principal: str, now: datetime) -> Operation:
        """Create a job."""
        check_place(request.parent, self._settings.project, "run.jobs.create")
        check_service_id(request.job_id, "CreateJobRequest.job_id")
        name = f"{request.parent}/jobs/{request.job_id}"
        if name in self.catalog.jobs:
            raise already_exists(f"Resource '{request.job_id}' already exists.")
        current = run_v2.Job(name=name, uid=uid_of(name, now), create_time=now, creator=principal)
        job = self._completed("CreateJobRequest", current, request.job)
        if request.validate_only:
            return self._shown(job, now)
        state = self.catalog.jobs[name] = JobState(job)
        return self._write(state, job, principal, now)

    def update(self, request: run_v2.UpdateJobRequest, principal: str, now: datetime) -> Operation:
        """Replace a job as a whole, as there is no mask for jobs; executions keep what they run."""
        name = request.job.name
        check_job_name(name)
        if name not in self.catalog.jobs and request.allow_missing:
            parent, _, job_id = name.rpartition("/jobs/")
            creation = run_v2.CreateJobRequest(
                parent=parent, job_id=job_id, job=request.job, validate_only=request.validate_only
            )
            return self.create(creation, principal, now)
        state = self.catalog.job(name)
        etags.check(self._settings.etag, name, state.proto.etag, request.job.etag)
        job = self._completed("UpdateJobRequest", state.proto, request.job)
        if request.validate_only:
            return self._shown(job, now)
        return self._write(state, job, principal, now)

    def delete(self, request: run_v2.DeleteJobRequest, now: datetime) -> Operation:
        """Delete a job with its executions; those that run are ended."""
        state = self.catalog.job(request.name)
        etags.check(self._settings.etag, request.name, state.proto.etag, request.etag)
        if request.validate_only:
            return self._shown(state.proto, now)
        state.proto.delete_time = stamp(now)
        operation = self._opened(state, now)
        operation.deletes = True
        return operation

    def run(self, request: run_v2.RunJobRequest, principal: str, now: datetime) -> Operation:
        """Begin an execution, with what the request overrides of the job's template."""
        state = self.catalog.job(request.name)
        etags.check(self._settings.etag, request.name, state.proto.etag, request.etag)
        template = _overridden(state.proto.template, request.overrides)
        job_rules.check_template("RunJobRequest.overrides", template)
        if request.validate_only:
            return self._shown(state.proto, now)
        return self.executions.begin(state, template, principal, now)

    def resume(self, now: datetime) -> None:
        """Take up what was kept: executions have ended, and writes under way end when they are due."""
        self.executions.resume(now)
        for operation in self._operations.all():
            state = self.catalog.jobs.get(operation.subject)
            if state is not None and not operation.done:
                self._finish_when_due(state, operation)

    def _completed(self, request: str, current: run_v2.Job, wanted: run_v2.Job) -> run_v2.Job:
        """Return the job as wanted, with defaults and what only Cloud Run says; refuse what is wrong."""
        job = run_v2.Job(wanted)
        source, target = run_v2.Job.pb(current), run_v2.Job.pb(job)
        target.name = source.name
        for field in OUTPUT_ONLY:
            target.ClearField(field)
        kept = type(source)()
        kept.CopyFrom(source)
        for described, _ in source.ListFields():
            if described.name not in OUTPUT_ONLY:
                kept.ClearField(described.name)
        target.MergeFrom(kept)
        job_rules.fill_in(job)
        job_rules.check(request, job)
        return job

    def _shown(self, job: run_v2.Job, now: datetime) -> Operation:
        """Return an operation that is done and shows a job as it would be, though nothing is stored."""
        location = job.name.rpartition("/jobs/")[0]
        operation = self._operations.open(location, f"{job.name}?validate_only", now)
        self._operations.succeed(operation, run_v2.Job.pb(job))
        return operation

    def _write(self, state: JobState, job: run_v2.Job, principal: str, now: datetime) -> Operation:
        before = instant_of(state.proto.update_time)
        moment = now if before is None else max(now, before + timedelta(microseconds=1))
        job.generation += 1
        job.update_time = stamp(moment)
        job.last_modifier = principal
        job.etag = etags.etag_of(job.name, moment)
        job.reconciling = True
        job.terminal_condition = run_v2.Condition(type_="Ready", state=State.CONDITION_PENDING)
        state.proto = job
        return self._opened(state, now)

    def _opened(self, state: JobState, now: datetime) -> Operation:
        location = state.proto.name.rpartition("/jobs/")[0]
        due = now + self._settings.reconcile_delay
        operation = self._operations.open(location, state.proto.name, due)
        operation.show(run_v2.Job.pb(state.proto))
        self._finish_when_due(state, operation)
        return operation

    def _finish_when_due(self, state: JobState, operation: Operation) -> None:
        self._clock.at(operation.due, lambda at: self._finish(state, operation, at))

    def _finish(self, state: JobState, operation: Operation, at: datetime) -> None:
        if operation.done:
            return
        if at < operation.due:  # held up in the meantime
            self._finish_when_due(state, operation)
            return
        if operation.deletes:
            self.catalog.jobs.pop(state.proto.name, None)
            self.executions.abandon(state)
        else:
            ready = run_v2.Condition(type_="Ready", state=State.CONDITION_SUCCEEDED, last_transition_time=at)
            state.proto.terminal_condition = ready
            state.proto.reconciling = False
            state.proto.observed_generation = state.proto.generation
        self._operations.succeed(operation, run_v2.Job.pb(state.proto))


def _overridden(
    template: run_v2.ExecutionTemplate, overrides: run_v2.RunJobRequest.Overrides
) -> run_v2.ExecutionTemplate:
    """Return the template with other arguments, more or other variables, another number of tasks or time."""
    result = run_v2.ExecutionTemplate(template)
    container = result.template.containers[0]
    for position, one in enumerate(overrides.container_overrides):
        if one.name and one.name != container.name:
            path = f"RunJobRequest.overrides.container_overrides[{position}].name"
            raise violation(path, f"there is no container '{one.name}'.")
        if one.args or one.clear_args:
            container.args = list(one.args)
        names = {variable.name for variable in one.env}
        container.env = [*(each for each in container.env if each.name not in names), *one.env]
    result.task_count = overrides.task_count or result.task_count
    if run_v2.RunJobRequest.Overrides.pb(overrides).timeout.ToNanoseconds():
        result.template.timeout = overrides.timeout
    return result
