"""What exists: services and their revisions, with their conditions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from google.cloud import run_v2
from google.iam.v1 import policy_pb2

from controller.emulator.errors import not_found
from controller.emulator.instants import instant_of, stamp
from controller.emulator.names import RevisionKey, check_service_name, short, uid_of
from controller.emulator.run.etags import etag_of
from controller.emulator.run.traffic import Split

State = run_v2.Condition.State
Reason = run_v2.Condition.RevisionReason
Severity = run_v2.Condition.Severity


@dataclass(frozen=True)
class Failure:
    """Why a revision did not become ready."""

    message: str
    reason: int = Reason.HEALTH_CHECK_CONTAINER_ERROR


@dataclass
class RevisionState:
    """A revision and whether it can serve: None = not known yet."""

    proto: run_v2.Revision
    key: RevisionKey
    number: int
    ready: bool | None = None
    failure: str = ""
    unchecked: bool = False
    """Whether it counts as ready without a health check."""

    @property
    def is_being_deleted(self) -> bool:
        """Return whether its deletion was asked for."""
        return "delete_time" in self.proto


@dataclass
class ServiceState:
    """A service as the API shows it, its revisions by short name, and the split in force."""

    proto: run_v2.Service
    revisions: dict[str, RevisionState] = field(default_factory=dict)
    split: Split = field(default_factory=Split)
    scaling: run_v2.ServiceScaling = field(default_factory=run_v2.ServiceScaling)
    """The limits of instances in force."""
    newest_number: int = 0
    tagged: dict[str, datetime] = field(default_factory=dict)
    """When each traffic tag was first asked for."""
    policy: policy_pb2.Policy = field(default_factory=policy_pb2.Policy)
    """Who may do what with the service."""
    splits_made: int = 0
    splits_followed: int = 0
    """Number of the newest split that requests follow, among those that were made since the start."""
    is_gone: bool = False
    """Whether it is deleted: what was still to happen to it does not happen, and not to a new one either."""

    @property
    def service_id(self) -> str:
        """Return the short name."""
        return short(self.proto.name)

    @property
    def location(self) -> str:
        """Return `projects/P/locations/L`."""
        return self.proto.name.rsplit("/", 2)[0]

    @property
    def region(self) -> str:
        """Return `L`."""
        return short(self.location)

    def newest_ready(self) -> RevisionState | None:
        """Return the newest revision that can serve, if any can; the API names it with the next status."""
        able = (known for known in self.revisions.values() if known.ready and not known.is_being_deleted)
        return max(able, key=lambda revision: revision.number, default=None)

    def latest_created(self) -> RevisionState | None:
        """Return the newest revision."""
        return self.revisions.get(short(self.proto.latest_created_revision))

    def not_retired(self) -> set[str]:
        """Return the revisions that start, or that traffic, served or asked for, or a name refers to."""
        starting = {name for name, revision in self.revisions.items() if revision.ready is None}
        asked_for = {target.revision for target in self.proto.traffic}
        latest = {short(self.proto.latest_ready_revision), short(self.proto.latest_created_revision)}
        return starting | self.split.referenced | asked_for | latest

    def touch(self, now: datetime, principal: str) -> None:
        """Count a write: a new generation, time and etag. No two writes carry the same time."""
        before = instant_of(self.proto.update_time)
        if before is not None:
            now = max(now, before + timedelta(microseconds=1))
        self.proto.generation += 1
        self.proto.update_time = stamp(now)
        self.proto.last_modifier = principal
        self.proto.etag = etag_of(self.proto.name, now)


class Catalog:
    """All services, by full name."""

    def __init__(self) -> None:
        self.services: dict[str, ServiceState] = {}

    def service(self, name: str) -> ServiceState:
        """Return a service by its full name."""
        check_service_name(name)
        if name not in self.services:
            raise not_found(name)
        return self.services[name]

    def revision(self, name: str) -> tuple[ServiceState, RevisionState]:
        """Return a revision by its full name, and its service."""
        service_name, _, revision = name.rpartition("/revisions/")
        check_service_name(service_name)
        state = self.services.get(service_name)
        if state is None or revision not in state.revisions:
            raise not_found(name)
        return state, state.revisions[revision]

    def located(self, parent: str) -> Iterator[ServiceState]:
        """Give the services of `projects/P/locations/L`, by name; the location `-` means every one."""
        place, _, region = parent.rpartition("/")
        prefix = f"{place}/" if region == "-" else f"{parent}/"
        for name, state in sorted(self.services.items()):
            if name.startswith(prefix):
                yield state


def condition(kind: str, state: int, at: datetime, failure: Failure | None = None) -> run_v2.Condition:
    """Return a condition; a failure gives its message and reason."""
    result = run_v2.Condition(type_=kind, state=state, last_transition_time=at)
    if failure is not None:
        result.message = failure.message
        if failure.reason:
            result.revision_reason = Reason(failure.reason)
    return result


def new_revision(
    service: ServiceState, name: str, now: datetime, log_uri: Callable[[RevisionKey], str]
) -> RevisionState:
    """Return the revision that the service's template asks for, not yet ready."""
    template = service.proto.template
    key = RevisionKey(service.region, service.service_id, name)
    full_name = f"{service.proto.name}/revisions/{name}"
    proto = run_v2.Revision(
        name=full_name,
        uid=uid_of(full_name, now),
        generation=1,
        observed_generation=1,
        labels=template.labels,
        annotations=template.annotations,
        create_time=now,
        update_time=now,
        launch_stage=service.proto.launch_stage,
        service=service.service_id,
        scaling=template.scaling,
        vpc_access=template.vpc_access,
        max_instance_request_concurrency=template.max_instance_request_concurrency,
        timeout=template.timeout,
        service_account=template.service_account,
        containers=template.containers,
        volumes=template.volumes,
        execution_environment=template.execution_environment,
        encryption_key=template.encryption_key,
        encryption_key_revocation_action=template.encryption_key_revocation_action,
        encryption_key_shutdown_duration=template.encryption_key_shutdown_duration,
        service_mesh=template.service_mesh,
        session_affinity=template.session_affinity,
        node_selector=template.node_selector,
        gpu_zonal_redundancy_disabled=template.gpu_zonal_redundancy_disabled,
        reconciling=True,
        conditions=[condition(kind, State.CONDITION_PENDING, now) for kind in ("Ready", "ContainerHealthy")],
        log_uri=log_uri(key),
        creator=service.proto.last_modifier,
        etag=etag_of(full_name, now),
    )
    return RevisionState(proto, key, service.newest_number, unchecked=template.health_check_disabled)


