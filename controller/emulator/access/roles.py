"""The permissions and predefined roles of Google Cloud that matter to a local Cloud Run."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

ACT_AS: Final = "iam.serviceAccounts.actAs"

_READ_RUN = frozenset(
    {
        "run.configurations.get",
        "run.configurations.list",
        "run.executions.get",
        "run.executions.list",
        "run.jobs.get",
        "run.jobs.list",
        "run.locations.list",
        "run.operations.get",
        "run.operations.list",
        "run.revisions.get",
        "run.revisions.list",
        "run.routes.get",
        "run.routes.list",
        "run.services.get",
        "run.services.getIamPolicy",
        "run.services.list",
        "run.tasks.get",
        "run.tasks.list",
    }
)
_WRITE_RUN = frozenset(
    {
        "run.executions.cancel",
        "run.executions.delete",
        "run.jobs.create",
        "run.jobs.delete",
        "run.jobs.run",
        "run.jobs.runWithOverrides",
        "run.jobs.update",
        "run.operations.delete",
        "run.revisions.delete",
        "run.routes.invoke",
        "run.services.create",
        "run.services.delete",
        "run.services.update",
    }
)
_READ_METRICS = frozenset(
    {
        "monitoring.metricDescriptors.get",
        "monitoring.metricDescriptors.list",
        "monitoring.monitoredResourceDescriptors.get",
        "monitoring.monitoredResourceDescriptors.list",
        "monitoring.timeSeries.list",
    }
)
_WRITE_METRICS = frozenset({"monitoring.metricDescriptors.create", "monitoring.timeSeries.create"})
_READ_LOGS = frozenset({"logging.logEntries.list", "logging.logs.list"})
_WRITE_LOGS = frozenset({"logging.logEntries.create"})
_READ = _READ_RUN | _READ_METRICS | _READ_LOGS
_WRITE = _WRITE_RUN | _WRITE_METRICS | _WRITE_LOGS | {"logging.logs.delete", ACT_AS}
_TAGS = frozenset(
    {
        "run.services.createTagBinding",
        "run.services.deleteTagBinding",
        "run.services.listEffectiveTags",
        "run.services.listTagBindings",
    }
)
PERMISSIONS: Final = _READ | _WRITE | _TAGS | {"run.services.setIamPolicy"}
"""All that is ever checked, and the rest of the same resources."""

PREDEFINED: Final[Mapping[str, frozenset[str]]] = {
    "roles/viewer": _READ,
    "roles/editor": _READ | _WRITE,
    "roles/owner": PERMISSIONS,
    "roles/run.viewer": _READ_RUN,
    "roles/run.developer": _READ_RUN | _WRITE_RUN,
    "roles/run.admin": _READ_RUN | _WRITE_RUN | {"run.services.setIamPolicy"},
    "roles/run.invoker": frozenset({"run.jobs.run", "run.routes.invoke"}),
    "roles/run.jobsExecutor": frozenset({"run.jobs.run"}),
    "roles/run.jobsExecutorWithOverrides": frozenset({"run.jobs.run", "run.jobs.runWithOverrides"}),
    "roles/monitoring.viewer": _READ_METRICS,
    "roles/logging.viewer": _READ_LOGS,
    "roles/logging.logWriter": _WRITE_LOGS,
    "roles/iam.serviceAccountUser": frozenset({ACT_AS}),
}
"""What each role holds of the permissions above; Google's hold more, which nothing here asks for."""

_ALIKE = 0.9


def looks_misspelt(permission: str) -> str:
    """Return the permission that was probably meant, or "" for a known one and for one of other APIs."""
    if permission in PERMISSIONS:
        return ""
    resource = permission.rpartition(".")[0]
    siblings = [known for known in PERMISSIONS if known.rpartition(".")[0] == resource]
    of_ours = siblings if resource.startswith("run.") else []
    nearest = get_close_matches(permission, of_ours, 1, 0.0)
    nearest = nearest or get_close_matches(permission, sorted(PERMISSIONS), 1, _ALIKE)
    return nearest[0] if nearest else ""
