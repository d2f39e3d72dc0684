"""Evidence: what the users of both revisions met, minute by minute, as counts and latency histograms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, pairwise

MINUTE = timedelta(minutes=1)


class EvidenceInvalid(Exception):
    """Numbers that cannot be what happened, or that cannot be compared."""


@dataclass(frozen=True)
class Histogram:
    """Latencies in milliseconds, counted in buckets.

    `bounds` are the n rising edges between buckets, `counts` the n + 1 numbers of requests: below the first
    edge, between two edges (the lower one included), and from the last edge on.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.bounds:
            raise EvidenceInvalid("a latency histogram has no bucket edge")
        if len(self.counts) != len(self.bounds) + 1:
            raise EvidenceInvalid(f"{len(self.bounds)} bucket edges need {len(self.bounds) + 1} counts")
        if any(count < 0 for count in self.counts):
            raise EvidenceInvalid("a latency bucket has a negative count")
        if not all(math.isfinite(bound) for bound in self.bounds):
            raise EvidenceInvalid("a latency bucket has no finite edge")
        if any(low >= high for low, high in pairwise(self.bounds)):
            raise EvidenceInvalid("the edges of the latency buckets do not rise")

    @property
    def total(self) -> int:
        """The number of requests."""
        return sum(self.counts)

    def __add__(self, other: "Histogram") -> "Histogram":
        if self.bounds != other.bounds:
            raise EvidenceInvalid("two latency histograms have different buckets")
        return Histogram(self.bounds, tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    def slower_than(self, milliseconds: float) -> int:
        """Return how many requests took longer for certain: those in buckets from that latency on."""
        edges = (-math.inf, *self.bounds)
        return sum(
            count for edge, count in zip(edges, self.counts, strict=True) if edge >= milliseconds * (1 - 1e-9)
        )

    def percentile(self, share: float) -> float:
        """Return the latency in milliseconds that `share` (0 to 1) of the requests stay below.

        Interpolated within its bucket; the open bucket at the end counts as its edge. NaN without requests.
        """
        if not self.total:
            return math.nan
        rank = share * self.total
        edges = (0.0, *self.bounds, self.bounds[-1])
        for bucket, reached in enumerate(accumulate(self.counts)):
            if reached >= rank and self.counts[bucket]:
                part = 1 - (reached - rank) / self.counts[bucket]
                return edges[bucket] + part * (edges[bucket + 1] - edges[bucket])
        return edges[-1]


@dataclass(frozen=True)
class Sample:
    """What one revision answered in a time: requests by HTTP status code, and their latencies if known."""

    codes: Mapping[str, int] = field(default_factory=dict)
    latencies: Histogram | None = None

    def __post_init__(self) -> None:
        if any(count < 0 for count in self.codes.values()):
            raise EvidenceInvalid("a count of requests is negative")

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
        known = [sample.latencies for sample in (self, other) if sample.latencies is not None]
        return Sample(codes, sum(known[1:], known[0]) if known else None)


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
    """The final minutes of one window, oldest first."""

    percent: int
    ticks: tuple[Tick, ...] = ()

    @property
    def stable(self) -> Sample:
        """All that stable answered in these minutes."""
        return total(tick.stable for tick in self.ticks)

    @property
    def candidate(self) -> Sample:
        """All that the candidate answered in these minutes."""
        return total(tick.candidate for tick in self.ticks)


@dataclass(frozen=True)
class Evidence:
    """All stages of a rollout, or the problem that kept them from being read."""

    stages: tuple[Stage, ...] = ()
    problem: str = ""

    @property
    def looks(self) -> int:
        """How many minutes have been looked at so far, over all stages."""
        return sum(len(stage.ticks) for stage in self.stages)


def total(samples: Iterable[Sample]) -> Sample:
    """Add samples up."""
    return sum(samples, Sample())


def final_until(now: datetime, delay: timedelta) -> datetime:
    """Return the end of the newest minute that is `delay` old, so that nothing more is added to it."""
    return floor_minute(now - delay)


def floor_minute(moment: datetime) -> datetime:
    """Return the whole minute that the moment lies in."""
    return moment.replace(second=0, microsecond=0)


def full_minutes(window: Window, until: datetime) -> list[datetime]:
    """Return the ends of the whole minutes inside the window, up to `until`."""
    last = until if window.end is None else min(until, window.end)
    end = floor_minute(window.start) + MINUTE
    if end - MINUTE < window.start:
        end += MINUTE
    ends = []
    while end <= last:
        ends.append(end)
        end += MINUTE
    return ends


def arrange_evidence(
    windows: Sequence[Window], stable: Iterable[Minute], candidate: Iterable[Minute], until: datetime
) -> Evidence:
    """Cut what was measured into stages: whole minutes inside a window, ended at `until` or before.

    A minute that a revision does not report counts as one without requests. Latencies that are counted in
    different buckets cannot be compared or added, and are a problem of the whole.
    """
    stable, candidate = tuple(stable), tuple(candidate)
    if len({m.sample.latencies.bounds for m in (*stable, *candidate) if m.sample.latencies}) > 1:
        return Evidence(problem="latencies are counted in different buckets at different times")
    by_end = [{minute.end: minute.sample for minute in minutes} for minutes in (stable, candidate)]
    nothing = Sample()
    stages = (
        Stage(
            window.percent,
            tuple(
                Tick(end, by_end[0].get(end, nothing), by_end[1].get(end, nothing))
                for end in full_minutes(window, until)
            ),
        )
        for window in windows
    )
    return Evidence(tuple(stages))
