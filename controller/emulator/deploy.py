"""Deploys a command as a revision, through the official client, with the meaning of `gcloud run deploy`."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import grpc
from google.api_core import exceptions
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import field_mask_pb2

from controller.emulator.names import revision_id
from controller.principal import calling_as

LATEST = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
REVISION = run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
CALL_SECONDS = 10.0
WAIT_SECONDS = 5.0


class DeployError(Exception):
    """A deployment that was refused or failed; the text says why."""


@dataclass(frozen=True)
class Deployment:
    """What to deploy: a command that listens on $PORT, and how it is to be reached."""

    service: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    """Full name of the new revision, beginning with the service's; "" = one is made up."""
    no_traffic: bool = False
    tag: str = ""
    session_affinity: bool = False
    concurrency: int = 0
    """0 = Cloud Run's default."""
    working_dir: str = ""


class Wishes(TypedDict, total=False):
    """What else of a deployment may be chosen."""

    env: Mapping[str, str]
    revision: str
    no_traffic: bool
    tag: str
    session_affinity: bool
    concurrency: int
    working_dir: str


@dataclass(frozen=True)
class Deployed:
    """What came of it."""

    service: str
    revision: str
    uri: str
    tag_uri: str = ""


def deploy(
    grpc_address: str,
    project: str,
    region: str,
    wanted: Deployment,
    timeout_seconds: float = 600.0,
    principal: str = "",
) -> Deployed:
    """Create or update the service and wait until that is done, in real seconds; raises DeployError."""
    with grpc.insecure_channel(grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        parent = f"projects/{project}/locations/{region}"
        return _Deploying(calling_as(channel, principal), parent, wanted).run(timeout_seconds)


class _Deploying:
    def __init__(self, channel: grpc.Channel, parent: str, wanted: Deployment) -> None:
        self._client = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._parent = parent
        self._name = f"{parent}/services/{wanted.service}"
        self._wanted = wanted

    def run(self, timeout_seconds: float) -> Deployed:
        try:
            current = self._current()
            operation = self._create() if current is None else self._update(current)
            failure = self._wait(operation, timeout_seconds)
            service = self._client.get_service(name=self._name, timeout=CALL_SECONDS)
        except (exceptions.GoogleAPICallError, exceptions.RetryError) as error:
            raise DeployError(str(error.message)) from error
        except grpc.RpcError as error:
            raise DeployError(str(error)) from error
        if failure:
            raise DeployError(failure)
        tag_uri = next(
            (status.uri for status in service.traffic_statuses if status.tag == self._wanted.tag), ""
        )
        newest = service.latest_created_revision.rsplit("/", 1)[-1]
        return Deployed(self._wanted.service, newest, service.uri, tag_uri if self._wanted.tag else "")

    def _current(self) -> run_v2.Service | None:
        try:
            return self._client.get_service(name=self._name, timeout=CALL_SECONDS)
        except exceptions.NotFound:
            return None

    def _create(self) -> str:
        if self._wanted.no_traffic:
            raise DeployError("--no-traffic not supported when creating a new service.")
        service = run_v2.Service(template=self._template())
        if self._wanted.tag:
            service.traffic = [run_v2.TrafficTarget(type_=LATEST, percent=100, tag=self._wanted.tag)]
        created = self._client.create_service(
            parent=self._parent, service_id=self._wanted.service, service=service, timeout=CALL_SECONDS
        )
        return str(created.operation.name)

    def _update(self, current: run_v2.Service) -> str:
        service = run_v2.Service(name=self._name, etag=current.etag, template=self._template())
        paths = ["template"]
        if self._wanted.no_traffic or self._wanted.tag:
            # A tag is given to the revision by its name, so the name has to be known beforehand.
            service.template.revision = self._wanted.revision or revision_id(
                self._wanted.service, current.generation + 1, random.Random()
            )
            service.traffic = self._traffic(current, service.template.revision)
            paths.append("traffic")
        updated = self._client.update_service(
            service=service, update_mask=field_mask_pb2.FieldMask(paths=paths), timeout=CALL_SECONDS
        )
        return str(updated.operation.name)

    def _template(self) -> run_v2.RevisionTemplate:
        wanted = self._wanted
        container = run_v2.Container(
            image=f"local/{wanted.service}",
            command=list(wanted.command),
            env=[run_v2.EnvVar(name=name, value=value) for name, value in wanted.env.items()],
            working_dir=wanted.working_dir,
        )
        return run_v2.RevisionTemplate(
            revision=wanted.revision,
            containers=[container],
            session_affinity=wanted.session_affinity,
            max_instance_request_concurrency=wanted.concurrency,
        )

    def _traffic(self, current: run_v2.Service, revision: str) -> list[run_v2.TrafficTarget]:
        """Return the traffic: with --no-traffic, what went to the latest stays with the latest of today."""
        latest_ready = current.latest_ready_revision.rsplit("/", 1)[-1]
        targets = []
        for target in current.traffic:
            if target.type_ == LATEST and self._wanted.no_traffic:
                target.type_ = run_v2.TrafficTargetAllocationType(REVISION)
                target.revision = latest_ready
            if target.tag == self._wanted.tag:
                target.tag = ""
            if target.percent or target.tag:
                targets.append(target)
        if self._wanted.tag:
            targets.append(run_v2.TrafficTarget(type_=REVISION, revision=revision, tag=self._wanted.tag))
        return targets

    def _wait(self, name: str, timeout_seconds: float) -> str:
        """Return "" when the operation has ended well, else its error."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            request = operations_pb2.WaitOperationRequest(name=name)
            request.timeout.FromMilliseconds(int(WAIT_SECONDS * 1000))
            operation = self._operations.WaitOperation(request, timeout=WAIT_SECONDS + CALL_SECONDS)
            if operation.done:
                return str(operation.error.message) if operation.HasField("error") else ""
        raise DeployError(f"The deployment has not ended after {timeout_seconds:g} s.")
