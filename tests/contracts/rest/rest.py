"""Speaks HTTP to a local Cloud Run, with what gcloud sends."""

import http.client
import json
from contextlib import closing
from typing import Any

from contracts.conftest import RECONCILED, SECONDS
from controller.emulator.server import LocalCloudRun

NAMESPACE = "/apis/serving.knative.dev/v1/namespaces/demo"
Json = dict[str, Any]


def a_service(*, name: str = "web", image: str = "gcr.io/demo/hello:v1", **annotations: str) -> Json:
    """Return a service as gcloud creates it."""
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "annotations": {
                "run.googleapis.com/client-name": "gcloud",
                "run.googleapis.com/client-version": "528.0.0",
            },
            "labels": {},
            "name": name,
            "namespace": "demo",
        },
        "spec": {
            "template": {
                "metadata": {
                    "annotations": {"run.googleapis.com/startup-cpu-boost": "True", **annotations},
                    "labels": {"client.knative.dev/nonce": "ialzgnwmwa"},
                },
                "spec": {"containers": [{"image": image, "name": ""}], "nodeSelector": {}},
            }
        },
        "status": {"address": {}},
    }


class Rest:
    """Speaks HTTP to a local Cloud Run, directly or as to a proxy."""

    def __init__(self, local: LocalCloudRun) -> None:
        self.local = local

    def __call__(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with closing(http.client.HTTPConnection(self.local.admin_address, timeout=SECONDS)) as connection:
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            text = answer.read().decode()
        return answer.status, json.loads(text) if text.startswith("{") else text or answer.reason

    def create(self, name: str = "web", **annotations: str) -> Json:
        status, _ = self("POST", f"{NAMESPACE}/services", a_service(name=name, **annotations))
        assert status == 200
        self.local.advance(RECONCILED)
        return self.get(name)

    def get(self, name: str = "web") -> Json:
        status, service = self("GET", f"{NAMESPACE}/services/{name}")
        assert status == 200
        assert isinstance(service, dict)
        return service

    def replace(self, service: Json) -> tuple[int, Any]:
        answer = self("PUT", f"{NAMESPACE}/services/{service['metadata']['name']}", service)
        self.local.advance(RECONCILED)
        return answer

    def revisions(self, selector: str = "") -> list[str]:
        status, found = self("GET", f"{NAMESPACE}/revisions?labelSelector={selector}")
        assert (status, found["metadata"]) == (200, {})
        return [item["metadata"]["name"] for item in found["items"]]
