"""The request log of a rollout, read in small pieces and weighed as it comes: harm is seen in seconds."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.evidence import BLOCK, MINUTE, Evidence, Source, final_until, floor_minute
from controller.core.log_evidence import (
    Completeness,
    NewRequest,
    Reader,
    arrange_log,
    block_of,
    last_block,
    take_in,
)
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.ports import CanaryError, ThrottledError

log = structlog.get_logger()

AT_ONCE = 800
"""Entries that one reading should have, which is a single call; of more, only a share is asked for."""
HORIZON = timedelta(hours=2)
"""How far back a controller that begins reads the log; what is older is in the metrics."""
COMPARED = timedelta(hours=1)
"""How far back the log and the metrics are compared."""
BEFORE = timedelta(hours=6)
"""How far back they are compared at first, to know whether the log is whole before it decides anything."""
ENOUGH_BEFORE = 200
"""Requests that are compared at first; so many are a single call."""


@dataclass
class LogCache:
    """What a controller keeps of a rollout's request log from pass to pass."""

    reader: Reader | None = None
    begun: datetime | None = None
    """From when on the log is known without a gap."""
    assessment: Assessment | None = None
    share: float = 1.0
    most: float = 1.0
    """The share of which there were not too many."""
    logged: dict[datetime, float] = field(default_factory=dict)
    """Requests that reached an instance, by the end of their minute."""
    before: Completeness | None = None
    """Of stable's past; None before it was looked at."""
    said: Assessment | None = None
    """What was told last."""


def assess_log(
    outside: Outside, rollout: Rollout, cache: LogCache, now: datetime, counted: dict[datetime, int]
) -> Assessment | None:
    """Return the assessment of the request log up to the newest block that is all there.

    `counted` is what the metrics count, by the end of each minute. A log that cannot be read, or is not
    whole, is no evidence: the assessment says so, and the metrics decide alone. None before there is any, and
    as long as nobody knows whether it is whole: one without the good requests shows nothing but failures.
    """
    policy = rollout.policy
    if policy.request_logs is None:
        return None
    begun = block_of(max(rollout.windows[0].start, now - HORIZON)) - BLOCK
    reader = cache.reader or Reader(begun)
    until = last_block(now, policy.request_logs.delay)
    if until <= reader.until:
        return cache.said
    try:
        if cache.before is None:
            cache.before = _completeness_before(outside, rollout, now)
        new = _read_on(outside, rollout, cache, reader, until, counted, begun)
    except ThrottledError:
        return cache.said  # a little later will do
    except CanaryError as error:
        log.warning("request log unreadable", service=rollout.service, error=str(error))
        return assess(policy, Evidence(problem=str(error), source=Source.LOGS))
    if new is None:
        return cache.said
    evidence = arrange_log(rollout.windows, rollout.stable, rollout.candidate, new, reader.until, until)
    cache.assessment = assess(policy, evidence, cache.assessment)
    cache.said = _told(rollout, cache, cache.before, _completeness(cache, until, counted))
    return cache.said


def _read_on(
    outside: Outside,
    rollout: Rollout,
    cache: LogCache,
    reader: Reader,
    until: datetime,
    counted: dict[datetime, int],
    begun: datetime,
) -> tuple[NewRequest, ...] | None:
    """Return what is new up to `until`, and go on from there; None where it was too much."""
    share = _share(cache, counted, until - reader.since())
    if share != cache.share:  # what was not in the other share must not be taken for late
        cache.share, reader = share, replace(reader, seen={})
        since = reader.until
    else:
        since = max(reader.since(), cache.begun or begun)
    pair = [revision for revision in (rollout.stable, rollout.candidate) if revision]
    read = outside.request_logs.read_requests(rollout.service, pair, since, until, share=cache.share)
    if read.cut:  # more than can be read at once: ask for less from now on
        cache.most = cache.share / 4
        log.info("request log too long, reading a part of it", service=rollout.service, share=cache.most)
        cache.reader, cache.begun = Reader(until, cold=reader.cold), until
        return None
    cache.begun = cache.begun or begun
    cache.reader, new = take_in(reader, read, until)
    for each in new:
        if each.request.instance:
            minute = floor_minute(each.request.received_at) + MINUTE
            cache.logged[minute] = cache.logged.get(minute, 0.0) + 1 / cache.share
    return new


def _told(
    rollout: Rollout, cache: LogCache, before: Completeness | None, since_then: Completeness
) -> Assessment | None:
    """Return what may be said of the log: nothing before it is known to be whole."""
    compared = [each for each in (since_then, before) if each and each.is_known]
    for each in compared:
        if problem := each.problem():
            return assess(rollout.policy, Evidence(problem=problem, source=Source.LOGS))
    return cache.assessment if compared else None


def _share(cache: LogCache, counted: dict[datetime, int], span: timedelta) -> float:
    """Return the share to ask for, a half of a half and so on, so that a reading is not too long."""
    if not counted:
        return min(cache.share, cache.most)
    newest = sorted(counted)[-5:]
    expected = sum(counted[minute] for minute in newest) / len(newest) * (span / MINUTE)
    share = 1.0
    while share * expected > AT_ONCE:
        share /= 2
    return min(share, cache.most)


def _completeness_before(outside: Outside, rollout: Rollout, now: datetime) -> Completeness | None:
    """Compare log and metrics in stable's latest minutes; None where they cannot be read now."""
    until = final_until(now, rollout.policy.metrics_delay)
    revision = rollout.stable or rollout.candidate
    try:
        read = outside.metrics.read_minutes(rollout.service, [revision], until - BEFORE, until)
        since, requests = until, 0
        for minute in reversed(read.of.get(revision, ())):
            since, requests = minute.end - MINUTE, requests + minute.sample.requests
            if requests >= ENOUGH_BEFORE:
                break
        if not requests:
            return Completeness()
        found = outside.request_logs.read_requests(rollout.service, [revision], since, until)
    except CanaryError as error:
        log.info("log and metrics cannot be compared yet", service=rollout.service, error=str(error))
        return None
    return Completeness(requests, sum(bool(each.instance) for each in found.requests))


def _completeness(cache: LogCache, until: datetime, counted: dict[datetime, int]) -> Completeness:
    """Compare log and metrics in the minutes that both know in whole."""
    oldest = max(cache.begun + MINUTE, until - COMPARED) if cache.begun else until
    for minute in [minute for minute in cache.logged if minute < oldest]:
        del cache.logged[minute]
    both = [minute for minute in counted if oldest + MINUTE <= minute <= until]
    return Completeness(
        sum(counted[minute] for minute in both), sum(cache.logged.get(minute, 0.0) for minute in both)
    )
