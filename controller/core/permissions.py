"""The least permissions: what the controller's role and the build's role hold, and nothing else."""

from typing import Final

CONTROLLER: Final = (
    "run.services.get",
    "run.services.update",
    "run.services.list",  # check and run, which look for services
    "run.revisions.get",
    "run.revisions.list",
    "monitoring.timeSeries.list",
    "logging.logEntries.create",  # the audit trail
    "logging.logEntries.list",  # history, replay, probes and request_logs
)
"""Of whoever runs `canary`: on the project, as metrics, logs and lists have no smaller place."""

BUILD: Final = ("run.jobs.get", "run.jobs.run", "run.jobs.runWithOverrides")
"""Of a build that starts the job (`canary rollout --detach`): on the job."""

INVOKER: Final = "roles/run.invoker"
"""On a service that asks for a sign-in, for probes; on the job, for its schedule."""

ACTS_AS: Final = "roles/iam.serviceAccountUser"
"""On a service's own account: of who deploys, and where a write is refused with iam.serviceaccounts.actAs."""
