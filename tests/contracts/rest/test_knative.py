"""The shapes of Cloud Run v1 and v2 mean the same, and what cannot be meant is refused."""

import contextlib
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from google.cloud import run_v2
from google.protobuf import json_format

from contracts.conftest import PARENT
from controller.emulator.errors import ApiError
from controller.emulator.images import Image, Images, digest_of
from controller.emulator.knative import selectors, services
from controller.emulator.knative.revisions import revision_to_v1

from .rest import Json, a_service

WEB = f"{PARENT}/services/web"


def template_of(**annotations: str) -> run_v2.RevisionTemplate:
    return services.to_v2(a_service(**annotations), WEB).template


# What v1 writes and v2 means


def test_what_gcloud_sends_is_read() -> None:
    service = services.to_v2(a_service(), WEB)
    assert (service.client, service.client_version) == ("gcloud", "528.0.0")
    assert not service.annotations
    assert dict(service.template.labels) == {"client.knative.dev/nonce": "ialzgnwmwa"}
    assert service.template.containers[0].image == "gcr.io/demo/hello:v1"
    assert service.template.containers[0].resources.startup_cpu_boost


@pytest.mark.parametrize(
    ("annotations", "idle"),
    [
        ({}, True),
        ({"run.googleapis.com/cpu-throttling": "True"}, True),
        ({"run.googleapis.com/cpu-throttling": "False"}, False),
    ],
)
def test_the_cpu_is_throttled_between_requests_unless_v1_says_no(
    annotations: dict[str, str], idle: bool
) -> None:
    assert template_of(**annotations).containers[0].resources.cpu_idle is idle


EVERYTHING: Json = {
    "name": WEB,
    "labels": {"team": "a"},
    "annotations": {"example.com/note": "b"},
    "description": "c",
    "client": "gcloud",
    "clientVersion": "528.0.0",
    "ingress": "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER",
    "launchStage": "BETA",
    "scaling": {"minInstanceCount": 1, "maxInstanceCount": 9},
    "invokerIamDisabled": True,
    "customAudiences": ["https://a.example"],
    "template": {
        "revision": "web-one",
        "labels": {"client.knative.dev/nonce": "abc"},
        "annotations": {"example.com/of-template": "d"},
        "scaling": {"minInstanceCount": 2, "maxInstanceCount": 7},
        "vpcAccess": {"egress": "ALL_TRAFFIC", "networkInterfaces": [{"network": "n", "tags": ["t"]}]},
        "timeout": "90s",
        "serviceAccount": "a@b.example",
        "executionEnvironment": "EXECUTION_ENVIRONMENT_GEN2",
        "encryptionKey": "projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "encryptionKeyRevocationAction": "SHUTDOWN",
        "encryptionKeyShutdownDuration": "7200s",
        "maxInstanceRequestConcurrency": 5,
        "sessionAffinity": True,
        "healthCheckDisabled": True,
        "nodeSelector": {"accelerator": "nvidia-l4"},
        "containers": [
            {
                "name": "web",
                "image": "i:1",
                "command": ["run"],
                "args": ["--fast"],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "S", "valueSource": {"secretKeyRef": {"secret": "key", "version": "3"}}},
                ],
                "resources": {
                    "limits": {"cpu": "2", "memory": "1Gi"},
                    "cpuIdle": True,
                    "startupCpuBoost": True,
                },
                "ports": [{"name": "h2c", "containerPort": 9000}],
                "volumeMounts": [{"name": "fast", "mountPath": "/fast"}],
                "workingDir": "/srv",
                "startupProbe": {"periodSeconds": 3, "httpGet": {"path": "/up", "port": 9000}},
                "livenessProbe": {"failureThreshold": 2, "grpc": {"port": 9000, "service": "s"}},
                "dependsOn": ["side"],
            },
            {"name": "side", "image": "j", "resources": {"cpuIdle": True, "startupCpuBoost": True}},
        ],
        "volumes": [
            {"name": "fast", "emptyDir": {"medium": "MEMORY", "sizeLimit": "1Gi"}},
            {
                "name": "key",
                "secret": {"secret": "s", "items": [{"path": "k", "version": "1"}], "defaultMode": 292},
            },
            {"name": "share", "nfs": {"server": "10.0.0.1", "path": "/x", "readOnly": True}},
            {"name": "bucket", "gcs": {"bucket": "b", "readOnly": True, "mountOptions": ["a", "b"]}},
        ],
    },
    "traffic": [
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 40},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "web-zero", "percent": 60},
        {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": "web-zero", "tag": "old"},
    ],
}


def test_a_service_comes_back_from_v1_as_it_was() -> None:
    service = services.message_of(EVERYTHING)
    v1 = json.loads(json.dumps(services.to_v1(service)))
    assert json_format.MessageToDict(run_v2.Service.pb(services.to_v2(v1, WEB))) == EVERYTHING


