"""Cloud Run jobs: reads one, and starts it with arguments and variables of its own."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import grpc
from google.cloud import run_v2
from google.cloud.run_v2.services.jobs.transports import JobsGrpcTransport

from controller.gateways.calls import Caller
from controller.gateways.google_errors import translated
from controller.ports import Jobs, JobSettings, NotFoundError, ThrottledError, TransientError


class JobsGateway(Jobs):
    """The jobs of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self, project: str, region: str, sleep: Callable[[float], None], channel: grpc.Channel | None = None
    ) -> None:
        self._parent = f"projects/{project}/locations/{region}"
        self._flags = f"--region={region} --project={project}"
        endpoint = "the local Cloud Run" if channel else "Cloud Run"
        self._caller = Caller(endpoint, sleep)
        with translated("opening Cloud Run", endpoint, "to sign in"):
            self._jobs = run_v2.JobsClient(transport=JobsGrpcTransport(channel=channel) if channel else None)

    def read_job(self, job: str) -> JobSettings:
        """Return what matters of a job; raises NotFoundError."""
        try:
            found = self._caller.read(
                self._jobs.get_job,
                run_v2.GetJobRequest(name=self._name(job)),
                doing=f"reading the job {job}",
                permission="run.jobs.get",
            )
        except NotFoundError:
            raise self._missing(job) from None
        task = run_v2.Job.pb(found).template.template
        return JobSettings(task.max_retries, timedelta(seconds=task.timeout.ToSeconds()))

    def run_job(self, job: str, args: Sequence[str], variables: Mapping[str, str]) -> str:
        """Start an execution and return its name; raises NotFoundError."""
        override = run_v2.RunJobRequest.Overrides.ContainerOverride(
            args=list(args), env=[run_v2.EnvVar(name=name, value=value) for name, value in variables.items()]
        )
        request = run_v2.RunJobRequest(name=self._name(job), overrides={"container_overrides": [override]})
        try:
            operation: Any = self._caller.write(
                self._jobs.run_job,
                request,
                doing=f"starting the job {job}",
                permission="run.jobs.run, and run.jobs.runWithOverrides to give it its arguments",
            )
        except NotFoundError:
            raise self._missing(job) from None
        except ThrottledError:
            raise
        except TransientError as lost:
            look = f"gcloud run jobs executions list --job={job} {self._flags}"
            raise TransientError(
                f"{lost}. It may have been started all the same; look with: {look}"
            ) from lost
        return str(operation.metadata.name).rpartition("/")[2]

    def _name(self, job: str) -> str:
        return f"{self._parent}/jobs/{job}"

    def _missing(self, job: str) -> NotFoundError:
        return NotFoundError(
            f"there is no job {job!r} in {self._parent} of {self._caller.endpoint}. Make it once, with:"
            f" gcloud run jobs create {job} --image=IMAGE-OF-CANARY --max-retries=0 --task-timeout=24h"
            f" {self._flags} --service-account=ACCOUNT; `canary init` prints that with the least role"
        )
