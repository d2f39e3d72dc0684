"""What exists: services and their revisions, with their conditions and the etag of each version."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from google.cloud import run_v2
from google.protobuf import message, timestamp_pb2

from controller.emulator.instants import instant_of, stamp
from controller.emulator.names import RevisionKey, short
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


@dataclass
class ServiceState:
    """A service as the API shows it, its revisions by short name, and the split that is served."""

    proto: run_v2.Service
    revisions: dict[str, RevisionState] = field(default_factory=dict)
    split: Split = field(default_factory=Split)
    newest_number: int = 0

    @property
    def service_id(self) -> str:
        """Return the short name."""
        return short(self.proto.name)

    @property
    def location(self) -> str:
        """Return `projects/P/locations/L`."""
        return self.proto.name.rsplit("/", 2)[0]

    def newest(self) -> RevisionState:
        """Return the revision that was created last."""
        return self.revisions[short(self.proto.latest_created_revision)]

    def touch(self, now: datetime, principal: str) -> None:
        """Count a write: a new generation, time and etag. No two writes carry the same time."""
        before = instant_of(self.proto.update_time)
        if before is not None:
            now = max(now, before + timedelta(microseconds=1))
        self.proto.generation += 1
        self.proto.update_time = stamp(now)
        self.proto.last_modifier = principal
        self.proto.etag = etag_of(self.proto.name, now)


def etag_of(name: str, update_time: datetime) -> str:
    """Return the etag of a version: its time and its name, both in base64, as Google's decode to."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(update_time)
    parts = (stamp.SerializeToString(), name.encode())
    return '"' + "/".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + '"'


def version_of(etag: str) -> str:
    """Return the version in an etag, in microseconds since the epoch as v1 tells it; else the etag itself."""
    stamp = timestamp_pb2.Timestamp()
    encoded = etag.strip('"').split("/")[0]
    try:
        stamp.ParseFromString(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return str(stamp.ToMicroseconds())
    except (ValueError, message.DecodeError):  # any text may be sent as an etag
        return etag


def condition(kind: str, state: int, at: datetime, failure: Failure | None = None) -> run_v2.Condition:
    """Return a condition; a failure gives its message and reason."""
    result = run_v2.Condition(type_=kind, state=state, last_transition_time=at)
    if failure is not None:
        result.message = failure.message
        result.revision_reason = Reason(failure.reason)
    return result


def new_revision(
    service: ServiceState, name: str, now: datetime, log_uri: Callable[[RevisionKey], str]
) -> RevisionState:
    """Return the revision that the service's template asks for, not yet ready."""
    template = service.proto.template
    _, _, _, location, *_ = service.proto.name.split("/")
    key = RevisionKey(location, service.service_id, name)
    full_name = f"{service.proto.name}/revisions/{name}"
    proto = run_v2.Revision(
        name=full_name,
        uid=f"{service.proto.uid}-{service.newest_number}",
        generation=1,
        observed_generation=1,
        labels=template.labels,
        annotations=template.annotations,
        create_time=now,
        update_time=now,
        launch_stage=service.proto.launch_stage,
        service=service.service_id,
        scaling=template.scaling,
        max_instance_request_concurrency=template.max_instance_request_concurrency,
        timeout=template.timeout,
        service_account=template.service_account,
        containers=template.containers,
        volumes=template.volumes,
        session_affinity=template.session_affinity,
        reconciling=True,
        conditions=[condition(kind, State.CONDITION_PENDING, now) for kind in ("Ready", "ContainerHealthy")],
        log_uri=log_uri(key),
        creator=service.proto.last_modifier,
        etag=etag_of(full_name, now),
    )
    return RevisionState(proto, key, service.newest_number)


def settle_revision(revision: RevisionState, at: datetime, failure: Failure | None) -> None:
    """Write down that a revision became ready, or why not."""
    revision.ready = failure is None
    revision.failure = failure.message if failure else ""
    state = State.CONDITION_FAILED if failure else State.CONDITION_SUCCEEDED
    revision.proto.reconciling = False
    revision.proto.update_time = stamp(at)
    revision.proto.conditions = [
        condition("Ready", state, at, failure),
        condition("ContainerReady", State.CONDITION_SUCCEEDED, at),
        condition("ContainerHealthy", state, at, failure),
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