def test_v1_words_what_v2_has_fields_for() -> None:
    v1 = services.to_v1(services.message_of(EVERYTHING))
    template, spec = v1["spec"]["template"], v1["spec"]["template"]["spec"]
    notes = {**v1["metadata"]["annotations"], **template["metadata"]["annotations"]}
    expected = {
        "run.googleapis.com/ingress": "internal-and-cloud-load-balancing",
        "run.googleapis.com/launch-stage": "BETA",
        "run.googleapis.com/maxScale": "9",
        "autoscaling.knative.dev/maxScale": "7",
        "run.googleapis.com/sessionAffinity": "true",
        "run.googleapis.com/vpc-access-egress": "all-traffic",
        "run.googleapis.com/post-key-revocation-action-type": "shut-down",
        "run.googleapis.com/encryption-key-shutdown-hours": "2",
        "run.googleapis.com/container-dependencies": '{"web": ["side"]}',
        "example.com/note": "b",
    }
    assert {key: notes.get(key) for key in expected} == expected
    assert "run.googleapis.com/cpu-throttling" not in notes
    assert (spec["timeoutSeconds"], spec["containerConcurrency"]) == (90, 5)
    assert spec["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    secret = {"name": "S", "valueFrom": {"secretKeyRef": {"name": "key", "key": "3"}}}
    assert spec["containers"][0]["env"][1] == secret
    assert v1["spec"]["traffic"] == [
        {"latestRevision": True, "percent": 40},
        {"revisionName": "web-zero", "percent": 60},
        {"revisionName": "web-zero", "tag": "old"},
    ]


def test_a_container_without_a_name_has_an_empty_one() -> None:
    v1 = services.to_v1(services.to_v2(a_service(), WEB))
    assert v1["spec"]["template"]["spec"]["containers"][0]["name"] == ""


def test_a_status_names_the_revision_that_latest_is() -> None:
    latest = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
    service = run_v2.Service(
        name=WEB,
        latest_ready_revision=f"{WEB}/revisions/web-one",
        traffic_statuses=[run_v2.TrafficTargetStatus(type_=latest, percent=100)],
    )
    status = services.to_v1(service)["status"]
    assert status["traffic"] == [{"latestRevision": True, "revisionName": "web-one", "percent": 100}]
    assert status["conditions"][0] == {"type": "Ready", "status": "Unknown"}


def test_a_failed_condition_is_false_with_a_reason_in_one_word() -> None:
    condition = run_v2.Condition(type_="Ready", state=3, message="No.", revision_reason=9)
    revision = run_v2.Revision(name=f"{WEB}/revisions/web-one", conditions=[condition])
    (shown,) = revision_to_v1(revision)["status"]["conditions"]
    reason = run_v2.Condition.RevisionReason(9).name.title().replace("_", "")
    assert shown == {"type": "Ready", "status": "False", "message": "No.", "reason": reason}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": {"template": 5}}, "spec.template must be an object, not 5."),
        ({"spec": {"templates": {}}}, "Unknown field 'templates' in spec."),
        (
            {"spec": {"template": {"spec": {"containers": {}}}}},
            "spec.template.spec.containers must be a list",
        ),
        ({"spec": {"template": {"spec": {"containers": [{"immage": "x"}]}}}}, "Unknown field 'immage'"),
        (
            {"spec": {"template": {"spec": {"timeoutSeconds": "soon"}}}},
            "timeoutSeconds must be a whole number",
        ),
        ({"spec": {"traffic": [{"percent": "many"}]}}, "The service cannot be read"),
        ({"metadata": {"name": "other"}}, "metadata.name must be 'web'"),
        (
            {"metadata": {"name": "web", "annotations": {"run.googleapis.com/ingress": "some"}}},
            "metadata.annotations[run.googleapis.com/ingress] cannot be 'some': expected one of all,",
        ),
        (
            {"metadata": {"name": "web", "annotations": {"run.googleapis.com/custom-audiences": "["}}},
            "custom-audiences] cannot be '['",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(change: Json, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        services.to_v2({**a_service(), **change}, WEB)
    assert message in refused.value.message


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Return the way to everything in a JSON value."""
    yield path
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items:
        yield from places(item, (*path, key))


def with_junk(value: Any, path: tuple[str | int, ...], junk: Any) -> Any:
    if not path:
        return junk
    changed = copy.copy(value)
    changed[path[0]] = with_junk(value[path[0]], path[1:], junk)
    return changed


@pytest.mark.parametrize(
    "junk",
    [None, True, -1, 1e400, "", "5", "[", [], [1], [[]], {}, {"a": {}}, {"name": [1]}],
    ids=repr,
)
def test_junk_anywhere_in_a_service_is_read_or_refused(junk: Any) -> None:
    whole = services.to_v1(services.message_of(EVERYTHING))
    del whole["status"]
    services.to_v2(whole, WEB)
    for place in list(places(whole)):
        if place:
            with contextlib.suppress(ApiError):
                services.to_v1(services.to_v2(with_junk(whole, place, junk), WEB))


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ("", True),
        ("serving.knative.dev/service = web", True),
        ("serving.knative.dev/service=other", False),
        ("serving.knative.dev/service!=other,nonce", True),
        ("!nonce", False),
    ],
)
def test_label_selectors(selector: str, selected: bool) -> None:
    item = {"metadata": {"labels": {"serving.knative.dev/service": "web", "nonce": "a"}}}
    assert selectors.read(selector)(item) is selected


def test_an_image_is_found_by_its_name_its_digest_or_without_either() -> None:
    images = Images()
    for name in ("gcr.io/demo/hello", "gcr.io/demo/hello:v2", "localhost:5000/web"):
        images.put(Image(name, (name,)))
    found = {
        asked: image.name if (image := images.find(asked)) else None
        for asked in (
            "gcr.io/demo/hello",
            "gcr.io/demo/hello:v1",
            "gcr.io/demo/hello:v2",
            digest_of("gcr.io/demo/hello:v1"),
            digest_of("gcr.io/demo/hello:v2"),
            "localhost:5000/web:latest",
            "hello",
        )
    }
    assert list(found.values()) == [
        "gcr.io/demo/hello",
        "gcr.io/demo/hello",
        "gcr.io/demo/hello:v2",
        "gcr.io/demo/hello",
        "gcr.io/demo/hello:v2",
        "localhost:5000/web",
        None,
    ]
