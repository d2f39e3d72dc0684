"""The evidence of a rollout, read from the metrics and kept from pass to pass."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.counts import EvidenceInvalid
from controller.core.evidence import (
    MINUTE,
    Evidence,
    Minute,
    Window,
    arrange_evidence,
    final_until,
    floor_minute,
)
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.ports import CanaryError, Metrics

log = structlog.get_logger()

HISTORY = timedelta(minutes=30)
"""How much of stable's past is read, for better bets on the first minutes."""


@dataclass
class EvidenceCache:
    """What a controller keeps of a rollout from pass to pass: final minutes, and how they were assessed.

    They never change, so a new minute costs one minute. Without it all is read and assessed again, with the
    same result.
    """

    rollout: str = ""
    until: datetime | None = None
    stable: list[Minute] = field(default_factory=list)
    candidate: list[Minute] = field(default_factory=list)
    windows: tuple[Window, ...] = ()
    assessment: Assessment | None = None

    def turn_to(self, rollout: Rollout) -> None:
        """Forget what is of another rollout."""
        if self.rollout != rollout.id:
            self.rollout, self.until, self.windows, self.assessment = rollout.id, None, (), None
            self.stable, self.candidate = [], []


def assess_rollout(outside: Outside, rollout: Rollout, cache: EvidenceCache) -> Assessment:
    """Return the assessment of all windows of the rollout, up to the newest minute that is final."""
    cache.turn_to(rollout)
    until = final_until(outside.clock.now(), rollout.policy.metrics_delay)
    if cache.until is not None and until <= cache.until:
        until = cache.until
        if cache.assessment and cache.windows == rollout.windows:
            return cache.assessment
    try:
        _read_minutes(outside.metrics, rollout, cache, until)
    except (CanaryError, EvidenceInvalid) as error:
        log.warning("metrics unreadable", service=rollout.service, error=str(error))
        return assess(rollout.policy, Evidence(problem=str(error)))
    evidence = arrange_evidence(rollout.windows, cache.stable, cache.candidate, until)
    cache.assessment = assess(rollout.policy, evidence, cache.assessment)
    cache.windows = rollout.windows
    return cache.assessment


def _read_minutes(metrics: Metrics, rollout: Rollout, cache: EvidenceCache, until: datetime) -> None:
    """Read the minutes that have become final since the last time."""
    begun = floor_minute(rollout.windows[0].start)
    start = begun - HISTORY if cache.until is None else cache.until
    if until < begun + MINUTE or until <= start:
        return
    pair: Sequence[str] = (rollout.stable, rollout.candidate)
    custom = rollout.policy.guards.custom
    minutes = metrics.read_minutes(rollout.service, pair, start, until, custom=custom)
    cache.stable.extend(minutes.get(rollout.stable, ()))
    cache.candidate.extend(minutes.get(rollout.candidate, ()))
    cache.until = until
