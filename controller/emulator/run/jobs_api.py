"""google.cloud.run.v2 Jobs, Executions and Tasks."""

from typing import Any, Protocol

from google.cloud import run_v2
from google.iam.v1 import iam_policy_pb2

from controller.emulator.calls import Method, Methods
from controller.emulator.errors import not_found
from controller.emulator.paging import paged
from controller.emulator.run.executions import task_of
from controller.emulator.run.jobs import Jobs
from controller.emulator.run.methods import Answer, written


class MethodOn(Protocol):
    """Makes a method whose request names a resource in a field."""

    def __call__(self, answer: Answer, field: str, read: Any, write: Any) -> Method:
        """Return the method."""
        ...


def job_methods(jobs: Jobs, method: MethodOn, test_permissions: Answer) -> Methods:
    """Return the methods by service and name."""
    return {
        "google.cloud.run.v2.Jobs": _of_jobs(jobs, method, test_permissions),
        "google.cloud.run.v2.Executions": _of_executions(jobs, method),
        "google.cloud.run.v2.Tasks": _of_tasks(jobs, method),
    }


def _of_jobs(jobs: Jobs, method: MethodOn, test_permissions: Answer) -> dict[str, Method]:
    v2, iam = run_v2, iam_policy_pb2
    return {
        "CreateJob": method(
            lambda call, request: jobs.create(request, call.principal, call.now),
            "parent", v2.CreateJobRequest.deserialize, written,
        ),
        "GetJob": method(
            lambda _, request: jobs.get(request.name),
            "name", v2.GetJobRequest.deserialize, v2.Job.serialize,
        ),
        "ListJobs": method(
            lambda _, request: jobs.list(request),
            "parent", v2.ListJobsRequest.deserialize, v2.ListJobsResponse.serialize,
        ),
        "UpdateJob": method(
            lambda call, request: jobs.update(request, call.principal, call.now),
            "job.name", v2.UpdateJobRequest.deserialize, written,
        ),
        "DeleteJob": method(
            lambda call, request: jobs.delete(request, call.now),
            "name", v2.DeleteJobRequest.deserialize, written,
        ),
        "RunJob": method(
            lambda call, request: jobs.run(request, call.principal, call.now),
            "name", v2.RunJobRequest.deserialize, written,
        ),
        "TestIamPermissions": method(
            test_permissions, "resource", iam.TestIamPermissionsRequest.FromString,
            iam.TestIamPermissionsResponse.SerializeToString,
        ),
    }  # fmt: skip


def _of_executions(jobs: Jobs, method: MethodOn) -> dict[str, Method]:
    v2, executions = run_v2, jobs.executions
    return {
        "GetExecution": method(
            lambda _, request: executions.get(request.name).proto,
            "name", v2.GetExecutionRequest.deserialize, v2.Execution.serialize,
        ),
        "ListExecutions": method(
            lambda _, request: executions.list(request),
            "parent", v2.ListExecutionsRequest.deserialize, v2.ListExecutionsResponse.serialize,
        ),
        "CancelExecution": method(
            lambda call, request: executions.cancel(request, call.now),
            "name", v2.CancelExecutionRequest.deserialize, written,
        ),
    }  # fmt: skip


def _of_tasks(jobs: Jobs, method: MethodOn) -> dict[str, Method]:
    def get(_: Any, request: run_v2.GetTaskRequest) -> run_v2.Task:
        task = task_of(jobs.executions.get(request.name.rpartition("/tasks/")[0]))
        if task.name != request.name:
            raise not_found(request.name)
        return task

    def find(_: Any, request: run_v2.ListTasksRequest) -> run_v2.ListTasksResponse:
        tasks = [task_of(jobs.executions.get(request.parent))]
        page, token = paged(tasks, request.page_size, request.page_token)
        return run_v2.ListTasksResponse(tasks=page, next_page_token=token)

    v2 = run_v2
    return {
        "GetTask": method(get, "name", v2.GetTaskRequest.deserialize, v2.Task.serialize),
        "ListTasks": method(find, "parent", v2.ListTasksRequest.deserialize, v2.ListTasksResponse.serialize),
    }
