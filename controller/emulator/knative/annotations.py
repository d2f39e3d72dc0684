"""What v1 writes as annotations and v2 has fields for: tables, read in both directions.

Annotations and labels in Google's own namespaces that no table names, such as the build information that
`gcloud run deploy` adds, mean nothing to a local Cloud Run and are left out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.emulator.errors import ApiError, invalid
from controller.emulator.knative.shapes import Json, obj
from controller.emulator.run.keys import RESERVED_NAMESPACES

RUN = "run.googleapis.com"
SCALING = "autoscaling.knative.dev"
NO_TIME = "0s"


@dataclass(frozen=True)
class Form:
    """How the value of a field is written as text."""

    read: Callable[[str], Any]
    """From the annotation to the JSON value of the v2 field; raises ValueError."""
    write: Callable[[Any], str]


@dataclass(frozen=True)
class Annotation:
    """One annotation and the v2 field that it stands for."""

    key: str
    field: str
    """The path of the field in the JSON form of v2, with dots."""
    form: Form


def _read_flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text.lower() == "true"


def _names(**v2_by_v1: str) -> Form:
    """Return the form of an enum; v1 writes its values with hyphens."""
    to_v2 = {name.replace("_", "-"): value for name, value in v2_by_v1.items()}
    to_v1 = {value: name for name, value in to_v2.items()}

    def read(text: str) -> str:
        if text not in to_v2:
            raise ValueError(f"expected one of {', '.join(sorted(to_v2))}")
        return to_v2[text]

    return Form(read, lambda value: to_v1.get(value, str(value).lower()))


TEXT = Form(str, str)
WHOLE = Form(int, str)
FLAG = Form(_read_flag, lambda value: "true" if value else "false")
JSON = Form(json.loads, json.dumps)
HOURS = Form(lambda text: f"{int(text) * 3600}s", lambda value: str(int(float(value.rstrip("s"))) // 3600))

OF_SERVICE = (
    Annotation(f"{RUN}/ingress", "ingress", _names(
        all="INGRESS_TRAFFIC_ALL",
        internal="INGRESS_TRAFFIC_INTERNAL_ONLY",
        internal_and_cloud_load_balancing="INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
        none="INGRESS_TRAFFIC_NONE",
    )),
    Annotation(f"{RUN}/launch-stage", "launchStage", TEXT),
    Annotation(f"{RUN}/description", "description", TEXT),
    Annotation(f"{RUN}/client-name", "client", TEXT),
    Annotation(f"{RUN}/client-version", "clientVersion", TEXT),
    Annotation(f"{RUN}/minScale", "scaling.minInstanceCount", WHOLE),
    Annotation(f"{RUN}/maxScale", "scaling.maxInstanceCount", WHOLE),
    Annotation(f"{RUN}/manualInstanceCount", "scaling.manualInstanceCount", WHOLE),
    Annotation(f"{RUN}/scalingMode", "scaling.scalingMode", _names(automatic="AUTOMATIC", manual="MANUAL")),
    Annotation(f"{RUN}/custom-audiences", "customAudiences", JSON),
    Annotation(f"{RUN}/default-url-disabled", "defaultUriDisabled", FLAG),
    Annotation(f"{RUN}/invoker-iam-disabled", "invokerIamDisabled", FLAG),
    Annotation(f"{RUN}/iap-enabled", "iapEnabled", FLAG),
)  # fmt: skip

OF_JOB = (
    Annotation(f"{RUN}/launch-stage", "launchStage", TEXT),
    Annotation(f"{RUN}/client-name", "client", TEXT),
    Annotation(f"{RUN}/client-version", "clientVersion", TEXT),
)

OF_TEMPLATE = (
    Annotation(f"{SCALING}/minScale", "scaling.minInstanceCount", WHOLE),
    Annotation(f"{SCALING}/maxScale", "scaling.maxInstanceCount", WHOLE),
    Annotation(f"{RUN}/sessionAffinity", "sessionAffinity", FLAG),
    Annotation(f"{RUN}/health-check-disabled", "healthCheckDisabled", FLAG),
    Annotation(f"{RUN}/execution-environment", "executionEnvironment", _names(
        gen1="EXECUTION_ENVIRONMENT_GEN1", gen2="EXECUTION_ENVIRONMENT_GEN2",
    )),
    Annotation(f"{RUN}/vpc-access-connector", "vpcAccess.connector", TEXT),
    Annotation(f"{RUN}/vpc-access-egress", "vpcAccess.egress", _names(
        all_traffic="ALL_TRAFFIC", private_ranges_only="PRIVATE_RANGES_ONLY",
    )),
    Annotation(f"{RUN}/network-interfaces", "vpcAccess.networkInterfaces", JSON),
    Annotation(f"{RUN}/encryption-key", "encryptionKey", TEXT),
    Annotation(f"{RUN}/post-key-revocation-action-type", "encryptionKeyRevocationAction", _names(
        prevent_new="PREVENT_NEW", shut_down="SHUTDOWN",
    )),
    Annotation(f"{RUN}/encryption-key-shutdown-hours", "encryptionKeyShutdownDuration", HOURS),
    Annotation(f"{RUN}/gpu-zonal-redundancy-disabled", "gpuZonalRedundancyDisabled", FLAG),
)  # fmt: skip


def read(table: Sequence[Annotation], annotations: Mapping[str, str], path: str) -> Json:
    """Return the v2 fields that the annotations mean."""
    result: Json = {}
    for known in table:
        if known.key in annotations:
            *parents, last = known.field.split(".")
            holder = result
            for parent in parents:
                holder = holder.setdefault(parent, {})
            holder[last] = value_of(known.form, annotations[known.key], f"{path}[{known.key}]")
    return result


def write(table: Sequence[Annotation], fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations that stand for the fields, in JSON form; fields that are not set have none."""
    result = {}
    for known in table:
        value: Any = fields
        for name in known.field.split("."):
            value = obj(value, name).get(name)
        if value is not None and value is not False and value != NO_TIME:
            result[known.key] = known.form.write(value)
    return result


def value_of(form: Form, text: str, path: str) -> Any:
    """Return what an annotation's text means, or refuse it with its place."""
    try:
        return form.read(text)
    except ValueError as error:
        raise _unreadable(path, text, error) from None


def of_users(pairs: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations or labels outside Google's own namespaces."""
    return {key: value for key, value in pairs.items() if not _is_reserved(key)}


def _is_reserved(key: str) -> bool:
    prefix = key.rpartition("/")[0]
    return any(prefix == reserved or prefix.endswith(f".{reserved}") for reserved in RESERVED_NAMESPACES)


def _unreadable(path: str, text: str, error: ValueError) -> ApiError:
    return invalid(f"{path} cannot be '{text}': {error}.", path)
