"""Evidence: what the users of both revisions met, minute by minute, as counts and latency histograms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from controller.core.counts import Counts, EvidenceInvalid, Histogram

MINUTE = timedelta(minutes=1)


class Source(StrEnum):
    """Where evidence comes from; each comes in ticks of its own."""

    METRICS = "metrics"
    """What Cloud Monitoring counts, minute by minute."""
    LOGS = "logs"
    """What Cloud Logging says of single requests, in blocks of some seconds."""
    PROBES = "probes"
    """What the answers to our own requests were, pair by pair."""


BLOCK = timedelta(seconds=5)
"""A tick of the logs."""


Measure = Counts | Histogram
"""What a metric says: so many bad of so many, or a distribution."""


@dataclass(frozen=True)
class Sample:
    """What one revision answered in a time: requests by HTTP status code, and their latencies if known.

    `custom` is what the policy's own guards are about, by their names. `startups` is how long instances took
    to start, `refused` how many more requests the platform turned away for want of an instance, `waited` in
    how many of the minutes requests waited for one, and `instances` how many there were at most.
    """

    codes: Mapping[str, int] = field(default_factory=dict)
    latencies: Histogram | None = None
    custom: Mapping[str, Measure] = field(default_factory=dict)
    startups: Histogram | None = None
    refused: int = 0
    waited: Counts | None = None
    instances: int = 0

    def __post_init__(self) -> None:
        if not all(0 <= count < math.inf for count in self.codes.values()):  # NaN fails this, too
            raise EvidenceInvalid("a count of requests is none")

    @property
    def requests(self) -> int:
        """The number of requests."""
        return sum(self.codes.values())

    def having(self, patterns: Iterable[str]) -> int:
        """Return how many requests had a code like one of `patterns`: `503`, or a class such as `5xx`."""
        wanted = tuple(pattern.removesuffix("xx") for pattern in patterns)
        return sum(count for code, count in self.codes.items() if code.startswith(wanted))

    def __add__(self, other: "Sample") -> "Sample":
        codes = dict(self.codes)
        for code, count in other.codes.items():
            codes[code] = codes.get(code, 0) + count
        return Sample(
            codes,
            _added(self.latencies, other.latencies),
            _joined(self.custom, other.custom),
            _added(self.startups, other.startups),
            self.refused + other.refused,
            self.waited + other.waited if self.waited and other.waited else self.waited or other.waited,
            max(self.instances, other.instances),
        )


def _added(one: Histogram | None, other: Histogram | None) -> Histogram | None:
    return one if other is None else other if one is None else one + other


def _joined(one: Mapping[str, Measure], other: Mapping[str, Measure]) -> dict[str, Measure]:
    return dict(one) | {name: _sum(one[name], each) if name in one else each for name, each in other.items()}


def _sum(one: Measure, other: Measure) -> Measure:
    if isinstance(one, Counts) and isinstance(other, Counts):
        return one + other
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        return one + other
    raise EvidenceInvalid("a metric is a share at one time and a distribution at another")


@dataclass(frozen=True)
class Minute:
    """One revision's sample of the minute that ends at `end`."""

    end: datetime
    sample: Sample


@dataclass(frozen=True)
class Tick:
    """One minute in which both revisions were seen side by side."""

    end: datetime
    stable: Sample
    candidate: Sample


@dataclass(frozen=True)
class Window:
    """The time in which the candidate had `percent` of the users, for certain; still open without an end."""

    percent: int
    start: datetime
    end: datetime | None = None


@dataclass(frozen=True)
class Stage:
    """The final minutes of one window that are to be weighed, oldest first."""

    percent: int
    ticks: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What is to be weighed: a stage for each window of a rollout, or why nothing could be read.

    `history` is what stable answered in the minutes just before the rollout, oldest first. `problems` says
    by name which guards could not be read, or not in each minute.
    """

    stages: tuple[Stage, ...] = ()
    problem: str = ""
    history: tuple[Sample, ...] = ()
    source: Source = Source.METRICS
    problems: Mapping[str, str] = field(default_factory=dict)


KEPT = timedelta(weeks=6)
"""For how long Cloud Monitoring keeps the metrics of Cloud Run; a record may name any time."""


def final_until(now: datetime, delay: timedelta) -> datetime:
    """Return the end of the newest minute that is `delay` old, so that nothing more is added to it."""
    return floor_minute(now - delay)


def floor_minute(moment: datetime) -> datetime:
    """Return the whole minute that the moment lies in."""
    return moment.replace(second=0, microsecond=0)


def full_minutes(window: Window, until: datetime, since: datetime | None = None) -> list[datetime]:
    """Return the ends of the whole minutes inside the window, after `since` and up to `until`."""
    first, last = _bounds(window, until)
    begin = first if since is None else max(first, since)
    return [begin + number * MINUTE for number in range(1, (last - begin) // MINUTE + 1)]


def minutes_of(window: Window, until: datetime) -> int:
    """Return the number of whole minutes inside the window, up to `until`."""
    first, last = _bounds(window, until)
    return max(0, (last - first) // MINUTE)


def _bounds(window: Window, until: datetime) -> tuple[datetime, datetime]:
    """Return the beginning of the first whole minute inside the window, and where the window ends by now."""
    start = max(window.start, until - KEPT)
    first = floor_minute(start)
    last = until if window.end is None else min(until, window.end)
    return (first if first == start else first + MINUTE), last


def arrange_evidence(
    windows: Sequence[Window],
    stable: Iterable[Minute],
    candidate: Iterable[Minute],
    until: datetime,
    since: datetime | None = None,
) -> Evidence:
    """Cut what was measured into stages: whole minutes inside a window, after `since` and up to `until`.

    A minute that a revision does not report counts as one without requests. What stable reports of the time
    before the first window is its history.
    """
    stable = tuple(stable)
    ours, theirs = ({minute.end: minute.sample for minute in minutes} for minutes in (stable, candidate))
    nothing = Sample()
    stages = tuple(
        Stage(
            window.percent,
            tuple(
                Tick(end, ours.get(end, nothing), theirs.get(end, nothing))
                for end in full_minutes(window, until, since)
            ),
        )
        for window in windows
    )
    begun = windows[0].start if windows else until
    return Evidence(stages, history=tuple(minute.sample for minute in stable if minute.end <= begun))
