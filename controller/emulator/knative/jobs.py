"""A job and an execution: v1's JSON and v2's message."""

from collections.abc import Mapping
from typing import Any

from google.cloud import run_v2
from google.protobuf import json_format

from controller.emulator.errors import invalid
from controller.emulator.knative import annotations
from controller.emulator.knative.services import LOCATION
from controller.emulator.knative.shapes import Json, check_names, obj, texts, without_empty
from controller.emulator.knative.status import conditions_to_v1
from controller.emulator.knative.templates import task_to_v1, task_to_v2
from controller.emulator.names import short
from controller.emulator.run.etags import version_of

API_VERSION = "run.googleapis.com/v1"
JOB, EXECUTION = "run.googleapis.com/job", "run.googleapis.com/execution"
STATE = "run.googleapis.com/runningState"
CREATOR, LAST_MODIFIER = "run.googleapis.com/creator", "run.googleapis.com/lastModifier"
PATH = "spec.template"


def to_v2(job: Json, name: str) -> run_v2.Job:
    """Return the message that a v1 job means; its status and what else the server says are ignored."""
    check_names(job, ("apiVersion", "kind", "metadata", "spec", "status"), "the job")
    metadata, spec = obj(job.get("metadata"), "metadata"), obj(job.get("spec"), "spec")
    check_names(spec, ("template",), "spec")
    if (metadata.get("name") or "") != short(name):
        raise invalid(
            f"metadata.name must be '{short(name)}', not {metadata.get('name')!r}.", "metadata.name"
        )
    notes = texts(metadata.get("annotations"), "metadata.annotations")
    fields = {
        **annotations.read(annotations.OF_JOB, notes, "metadata.annotations"),
        "name": name,
        "labels": annotations.of_users(texts(metadata.get("labels"), "metadata.labels")),
        "annotations": annotations.of_users(notes),
        "template": _template_to_v2(obj(spec.get("template"), PATH)),
    }
    job_message: run_v2.Job = _message(run_v2.Job, fields)
    return job_message


def overrides_to_v2(body: Json, name: str) -> run_v2.RunJobRequest:
    """Return the request that the body of v1's `:run` means."""
    check_names(body, ("overrides",), "the request")
    overrides = dict(obj(body.get("overrides"), "overrides"))
    if (seconds := overrides.pop("timeoutSeconds", None)) is not None:
        overrides["timeout"] = f"{seconds}s"
    request: run_v2.RunJobRequest = _message(run_v2.RunJobRequest, {"name": name, "overrides": overrides})
    return request


def to_v1(job: run_v2.Job) -> Json:
    """Return the v1 job."""
    fields = json_format.MessageToDict(run_v2.Job.pb(job))
    ready = {"type": "Ready", **fields.get("terminalCondition", {})}
    metadata = _metadata(fields, {})
    metadata["annotations"] |= annotations.write(annotations.OF_JOB, fields)
    metadata["annotations"][LAST_MODIFIER] = fields.get("lastModifier", "")
    latest = fields.get("latestCreatedExecution", {})
    return {
        "apiVersion": API_VERSION,
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": _template_to_v1(fields.get("template", {}))},
        "status": without_empty(
            {
                "observedGeneration": int(fields.get("observedGeneration", 0)),
                "conditions": conditions_to_v1([ready], is_going="deleteTime" in fields),
                "executionCount": fields.get("executionCount"),
                "latestCreatedExecution": without_empty(
                    {
                        "name": latest.get("name"),
                        "creationTimestamp": latest.get("createTime"),
                        "completionTimestamp": latest.get("completionTime"),
                        "completionStatus": latest.get("completionStatus"),
                    }
                ),
            }
        ),
    }


