"""A service: v1's JSON and v2's message."""

import json
from typing import Any

from google.cloud import run_v2
from google.protobuf import json_format

from controller.emulator.errors import invalid
from controller.emulator.knative import annotations
from controller.emulator.knative.annotations import RUN
from controller.emulator.knative.shapes import Json, check_names, obj, objects, texts, without_empty
from controller.emulator.knative.status import conditions_to_v1, target_to_v1, target_to_v2
from controller.emulator.knative.templates import template_to_v1, template_to_v2
from controller.emulator.names import short
from controller.emulator.run.etags import version_of

API_VERSION = "serving.knative.dev/v1"
LOCATION = "cloud.googleapis.com/location"
CREATOR = "serving.knative.dev/creator"
LAST_MODIFIER = "serving.knative.dev/lastModifier"
REPLACED = ("description", "labels", "annotations", "client", "client_version", "ingress", "launch_stage",
            "traffic", "scaling", "invoker_iam_disabled", "default_uri_disabled", "iap_enabled",
            "custom_audiences")  # fmt: skip
"""The fields of v2, beside the template, that a v1 service says everything about."""


def to_v2(service: Json, name: str) -> run_v2.Service:
    """Return the message that a v1 service means; its status and what else the server says are ignored."""
    check_names(service, ("apiVersion", "kind", "metadata", "spec", "status"), "the service")
    metadata = obj(service.get("metadata"), "metadata")
    spec = obj(service.get("spec"), "spec")
    check_names(spec, ("template", "traffic"), "spec")
    if (metadata.get("name") or "") != short(name):
        raise invalid(
            f"metadata.name must be '{short(name)}', not {metadata.get('name')!r}.", "metadata.name"
        )
    notes = texts(metadata.get("annotations"), "metadata.annotations")
    targets = objects(spec.get("traffic"), "spec.traffic")
    fields = {
        **annotations.read(annotations.OF_SERVICE, notes, "metadata.annotations"),
        "name": name,
        "labels": annotations.of_users(texts(metadata.get("labels"), "metadata.labels")),
        "annotations": annotations.of_users(notes),
        "template": template_to_v2(obj(spec.get("template"), "spec.template")),
        "traffic": [target_to_v2(target, f"spec.traffic[{place}]") for place, target in enumerate(targets)],
    }
    return message_of(fields)


def message_of(fields: Json) -> run_v2.Service:
    """Return the message of v2's JSON; raises ApiError that says what is wrong with it."""
    try:
        parsed = json_format.ParseDict(without_empty(fields), run_v2.Service.pb(run_v2.Service()))
    except json_format.ParseError as error:
        raise invalid(f"The service cannot be read: {error}") from None
    service: run_v2.Service = run_v2.Service.wrap(parsed)
    return service


def to_v1(service: run_v2.Service) -> Json:
    """Return the v1 service."""
    fields = json_format.MessageToDict(run_v2.Service.pb(service))
    _, project, _, location, _, name = service.name.split("/")
    template_metadata, template_spec = template_to_v1(fields.get("template", {}))
    return {
        "apiVersion": API_VERSION,
        "kind": "Service",
        "metadata": without_empty(
            {
                "name": name,
                "namespace": project,
                "uid": service.uid,
                "resourceVersion": version_of(service.etag),
                "generation": int(service.generation),
                "creationTimestamp": fields.get("createTime"),
                "deletionTimestamp": fields.get("deleteTime"),
                "labels": {**fields.get("labels", {}), LOCATION: location},
                "annotations": _annotations(fields),
            }
        ),
        "spec": {
            "template": {"metadata": template_metadata, "spec": template_spec},
            "traffic": [target_to_v1(target) for target in fields.get("traffic", [])],
        },
        "status": _status(fields),
    }


def _annotations(fields: Json) -> dict[str, str]:
    result = {**fields.get("annotations", {}), **annotations.write(annotations.OF_SERVICE, fields)}
    if result.get(f"{RUN}/launch-stage") == "GA":
        del result[f"{RUN}/launch-stage"]
    if ingress := result.get(f"{RUN}/ingress"):
        result[f"{RUN}/ingress-status"] = ingress
    if urls := fields.get("urls"):
        result[f"{RUN}/urls"] = json.dumps(urls)
    result[CREATOR] = fields.get("creator", "")
    result[LAST_MODIFIER] = fields.get("lastModifier", "")
    return result


def _status(fields: Json) -> Json:
    latest_ready = short(fields.get("latestReadyRevision", ""))
    ready = {"type": "Ready", **fields.get("terminalCondition", {})}
    conditions = [ready, *fields.get("conditions", [])]
    uri = fields.get("uri")
    result: dict[str, Any] = {
        "observedGeneration": int(fields.get("observedGeneration", 0)),
        "conditions": conditions_to_v1(conditions, is_going="deleteTime" in fields),
        "latestCreatedRevisionName": short(fields.get("latestCreatedRevision", "")),
        "latestReadyRevisionName": latest_ready,
        "url": uri,
        "address": without_empty({"url": uri}),
        "traffic": [target_to_v1(target, latest_ready) for target in fields.get("trafficStatuses", [])],
    }
    return without_empty(result)
