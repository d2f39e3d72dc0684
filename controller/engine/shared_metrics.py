"""Metrics that many services share: read for all of them together, when the first of them asks."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar, cast

from controller.core.evidence import Minute, Sample, final_until
from controller.core.policy import Policy
from controller.core.policy_guards import Guards
from controller.core.policy_health import Health
from controller.ports import PLAIN, CanaryError, Metrics, Minutes, PermanentError, ServiceMinutes

MOST_TOGETHER = 50
"""Services that one reading is asked for by name: a filter must not become too long."""

T = TypeVar("T")


@dataclass
class _Kept:
    """What was read, or the error instead, so that nobody waits for the same failure twice."""

    known: dict[Hashable, object] = field(default_factory=dict)

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        if key not in self.known:
            try:
                self.known[key] = read()
            except CanaryError as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, CanaryError):
            raise found
        return cast("T", found)


class SharedMetrics(Metrics):
    """The metrics of rollouts that are under way at the same time.

    `since` says from when on each of their services will be asked for. What is asked for beyond that, or of
    other metrics, is read for its service alone.
    """

    def __init__(self, inner: Metrics, since: Mapping[str, datetime]) -> None:
        self._inner = inner
        self._since = since
        self._together = _in_parts(sorted(since)) if len(since) > 1 else {}
        self._kept = _Kept()

    def read_minutes(
        self,
        service: str,
        revisions: Sequence[str],
        start: datetime,
        end: datetime,
        guards: Guards = PLAIN,
    ) -> Minutes:
        """Return each revision's minutes that end after `start` and not after `end`, both whole minutes."""
        together = self._together.get(service)
        if needs_more(guards) or not together or start < self._since[service]:
            return self._inner.read_minutes(service, revisions, start, end, guards)
        first = min(self._since[each] for each in together)
        # Read anew where the clock has gone on, so that each minute was final when it was read.
        read = self._kept.get((together, end), lambda: self._inner.read_services(first, end, together))
        _raise_for(read, service)
        return Minutes({name: _between(read, service, name, start, end) for name in revisions})

    def read_services(
        self, start: datetime, end: datetime, services: Sequence[str] = (), *, latencies: bool = True
    ) -> ServiceMinutes:
        """Return the minutes of all services, or of some, with as few calls as of one."""
        return self._inner.read_services(start, end, services, latencies=latencies)

    def read_totals(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], Sample]:
        """Return the responses of all services in that time, by service and revision."""
        return self._inner.read_totals(start, end)


def needs_more(guards: Guards) -> bool:
    """Tell whether guards rest on more than requests and latencies, which alone are read together."""
    return bool(guards.custom or guards.startup or guards.capacity)


def _in_parts(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each name, those that it is read together with."""
    parts = [tuple(names[first : first + MOST_TOGETHER]) for first in range(0, len(names), MOST_TOGETHER)]
    return {name: part for part in parts for name in part}


class HealthMetrics:
    """The latest minutes of all services at rest, and what was usual before: as many calls as of one.

    `policies` are those by which they will be judged, `now` is the moment for all of them.
    """

    def __init__(self, metrics: Metrics, policies: Sequence[Policy], now: datetime) -> None:
        self._metrics = metrics
        self._now = now
        spans = [_span(policy, policy.health, now) for policy in policies if policy.health]
        self._start = min((start for start, _ in spans), default=now)
        self._end = max((end for _, end in spans), default=now)
        self._latencies = any(policy.health.latency for policy in policies if policy.health)
        self._kept = _Kept()

    def of(
        self, service: str, revision: str, policy: Policy, health: Health
    ) -> tuple[Sample, Sequence[Minute]]:
        """Return what was before the window of a revision, and the minutes in it; raises CanaryError."""
        start, end = _span(policy, health, self._now)
        before = start - health.past
        read = self._kept.get(
            "minutes",
            lambda: self._metrics.read_services(self._start, self._end, latencies=self._latencies),
        )
        _raise_for(read, service)
        totals = self._kept.get((before, start), lambda: self._metrics.read_totals(before, start))
        return totals.get((service, revision), Sample()), _between(read, service, revision, start, end)


def _span(policy: Policy, health: Health, now: datetime) -> tuple[datetime, datetime]:
    end = final_until(now, policy.metrics_delay)
    return end - health.window, end


def _raise_for(read: ServiceMinutes, service: str) -> None:
    if problem := read.problems.get(service):
        raise PermanentError(problem)


def _between(
    read: ServiceMinutes, service: str, revision: str, start: datetime, end: datetime
) -> list[Minute]:
    return [minute for minute in read.of.get((service, revision), ()) if start < minute.end <= end]
