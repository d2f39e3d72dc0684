"""Containers and volumes: v1's form and v2's, both as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from controller.emulator.errors import invalid
from controller.emulator.knative.annotations import FLAG, JSON, RUN, value_of
from controller.emulator.knative.shapes import Json, check_names, obj, objects, without_empty

CPU_THROTTLING = f"{RUN}/cpu-throttling"
CPU_BOOST = f"{RUN}/startup-cpu-boost"
DEPENDENCIES = f"{RUN}/container-dependencies"
BASE_IMAGES = f"{RUN}/base-images"
CLOUD_STORAGE = "gcsfuse.run.googleapis.com"
SAME = ("name", "image", "command", "args", "ports", "volumeMounts", "workingDir", "livenessProbe",
        "startupProbe", "readinessProbe")  # fmt: skip
OF_VOLUME = ("name", "secret", "emptyDir", "nfs", "csi")


def containers_to_v2(containers: Sequence[Json], annotations: Mapping[str, str], path: str) -> list[Json]:
    """Return v2's containers; what v1 says of all of them in the template's annotations goes into each."""
    throttled = _flag(annotations, CPU_THROTTLING, default=True)
    boosted = _flag(annotations, CPU_BOOST, default=False)
    dependencies = obj(_json(annotations, DEPENDENCIES), DEPENDENCIES)
    base_images = obj(_json(annotations, BASE_IMAGES), BASE_IMAGES)
    result = []
    for position, container in enumerate(containers):
        place = f"{path}[{position}]"
        check_names(container, (*SAME, "env", "resources"), place)
        name = str(container.get("name") or "")
        resources = obj(container.get("resources"), f"{place}.resources")
        converted = {
            **without_empty({field: container.get(field) for field in SAME}),
            "env": [_env_to_v2(one, f"{place}.env") for one in objects(container.get("env"), f"{place}.env")],
            "resources": {
                "limits": obj(resources.get("limits"), f"{place}.resources.limits"),
                "cpuIdle": throttled,
                "startupCpuBoost": boosted,
            },
            "dependsOn": dependencies.get(name),
            "baseImageUri": base_images.get(name),
        }
        result.append(without_empty(converted))
    return result


def containers_to_v1(containers: Sequence[Json]) -> tuple[list[Json], dict[str, str]]:
    """Return v1's containers, and what v1 says of them in the template's annotations."""
    annotations: dict[str, str] = {}
    resources = [container.get("resources", {}) for container in containers]
    if not all(one.get("cpuIdle") for one in resources):
        annotations[CPU_THROTTLING] = "false"
    if any(one.get("startupCpuBoost") for one in resources):
        annotations[CPU_BOOST] = "true"
    for key, field in ((DEPENDENCIES, "dependsOn"), (BASE_IMAGES, "baseImageUri")):
        by_name = {one.get("name", ""): one[field] for one in containers if field in one}
        if by_name:
            annotations[key] = json.dumps(by_name)
    return [_container_to_v1(container) for container in containers], annotations


def _container_to_v1(container: Json) -> Json:
    result: Json = {"name": ""}  # gcloud prints "Container None" where there is no name
    result.update({name: container[name] for name in SAME if name in container})
    if "env" in container:
        result["env"] = [_env_to_v1(variable) for variable in container["env"]]
    if limits := container.get("resources", {}).get("limits"):
        result["resources"] = {"limits": limits}
    return result


def _env_to_v2(variable: Json, path: str) -> Json:
    if "valueFrom" not in variable:
        return variable
    source = obj(variable["valueFrom"], f"{path}.valueFrom")
    check_names(source, ("secretKeyRef",), f"{path}.valueFrom")
    secret = obj(source.get("secretKeyRef"), f"{path}.valueFrom.secretKeyRef")
    reference = {"secret": secret.get("name"), "version": secret.get("key")}
    return {"name": variable.get("name"), "valueSource": {"secretKeyRef": reference}}


def _env_to_v1(variable: Json) -> Json:
    if "valueSource" not in variable:
        return {"value": "", **variable}
    secret = variable["valueSource"].get("secretKeyRef", {})
    reference = {"name": secret.get("secret"), "key": secret.get("version", "latest")}
    return {"name": variable.get("name", ""), "valueFrom": {"secretKeyRef": reference}}


def volume_to_v2(volume: Json, path: str) -> Json:
    """Return v2's volume."""
    check_names(volume, OF_VOLUME, path)
    result = {"name": volume.get("name")}
    if "secret" in volume:
        result["secret"] = _secret_to_v2(obj(volume["secret"], f"{path}.secret"), f"{path}.secret")
    if "emptyDir" in volume:
        directory = obj(volume["emptyDir"], f"{path}.emptyDir")
        medium = str(directory.get("medium") or "").upper()
        result["emptyDir"] = without_empty({**directory, "medium": medium})
    if "nfs" in volume:
        result["nfs"] = obj(volume["nfs"], f"{path}.nfs")
    if "csi" in volume:
        result["gcs"] = _bucket_to_v2(obj(volume["csi"], f"{path}.csi"), f"{path}.csi")
    return result


def volume_to_v1(volume: Json) -> Json:
    """Return v1's volume; v1 has no volumes of Cloud SQL, of which the name alone is shown."""
    result: Json = {name: volume[name] for name in ("name", "nfs") if name in volume}
    if secret := volume.get("secret"):
        items = [
            {("key" if name == "version" else name): value for name, value in item.items()}
            for item in secret.get("items", [])
        ]
        kept = {name: secret[name] for name in ("defaultMode",) if name in secret}
        result["secret"] = without_empty({"secretName": secret.get("secret"), "items": items, **kept})
    if "emptyDir" in volume:
        directory = dict(volume["emptyDir"])
        if "medium" in directory:
            directory["medium"] = str(directory["medium"]).capitalize()
        result["emptyDir"] = directory
    if bucket := volume.get("gcs"):
        attributes = {
            "bucketName": bucket.get("bucket"),
            "mountOptions": ",".join(bucket.get("mountOptions", [])),
        }
        result["csi"] = without_empty(
            {
                "driver": CLOUD_STORAGE,
                "readOnly": bucket.get("readOnly"),
                "volumeAttributes": without_empty(attributes),
            }
        )
    return result


def _secret_to_v2(secret: Json, path: str) -> Json:
    items = [
        {("version" if name == "key" else name): value for name, value in item.items()}
        for item in objects(secret.get("items"), f"{path}.items")
    ]
    kept = {name: value for name, value in secret.items() if name not in {"secretName", "items"}}
    return without_empty({"secret": secret.get("secretName"), "items": items, **kept})


def _bucket_to_v2(volume: Json, path: str) -> Json:
    if volume.get("driver") != CLOUD_STORAGE:
        raise invalid(f"{path}.driver must be {CLOUD_STORAGE}, not {volume.get('driver')!r}.", path)
    attributes = obj(volume.get("volumeAttributes"), f"{path}.volumeAttributes")
    options = [option for option in str(attributes.get("mountOptions") or "").split(",") if option]
    bucket = {
        "bucket": attributes.get("bucketName"),
        "readOnly": volume.get("readOnly"),
        "mountOptions": options,
    }
    return without_empty(bucket)


def _flag(annotations: Mapping[str, str], key: str, *, default: bool) -> bool:
    return bool(value_of(FLAG, annotations[key], key)) if key in annotations else default


def _json(annotations: Mapping[str, str], key: str) -> Any:
    return value_of(JSON, annotations[key], key) if key in annotations else None
