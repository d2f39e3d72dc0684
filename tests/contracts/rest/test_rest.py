"""REST over the local Cloud Run: Knative's v1 and Google's v2 go the way of all calls."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsRestTransport
from google.cloud.run_v2.services.services.transports import ServicesRestTransport
from google.protobuf import field_mask_pb2

from contracts.conftest import PARENT, RECONCILED, SECONDS, SIMULATED
from controller.emulator.names import project_number
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings

from .rest import NAMESPACE, Json, Rest, a_service

JOBS = "/apis/run.googleapis.com/v1/namespaces/demo/jobs"
WEB = f"{PARENT}/services/web"


@pytest.fixture
def rest() -> Iterator[Rest]:
    with LocalCloudRun.started(SIMULATED) as local:
        yield Rest(local)


def message(answer: Any) -> str:
    return str(answer["error"]["message"])


def test_a_write_is_answered_before_it_is_in_force(rest: Rest) -> None:
    """Fact 2.1 [R]: "generation 2, observedGeneration 1", and Ready pending."""
    status, written = rest("POST", f"{NAMESPACE}/services", a_service())
    assert status == 200
    assert written["metadata"]["generation"] > written["status"]["observedGeneration"]
    assert written["status"]["conditions"][0]["status"] == "Unknown"
    rest.local.advance(RECONCILED)
    settled = rest.get()
    assert settled["metadata"]["generation"] == settled["status"]["observedGeneration"]
    assert [condition["status"] for condition in settled["status"]["conditions"]] == ["True"] * 3


def test_replacing_a_service_with_itself_makes_no_revision(rest: Rest) -> None:
    """Fact 2.3: "Only a change of `template` (or force_new_revision) creates one"."""
    before = rest.create()
    status, _ = rest.replace(before)
    after = rest.get()
    assert status == 200
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert len(rest.revisions()) == 1


def test_replacing_traffic_keeps_what_only_v2_knows_of_the_template(rest: Rest) -> None:
    """Fact 2.3 [T]: "revision count 4→4, latestCreated unchanged"."""
    template = {"containers": [{"image": "i"}], "serviceMesh": {"mesh": "m"}}
    rest("POST", f"/v2/{PARENT}/services?serviceId=web", {"template": template})
    rest.local.advance(RECONCILED)
    service = rest.get()
    service["spec"]["traffic"] = [{"latestRevision": True, "percent": 100, "tag": "now"}]
    rest.replace(service)
    assert rest("GET", f"/v2/{WEB}")[1]["template"]["serviceMesh"] == {"mesh": "m"}
    assert len(rest.revisions()) == 1


def test_a_stale_version_is_refused_whatever_v2_makes_of_etags(rest: Rest) -> None:
    """Fact 2.2 [T]: "v1 `replaceService` with `metadata.resourceVersion` really enforces it: HTTP 409"."""
    stale = rest.create()
    current = rest.replace(stale)[1]["metadata"]["resourceVersion"]
    status, refused = rest.replace(stale)
    assert (status, refused["error"]["status"]) == (409, "ABORTED")
    assert message(refused) == (
        f"Conflict for resource 'web': version '{stale['metadata']['resourceVersion']}' was specified but "
        f"current version is '{current}'."
    )
    del stale["metadata"]["resourceVersion"]
    assert rest.replace(stale)[0] == 200


def test_what_is_written_while_a_call_is_under_way_is_not_overwritten(rest: Rest) -> None:
    """Fact 2.2 [T]: "HTTP 409 status ABORTED"."""
    service = rest.create()
    rest.local.fault("foreign-write", service="web", annotations={"a": "b"}, next=1, method="UpdateService")
    assert rest.replace(service)[0] == 409
    assert rest.get()["metadata"]["annotations"]["a"] == "b"


def test_a_dry_run_changes_nothing(rest: Rest) -> None:
    path = f"{NAMESPACE}/services"
    status, shown = rest("POST", f"{path}?dryRun=all", a_service())
    assert (status, shown["metadata"]["name"]) == (200, "web")
    assert rest("GET", f"{path}/web")[0] == 404


def test_revisions_are_selected_by_service_and_nonce(rest: Rest) -> None:
    """gcloud facts 4: "nonce label must survive (gcloud selects by it)"."""
    rest.create("web")
    rest.create("api")
    assert [name[:3] for name in rest.revisions("serving.knative.dev/service%20%3D%20web")] == ["web"]
    assert len(rest.revisions("client.knative.dev/nonce%20%3D%20ialzgnwmwa")) == 2
    assert rest.revisions("client.knative.dev/nonce%3Dother") == []


def test_lists_come_in_pages_where_a_limit_is_asked_for(rest: Rest) -> None:
    """gcloud facts 3: "paging is `metadata.continue` + `?continue=&limit=`"."""
    for name in ("a", "b", "c"):
        rest.create(name)
    _, first = rest("GET", f"{NAMESPACE}/services?limit=2")
    _, rest_of_it = rest("GET", f"{NAMESPACE}/services?limit=2&continue={first['metadata']['continue']}")
    names = [[item["metadata"]["name"] for item in page["items"]] for page in (first, rest_of_it)]
    assert names == [["a", "b"], ["c"]]


def test_the_host_names_the_region_and_the_project_may_be_its_number(rest: Rest) -> None:
    """gcloud facts 4: "take the region from the host prefix, project number = id"."""
    by_number = NAMESPACE.replace("demo", project_number("demo"))
    elsewhere = {"Host": "europe-west1-run.localhost:8081"}
    assert rest("POST", f"{by_number}/services", a_service(), elsewhere)[0] == 200
    assert rest("GET", f"{NAMESPACE}/services/web", headers=elsewhere)[0] == 200
    assert rest("GET", f"{NAMESPACE}/services/web")[0] == 404
    _, everywhere = rest("GET", "/v1/projects/demo/locations/-/services")
    assert everywhere["items"][0]["metadata"]["labels"]["cloud.googleapis.com/location"] == "europe-west1"
    _, locations = rest("GET", "/v1/projects/demo/locations")
    assert [one["locationId"] for one in locations["locations"]] == ["europe-west1", "local-1"]


def test_it_answers_as_a_proxy_and_passes_nothing_on(rest: Rest) -> None:
    """gcloud facts 4: "accept absolute-form request targets, refuse CONNECT"."""
    rest.create()
    assert rest("GET", f"http://local-1-run.localhost:8081{NAMESPACE}/services/web")[0] == 200
    host, _, port = rest.local.admin_address.rpartition(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=SECONDS)) as tunnel:
        tunnel.set_tunnel("compute.googleapis.com", 443)
        with pytest.raises(OSError, match="502 The local Cloud Run passes nothing on to compute"):
            tunnel.connect()


def test_faults_hold_for_rest_too(rest: Rest) -> None:
    rest.create()
    rest.local.fault("error", method="GetService", code="UNAVAILABLE", next=1)
    assert rest("GET", f"{NAMESPACE}/services/web")[0] == 503
    assert rest("GET", f"{NAMESPACE}/services/web")[0] == 200


def test_permissions_hold_for_rest_too(tmp_path: Path) -> None:
    file = tmp_path / "iam.yaml"
    file.write_text("bindings:\n- role: roles/run.viewer\n  members: ['user:viewer@example.com']\n")
    settings = Settings(runtime=RuntimeKind.SIMULATED, speed=0, iam=str(file))
    with LocalCloudRun.started(settings) as local:
        rest, viewer = Rest(local), {"Authorization": "Bearer viewer@example.com"}
        status, refused = rest("POST", f"{NAMESPACE}/services", a_service(), viewer)
        assert (status, refused["error"]["status"]) == (403, "PERMISSION_DENIED")
        assert rest("GET", f"{NAMESPACE}/services", headers=viewer)[0] == 200
        assert rest("GET", f"{NAMESPACE}/services")[0] == 401
        assert rest("GET", "/v1/projects/demo/locations", headers=viewer)[0] == 200


def test_quotas_hold_for_rest_too() -> None:
    with LocalCloudRun.started(replace(SIMULATED, quotas=True, reads_a_minute=1)) as local:
        rest = Rest(local)
        assert [rest("GET", f"{NAMESPACE}/services")[0] for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", f"{NAMESPACE}/services", b"{", 400, "The body is not JSON"),
        ("POST", f"{NAMESPACE}/services", b"[1]", 400, "The body must be an object"),
        ("POST", f"{NAMESPACE}/services", b"[" * 100_000, 400, "The body is not JSON"),
        ("POST", f"{NAMESPACE}/services", b"\xff\xfe{", 400, "The body is not JSON"),
        ("POST", f"{NAMESPACE}/services", b'{"metadata":{"name":"\\ud800"}}', 400, "The body is not JSON"),
        ("POST", f"{NAMESPACE}/services", b" " * 11_000_000, 413, "more than 10485760 bytes"),
        ("POST", f"{NAMESPACE}/services", b"{}", 400, "service_id"),
        ("GET", f"{NAMESPACE}/services?limit=x", None, 400, "limit must be a whole number"),
        ("GET", f"{NAMESPACE}/revisions?labelSelector=a%3Db%3Dc", None, 400, "labelSelector"),
        ("GET", f"{NAMESPACE}/services/nope", None, 404, "Resource 'nope' of kind 'SERVICE'"),
        ("GET", f"{NAMESPACE}/revisions/nope", None, 404, "Resource 'nope' of kind 'REVISION'"),
        ("PUT", f"{NAMESPACE}/services/nope", b'{"metadata":{"name":"nope"}}', 404, "Resource 'nope'"),
        (
            "GET",
            "/apis/run.googleapis.com/v1/namespaces/demo/workerpools",
            None,
            404,
            "Here are Cloud Run v1",
        ),
        ("POST", JOBS, b"{}", 400, "job_id"),
        ("POST", JOBS, b'{"spec":{"colour":1}}', 400, "Unknown field 'colour'"),
        ("POST", JOBS, b'{"metadata":{"name":"a"}}', 400, "must have one container"),
        ("POST", f"{JOBS}/nope:run", b'{"overrides":[]}', 400, "overrides must be an object"),
        ("POST", f"{JOBS}/nope:run", b'{"overrides":{"timeoutSeconds":"x"}}', 400, "cannot be read"),
        ("POST", f"{JOBS}/nope:run", b"{}", 404, "Resource 'nope' of kind 'JOB'"),
        ("GET", "/apis/run.googleapis.com/v1/namespaces/demo/executions/nope", None, 404, "'EXECUTION'"),
        ("GET", "/apis/run.googleapis.com/v1/namespaces/demo/tasks", None, 404, "'EXECUTION'"),
        ("PATCH", f"/v2/{WEB}?updateMask=nothing", b"{}", 404, "Resource 'web'"),
        ("GET", f"/v2/{PARENT}/services?pageSize=x", None, 400, "The request cannot be read"),
        ("GET", f"/v2/{PARENT}/services?colour=red", None, 400, 'no field named "colour"'),
        ("POST", "/v2/entries:list", b"{}", 400, "resource_names"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_googles_form(
    rest: Rest, method: str, path: str, body: bytes | None, status: int, words: str
) -> None:
    found, answer = rest(method, path, body)
    assert found == status
    assert answer["error"]["code"] == status
    assert words in message(answer)
    assert rest("GET", "/")[0] == 200


def test_no_web_page_may_use_it(rest: Rest) -> None:
    assert rest("GET", f"{NAMESPACE}/services", headers={"Origin": "https://example.com"})[0] == 403


def test_images_are_added_listed_and_removed(rest: Rest) -> None:
    image = {"name": "gcr.io/a/b:c", "command": ["run", "it"], "working_dir": "/srv", "env": {"A": "1"}}
    assert rest("POST", "/images", image) == (200, image)
    assert rest("GET", "/images") == (200, {"images": [image]})
    assert rest("POST", "/images", {"name": "x", "command": "run it"})[0] == 400
    assert [rest("DELETE", "/images?name=gcr.io/a/b:c")[1]["removed"] for _ in range(2)] == [True, False]


def test_policies_are_read_and_written_by_v1(rest: Rest) -> None:
    rest.create()
    policy = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
    path = f"/v1/{WEB}"
    assert rest("POST", f"{path}:setIamPolicy", {"policy": policy})[0] == 200
    assert (
        rest("GET", f"{path}:getIamPolicy?options.requestedPolicyVersion=3")[1]["bindings"]
        == policy["bindings"]
    )
    asked = {"permissions": ["run.services.setIamPolicy"]}
    assert rest("POST", f"/v1/{PARENT}/services/new:testIamPermissions", asked) == (200, asked)


def test_waiting_for_an_operation_by_v1_shows_a_v1_service(rest: Rest) -> None:
    rest.create()
    operations = rest("GET", f"/v2/{PARENT}/operations")[1]["operations"]
    _, waited = rest("POST", f"/v1/{operations[0]['name']}:wait", {"timeout": "1s"})
    assert waited["done"] is True
    assert waited["response"]["metadata"]["name"] == "web"


# Google's own client of the v2 REST API


def test_googles_rest_client_works_against_v2(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    place: Json = {
        "host": rest.local.admin_address,
        "url_scheme": "http",
        "credentials": AnonymousCredentials(),
    }
    client = run_v2.ServicesClient(transport=ServicesRestTransport(**place))
    revisions = run_v2.RevisionsClient(transport=RevisionsRestTransport(**place))
    template = run_v2.RevisionTemplate(containers=[run_v2.Container(image="i")])

    created = client.create_service(
        parent=PARENT, service_id="web", service=run_v2.Service(template=template)
    )
    rest.local.advance(RECONCILED)
    assert created.operation.name.startswith(f"{PARENT}/operations/")
    update = run_v2.Service(name=WEB, annotations={"a": "b"})
    client.update_service(service=update, update_mask=field_mask_pb2.FieldMask(paths=["annotations"]))
    rest.local.advance(RECONCILED)

    assert dict(client.get_service(name=WEB).annotations) == {"a": "b"}
    assert [service.name for service in client.list_services(parent=PARENT)] == [WEB]
    (revision,) = revisions.list_revisions(parent=WEB, timeout=SECONDS)
    assert revisions.get_revision(name=revision.name, timeout=SECONDS) == revision
    client.delete_service(name=WEB)
    rest.local.advance(timedelta(seconds=10))
    with pytest.raises(exceptions.NotFound):
        client.get_service(name=WEB)
