"""Cloud Run v1: jobs, executions and tasks, as calls of the v2 methods."""

from aiohttp import web
from google.cloud import run_v2
from google.longrunning import operations_pb2

from controller.emulator.calls import Dispatcher
from controller.emulator.knative import jobs, selectors
from controller.emulator.knative.methods import EXECUTIONS, JOBS, TASKS
from controller.emulator.knative.requests import (
    deleted,
    is_dry_run,
    list_response,
    page_asked_for,
    pages,
    parent_of,
)
from controller.emulator.knative.shapes import obj
from controller.emulator.knative.transcoding import called
from controller.emulator.knative.web import body_of, region_of
from controller.emulator.run.executions import JobCatalog
from controller.emulator.settings import Settings

NAMESPACE = "/apis/run.googleapis.com/v1/namespaces/{project}"


class JobsApi:
    """Answers v1 requests; the region is in the host, or is the emulator's own."""

    def __init__(self, calls: Dispatcher, known: JobCatalog, settings: Settings) -> None:
        self._calls = calls
        self._known = known
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post(f"{NAMESPACE}/jobs", self._create),
            web.get(f"{NAMESPACE}/jobs", self._list),
            web.get(f"{NAMESPACE}/jobs/{{name}}", self._get),
            web.put(f"{NAMESPACE}/jobs/{{name}}", self._replace),
            web.delete(f"{NAMESPACE}/jobs/{{name}}", self._delete),
            web.post(f"{NAMESPACE}/jobs/{{name:[^/:]+}}:run", self._run),
            web.get(f"{NAMESPACE}/executions", self._list_executions),
            web.get(f"{NAMESPACE}/executions/{{name}}", self._get_execution),
            web.post(f"{NAMESPACE}/executions/{{name:[^/:]+}}:cancel", self._cancel),
            web.get(f"{NAMESPACE}/tasks", self._list_tasks),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        name = str(obj(body.get("metadata"), "metadata").get("name") or "")
        parent = parent_of(request, self._settings)
        wanted = run_v2.CreateJobRequest(
            parent=parent,
            job_id=name,
            job=jobs.to_v2(body, f"{parent}/jobs/{name}"),
            validate_only=is_dry_run(request),
        )
        return _job(await called(self._calls, f"{JOBS}/CreateJob", wanted, request))

    async def _list(self, request: web.Request) -> web.Response:
        parent = parent_of(request, self._settings, region_of(request) or "-")
        is_wanted = selectors.read(request.query.get("labelSelector", ""))
        asked = run_v2.ListJobsRequest(parent=parent, **page_asked_for(request))
        found, token = await pages(self._calls, f"{JOBS}/ListJobs", asked, request, "jobs")
        items = [jobs.to_v1(job) for job in found]
        return list_response(jobs.API_VERSION, "JobList", [item for item in items if is_wanted(item)], token)

    async def _get(self, request: web.Request) -> web.Response:
        asked = run_v2.GetJobRequest(name=self._name(request))
        return web.json_response(jobs.to_v1(await called(self._calls, f"{JOBS}/GetJob", asked, request)))

    async def _replace(self, request: web.Request) -> web.Response:
        job = jobs.to_v2(await body_of(request), self._name(request))
        wanted = run_v2.UpdateJobRequest(job=job, validate_only=is_dry_run(request))
        return _job(await called(self._calls, f"{JOBS}/UpdateJob", wanted, request))

    async def _delete(self, request: web.Request) -> web.Response:
        wanted = run_v2.DeleteJobRequest(name=self._name(request), validate_only=is_dry_run(request))
        await called(self._calls, f"{JOBS}/DeleteJob", wanted, request)
        return deleted()

    async def _run(self, request: web.Request) -> web.Response:
        wanted = jobs.overrides_to_v2(await body_of(request), self._name(request))
        return _execution(await called(self._calls, f"{JOBS}/RunJob", wanted, request))

    async def _list_executions(self, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        is_wanted = selectors.read(selector)
        job = selectors.value_of(selector, jobs.JOB) or "-"
        parent = f"{parent_of(request, self._settings)}/jobs/{job}"
        asked = run_v2.ListExecutionsRequest(parent=parent, **page_asked_for(request))
        method = f"{EXECUTIONS}/ListExecutions"
        found, token = await pages(self._calls, method, asked, request, "executions")
        items = [item for item in map(jobs.execution_to_v1, found) if is_wanted(item)]
        return list_response(jobs.API_VERSION, "ExecutionList", items, token)

    async def _get_execution(self, request: web.Request) -> web.Response:
        asked = run_v2.GetExecutionRequest(name=self._full(request, request.match_info["name"]))
        found = await called(self._calls, f"{EXECUTIONS}/GetExecution", asked, request)
        return web.json_response(jobs.execution_to_v1(found))

    async def _cancel(self, request: web.Request) -> web.Response:
        wanted = run_v2.CancelExecutionRequest(name=self._full(request, request.match_info["name"]))
        return _execution(await called(self._calls, f"{EXECUTIONS}/CancelExecution", wanted, request))

    async def _list_tasks(self, request: web.Request) -> web.Response:
        execution = selectors.value_of(request.query.get("labelSelector", ""), jobs.EXECUTION)
        asked = run_v2.ListTasksRequest(parent=self._full(request, execution), **page_asked_for(request))
        found, token = await pages(self._calls, f"{TASKS}/ListTasks", asked, request, "tasks")
        items = [jobs.task_resource_to_v1(task) for task in found]
        return list_response(jobs.API_VERSION, "TaskList", items, token)

    def _name(self, request: web.Request) -> str:
        return f"{parent_of(request, self._settings)}/jobs/{request.match_info['name']}"

    def _full(self, request: web.Request, execution: str) -> str:
        """Return the full name of an execution, which v1 names without its job."""
        parent = parent_of(request, self._settings)
        owners = [job.proto.name for job in self._known.located(parent) if execution in job.executions]
        return f"{owners[0] if owners else f'{parent}/jobs/-'}/executions/{execution}"


def _job(operation: operations_pb2.Operation) -> web.Response:
    """Return the job as it is right after a write, or would be."""
    packed = operation.response if operation.HasField("response") else operation.metadata
    return web.json_response(jobs.to_v1(run_v2.Job.deserialize(packed.value)))


def _execution(operation: operations_pb2.Operation) -> web.Response:
    """Return the execution as it is right after it was begun, or was asked to end."""
    return web.json_response(jobs.execution_to_v1(run_v2.Execution.deserialize(operation.metadata.value)))
