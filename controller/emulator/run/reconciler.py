"""Makes what is served follow what is asked for, a while after each write."""

from collections.abc import Callable
from datetime import datetime

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.instants import instant_of
from controller.emulator.names import short
from controller.emulator.run import catalog, targets, traffic
from controller.emulator.run.catalog import Failure, RevisionState, ServiceState, State
from controller.emulator.run.operations import Operation, Operations
from controller.emulator.run.runtime import Runtime
from controller.emulator.run.traffic import Split
from controller.emulator.settings import Settings

UriOf = Callable[[str, str, str], str]
"""(region, service, tag or "") -> the address of the service or of the tag."""


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
            earlier.due = max(earlier.due, due)
        operation = self._operations.open(
            service.location,
            service.proto.name,
            due,
            generation=service.proto.generation,
            awaits=awaits.key.revision if awaits else "",
        )
        service.proto.reconciling = True
        service.proto.terminal_condition = _pending(service.proto)
        operation.show(run_v2.Service.pb(service.proto))
        self.settle_when_due(service, operation)
        return operation

    def settle_when_due(self, service: ServiceState, operation: Operation) -> None:
        """Settle a service when an operation is due."""
        self._clock.at(operation.due, lambda at: self.settle(service, at))

    def start(self, service: ServiceState, revision: RevisionState, now: datetime) -> None:
        """Start a new revision, and settle its service when it is known to be ready or not."""

        def report(at: datetime, failure: Failure | None) -> None:
            if service.revisions.get(revision.key.revision) is not revision:
                return  # deleted in the meantime
            catalog.settle_revision(revision, at, failure)
            self.settle(service, at)

        if revision.unchecked:
            self._runtime.adopt(revision.key, revision.proto, now)
            self._clock.at(now, lambda at: report(at, None))
        else:
            self._runtime.deploy(revision.key, revision.proto, report, now)

    def serve_again(self, service: ServiceState, at: datetime) -> None:
        """Serve what is asked for, if it can be, after the traffic was changed by no write."""
        if targets.are_known(service, targets.awaited(service)) and targets.refusal(service) is None:
            self._serve(service, at)

    def resume(self, service: ServiceState, at: datetime) -> None:
        """Take up a service as it was: what serves goes on, what was starting starts again."""
        self._refresh_addresses(service)
        for revision in service.revisions.values():
            if revision.ready is None:
                self.start(service, revision, at)
            elif revision.ready:
                self._runtime.adopt(revision.key, revision.proto, at)
        self._scale(service, at)
        if service.split.revisions():
            self._runtime.follow(service.region, service.service_id, service.split, at)

    def settle(self, service: ServiceState, at: datetime) -> None:
        """End the operations that are due, and show what came of them."""
        if service.is_gone:
            return
        under_way = self._operations.open_for(service.proto.name)
        ripe = [
            operation
            for operation in under_way
            if operation.due <= at
            and targets.are_known(service, {operation.awaits} | targets.awaited(service))
        ]
        if not ripe:
            return
        if service.scaling != service.proto.scaling:
            self._scale(service, at)
        served_latest = targets.move_latest(service)
        refusal = targets.refusal(service)
        if refusal is None:
            self._serve(service, at)
        else:
            targets.keep_serving(service, served_latest)
        failure = refusal or (targets.broken_newest(service) if self._settings.newest_decides else None)
        _show_outcome(service.proto, at, failure, still_busy=len(ripe) < len(under_way))
        observed = (service.proto.observed_generation, *(operation.generation for operation in ripe))
        service.proto.observed_generation = max(observed)
        resource = run_v2.Service.pb(service.proto)
        for operation in ripe:
            if failure is None:
                self._operations.succeed(operation, resource)
            else:
                self._operations.fail(operation, resource, failure.message)

    def abandon(self, service: ServiceState, at: datetime) -> None:
        """End what still changes a service that is deleted."""
        service.is_gone = True
        failure = Failure(
            f"Service '{service.service_id}' does not exist or is deleted.",
            catalog.Reason.REVISION_REASON_UNDEFINED,
        )
        _show_outcome(service.proto, at, failure, still_busy=False)
        for operation in self._operations.open_for(service.proto.name):
            self._operations.fail(operation, run_v2.Service.pb(service.proto), failure.message)

    def _serve(self, service: ServiceState, at: datetime) -> None:
        split = traffic.resolve(service.proto.traffic, short(service.proto.latest_ready_revision))
        self._show_addresses(service, split)
        self._runtime.scale(service.region, service.service_id, service.proto.scaling, at)
        if split == service.split:
            return
        for name in service.split.revisions() | split.revisions():
            if name in service.revisions:
                catalog.show_activity(service.revisions[name], at, active=name in split.revisions())
        is_first = not service.split.revisions()
        service.split = split
        service.splits_made += 1
        number = service.splits_made

        def follow(when: datetime) -> None:
            if number > service.splits_followed and not service.is_gone:  # the clock may have been set back
                service.splits_followed = number
                self._runtime.follow(service.region, service.service_id, split, when)

        if is_first:  # nobody is served yet who could go on being served
            follow(at)
        else:
            self._clock.at(at + self._settings.propagation_delay, follow)

    def _scale(self, service: ServiceState, at: datetime) -> None:
        service.scaling = run_v2.ServiceScaling(service.proto.scaling)
        self._runtime.scale(service.region, service.service_id, service.scaling, at)

    def _show_addresses(self, service: ServiceState, split: Split) -> None:
        """Show what is served and where; a service without a default address has none for its tags either."""
        proto = service.proto
        tags = () if proto.default_uri_disabled else split.tags
        uris = {tag: self._uri_of(service.region, service.service_id, tag) for tag in tags}
        proto.traffic_statuses = traffic.statuses(proto.traffic, uris)
        proto.uri = "" if proto.default_uri_disabled else self._uri_of(service.region, service.service_id, "")
        proto.urls = [proto.uri] if proto.uri else []

    def _refresh_addresses(self, service: ServiceState) -> None:
        """Show where a service answers now: the port may be another one than when it was kept."""
        proto = service.proto
        if proto.uri:
            proto.uri = self._uri_of(service.region, service.service_id, "")
            proto.urls = [proto.uri]
        for status in proto.traffic_statuses:
            if status.uri:
                status.uri = self._uri_of(service.region, service.service_id, status.tag)


def _pending(service: run_v2.Service) -> run_v2.Condition:
    """Return the condition during reconciliation: of the old transition, and nameless before the first."""
    transition = instant_of(service.terminal_condition.last_transition_time)
    if transition is None:
        return run_v2.Condition(state=State.CONDITION_PENDING)
    return catalog.condition("Ready", State.CONDITION_PENDING, transition)


def _show_outcome(
    service: run_v2.Service, at: datetime, failure: Failure | None, *, still_busy: bool
) -> None:
    """Show how it went. That a revision fails is told of the route to it, never of the configuration."""
    service.conditions = [_outcome("RoutesReady", at, failure), _outcome("ConfigurationsReady", at, None)]
    service.reconciling = still_busy
    if not still_busy:
        service.terminal_condition = _outcome("Ready", at, failure)


def _outcome(kind: str, at: datetime, failure: Failure | None) -> run_v2.Condition:
    state = State.CONDITION_FAILED if failure else State.CONDITION_SUCCEEDED
    return catalog.condition(kind, state, at, failure)
