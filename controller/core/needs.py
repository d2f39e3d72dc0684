"""Needs: how many more requests and minutes it takes to be sure, at the present rate."""

import math
from dataclasses import dataclass
from typing import Any

from controller.core.counts import Counts, Histogram
from controller.core.evidence import Measure
from controller.core.limits import LatencyCeiling, Limit
from controller.core.sequential import Line, Safety, growth
from controller.core.sequential_histograms import Slower

SLOWEST = 1e-6
"""Evidence that grows by less than this, in nats a request, does not get anywhere."""


@dataclass(frozen=True)
class Need:
    """What is missing: requests to the candidate, and minutes; nothing is known where both are 0."""

    requests: int = 0
    minutes: int = 0


NO_NEED = Need()


def need_for_harm(limit: Limit[Any], stable: Measure, candidate: Measure, minutes: int) -> Need:
    """Return what is missing until harm is shown, if both revisions go on as in the minutes seen."""
    nats = limit.harm.needed - limit.log_harm
    need = _need(nats, _growth_of_harm(limit, stable, candidate), candidate.total, minutes)
    if not need.requests or not limit.harm.minutes:
        return need
    most_a_minute = limit.harm.needed / limit.harm.minutes
    return Need(need.requests, max(need.minutes, math.ceil(nats / most_a_minute)))


def need_for_safety(
    limit: Limit[Any], needed: float, stable: Measure, candidate: Measure, minutes: int
) -> Need:
    """Return what is missing until safety is shown, if both revisions go on as in the minutes seen."""
    needs = []
    for test in limit.safety:
        if test.log_evidence < needed:
            grows = _growth_of_safety(test, stable, candidate)
            needs.append(_need(needed - test.log_evidence, grows, candidate.total, minutes))
    if NO_NEED in needs:
        return NO_NEED
    return max(needs, key=lambda need: need.requests, default=NO_NEED)


def _need(nats: float, nats_a_request: float, requests: int, minutes: int) -> Need:
    if nats_a_request < SLOWEST or not requests:
        return NO_NEED
    more = math.ceil(nats / nats_a_request)
    return Need(more, math.ceil(more * minutes / requests))


def _growth_of_harm(limit: Limit[Any], stable: Measure, candidate: Measure) -> float:
    harm = limit.harm
    if isinstance(harm, Slower):
        return harm.log_evidence / candidate.total if candidate.total else 0.0
    share, rate = _smoothed(_bad(limit, candidate)), harm.stable.share
    if not harm.line.at(rate) < min(share, 1) or _is_missing(harm.line, stable):
        return 0.0
    return growth(harm.line, stable.total, candidate.total, rate, share)


def _growth_of_safety(test: Safety, stable: Measure, candidate: Measure) -> float:
    stable_share, share = test.shares()
    if not share < test.line.at(stable_share) < 1 or _is_missing(test.line, stable) or not candidate.total:
        return 0.0
    return growth(test.line, stable.total, candidate.total, stable_share, share)


def _is_missing(line: Line, stable: Measure) -> bool:
    """Tell whether the line needs a stable to compare with, and there is none."""
    return bool(line.factor) and not stable.total


def _bad(limit: Limit[Any], measured: Measure) -> Counts:
    if isinstance(measured, Histogram):
        beyond = measured.from_edge(limit.most) if isinstance(limit, LatencyCeiling) else 0
        return Counts(beyond, measured.total)
    return measured


def _smoothed(counts: Counts) -> float:
    """Return a share that is never quite 0 or 1."""
    return (counts.bad + 0.5) / (counts.total + 1)
