"""Cloud Run: reads services and revisions, writes traffic and annotations, by the official client."""

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

import grpc
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from controller.core.observation import ALL_INGRESS, RevisionState, ServiceState
from controller.core.traffic import LATEST, Split, Target
from controller.gateways.calls import Caller
from controller.gateways.google_errors import translated
from controller.ports import CloudRun, NotFoundError, ServiceChange

_INGRESS = {
    int(run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY): "internal",
    int(run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER): "internal-and-cloud-load-balancing",
}


class CloudRunGateway(CloudRun):
    """Services and revisions of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self, project: str, region: str, sleep: Callable[[float], None], channel: grpc.Channel | None = None
    ) -> None:
        self._parent = f"projects/{project}/locations/{region}"
        endpoint = "the local Cloud Run" if channel else "Cloud Run"
        self._caller = Caller(endpoint, sleep)
        with translated("opening Cloud Run", endpoint, "to sign in"):
            self._services = run_v2.ServicesClient(
                transport=ServicesGrpcTransport(channel=channel) if channel else None
            )
            self._revisions = run_v2.RevisionsClient(
                transport=RevisionsGrpcTransport(channel=channel) if channel else None
            )

    def read_service(self, service: str) -> ServiceState:
        """Return the service as it is now; raises NotFoundError."""
        try:
            found = self._caller.read(
                self._services.get_service,
                run_v2.GetServiceRequest(name=f"{self._parent}/services/{service}"),
                doing=f"reading service {service}",
                permission="run.services.get",
            )
        except NotFoundError as missing:
            raise NotFoundError(
                f"there is no service {service!r} in {self._parent} of {self._caller.endpoint}; check the"
                " name, the project and the region"
            ) from missing
        return self._service_state(found)

    def list_services(self) -> Sequence[ServiceState]:
        """Return all services, by name."""
        pages = self._caller.pages(
            self._services.list_services,
            run_v2.ListServicesRequest(parent=self._parent),
            doing=f"listing the services in {self._parent}",
            permission="run.services.list",
        )
        states = [self._service_state(service) for page in pages for service in page.services]
        return sorted(states, key=lambda state: state.name)

    def read_revision(self, service: str, revision: str) -> RevisionState | None:
        """Return the revision, or None where there is none of that name."""
        name = f"{self._parent}/services/{service}/revisions/{revision}"
        try:
            found = self._caller.read(
                self._revisions.get_revision,
                run_v2.GetRevisionRequest(name=name),
                doing=f"reading revision {revision}",
                permission="run.revisions.get",
            )
        except NotFoundError:
            return None
        return self._revision_state(found)

    def list_revisions(self, service: str) -> Sequence[RevisionState]:
        """Return all revisions, the newest first."""
        pages = self._caller.pages(
            self._revisions.list_revisions,
            run_v2.ListRevisionsRequest(parent=f"{self._parent}/services/{service}"),
            doing=f"listing the revisions of {service}",
            permission="run.revisions.list",
        )
        states = [self._revision_state(revision) for page in pages for revision in page.revisions]
        return sorted(states, key=lambda state: state.created_at, reverse=True)

    def write_service(self, change: ServiceChange) -> None:
        """Ask for the change; only name, etag, annotations and traffic are ever sent, never the template.

        A full object would be refused ("Revision named X with different configuration already exists").
        """
        self._write(change, f"writing service {change.service}", validate_only=False)

    def try_service(self, change: ServiceChange) -> None:
        """Ask whether the change would be accepted; nothing is stored."""
        self._write(change, f"trying to write service {change.service}", validate_only=True)

    def _write(self, change: ServiceChange, doing: str, *, validate_only: bool) -> None:
        service = run_v2.Service(
            name=f"{self._parent}/services/{change.service}",
            etag=change.etag,
            annotations=dict(change.annotations),
        )
        paths = ["annotations"]
        if change.split is not None:
            service.traffic = [self._target(target) for target in change.split]
            paths.append("traffic")
        self._caller.write(
            self._services.update_service,
            run_v2.UpdateServiceRequest(
                service=service, update_mask={"paths": paths}, validate_only=validate_only
            ),
            doing=doing,
            permission="run.services.update",
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

    def _service_state(self, found: Any) -> ServiceState:
        service = run_v2.Service.pb(found)  # its wrapper is many times slower to read
        condition = service.terminal_condition
        return ServiceState(
            name=short_name(service.name),
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
            address=service.uri,
            addresses={status.tag: status.uri for status in service.traffic_statuses if status.tag},
            ingress=_INGRESS.get(service.ingress, ALL_INGRESS),
            has_default_url=not service.default_uri_disabled,
            has_sign_in_proxy=service.iap_enabled,
            regions=tuple(service.multi_region_settings.regions),
            most_instances=service.scaling.max_instance_count,
            manual_instances=_manual_instances(service.scaling),
            checks_deployments=not service.template.health_check_disabled,
            labels=dict(service.labels),
            client=service.client,
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

    def _revision_state(self, found: Any) -> RevisionState:
        revision = run_v2.Revision.pb(found)
        states = run_v2.Condition.State
        ready = next((c for c in revision.conditions if c.type_ == "Ready"), None)
        state = ready.state if ready else states.CONDITION_PENDING
        return RevisionState(
            name=short_name(revision.name),
            created_at=revision.create_time.ToDatetime(UTC),
            ready=state == states.CONDITION_SUCCEEDED,
            failed=state == states.CONDITION_FAILED,
            message=ready.message if ready else "",
            session_affinity=revision.session_affinity,
            most_instances=revision.scaling.max_instance_count,
            least_instances=revision.scaling.min_instance_count,
        )


def _manual_instances(scaling: Any) -> int | None:
    by_hand = scaling.scaling_mode == run_v2.ServiceScaling.ScalingMode.MANUAL
    return scaling.manual_instance_count if by_hand else None


def short_name(name: str) -> str:
    """Return the last part of a resource name; Cloud Run names revisions both in full and in short."""
    return name.rpartition("/")[2]
