"""The evidence of a rollout, read from the metrics and weighed as it comes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.counts import EvidenceInvalid
from controller.core.evidence import (
    MINUTE,
    Evidence,
    Minute,
    Sample,
    arrange_evidence,
    final_until,
    floor_minute,
)
from controller.core.observation import ServiceState
from controller.core.probe_evidence import Asked, without_probes
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.engine.probing import ProbeCache, assess_probes, recall_probes
from controller.engine.request_log import COMPARED, LogCache, assess_log
from controller.ports import CanaryError, Metrics, Minutes

log = structlog.get_logger()

UNTOLD = "it is not known yet which of the requests were our probes"
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
    counted: dict[datetime, int] = field(default_factory=dict)
    """What the metrics count of both revisions together, our probes too, by the end of each minute."""
    log: LogCache = field(default_factory=LogCache)
    probes: ProbeCache = field(default_factory=ProbeCache)
    asked: dict[str, list[Asked]] = field(default_factory=dict)
    """Of each revision, the probes that are not taken off the metrics yet."""
    reads_log: bool = True
    """Whether the request log is read; who looks now and then does not: each time would be a new test."""

    def turn_to(self, rollout: Rollout) -> None:
        """Forget what is of another rollout, or of other windows: two controllers' clocks may differ."""
        if self.rollout == rollout.id and self._fits(rollout):
            return
        if self.rollout != rollout.id:
            self.log = LogCache()
        self.rollout, self.until, self.assessment, self.counted = rollout.id, None, None, {}
        # The metrics are read anew, and so is what is to be taken off them.
        self.asked, self.probes = {}, ProbeCache()

    def _fits(self, rollout: Rollout) -> bool:
        if self.until is None or self.assessment is None or self.assessment.problem:
            return True
        return self.assessment.is_of(rollout.windows, self.until)


def weigh(
    outside: Outside,
    service: ServiceState,
    rollout: Rollout,
    cache: EvidenceCache,
    now: datetime,
    *,
    asks: bool = True,
) -> tuple[Assessment, tuple[Assessment, ...]]:
    """Return what the metrics say, and what else there is: the request log, and the answers to probes.

    Probes that are due are asked last, where it `asks`, and only as long as there is something to find out.
    """
    cache.turn_to(rollout)
    until = final_until(now, rollout.policy.metrics_delay)
    if recall_probes(outside, rollout, cache.probes, until, now):
        metrics = assess_rollout(outside.metrics, rollout, cache, now)
    else:
        metrics = cache.assessment or assess(rollout.policy, Evidence(problem=UNTOLD))
    logged = assess_log(outside, rollout, cache.log, now, cache.counted) if cache.reads_log else None
    is_shown = any(each and each.harmed is not None for each in (metrics, logged))
    probes = assess_probes(outside, service, rollout, cache.probes, now, asks=asks and not is_shown)
    return metrics, tuple(each for each in (logged, probes) if each)


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
    _count(cache, read, until)
    stable, candidate = _users(rollout, cache, read)
    evidence = arrange_evidence(rollout.windows, stable, candidate, until, since)
    if until > since:
        evidence = replace(evidence, problems=read.problems)
    elif cache.assessment:
        evidence = replace(evidence, problems=cache.assessment.problems)
    cache.assessment, cache.until = assess(rollout.policy, evidence, cache.assessment), until
    return cache.assessment


def _count(cache: EvidenceCache, read: Minutes, until: datetime) -> None:
    for minutes in read.of.values():
        for minute in minutes:
            cache.counted[minute.end] = cache.counted.get(minute.end, 0) + minute.sample.requests
    for end in [end for end in cache.counted if end < until - COMPARED]:
        del cache.counted[end]


def _users(
    rollout: Rollout, cache: EvidenceCache, read: Minutes
) -> tuple[Sequence[Minute], Sequence[Minute]]:
    """Return the minutes of stable and of the candidate, without our own probes."""
    for pair in cache.probes.fresh:
        cache.asked.setdefault(rollout.candidate, []).append((pair.moment, pair.candidate))
        if pair.stable:
            cache.asked.setdefault(rollout.stable, []).append((pair.moment, pair.stable))
    cache.probes.fresh = []
    users: dict[str, Sequence[Minute]] = {}
    for revision, minutes in read.of.items():
        known = [_blank(minute) if _is_untold(minute, rollout, cache) else minute for minute in minutes]
        users[revision], cache.asked[revision] = without_probes(known, cache.asked.get(revision, ()))
    return users.get(rollout.stable, ()), users.get(rollout.candidate, ())


def _is_untold(minute: Minute, rollout: Rollout, cache: EvidenceCache) -> bool:
    """Tell whether too much was asked since for anybody to know who the users of this minute were."""
    begun = cache.probes.begun
    return begun is not None and rollout.windows[0].start < minute.end <= begun + MINUTE


def _blank(minute: Minute) -> Minute:
    return replace(minute, sample=Sample())


def _read_minutes(metrics: Metrics, rollout: Rollout, since: datetime, until: datetime) -> Minutes:
    """Return the minutes of stable and of the candidate that have become final since then."""
    if until <= since:
        return Minutes({})
    pair = [revision for revision in (rollout.stable, rollout.candidate) if revision]
    return metrics.read_minutes(rollout.service, pair, since, until, rollout.policy.guards)
