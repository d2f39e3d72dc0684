"""The health of the revision that serves all users: judged by limits, by its own past and by probes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from controller.core.counts import Counts, EvidenceInvalid
from controller.core.detector import Detector, likely_onset, upper_bound
from controller.core.evidence import MINUTE, Minute, Sample
from controller.core.policy_guards import ErrorGuard
from controller.core.policy_health import Health
from controller.core.units import duration_text
from controller.core.wording import counted, percent_text

TOLERANCE = ErrorGuard().tolerance
"""How much more errors than usual are no harm: as much as a candidate may have beside stable."""


FAILED = "failed"
HEALTH_CHECK = "health check"
"""Who sends users back for harm while no rollout is under way, beside the people who do."""


class HealthValue(StrEnum):
    """What can be said of a revision that serves."""

    GOOD = "good"
    HARMFUL = "harmful"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class HealthVerdict:
    """What was found, why in one sentence with its numbers, and what it rests on."""

    value: HealthValue
    reason: str
    limit: float | None = None
    """The share of errors that was taken for the most that is no harm; None where there was none."""
    minutes: int = 0
    """The minutes with requests."""
    unread: bool = False
    """Whether it is unknown because the metrics cannot be read."""


@dataclass(frozen=True)
class _Limit:
    """A limit on the share of requests that are bad, in words and as a number."""

    words: str
    share: float
    measure: Callable[[Sample], Counts] = field(compare=False)
    did: str


def unreadable(why: str) -> HealthVerdict:
    """Return what is said where the metrics cannot be read."""
    return HealthVerdict(HealthValue.UNKNOWN, f"the metrics cannot be read: {why}", unread=True)


def judge_health(
    health: Health, past: Sample, minutes: Sequence[Minute], complaints: Sequence[str] | None = None
) -> HealthVerdict:
    """Judge a revision by the minutes of its window, by the time before that, and by its probes.

    `complaints` are those of the probes; None where no probe was asked.
    """
    samples = [minute.sample for minute in minutes if minute.sample.requests]
    limits = list(_limits(health, past))
    share = next((limit.share for limit in limits if limit.did == FAILED), None)

    def verdict(value: HealthValue, reason: str) -> HealthVerdict:
        return HealthVerdict(value, reason, share, len(samples))

    if complaints:
        return verdict(HealthValue.HARMFUL, "; ".join(complaints))
    try:
        broken = [text for limit in limits if (text := _broken(limit, samples, health, len(limits)))]
    except EvidenceInvalid as invalid:
        return unreadable(str(invalid))
    if broken:
        return verdict(HealthValue.HARMFUL, "; ".join(broken))
    answered = "" if complaints is None else "the probes were answered well"
    if not samples:
        nothing = f"no request in {duration_text(health.window)}"
        if answered:
            return verdict(HealthValue.GOOD, f"{nothing}; {answered}")
        return verdict(HealthValue.UNKNOWN, f"{nothing}; nothing can be said")
    minutes_asked = health.window // MINUTE
    beyond = [limit for limit in limits if _total(limit, samples).share > limit.share]
    said = [
        f"{_numbers(limit, samples, minutes_asked)}, "
        + (f"above {limit.words}: not enough for an alarm" if limit in beyond else f"within {limit.words}")
        for limit in limits
    ]
    return verdict(
        HealthValue.UNKNOWN if beyond else HealthValue.GOOD,
        "; ".join([*said, *filter(None, [answered])]) or "nothing is asked of it",
    )


def _limits(health: Health, past: Sample) -> Iterator[_Limit]:
    """Yield the limits: one on errors, the lower of the ceiling and of what is usual, and the ceilings."""

    def errors(sample: Sample) -> Counts:
        return Counts(sample.having(health.codes), sample.requests)

    usual = errors(past)
    tolerated = TOLERANCE.factor * upper_bound(usual) + TOLERANCE.points
    ceiling = 1.0 if health.errors is None else health.errors
    if min(tolerated, ceiling) < 1:
        words = f"the ceiling of {percent_text(ceiling)}"
        if tolerated < ceiling:
            words = (
                f"{percent_text(tolerated)} ({percent_text(usual.share)} of"
                f" {counted(usual.total, 'request')} was usual in the {duration_text(health.past)} before)"
            )
        yield _Limit(words, min(tolerated, ceiling), errors, FAILED)
    for percentile, most in health.latency.items():
        share = 1 - float(percentile.removeprefix("p")) / 100
        words = f"the {percent_text(share)} that a {percentile} of {duration_text(most)} leaves"
        slow = f"took {duration_text(most)} or more"
        yield _Limit(words, share, _beyond(most.total_seconds() * 1000), slow)


def _beyond(most: float) -> Callable[[Sample], Counts]:
    def measure(sample: Sample) -> Counts:
        found = sample.latencies
        return Counts(found.from_edge(most), found.total) if found else Counts()

    return measure


def _broken(limit: _Limit, samples: Sequence[Sample], health: Health, limits: int) -> str:
    """Return in words that a limit is broken, or nothing; all limits share the false alarms."""
    counts = [limit.measure(sample) for sample in samples]
    threshold = limits * (health.false_alarm / MINUTE)
    detector = Detector(limit.share, threshold, health.window // MINUTE).after_all(counts)
    if not detector.alarms:
        return ""
    onset = likely_onset(counts, limit.share)
    return f"{_numbers(limit, samples[-onset:], onset)}, above {limit.words}"


def _total(limit: _Limit, samples: Sequence[Sample]) -> Counts:
    counts = [limit.measure(sample) for sample in samples]
    return Counts(sum(each.bad for each in counts), sum(each.total for each in counts))


def _numbers(limit: _Limit, samples: Sequence[Sample], minutes: int) -> str:
    both = _total(limit, samples)
    requests = counted(both.total, "request")
    return f"{percent_text(both.share)} of {requests} in {counted(minutes, 'minute')} {limit.did}"
