"""The whole control plane as rows, to be kept somewhere and taken up again."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.cloud import run_v2
from google.iam.v1 import policy_pb2
from google.longrunning import operations_pb2

from controller.emulator.names import RevisionKey, short
from controller.emulator.run.catalog import Catalog, RevisionState, ServiceState
from controller.emulator.run.executions import ExecutionState, JobCatalog, JobState
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.tasks import Ended
from controller.emulator.run.traffic import Split

SERVICE, POLICY, REVISION, OPERATION = "service", "policy", "revision", "operation"
JOB, EXECUTION = "job", "execution"


@dataclass(frozen=True)
class Row:
    """One thing that is kept; equal rows mean that nothing changed."""

    kind: str
    name: str
    """Full name of the resource, unique among its kind."""
    message: bytes
    """The resource, as protobuf has it."""
    rest: str
    """What the resource does not say, as a JSON object."""


def rows_of(catalog: Catalog, jobs: JobCatalog, operations: Operations) -> Iterator[Row]:
    """Give everything there is; to be read back in this order."""
    for name, service in catalog.services.items():
        yield _row(SERVICE, name, run_v2.Service.pb(service.proto), _rest_of_service(service))
        yield _row(POLICY, name, service.policy, {})
        for revision in service.revisions.values():
            message = run_v2.Revision.pb(revision.proto)
            yield _row(REVISION, revision.proto.name, message, _rest_of_revision(revision))
    for name, job in jobs.jobs.items():
        yield _row(JOB, name, run_v2.Job.pb(job.proto), {})
        for execution in job.executions.values():
            message = run_v2.Execution.pb(execution.proto)
            yield _row(EXECUTION, execution.proto.name, message, _rest_of_execution(execution))
    for operation in operations.all():
        yield _row(OPERATION, operation.proto.name, operation.proto, _rest_of_operation(operation))


def read_back(rows: Iterable[Row], catalog: Catalog, jobs: JobCatalog, operations: Operations) -> None:
    """Put what the rows say into empty catalogs and empty operations; nothing is set going."""
    for row in rows:
        rest = json.loads(row.rest)
        if row.kind == SERVICE:
            catalog.services[row.name] = _service(row.message, rest)
        elif row.kind == POLICY:
            catalog.services[row.name].policy = policy_pb2.Policy.FromString(row.message)
        elif row.kind == REVISION:
            service = catalog.services[row.name.rpartition("/revisions/")[0]]
            service.revisions[short(row.name)] = _revision(service, row.message, rest)
        elif row.kind == JOB:
            jobs.jobs[row.name] = JobState(run_v2.Job.deserialize(row.message))
        elif row.kind == EXECUTION:
            job = jobs.jobs[row.name.rpartition("/executions/")[0]]
            job.executions[short(row.name)] = _execution(row.message, rest)
        elif row.kind == OPERATION:
            operations.add(_operation(row.message, rest))
        else:
            raise ValueError(f"a row of the kind '{row.kind}' is not of this version: {row.name}")


def _row(kind: str, name: str, message: Any, rest: dict[str, Any]) -> Row:
    serialized = message.SerializeToString(deterministic=True)
    return Row(kind, name, serialized, json.dumps(rest, sort_keys=True))


def _rest_of_service(service: ServiceState) -> dict[str, Any]:
    return {
        "percents": dict(service.split.percents),
        "tags": dict(service.split.tags),
        "referenced": sorted(service.split.referenced),
        "newest_number": service.newest_number,
        "tagged": {tag: since.isoformat() for tag, since in service.tagged.items()},
    }


def _service(message: bytes, rest: dict[str, Any]) -> ServiceState:
    return ServiceState(
        run_v2.Service.deserialize(message),
        split=Split(rest["percents"], rest["tags"], frozenset(rest["referenced"])),
        newest_number=rest["newest_number"],
        tagged={tag: datetime.fromisoformat(since) for tag, since in rest["tagged"].items()},
    )


def _rest_of_revision(revision: RevisionState) -> dict[str, Any]:
    return {
        "number": revision.number,
        "ready": revision.ready,
        "failure": revision.failure,
        "unchecked": revision.unchecked,
    }


def _revision(service: ServiceState, message: bytes, rest: dict[str, Any]) -> RevisionState:
    proto = run_v2.Revision.deserialize(message)
    return RevisionState(proto, RevisionKey(service.region, service.service_id, short(proto.name)), **rest)


def _rest_of_execution(execution: ExecutionState) -> dict[str, Any]:
    last = execution.last
    return {
        "attempt": execution.attempt,
        "last": [last.code, last.problem] if last else None,
        "timed_out": execution.timed_out,
        "cancelled": execution.cancelled,
    }


def _execution(message: bytes, rest: dict[str, Any]) -> ExecutionState:
    last = rest.pop("last")
    return ExecutionState(run_v2.Execution.deserialize(message), last=Ended(*last) if last else None, **rest)


def _rest_of_operation(operation: Operation) -> dict[str, Any]:
    return {
        "subject": operation.subject,
        "due": operation.due.isoformat(),
        "generation": operation.generation,
        "awaits": operation.awaits,
        "deletes": operation.deletes,
    }


def _operation(message: bytes, rest: dict[str, Any]) -> Operation:
    due = datetime.fromisoformat(rest.pop("due"))
    operation = Operation(operations_pb2.Operation.FromString(message), due=due, **rest)
    if operation.done:
        operation.finished.set()
    return operation
