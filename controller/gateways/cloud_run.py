"""Cloud Run: reads services and revisions, writes traffic and annotations, by the official client."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from controller.core.observation import RevisionState, ServiceState
from controller.core.traffic import LATEST, Split, Target
from controller.gateways.google_errors import READ_TIMEOUT, WRITE_TIMEOUT, retried, translated
from controller.ports import CloudRun, NotFoundError, ServiceChange


class CloudRunGateway(CloudRun):
    """Services and revisions of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self, project: str, region: str, sleep: Callable[[float], None], channel: grpc.Channel | None = None
    ) -> None:
        self._parent = f"projects/{project}/locations/{region}"
        self._sleep = sleep
        self._endpoint = "the local Cloud Run" if channel else "Cloud Run"
        with translated("opening Cloud Run", self._endpoint, "to sign in"):
            self._services = run_v2.ServicesClient(
                transport=ServicesGrpcTransport(channel=channel) if channel else None
            )
            self._revisions = run_v2.RevisionsClient(
                transport=RevisionsGrpcTransport(channel=channel) if channel else None
            )

    def read_service(self, service: str) -> ServiceState:
        """Return the service as it is now; raises NotFoundError."""
        name = f"{self._parent}/services/{service}"

        def read() -> Any:
            with translated(f"reading service {service}", self._endpoint, "run.services.get"):
                return self._services.get_service(name=name, timeout=READ_TIMEOUT, retry=None)

        try:
            return self._service_state(service, retried(read, self._sleep))
        except NotFoundError as missing:
            raise NotFoundError(
                f"there is no service {service!r} in {self._parent} of {self._endpoint}; check the name, the"
                f" project and the region"
            ) from missing

    def read_revision(self, service: str, revision: str) -> RevisionState | None:
        """Return the revision, or None where there is none of that name."""
        name = f"{self._parent}/services/{service}/revisions/{revision}"

        def read() -> Any:
            with translated(f"reading revision {revision}", self._endpoint, "run.revisions.get"):
                return self._revisions.get_revision(name=name, timeout=READ_TIMEOUT, retry=None)

        try:
            return self._revision_state(retried(read, self._sleep))
        except NotFoundError:
            return None

    def list_revisions(self, service: str) -> Sequence[RevisionState]:
        """Return all revisions, the newest first."""
        parent = f"{self._parent}/services/{service}"

        def read() -> list[RevisionState]:
            with translated(f"listing the revisions of {service}", self._endpoint, "run.revisions.list"):
                pages = self._revisions.list_revisions(parent=parent, timeout=READ_TIMEOUT, retry=None)
                return [self._revision_state(revision) for revision in pages]

        revisions = retried(read, self._sleep)
        return sorted(revisions, key=lambda revision: revision.created_at, reverse=True)

    def write_service(self, change: ServiceChange) -> None:
        """Ask for the change; only name, etag, annotations and traffic are ever sent, never the template.

        A full object would be refused ("Revision named X with different configuration already exists").
        """
        service = run_v2.Service(
            name=f"{self._parent}/services/{change.service}",
            etag=change.etag,
            annotations=dict(change.annotations),
        )
        paths = ["annotations"]
        if change.split is not None:
            service.traffic = [self._target(target) for target in change.split]
            paths.append("traffic")
        with translated(f"writing service {change.service}", self._endpoint, "run.services.update"):
            self._services.update_service(
                run_v2.UpdateServiceRequest(service=service, update_mask={"paths": paths}),
                timeout=WRITE_TIMEOUT,
                retry=None,
            )

    def _target(self, target: Target) -> Any:
        kinds = run_v2.TrafficTargetAllocationType
        kind = (
            kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
            if target.revision == LATEST
            else kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        )
        return run_v2.TrafficTarget(
            type_=kind, revision=target.revision, percent=target.percent, tag=target.tag
        )

    def _service_state(self, name: str, service: Any) -> ServiceState:
        condition = service.terminal_condition
        return ServiceState(
            name=name,
            etag=service.etag,
            generation=service.generation,
            settled=not service.reconciling,
            failed=condition.state == run_v2.Condition.State.CONDITION_FAILED,
            message=condition.message,
            traffic=self._split(service.traffic),
            served=self._split(service.traffic_statuses),
            latest_ready=short_name(service.latest_ready_revision),
            latest_created=short_name(service.latest_created_revision),
            annotations=dict(service.annotations),
            addresses={status.tag: status.uri for status in service.traffic_statuses if status.tag},
        )

    def _split(self, targets: Any) -> Split:
        """Read a list of targets; a service that never set one sends all users to LATEST."""
        split = tuple(
            Target(short_name(target.revision), target.percent, target.tag)
            if target.type_ != run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST
            else Target(LATEST, target.percent, target.tag)
            for target in targets
        )
        return split or (Target(LATEST, 100),)

    def _revision_state(self, revision: Any) -> RevisionState:
        states = run_v2.Condition.State
        ready = next((c for c in revision.conditions if c.type_ == "Ready"), None)
        state = ready.state if ready else states.CONDITION_PENDING
        return RevisionState(
            name=short_name(revision.name),
            created_at=revision.create_time,
            ready=state == states.CONDITION_SUCCEEDED,
            failed=state == states.CONDITION_FAILED,
            message=ready.message if ready else "",
            session_affinity=revision.session_affinity,
        )


def short_name(name: str) -> str:
    """Return the last part of a resource name; Cloud Run names revisions both in full and in short."""
    return name.rpartition("/")[2]
