"""The evidence of a rollout, read from the metrics and weighed as it comes."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.counts import EvidenceInvalid
from controller.core.evidence import MINUTE, Evidence, arrange_evidence, final_until, floor_minute
from controller.core.rollout import Rollout
from controller.ports import CanaryError, Metrics, Minutes

log = structlog.get_logger()

HISTORY = timedelta(minutes=30)
"""How much of stable's past is read, for better bets on the first minutes."""


@dataclass
class EvidenceCache:
    """What a controller keeps of a rollout from pass to pass: its assessment, of all minutes up to `until`.

    Final minutes never change, so a new minute costs one minute, and none is kept. Without it all is read and
    assessed again, with the same result.
    """

    rollout: str = ""
    until: datetime | None = None
    assessment: Assessment | None = None

    def turn_to(self, rollout: Rollout) -> None:
        """Forget what is of another rollout, or of other windows: two controllers' clocks may differ."""
        if self.rollout != rollout.id or not self._fits(rollout):
            self.rollout, self.until, self.assessment = rollout.id, None, None

    def _fits(self, rollout: Rollout) -> bool:
        if self.until is None or self.assessment is None or self.assessment.problem:
            return True
        return self.assessment.is_of(rollout.windows, self.until)


def assess_rollout(metrics: Metrics, rollout: Rollout, cache: EvidenceCache, now: datetime) -> Assessment:
    """Return the assessment of all windows of the rollout, up to the newest minute that is final now."""
    cache.turn_to(rollout)
    begun = floor_minute(rollout.windows[0].start)
    since = cache.until or begun - HISTORY
    until = max(since, final_until(now, rollout.policy.metrics_delay))
    if until < begun + MINUTE:
        return assess(rollout.policy, arrange_evidence(rollout.windows, (), (), until))
    try:
        read = _read_minutes(metrics, rollout, since, until)
    except (CanaryError, EvidenceInvalid) as error:
        log.warning("metrics unreadable", service=rollout.service, error=str(error))
        return assess(rollout.policy, Evidence(problem=str(error)))
    stable, candidate = read.of.get(rollout.stable, ()), read.of.get(rollout.candidate, ())
    evidence = arrange_evidence(rollout.windows, stable, candidate, until, since)
    if until > since:
        evidence = replace(evidence, problems=read.problems)
    elif cache.assessment:
        evidence = replace(evidence, problems=cache.assessment.problems)
    cache.assessment, cache.until = assess(rollout.policy, evidence, cache.assessment), until
    return cache.assessment


def _read_minutes(metrics: Metrics, rollout: Rollout, since: datetime, until: datetime) -> Minutes:
    """Return the minutes of stable and of the candidate that have become final since then."""
    if until <= since:
        return Minutes({})
    pair = [revision for revision in (rollout.stable, rollout.candidate) if revision]
    return metrics.read_minutes(rollout.service, pair, since, until, custom=rollout.policy.guards.custom)
