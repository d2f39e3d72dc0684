"""What is kept of every revision, by the minute, and for how long."""

from collections import defaultdict
from collections.abc import Iterable, MutableMapping
from itertools import takewhile
from typing import Any, NamedTuple

from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.lifetimes import Lifetime
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.names import RevisionKey

RETENTION = 6 * 7 * 24 * 3600
"""Seconds that points of run.googleapis.com/* are kept."""


class RequestSeries:
    """What one revision answered with one response code, by the minute's end in epoch seconds."""

    __slots__ = ("apart", "counts", "first", "latencies", "total")

    def __init__(self, first: int) -> None:
        self.first = first
        """The first minute ever."""
        self.total = 0
        """Requests since the beginning, those included whose minutes are gone."""
        self.counts: dict[int, int] = {}
        """The counts of the histograms, once more: they are read far more often, and so much faster."""
        self.latencies: dict[int, Histogram] = {}
        """In the container alone."""
        self.apart: dict[int, Histogram] = {}
        """With the wait for an instance, of the minutes in which a request has waited."""

    def waited(self, minute: int) -> Histogram:
        """Return the latencies with the wait, kept apart from now on."""
        if minute not in self.apart:
            self.apart[minute] = Histogram.merged([self.latencies[minute]])
        return self.apart[minute]

    def forget_until(self, last: int) -> None:
        """Drop the minutes up to one."""
        for minutes in (self.counts, self.latencies, self.apart):
            _drop_until(minutes, last)


class Sample(NamedTuple):
    """What there was of a revision at a whole minute."""

    active: int
    idle: int
    pending: int


class Points:
    """Everything that was measured of every revision in the last six weeks; minutes by their ends."""

    def __init__(self) -> None:
        self.requests: dict[RevisionKey, dict[int, RequestSeries]] = defaultdict(dict)
        """By response code."""
        self.startups: dict[RevisionKey, dict[int, Histogram]] = defaultdict(dict)
        self.samples: dict[RevisionKey, dict[int, Sample]] = defaultdict(dict)
        self.lifetimes: dict[RevisionKey, Lifetime] = defaultdict(Lifetime)
        self.oldest: int | None = None
        """The oldest minute of which there may be points."""

    def series_of(self, key: RevisionKey, code: int, first: int) -> RequestSeries:
        """Return a series; if there is none yet, one that begins with this minute."""
        by_code = self.requests[key]
        if code not in by_code:
            by_code[code] = RequestSeries(first)
        return by_code[code]

    def note_minute(self, minute: int) -> None:
        """Reckon with points of this minute when looking for the oldest."""
        self.oldest = minute if self.oldest is None else min(self.oldest, minute)

    def prune(self, now: int) -> None:
        """Drop what is older than six weeks, given the epoch seconds."""
        oldest = now - RETENTION
        for by_code in self.requests.values():
            for series in by_code.values():
                series.forget_until(oldest)
            _drop(by_code, [code for code, series in by_code.items() if not series.counts])
        kept: list[MutableMapping[int, Any]] = [*self.startups.values(), *self.samples.values()]
        for by_minute in kept:
            _drop_until(by_minute, oldest)
        for by_revision in (self.requests, self.startups, self.samples):
            _drop(by_revision, [key for key, minutes in by_revision.items() if not minutes])
        for lifetime in self.lifetimes.values():
            lifetime.forget_before(oldest)
        _drop(self.lifetimes, [key for key, lifetime in self.lifetimes.items() if lifetime.is_over])
        if self.oldest is not None:
            self.oldest = max(self.oldest, oldest + MINUTE)


def _drop_until(minutes: MutableMapping[int, Any], last: int) -> None:
    """Drop minutes up to one. They lie in the order in which they came, so that the rest is not looked at."""
    _drop(minutes, list(takewhile(lambda minute: minute <= last, minutes)))


def _drop(mapping: MutableMapping[Any, Any], keys: Iterable[Any]) -> None:
    for key in keys:
        del mapping[key]
