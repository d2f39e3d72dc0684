"""Which permission a call needs, and on which resource."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from google.cloud import run_v2

from controller.emulator.access.policy import ActAs
from controller.emulator.access.roles import ACT_AS
from controller.emulator.names import default_service_account

StoredTemplate = Callable[[str], run_v2.RevisionTemplate | None]
"""The template of a service by its full name; None if there is no such service."""


@dataclass(frozen=True)
class Need:
    """A permission on a resource."""

    permission: str
    resource: str


def _on(permission: str, path: str) -> Callable[[Any], list[Need]]:
    """Return what a call needs whose request names the resource at a path."""
    resource = attrgetter(path)
    return lambda request: [Need(permission, resource(request))]


def _nothing(_: Any) -> list[Need]:
    return []


def _listed_logs(request: Any) -> list[Need]:
    return [Need("logging.logEntries.list", name) for name in request.resource_names]


def _written_logs(request: Any) -> list[Need]:
    names = {entry.log_name or request.log_name for entry in request.entries}
    projects = sorted(name.partition("/logs/")[0] for name in names)
    return [Need("logging.logEntries.create", name) for name in projects]


def _parent_of_log(request: Any) -> list[Need]:
    return [Need("logging.logs.delete", request.log_name.partition("/logs/")[0])]


def _run_job(request: Any) -> list[Need]:
    needs = [Need("run.jobs.run", request.name)]
    if request.overrides != run_v2.RunJobRequest.Overrides():
        needs.append(Need("run.jobs.runWithOverrides", request.name))
    return needs


_RUN: Final = "google.cloud.run.v2"
_METRICS: Final = "google.monitoring.v3.MetricService"
_LOGS: Final = "google.logging.v2.LoggingServiceV2"
_CREATE: Final = f"/{_RUN}.Services/CreateService"
_UPDATE: Final = f"/{_RUN}.Services/UpdateService"
_CREATE_JOB: Final = f"/{_RUN}.Jobs/CreateJob"
_UPDATE_JOB: Final = f"/{_RUN}.Jobs/UpdateJob"

BY_METHOD: Final[Mapping[str, Callable[[Any], list[Need]]]] = {
    _CREATE: _on("run.services.create", "parent"),
    f"/{_RUN}.Services/GetService": _on("run.services.get", "name"),
    f"/{_RUN}.Services/ListServices": _on("run.services.list", "parent"),
    _UPDATE: lambda request: [
        Need("run.services.update", request.service.name),
        Need("run.services.get", request.service.name),
    ],
    f"/{_RUN}.Services/DeleteService": _on("run.services.delete", "name"),
    f"/{_RUN}.Services/GetIamPolicy": _on("run.services.getIamPolicy", "resource"),
    f"/{_RUN}.Services/SetIamPolicy": _on("run.services.setIamPolicy", "resource"),
    f"/{_RUN}.Services/TestIamPermissions": _nothing,
    f"/{_RUN}.Revisions/GetRevision": _on("run.revisions.get", "name"),
    f"/{_RUN}.Revisions/ListRevisions": _on("run.revisions.list", "parent"),
    f"/{_RUN}.Revisions/DeleteRevision": _on("run.revisions.delete", "name"),
    _CREATE_JOB: _on("run.jobs.create", "parent"),
    f"/{_RUN}.Jobs/GetJob": _on("run.jobs.get", "name"),
    f"/{_RUN}.Jobs/ListJobs": _on("run.jobs.list", "parent"),
    _UPDATE_JOB: _on("run.jobs.update", "job.name"),
    f"/{_RUN}.Jobs/DeleteJob": _on("run.jobs.delete", "name"),
    f"/{_RUN}.Jobs/RunJob": _run_job,
    f"/{_RUN}.Jobs/TestIamPermissions": _nothing,
    f"/{_RUN}.Executions/GetExecution": _on("run.executions.get", "name"),
    f"/{_RUN}.Executions/ListExecutions": _on("run.executions.list", "parent"),
    f"/{_RUN}.Executions/CancelExecution": _on("run.executions.cancel", "name"),
    f"/{_RUN}.Tasks/GetTask": _on("run.tasks.get", "name"),
    f"/{_RUN}.Tasks/ListTasks": _on("run.tasks.list", "parent"),
    "/google.longrunning.Operations/GetOperation": _on("run.operations.get", "name"),
    "/google.longrunning.Operations/ListOperations": _on("run.operations.list", "name"),
    "/google.longrunning.Operations/WaitOperation": _on("run.operations.get", "name"),
    "/google.longrunning.Operations/DeleteOperation": _on("run.operations.delete", "name"),
    "/google.longrunning.Operations/CancelOperation": _nothing,
    "/google.cloud.location.Locations/ListLocations": _on("run.locations.list", "name"),
    f"/{_METRICS}/ListMonitoredResourceDescriptors": _on(
        "monitoring.monitoredResourceDescriptors.list", "name"
    ),
    f"/{_METRICS}/GetMonitoredResourceDescriptor": _on("monitoring.monitoredResourceDescriptors.get", "name"),
    f"/{_METRICS}/ListTimeSeries": _on("monitoring.timeSeries.list", "name"),
    f"/{_METRICS}/ListMetricDescriptors": _on("monitoring.metricDescriptors.list", "name"),
    f"/{_METRICS}/GetMetricDescriptor": _on("monitoring.metricDescriptors.get", "name"),
    f"/{_LOGS}/ListLogEntries": _listed_logs,
    f"/{_LOGS}/WriteLogEntries": _written_logs,
    f"/{_LOGS}/ListMonitoredResourceDescriptors": _nothing,
    f"/{_LOGS}/ListLogs": _on("logging.logs.list", "parent"),
    f"/{_LOGS}/DeleteLog": _parent_of_log,
}
"""What each method needs by itself. A write may need to act as the service's account besides."""


def needs_of(method: str, request: Any, stored: StoredTemplate, act_as: ActAs) -> list[Need] | None:
    """Return what a call needs; None if nobody said what its method needs."""
    if method not in BY_METHOD:
        return None
    needs = BY_METHOD[method](request)
    if method == _CREATE:
        return [*needs, _acting_as(request.parent, request.service.template)]
    if method == _CREATE_JOB:
        return [*needs, _acting_as(request.parent, request.job.template.template)]
    if method == _UPDATE_JOB:
        return [*needs, _acting_as(request.job.name, request.job.template.template)]
    if method == _UPDATE:
        return _needs_of_update(request, needs, stored, act_as)
    return needs


def _needs_of_update(request: Any, needs: list[Need], stored: StoredTemplate, act_as: ActAs) -> list[Need]:
    name, wanted = request.service.name, request.service.template
    present = stored(name)
    if present is None and request.allow_missing:
        parent = name.partition("/services/")[0]
        return [*needs, Need("run.services.create", parent), _acting_as(parent, wanted)]
    paths = list(request.update_mask.paths)
    is_in_mask = not paths or any(path.partition(".")[0] in {"template", "*"} for path in paths)
    is_changed = present is not None and is_in_mask and wanted != present
    if present is not None and (is_changed or act_as is ActAs.ALWAYS):
        return [*needs, _acting_as(name, wanted if is_in_mask else present)]
    return needs


def _acting_as(place: str, template: run_v2.RevisionTemplate | run_v2.TaskTemplate) -> Need:
    """Return the need to act as the account that the containers run as; by default the project's own."""
    project = place.partition("/locations/")[0]
    account = template.service_account or default_service_account(project.removeprefix("projects/"))
    return Need(ACT_AS, f"{project}/serviceAccounts/{account}")
