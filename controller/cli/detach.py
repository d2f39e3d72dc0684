"""A rollout handed over to a Cloud Run job, which follows it after the command has ended."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from controller.cli.options import ASKED_BY, POLICY, checked_job

if TYPE_CHECKING:
    from controller.core.policy import Policy
    from controller.core.policy_notices import Receiver
    from controller.engine.begin import Request
    from controller.ports import DeniedError, Jobs, JobSettings
    from controller.wiring import Place

LARGEST_POLICY = 32 * 1024
"""Bytes; an environment variable of Cloud Run holds no more."""
CONSOLE = "https://console.cloud.google.com/run/jobs/executions/details"


def hand_over(place: "Place", job: str, request: "Request", *, with_policy: bool, as_json: bool) -> None:
    """Start the job and say where to look; the policy goes along whole, where one is given."""
    from controller.cli.logs import configure_logs
    from controller.wiring import connect_jobs

    configure_logs()
    name, service = checked_job(job), request.service
    variables = {ASKED_BY: request.by}
    if with_policy:
        variables[POLICY] = _written(request.policy, name, service)
    args = ["rollout", service, "--project", place.project, "--region", place.region]
    if request.candidate:
        args += ["--candidate", request.candidate]
    jobs = connect_jobs(place)
    warnings = list(_warnings(_settings(jobs, name), name, request.policy, place))
    candidate = request.candidate or _newest(place, service)
    execution = jobs.run_job(name, args, variables)
    _tell(_report(place, name, service, execution, candidate), warnings, as_json=as_json)


def _newest(place: "Place", service: str) -> str:
    """Return what the job will roll out, as far as can be seen from here."""
    from controller.ports import DeniedError
    from controller.wiring import connect

    try:
        return connect(place).cloud_run.read_service(service).latest_created
    except DeniedError:  # who may start the job need not see the service
        return ""


def _written(policy: "Policy", job: str, service: str) -> str:
    """Return the policy as it is handed over; raises a usage error where it is too large for that."""
    from controller.core.policy import policy_as_plain

    text = json.dumps(policy_as_plain(_with_refs(policy)), separators=(",", ":"), sort_keys=True)
    if len(text) > LARGEST_POLICY:  # all of it is ASCII
        raise typer.BadParameter(
            f"the policy takes {len(text)} bytes, and a job can be given {LARGEST_POLICY}. Put the file into"
            f" the job's image, and start it with: gcloud run jobs execute {job}"
            f" --args=rollout,{service},--policy=FILE",
            param_hint="--policy",
        )
    return text


def _with_refs(policy: "Policy") -> "Policy":
    """Return the policy with what the environment says of commits: the job's own does not know them."""
    return policy.model_copy(update={"notices": tuple(map(_with_ref, policy.notices))})


def _with_ref(receiver: "Receiver") -> "Receiver":
    """Return the receiver with its commit; as it is where none is set here, or what is set cannot be one."""
    from controller.core.policy_notices import GitHub

    github = receiver.github
    if not (github and github.ref.startswith("env:")):
        return receiver
    ref = os.environ.get(github.ref.removeprefix("env:"), "").strip()
    try:
        known = GitHub.model_validate(github.model_dump() | {"ref": ref})
    except ValueError:
        return receiver
    return receiver.model_copy(update={"github": known})


def _settings(jobs: "Jobs", job: str) -> "JobSettings | DeniedError":
    """Return the job's settings, or why they cannot be read, which starting it does not need."""
    from controller.ports import DeniedError

    try:
        return jobs.read_job(job)
    except DeniedError as denied:
        return denied


def _warnings(
    settings: "JobSettings | DeniedError", job: str, policy: "Policy", place: "Place"
) -> Iterator[str]:
    """Yield what of the job would end a rollout too early, or begin it again."""
    from controller.core.explanation import explain_policy
    from controller.core.units import duration_text
    from controller.ports import DeniedError

    if isinstance(settings, DeniedError):
        yield f"whether the job {job} fits the policy is not known: {settings}"
        return
    update = f"gcloud run jobs update {job} --project={place.project} --region={place.region}"
    if settings.max_retries:
        yield (
            f"the job {job} is tried again {settings.max_retries} times when it ends with another code than"
            f" 0, and so after a rollback; once is right: {update} --max-retries=0"
        )
    longest = explain_policy(policy).most + policy.ready_within
    if settings.timeout < longest:
        hours = -(-longest // timedelta(hours=1))
        yield (
            f"the job {job} is ended after {duration_text(settings.timeout)}, and this policy may take"
            f" {duration_text(longest)}. A rollout that is cut off stays as it is until the same command is"
            f" given again. Give it more time: {update} --task-timeout={hours}h"
        )


def _report(place: "Place", job: str, service: str, execution: str, candidate: str) -> Mapping[str, str]:
    flags = f"--project={place.project} --region={place.region}"
    report = {"service": service, "job": job, "execution": execution}
    if not place.emulator:
        report["console"] = f"{CONSOLE}/{place.region}/{execution}/tasks?project={place.project}"
    # The record may be that of the rollout before until the job has started.
    awaited = f" --candidate={candidate}" if candidate else ""
    return {
        **report,
        "follow": f"canary status {service} --wait {flags}{awaited}",
        "describe": f"gcloud run jobs executions describe {execution} {flags}",
    }


def _tell(report: Mapping[str, str], warnings: Sequence[str], *, as_json: bool) -> None:
    from controller.core.plain_text import plain

    if as_json:
        print(json.dumps({**report, "warnings": [plain(warning) for warning in warnings]}))
        return
    for warning in warnings:
        print(f"Warning: {plain(warning)}.")
    print(f"Started: {report['execution']} of the job {report['job']} rolls {report['service']} out.")
    for words, field in (("See it", "console"), ("Wait for its end", "follow"), ("The job", "describe")):
        if field in report:
            print(f"{words}: {report[field]}")
