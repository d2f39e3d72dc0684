"""The words of verdicts: what was compared, how sure it is, and what is missing."""

import math
from typing import Any

from controller.core.assessment import Assessment
from controller.core.counts import Counts
from controller.core.evidence import BLOCK, Measure, Source
from controller.core.guards import AnyGuardTest
from controller.core.limits import Limit
from controller.core.needs import Need

SHOWN_PERCENTILES = (0.5, 0.95, 0.99)
EXACT = 100.0
"""Values from here on are written without digits after the point."""
A_MINUTE = 60
A_WEEK = 7 * 24 * 60
"""Minutes beyond these are not counted for people."""
LARGEST_ODDS = 9
"""Odds beyond a thousand million to one, in powers of ten, are not told apart: nobody believes them."""


_BAD = {
    "errors": "errors",
    "logged errors": "errors",
    "capacity": "refused",
    "room": "full",
    "probes": "failed",
}
_NOUNS = {"room": "minute", "startup": "start", "probes": "probe", "probe latency": "probe"}
_IN_MILLISECONDS = {"latency", "logged latency", "probe latency", "startup"}


def numbers_text(test: AnyGuardTest, assessment: Assessment) -> str:
    """Return both revisions' numbers in the stage that is judged, as the guard sees them."""
    span = span_text(assessment.source, assessment.minutes)
    if assessment.earlier_minutes:
        earlier = span_text(assessment.source, assessment.earlier_minutes, short=True)
        span += f" after {earlier} in earlier steps"
    noun = _NOUNS.get(test.name, "request")
    candidate = f"candidate {_measure_text(test, test.measure(assessment.candidate), noun)}"
    if assessment.alone:
        return f"{candidate}, {span}"
    return f"{candidate}, stable {_measure_text(test, test.measure(assessment.stable), '')}, {span}"


def span_text(source: Source, ticks: int, *, short: bool = False) -> str:
    """Return how much of a source was weighed: `over 12 minutes`, `over 40 seconds of the log`."""
    match source:
        case Source.METRICS:
            return f"{ticks:,}" if short else f"over {counted(ticks, 'minute')}"
        case Source.LOGS:
            seconds = round(ticks * BLOCK.total_seconds())
            time = counted(seconds, "second") if seconds < A_MINUTE else counted(seconds // 60, "minute")
            return time if short else f"over {time} of the log"
        case Source.PROBES:
            return f"{ticks:,}" if short else f"in {counted(ticks, 'pair')} of probes"


def _measure_text(test: AnyGuardTest, measure: Measure | None, noun: str) -> str:
    total = measure.total if measure else 0
    if measure is None or not total:
        return "nothing"
    number = counted(total, noun) if noun else f"{total:,}"
    if isinstance(measure, Counts):
        what = f"{_BAD.get(test.name, 'bad')} " if noun else ""
        return f"{percent_text(measure.share)} {what}of {number}"
    unit = " ms" if test.name in _IN_MILLISECONDS else ""
    shown = (
        f"p{share * 100:g} {_value_text(measure.percentile(share))}{unit}" for share in SHOWN_PERCENTILES
    )
    return f"{', '.join(shown)} of {number}"


def _value_text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= EXACT else f"{value:.3g}"


def percent_text(share: float) -> str:
    """Return a share as people read it: `2.1 %`, `0.04 %`, `100 %`."""
    percent = share * 100
    return f"{percent:.2g} %" if percent < 1 else f"{round(percent, 1):g} %"


def breach_text(limit: Limit[Any]) -> str:
    """Return what a candidate is that breaks the limit: `worse than the tolerated 1.25x`."""
    return f"{'above' if limit.is_ceiling else 'worse than'} {limit.words}"


def odds_text(log_evidence: float) -> str:
    """Return how rarely chance alone gives such evidence: `1 in 3,400 by chance`."""
    power = log_evidence / math.log(10)
    if power > LARGEST_ODDS:
        return "less than 1 in 1,000,000,000 by chance"
    odds = math.exp(log_evidence)
    digits = 10 ** max(0, math.floor(power) - 1)
    return f"1 in {math.floor(odds / digits) * digits:,} by chance"


def need_text(need: Need) -> str:
    """Return what is missing: `about 380 more requests to the candidate, 6 minutes at the present rate`."""
    if not need.requests:
        return "the numbers so far do not tell how many more requests that takes"
    requests = counted(_rounded(need.requests), "more request")
    minutes = "more than a week" if need.minutes > A_WEEK else counted(_rounded(need.minutes), "minute")
    return f"about {requests} to the candidate, {minutes} at the present rate"


def ruled_out_text(test: AnyGuardTest, needed: float) -> str:
    """Return which increase over stable is ruled out with so much evidence, or nothing."""
    return next(filter(None, (limit.ruled_out(needed) for limit in test.limits)), "")


def _rounded(number: int) -> int:
    """Return the number to two significant digits, rounded up."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit


def counted(number: int, noun: str) -> str:
    """Return `1 minute`, `2 minutes`, `1,940 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_sentence(reason: str) -> str:
    """Return a reason with a capital letter and an end."""
    text = reason[:1].upper() + reason[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
