"""One pass over all services that have a rollout on record: whoever drove it may be gone."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from controller.core.decision import needs_evidence
from controller.core.evidence import floor_minute
from controller.core.observation import ServiceState
from controller.core.record import ANNOTATION
from controller.core.rollout import Rollout
from controller.engine.evidence import HISTORY, EvidenceCache
from controller.engine.harm_trail import log_harm
from controller.engine.health import HealthMemory, ServiceHealth, asked_since, check_health, is_watched
from controller.engine.outside import Outside
from controller.engine.patience import AT_FIRST, until_it_works
from controller.engine.probe_log import AskedProbes
from controller.engine.reconcile import Memory, Pass, look, read_rollout, reconcile, reconcile_service
from controller.engine.shared_metrics import HealthMetrics, SharedMetrics, needs_more
from controller.ports import CanaryError, ConflictError, NotFoundError, RecordUnreadableError

log = structlog.get_logger()

FRESH = timedelta(seconds=10)
"""How long a list of services says how they are; a decision on an older one would take what has become of a
split since for one that is not taken over."""

TOGETHER = timedelta(hours=3)
"""How far back the metrics of several rollouts are read in one call."""


@dataclass(frozen=True)
class Checked:
    """What the pass saw and did of one service, or the error that it ended with.

    Without either the service was deleted in the meantime. `health` is there where the service is at rest,
    its policy asks for it, and one revision serves all users.
    """

    service: str
    seen: Pass | None = None
    error: Exception | None = None
    health: ServiceHealth | None = None


@dataclass
class ServiceMemory:
    """What a controller keeps of one service from sweep to sweep."""

    rollout: Memory = field(default_factory=Memory)
    health: HealthMemory = field(default_factory=HealthMemory)


class Memories:
    """What a controller keeps of all services from sweep to sweep; of none that is gone."""

    def __init__(self, *, lasting: bool = True) -> None:
        """Keep it for sweeps to come; a single one, for which nothing lasts, reads no request log."""
        self._of: dict[str, ServiceMemory] = {}
        self._lasting = lasting
        self.harm: Collection[str] = ()
        """The entries of harm that are in the audit log, as far as is known."""
        self.asked = AskedProbes()

    def turn_to(self, services: Iterable[str]) -> None:
        """Forget all other services."""
        self._of = {name: self.of(name) for name in services}

    def of(self, service: str) -> ServiceMemory:
        """Return what is kept of a service."""
        return self._of.get(service) or self.new()

    def new(self) -> ServiceMemory:
        """Return what is known of a service at first."""
        return ServiceMemory(Memory(EvidenceCache(reads_log=self._lasting)))


def sweep(outside: Outside, on_checked: Callable[[Checked], None], memories: Memories | None = None) -> None:
    """Pass once over each service with a record; one that fails never keeps the others from theirs.

    Services at rest cost no call of their own, and their metrics are read together.
    """
    listed = until_it_works(outside, AT_FIRST, outside.cloud_run.list_services)
    listed_at = outside.clock.now()
    services = [service for service in listed if ANNOTATION in service.annotations]
    memories = memories or Memories(lasting=False)
    memories.turn_to(service.name for service in services)
    rollouts = {service.name: rollout for service in services if (rollout := _readable(service))}
    one = _Sweep(
        replace(outside, metrics=SharedMetrics(outside.metrics, _since(rollouts, memories, listed_at))),
        HealthMetrics(
            outside.metrics, [each.policy for each in rollouts.values() if is_watched(each)], listed_at
        ),
        memories,
    )
    if since := asked_since(rollouts.values(), listed_at):
        memories.asked.recall(outside, since)
    found = []
    for service in sorted(services, key=lambda each: _is_at_rest(rollouts.get(each.name))):
        rollout = rollouts.get(service.name)
        # Nothing is decided of one that is over, so however old the list is, it need not be read anew.
        is_fresh = _is_at_rest(rollout) or outside.clock.now() - listed_at < FRESH
        checked = one.checked(service, is_fresh=is_fresh)
        if rollout and checked.health:
            found.append((rollout, checked.health))
        on_checked(checked)
    memories.asked.keep(outside)
    memories.harm = log_harm(outside, found, memories.harm)


def _is_at_rest(rollout: Rollout | None) -> bool:
    """Tell whether nothing is under way: those can wait for the others."""
    return rollout is not None and rollout.is_over


def _readable(service: ServiceState) -> Rollout | None:
    try:
        return read_rollout(service)
    except RecordUnreadableError:  # its own pass says so
        return None


def _since(rollouts: Mapping[str, Rollout], memories: Memories, now: datetime) -> dict[str, datetime]:
    """Return from when on the plain metrics of each service under way will be asked for."""
    wanted = {
        name: _known_until(rollout, memories.of(name).rollout)
        or floor_minute(rollout.windows[0].start) - HISTORY
        for name, rollout in rollouts.items()
        if needs_evidence(rollout) and not needs_more(rollout.policy.guards)
    }
    # One that has lasted for long must not make all others read as far back.
    return {name: since for name, since in wanted.items() if now - since <= TOGETHER}


def _known_until(rollout: Rollout, memory: Memory) -> datetime | None:
    return memory.evidence.until if memory.evidence.rollout == rollout.id else None


@dataclass(frozen=True)
class _Sweep:
    """What all services of one sweep have in common."""

    outside: Outside
    health: HealthMetrics
    memories: Memories

    def checked(self, service: ServiceState, *, is_fresh: bool) -> Checked:
        memory = self.memories.of(service.name)
        try:
            seen = _passed(self.outside, service, memory.rollout, is_fresh=is_fresh)
            if seen.was_over and not seen.unlogged:
                memory.rollout = self.memories.new().rollout  # nothing of it is needed any more
            return Checked(service.name, seen, health=self._health(seen, memory.health))
        except NotFoundError:
            return Checked(service.name)
        except CanaryError as error:
            log.warning("a service could not be passed", service=service.name, error=str(error))
            return Checked(service.name, error=error)
        except Exception as error:
            log.exception("unexpected", service=service.name)
            return Checked(service.name, error=error)

    def _health(self, seen: Pass, memory: HealthMemory) -> ServiceHealth | None:
        if seen.rollout is None or not seen.was_over:
            return None
        return check_health(
            self.outside, seen.service, seen.rollout, self.health, memory, self.memories.asked
        )


def _passed(outside: Outside, service: ServiceState, memory: Memory, *, is_fresh: bool) -> Pass:
    try:
        if is_fresh:
            seen = reconcile_service(outside, service, memory)
        else:
            seen = reconcile(outside, service.name, memory)
    except ConflictError:  # it was changed since it was listed
        seen = _passed_again(outside, service.name, memory)
    if seen.unlogged and seen.rollout and seen.rollout.is_over:
        _passed_again(outside, service.name, memory)  # what is in the audit log now leaves the service
    return seen


def _passed_again(outside: Outside, service: str, memory: Memory) -> Pass:
    try:
        return reconcile(outside, service, memory)
    except ConflictError:  # somebody else drives it: say what has become of it
        return look(outside, service)
