"""Cloud Run v1: Knative's services and revisions, as calls of the v2 methods."""

from aiohttp import web
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import json_format

from controller.emulator.calls import Dispatcher
from controller.emulator.errors import invalid
from controller.emulator.knative import selectors, services
from controller.emulator.knative.methods import OPERATIONS, REVISIONS, SERVICES
from controller.emulator.knative.requests import (
    deleted,
    is_dry_run,
    list_response,
    page_asked_for,
    pages,
    parent_of,
)
from controller.emulator.knative.revisions import SERVICE as SERVICE_LABEL
from controller.emulator.knative.revisions import revision_to_v1
from controller.emulator.knative.services import API_VERSION
from controller.emulator.knative.shapes import obj
from controller.emulator.knative.transcoding import called
from controller.emulator.knative.versions import expecting
from controller.emulator.knative.web import body_of, region_of
from controller.emulator.run.services import Services
from controller.emulator.settings import Settings

NAMESPACE = "/apis/serving.knative.dev/v1/namespaces/{project}"
SERVICE_OF_OPERATION = "type.googleapis.com/google.cloud.run.v2.Service"


class KnativeApi:
    """Answers v1 requests; the region is in the host, or is the emulator's own."""

    def __init__(self, calls: Dispatcher, known: Services, settings: Settings) -> None:
        self._calls = calls
        self._known = known
        self._settings = settings

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        location = "/v1/projects/{project}/locations/{region}"
        return [
            web.post(f"{NAMESPACE}/services", self._create),
            web.get(f"{NAMESPACE}/services", self._list),
            web.get(f"{NAMESPACE}/services/{{name}}", self._get),
            web.put(f"{NAMESPACE}/services/{{name}}", self._replace),
            web.delete(f"{NAMESPACE}/services/{{name}}", self._delete),
            web.get(f"{NAMESPACE}/revisions", self._list_revisions),
            web.get(f"{NAMESPACE}/revisions/{{name}}", self._get_revision),
            web.delete(f"{NAMESPACE}/revisions/{{name}}", self._delete_revision),
            web.get(f"{location}/services", self._list),
            web.post(f"{location}/operations/{{name}}:wait", self._wait),
        ]

    async def _create(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        name = str(obj(body.get("metadata"), "metadata").get("name") or "")
        parent = self._parent(request)
        wanted = run_v2.CreateServiceRequest(
            parent=parent,
            service_id=name,
            service=services.to_v2(body, f"{parent}/services/{name}"),
            validate_only=is_dry_run(request),
        )
        return _written(await called(self._calls, f"{SERVICES}/CreateService", wanted, request))

    async def _list(self, request: web.Request) -> web.Response:
        region = request.match_info.get("region") or region_of(request) or "-"
        parent = self._parent(request, region)
        is_wanted = selectors.read(request.query.get("labelSelector", ""))
        asked = run_v2.ListServicesRequest(parent=parent, **page_asked_for(request))
        found, token = await pages(self._calls, f"{SERVICES}/ListServices", asked, request, "services")
        items = [services.to_v1(service) for service in found]
        return list_response(API_VERSION, "ServiceList", [item for item in items if is_wanted(item)], token)

    async def _get(self, request: web.Request) -> web.Response:
        asked = run_v2.GetServiceRequest(name=self._service_name(request))
        found = await called(self._calls, f"{SERVICES}/GetService", asked, request)
        return web.json_response(services.to_v1(found))

    async def _replace(self, request: web.Request) -> web.Response:
        """Replace a service; a template that says the same, and what v2 alone knows of, stay untouched."""
        body = await body_of(request)
        name = self._service_name(request)
        service = services.to_v2(body, name)
        current = self._known.get(name).proto
        changed = list(services.REPLACED)
        if service.template != services.to_v2(services.to_v1(current), name).template:
            changed.append("template")
        wanted = run_v2.UpdateServiceRequest(
            service=service, update_mask={"paths": changed}, validate_only=is_dry_run(request)
        )
        version = str(obj(body.get("metadata"), "metadata").get("resourceVersion") or "")
        with expecting(version):
            return _written(await called(self._calls, f"{SERVICES}/UpdateService", wanted, request))

    async def _delete(self, request: web.Request) -> web.Response:
        wanted = run_v2.DeleteServiceRequest(
            name=self._service_name(request), validate_only=is_dry_run(request)
        )
        await called(self._calls, f"{SERVICES}/DeleteService", wanted, request)
        return deleted()

    async def _list_revisions(self, request: web.Request) -> web.Response:
        selector = request.query.get("labelSelector", "")
        is_wanted = selectors.read(selector)
        service = selectors.value_of(selector, SERVICE_LABEL) or "-"
        parent = f"{self._parent(request)}/services/{service}"
        asked = run_v2.ListRevisionsRequest(parent=parent, **page_asked_for(request))
        found, token = await pages(self._calls, f"{REVISIONS}/ListRevisions", asked, request, "revisions")
        items = [revision_to_v1(revision) for revision in found]
        return list_response(API_VERSION, "RevisionList", [item for item in items if is_wanted(item)], token)

    async def _get_revision(self, request: web.Request) -> web.Response:
        asked = run_v2.GetRevisionRequest(name=self._revision_name(request))
        found = await called(self._calls, f"{REVISIONS}/GetRevision", asked, request)
        return web.json_response(revision_to_v1(found))

    async def _delete_revision(self, request: web.Request) -> web.Response:
        wanted = run_v2.DeleteRevisionRequest(
            name=self._revision_name(request), validate_only=is_dry_run(request)
        )
        await called(self._calls, f"{REVISIONS}/DeleteRevision", wanted, request)
        return deleted()

    async def _wait(self, request: web.Request) -> web.Response:
        """Wait for an operation; v1 shows the service that came of it in v1's form."""
        parent = self._parent(request, request.match_info["region"])
        wanted = operations_pb2.WaitOperationRequest(name=f"{parent}/operations/{request.match_info['name']}")
        try:
            json_format.ParseDict(await body_of(request), wanted)
        except json_format.ParseError as error:
            raise invalid(f"The request cannot be read: {error}") from None
        operation = await called(self._calls, f"{OPERATIONS}/WaitOperation", wanted, request)
        shown = json_format.MessageToDict(operation)
        for part in ("metadata", "response"):
            packed = getattr(operation, part)
            if packed.type_url == SERVICE_OF_OPERATION:
                service = services.to_v1(run_v2.Service.deserialize(packed.value))
                shown[part] = {"@type": SERVICE_OF_OPERATION.replace("v2", "v1"), **service}
        return web.json_response(shown)

    def _parent(self, request: web.Request, region: str = "") -> str:
        return parent_of(request, self._settings, region)

    def _service_name(self, request: web.Request) -> str:
        return f"{self._parent(request)}/services/{request.match_info['name']}"

    def _revision_name(self, request: web.Request) -> str:
        """Return the full name of a revision, which v1 names without its service."""
        parent, name = self._parent(request), request.match_info["name"]
        owners = [
            state.service_id
            for state in self._known.all()
            if state.location == parent and name in state.revisions
        ]
        return f"{parent}/services/{owners[0] if owners else '-'}/revisions/{name}"


def _written(operation: operations_pb2.Operation) -> web.Response:
    """Return the service as it is right after a write, or would be."""
    packed = operation.response if operation.HasField("response") else operation.metadata
    return web.json_response(services.to_v1(run_v2.Service.deserialize(packed.value)))
