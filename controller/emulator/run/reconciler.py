"""Makes what is served follow what is asked for, a while after each write."""

from collections.abc import Callable
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.instants import instant_of
from controller.emulator.names import short
from controller.emulator.run import catalog, traffic
from controller.emulator.run.catalog import Failure, RevisionState, ServiceState, State
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.runtime import Runtime
from controller.emulator.settings import Settings

UriOf = Callable[[str, str], str]
"""(service, tag or "") -> the address of the service or of the tag."""


class Reconciler:
    """Settles a service when its writes are due and its revisions are known to be ready or not."""

    def __init__(
        self, clock: Clock, settings: Settings, operations: Operations, runtime: Runtime, uri_of: UriOf
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._operations = operations
        self._runtime = runtime
        self._uri_of = uri_of

    def begin(self, service: ServiceState, now: datetime, awaits: RevisionState | None) -> Operation:
        """Open the operation of a write; what was under way before ends no earlier than this."""
        due = now + self._settings.reconcile_delay
        for earlier in self._operations.open_for(service.proto.name):
            earlier.due = due
        operation = self._operations.open(
            service.location,
            service.proto.name,
            due,
            generation=service.proto.generation,
            awaits=awaits.key.revision if awaits else "",
        )
        service.proto.reconciling = True
        transition = instant_of(service.proto.terminal_condition.last_transition_time) or now
        service.proto.terminal_condition = catalog.condition("Ready", State.CONDITION_PENDING, transition)
        operation.show(run_v2.Service.pb(service.proto))
        self._clock.at(due, lambda at: self._settle(service, at))
        return operation

    def start(self, service: ServiceState, revision: RevisionState, now: datetime) -> None:
        """Start a new revision, and settle its service when it is known to be ready or not."""

        def report(at: datetime, failure: Failure | None) -> None:
            if service.revisions.get(revision.key.revision) is not revision:
                return  # deleted in the meantime
            catalog.settle_revision(revision, at, failure)
            if revision.ready and revision.number > self._number_of_latest_ready(service):
                service.proto.latest_ready_revision = revision.proto.name
            self._settle(service, at)

        self._runtime.deploy(revision.key, revision.proto, report, now)

    def _number_of_latest_ready(self, service: ServiceState) -> int:
        latest = service.revisions.get(short(service.proto.latest_ready_revision))
        return latest.number if latest else 0

    def _settle(self, service: ServiceState, at: datetime) -> None:
        under_way = self._operations.open_for(service.proto.name)
        ripe = [
            operation for operation in under_way if operation.due <= at and self._is_known(service, operation)
        ]
        if not ripe:
            return
        refusal = self._refusal(service)
        if refusal is None:
            self._serve(service, at)
        elif not service.proto.traffic_statuses:
            service.proto.traffic_statuses = traffic.statuses(service.proto.traffic, {})
        broken = self._broken_newest(service)
        self._show_outcome(service, at, refusal, broken, still_busy=len(ripe) < len(under_way))
        observed = (service.proto.observed_generation, *(operation.generation for operation in ripe))
        service.proto.observed_generation = max(observed)
        for operation in ripe:
            self._finish(operation, service.proto, refusal or broken)

    def _finish(self, operation: Operation, service: run_v2.Service, failure: Failure | None) -> None:
        if failure is None:
            operation.succeed(run_v2.Service.pb(service))
        else:
            operation.fail(run_v2.Service.pb(service), failure.message)

    def _is_known(self, service: ServiceState, operation: Operation) -> bool:
        """Return whether nothing that the operation depends on is still starting."""
        names = {operation.awaits} | {short(target.revision) for target in service.proto.traffic}
        revisions = [service.revisions[name] for name in names if name in service.revisions]
        return all(revision.ready is not None for revision in revisions)

    def _refusal(self, service: ServiceState) -> Failure | None:
        """Return why the traffic that is asked for cannot be served, or None."""
        for target in service.proto.traffic:
            name = target.revision or short(service.proto.latest_ready_revision)
            name = name or short(service.proto.latest_created_revision)
            revision = service.revisions.get(name)
            if revision is None:
                return Failure(
                    f"Revision '{name}' does not exist or is deleted. "
                    "Update all traffic to route to currently available revisions.",
                    catalog.Reason.REVISION_REASON_UNDEFINED,
                )
            if not revision.ready:
                return _not_ready(revision)
        return None

    def _broken_newest(self, service: ServiceState) -> Failure | None:
        """Return the failure of the newest revision: it makes the service not Ready, whoever serves."""
        newest = service.revisions.get(short(service.proto.latest_created_revision))
        return _not_ready(newest) if newest and newest.ready is False else None

    def _serve(self, service: ServiceState, at: datetime) -> None:
        split = traffic.resolve(service.proto.traffic, short(service.proto.latest_ready_revision))
        uris = {tag: self._uri_of(service.service_id, tag) for tag in split.tags}
        service.proto.traffic_statuses = traffic.statuses(service.proto.traffic, uris)
        service.proto.uri = self._uri_of(service.service_id, "")
        service.proto.urls = [service.proto.uri]
        if split == service.split:
            return
        for name in service.split.revisions() | split.revisions():
            if name in service.revisions:
                catalog.show_activity(service.revisions[name], at, active=name in split.revisions())
        service.split = split
        _, _, _, location, *_ = service.proto.name.split("/")
        self._clock.at(
            at + self._settings.propagation_delay,
            lambda when: self._runtime.follow(location, service.service_id, split, when),
        )

    def _show_outcome(
        self,
        service: ServiceState,
        at: datetime,
        refusal: Failure | None,
        broken: Failure | None,
        *,
        still_busy: bool,
    ) -> None:
        configurations = broken if broken and not refusal else None
        service.proto.conditions = [
            _outcome("RoutesReady", at, refusal),
            _outcome("ConfigurationsReady", at, configurations),
        ]
        service.proto.reconciling = still_busy
        if not still_busy:
            service.proto.terminal_condition = _outcome("Ready", at, refusal or broken)


def _outcome(kind: str, at: datetime, failure: Failure | None) -> run_v2.Condition:
    state = State.CONDITION_FAILED if failure else State.CONDITION_SUCCEEDED
    return catalog.condition(kind, state, at, failure)


def _not_ready(revision: RevisionState) -> Failure:
    text = f"Revision '{revision.key.revision}' is not ready and cannot serve traffic. {revision.failure}"
    return Failure(text)
