"""The store behind Monitoring: counts what each revision answers, and how many instances it has."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.emulator.monitoring.archive import Row, restore, rows_of
from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.minutes import MINUTE, minute_end
from controller.emulator.monitoring.points import Points, RequestSeries, Sample
from controller.emulator.names import RevisionKey

_PRUNING = 3600
"""What is too old is dropped once in so many seconds."""


class Metrics(Points):
    """Puts what happens into the minute in which it happened."""

    def __init__(self) -> None:
        super().__init__()
        self._minute = 0
        """The end of the minute that was written to last; the instants below are its edges."""
        self._began = self._ends = datetime.fromtimestamp(0, UTC)
        self._open: dict[tuple[RevisionKey, int], tuple[RequestSeries, Histogram]] = {}
        """What is counted in that minute."""
        self._next_pruning = 0

    def record(
        self,
        key: RevisionKey,
        code: int,
        milliseconds: float,
        ended: datetime,
        pending_milliseconds: float = 0.0,
    ) -> None:
        """Count a request that has ended. Its minute is the one in which it ended.

        `milliseconds` is the time in the container; `pending_milliseconds` the wait for an instance before.
        """
        if not self._began < ended <= self._ends:
            self._turn_to(ended)
        minute = self._minute
        try:
            series, latencies = self._open[key, code]
        except KeyError:
            series, latencies = self._opened(key, code)
        if pending_milliseconds or minute in series.apart:
            series.waited(minute).add(milliseconds + pending_milliseconds)
        latencies.add(milliseconds)
        series.counts[minute] += 1
        series.total += 1

    def record_many(self, key: RevisionKey, code: int, latencies: Histogram, ended: datetime) -> None:
        """Count requests that ended in the same minute, none of which waited for an instance."""
        if not latencies.count:
            return
        self._turn_to(ended)
        minute = self._minute
        series, reached = self._open.get((key, code)) or self._opened(key, code)
        if minute in series.apart:
            series.apart[minute].merge(latencies)
        reached.merge(latencies)
        series.counts[minute] += latencies.count
        series.total += latencies.count

    def sample(self, key: RevisionKey, at: datetime, *, active: int, idle: int, pending: int) -> None:
        """Note how many instances and waiting requests there are at a whole minute."""
        self._turn_to(at)
        self.samples[key][self._minute] = Sample(active, idle, pending)

    def instance_started(self, key: RevisionKey, at: datetime, startup_milliseconds: float = 0.0) -> None:
        """Note that one more instance is alive, and how long it took to start; 0 = that is not known."""
        self.lifetimes[key].start(at.timestamp())
        if startup_milliseconds:
            self._turn_to(at)
            self.startups[key].setdefault(self._minute, Histogram()).add(startup_milliseconds)

    def instance_stopped(self, key: RevisionKey, at: datetime) -> None:
        """Note that one instance less is alive."""
        self.lifetimes[key].stop(at.timestamp())

    def totals(self) -> Mapping[RevisionKey, dict[int, int]]:
        """Return all requests ever counted of what still has points, by revision and response code."""
        return {
            key: {code: series.total for code, series in by_code.items()}
            for key, by_code in self.requests.items()
        }

    def export(self, since: int = 0) -> Iterator[Row]:
        """Yield what is kept as rows that JSON can hold; of minutes, those that end at or after `since`."""
        return rows_of(self, since)

    def restore(self, rows: Iterable[Iterable[Any]]) -> None:
        """Put what was exported into this store, which must be empty."""
        restore(self, rows)

    def _turn_to(self, at: datetime) -> None:
        """Make the minute of an instant the one that is written to."""
        if self._began < at <= self._ends:
            return
        self._minute = minute_end(at.timestamp())
        self._ends = datetime.fromtimestamp(self._minute, UTC)
        self._began = self._ends - timedelta(seconds=MINUTE)
        self._open.clear()
        if self._minute >= self._next_pruning:
            self._next_pruning = self._minute + _PRUNING
            self.prune(self._minute)
        self.note_minute(self._minute)

    def _opened(self, key: RevisionKey, code: int) -> tuple[RequestSeries, Histogram]:
        minute = self._minute
        series = self.series_of(key, code, minute)
        series.counts.setdefault(minute, 0)
        found = self._open[key, code] = series, series.latencies.setdefault(minute, Histogram())
        return found