def execution_to_v1(execution: run_v2.Execution) -> Json:
    """Return the v1 execution."""
    fields = json_format.MessageToDict(run_v2.Execution.pb(execution))
    counts = ("runningCount", "succeededCount", "failedCount", "cancelledCount", "retriedCount")
    return {
        "apiVersion": API_VERSION,
        "kind": "Execution",
        "metadata": _metadata(fields, {JOB: execution.job}),
        "spec": _spec_to_v1(fields),
        "status": without_empty(
            {
                "observedGeneration": int(fields.get("observedGeneration", 0)),
                "conditions": conditions_to_v1(fields.get("conditions", []), is_going=False),
                "startTime": fields.get("startTime"),
                "completionTime": fields.get("completionTime"),
                **{name: fields.get(name) for name in counts},
            }
        ),
    }


def task_resource_to_v1(task: run_v2.Task) -> Json:
    """Return the v1 task."""
    fields = json_format.MessageToDict(run_v2.Task.pb(task))
    result = fields.get("lastAttemptResult", {})
    conditions = conditions_to_v1(fields.get("conditions", []), is_going=False)
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "metadata": _metadata(
            fields, {JOB: task.job, EXECUTION: task.execution, STATE: _state_of(conditions[0])}
        ),
        "spec": task_to_v1(fields),
        "status": without_empty(
            {
                "observedGeneration": int(fields.get("observedGeneration", 0)),
                "conditions": conditions,
                "startTime": fields.get("startTime"),
                "completionTime": fields.get("completionTime"),
                "index": int(task.index),
                "retried": fields.get("retried"),
                "lastAttemptResult": without_empty(
                    {"exitCode": result.get("exitCode"), "status": {"code": 0}}
                )
                if result
                else None,
            }
        ),
    }


def _state_of(completed: Json) -> str:
    """Return what v1 says of a task in a label, by its condition Completed."""
    if completed["status"] == "True":
        return "Succeeded"
    if completed["status"] == "Unknown":
        return "Running"
    return "Cancelled" if completed.get("reason") == "Cancelled" else "Failed"


def _metadata(fields: Json, labels: Mapping[str, str]) -> Json:
    """Return the metadata of a resource; its labels are Google's own and those of its users."""
    _, project, _, location, *_, name = fields["name"].split("/")
    return without_empty(
        {
            "name": name,
            "namespace": project,
            "uid": fields.get("uid"),
            "resourceVersion": version_of(fields.get("etag", "")),
            "generation": int(fields.get("generation", 0)),
            "creationTimestamp": fields.get("createTime"),
            "deletionTimestamp": fields.get("deleteTime"),
            "labels": {**fields.get("labels", {}), LOCATION: location, **labels},
            "annotations": {**fields.get("annotations", {}), CREATOR: fields.get("creator", "")},
        }
    )


def _template_to_v2(template: Json) -> Json:
    metadata = obj(template.get("metadata"), f"{PATH}.metadata")
    spec = obj(template.get("spec"), f"{PATH}.spec")
    check_names(spec, ("parallelism", "taskCount", "template"), f"{PATH}.spec")
    notes = texts(metadata.get("annotations"), f"{PATH}.metadata.annotations")
    task = obj(spec.get("template"), f"{PATH}.spec.template")
    return without_empty(
        {
            "labels": annotations.of_users(texts(metadata.get("labels"), f"{PATH}.metadata.labels")),
            "annotations": annotations.of_users(notes),
            "parallelism": spec.get("parallelism"),
            "taskCount": spec.get("taskCount"),
            "template": task_to_v2(obj(task.get("spec"), f"{PATH}.spec.template.spec"), notes),
        }
    )


def _template_to_v1(template: Json) -> Json:
    metadata = without_empty({name: template.get(name) for name in ("labels", "annotations")})
    return {"metadata": metadata, "spec": _spec_to_v1(template)}


def _spec_to_v1(fields: Json) -> Json:
    numbers = without_empty({name: fields.get(name) for name in ("parallelism", "taskCount")})
    return {**numbers, "template": {"spec": task_to_v1(fields.get("template", {}))}}


def _message(kind: Any, fields: Json) -> Any:
    """Return the message of v2's JSON; raises ApiError that says what is wrong with it."""
    try:
        return kind.wrap(json_format.ParseDict(without_empty(fields), kind.pb(kind())))
    except json_format.ParseError as error:
        raise invalid(f"The request cannot be read: {error}") from None