def settle_revision(revision: RevisionState, at: datetime, failure: Failure | None) -> None:
    """Write down that a revision became ready, or why not."""
    revision.ready = failure is None
    revision.failure = failure.message if failure else ""
    state = State.CONDITION_FAILED if failure else State.CONDITION_SUCCEEDED
    healthy = condition("ContainerHealthy", state, at, failure)
    if revision.unchecked:
        healthy.revision_reason = Reason(Reason.HEALTH_CHECK_SKIPPED)
    revision.proto.reconciling = False
    revision.proto.update_time = stamp(at)
    revision.proto.conditions = [
        condition("Ready", state, at, failure),
        condition("ContainerReady", State.CONDITION_SUCCEEDED, at),
        healthy,
        condition("ResourcesAvailable", State.CONDITION_SUCCEEDED, at),
    ]


def show_activity(revision: RevisionState, at: datetime, *, active: bool) -> None:
    """Write down whether requests can reach a revision; that they cannot is normal, hence severity INFO."""
    kept = [known for known in revision.proto.conditions if known.type_ != "Active"]
    current = condition("Active", State.CONDITION_SUCCEEDED, at)
    if not active:
        current = condition(
            "Active", State.CONDITION_FAILED, at, Failure("Revision retired.", Reason.RETIRED)
        )
        current.severity = Severity(Severity.INFO)
    revision.proto.conditions = [*kept, current]
