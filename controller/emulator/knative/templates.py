"""The template of a service, and what a revision keeps of it: v1's form and v2's, both as JSON."""

from collections.abc import Mapping
from typing import Any

from controller.emulator.knative import annotations
from controller.emulator.knative.annotations import RUN
from controller.emulator.knative.containers import (
    containers_to_v1,
    containers_to_v2,
    volume_to_v1,
    volume_to_v2,
)
from controller.emulator.knative.shapes import Json, check_names, obj, objects, texts, whole, without_empty

ACCELERATOR = f"{RUN}/accelerator"
OF_SPEC = (
    "containers",
    "volumes",
    "containerConcurrency",
    "timeoutSeconds",
    "serviceAccountName",
    "nodeSelector",
)
PATH = "spec.template"


def template_to_v2(template: Json) -> Json:
    """Return v2's template; raises ApiError."""
    metadata = obj(template.get("metadata"), f"{PATH}.metadata")
    spec = obj(template.get("spec"), f"{PATH}.spec")
    check_names(spec, OF_SPEC, f"{PATH}.spec")
    notes = texts(metadata.get("annotations"), f"{PATH}.metadata.annotations")
    labels = texts(metadata.get("labels"), f"{PATH}.metadata.labels")
    containers = objects(spec.get("containers"), f"{PATH}.spec.containers")
    volumes = objects(spec.get("volumes"), f"{PATH}.spec.volumes")
    selector = texts(spec.get("nodeSelector"), f"{PATH}.spec.nodeSelector")
    result = {
        **annotations.read(annotations.OF_TEMPLATE, notes, f"{PATH}.metadata.annotations"),
        "revision": metadata.get("name"),
        "labels": annotations.of_users(labels),
        "annotations": annotations.of_users(notes),
        "containers": containers_to_v2(containers, notes, f"{PATH}.spec.containers"),
        "volumes": [
            volume_to_v2(volume, f"{PATH}.spec.volumes[{position}]")
            for position, volume in enumerate(volumes)
        ],
        "maxInstanceRequestConcurrency": spec.get("containerConcurrency"),
        "serviceAccount": spec.get("serviceAccountName"),
        "nodeSelector": without_empty({"accelerator": selector.get(ACCELERATOR)}),
    }
    if spec.get("timeoutSeconds") is not None:
        result["timeout"] = f"{whole(spec['timeoutSeconds'], f'{PATH}.spec.timeoutSeconds')}s"
    return without_empty(result)


def template_to_v1(template: Mapping[str, Any]) -> tuple[Json, Json]:
    """Return v1's metadata and spec of a template, or of a revision, whose fields have the same names."""
    containers, of_containers = containers_to_v1(template.get("containers", []))
    notes = {
        **template.get("annotations", {}),
        **annotations.write(annotations.OF_TEMPLATE, template),
        **of_containers,
    }
    metadata = {
        "name": template.get("revision"),
        "labels": template.get("labels", {}),
        "annotations": notes,
    }
    accelerator = template.get("nodeSelector", {}).get("accelerator")
    spec = {
        "containerConcurrency": template.get("maxInstanceRequestConcurrency"),
        "timeoutSeconds": _seconds(template.get("timeout")),
        "serviceAccountName": template.get("serviceAccount"),
        "containers": containers,
        "volumes": [volume_to_v1(volume) for volume in template.get("volumes", [])],
        "nodeSelector": without_empty({ACCELERATOR: accelerator}),
    }
    return without_empty(metadata), without_empty(spec)


def _seconds(timeout: str | None) -> int | None:
    """Return the seconds of a duration in JSON, such as 300s."""
    return None if timeout is None else int(float(timeout.rstrip("s")))


OF_TASK = ("containers", "volumes", "maxRetries", "timeoutSeconds", "serviceAccountName", "nodeSelector")
TASK_PATH = "spec.template.spec.template.spec"


def task_to_v2(spec: Json, notes: Mapping[str, str]) -> Json:
    """Return v2's template of a task; some of it v1 says in the annotations of the execution's template."""
    check_names(spec, OF_TASK, TASK_PATH)
    containers = objects(spec.get("containers"), f"{TASK_PATH}.containers")
    volumes = objects(spec.get("volumes"), f"{TASK_PATH}.volumes")
    result = {
        "containers": containers_to_v2(containers, notes, f"{TASK_PATH}.containers"),
        "volumes": [volume_to_v2(one, f"{TASK_PATH}.volumes[{at}]") for at, one in enumerate(volumes)],
        "maxRetries": spec.get("maxRetries"),
        "serviceAccount": spec.get("serviceAccountName"),
    }
    if spec.get("timeoutSeconds") is not None:
        result["timeout"] = f"{whole(spec['timeoutSeconds'], f'{TASK_PATH}.timeoutSeconds')}s"
    return without_empty(result)


def task_to_v1(task: Mapping[str, Any]) -> Json:
    """Return v1's spec of a task, from v2's template of one or from a task itself."""
    containers, _ = containers_to_v1(task.get("containers", []))
    return without_empty(
        {
            "containers": containers,
            "volumes": [volume_to_v1(volume) for volume in task.get("volumes", [])],
            "maxRetries": task.get("maxRetries"),
            "timeoutSeconds": _seconds(task.get("timeout")),
            "serviceAccountName": task.get("serviceAccount"),
        }
    )
