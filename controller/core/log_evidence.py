"""Evidence from the request log: single requests, cut into blocks of some seconds, cold starts told apart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from controller.core.counts import counted_in_buckets
from controller.core.evidence import BLOCK, Evidence, Sample, Source, Stage, Tick, Window
from controller.core.request_log import LoggedRequest, RequestLog

OVERLAP = timedelta(seconds=20)
"""So much of what was read before is read again, for entries that came late."""
REMEMBERED = timedelta(hours=2)
"""How long an instance is remembered after its start; it is warm long before."""
NO_INSTANCE = "no available instance"
"""In what the platform says where it turns a request away, and no application has failed."""

FEWEST_TO_COMPARE = 20
MOST_MISSING = 0.2
"""A log that lacks more than this part of what the metrics count is not the whole truth."""


@dataclass(frozen=True)
class Reader:
    """What is known of the log from reading to reading.

    `until` is how far it was read. `seen` are the entries of the overlap, which are not counted twice;
    `cold` the instances that were started lately, with the time of their first answer if there was one.
    """

    until: datetime
    seen: Mapping[str, datetime] = field(default_factory=dict)
    cold: Mapping[str, datetime | None] = field(default_factory=dict)

    def since(self) -> datetime:
        """Return where to read from."""
        return self.until - OVERLAP


@dataclass(frozen=True)
class NewRequest:
    """A request that was not known before, the block that it counts in, and whether it met a cold start."""

    request: LoggedRequest
    block: datetime
    is_cold: bool


def block_of(moment: datetime) -> datetime:
    """Return the end of the block that the moment lies in."""
    seconds = BLOCK.total_seconds()
    return datetime.fromtimestamp((moment.timestamp() // seconds + 1) * seconds, UTC)


def last_block(now: datetime, delay: timedelta) -> datetime:
    """Return the end of the newest block whose entries are all there."""
    return block_of(now - delay) - BLOCK


def next_block(now: datetime, delay: timedelta) -> datetime:
    """Return when the entries of the block after that are all there."""
    return block_of(now - delay) + delay


def take_in(reader: Reader, log: RequestLog, until: datetime) -> tuple[Reader, tuple[NewRequest, ...]]:
    """Return what is new in a reading up to `until`; what came late counts in the first new block."""
    cold = dict(reader.cold) | {
        start.instance: None for start in log.starts if start.instance not in reader.cold
    }
    first_block = reader.until + BLOCK
    new = []
    for request in sorted(log.requests, key=lambda each: (each.received_at, each.id)):
        if request.id in reader.seen or request.received_at >= until:
            continue
        block = max(block_of(request.received_at), first_block)
        new.append(NewRequest(request, min(block, until), _meets_cold_start(request, cold)))
    seen = {each: at for each, at in reader.seen.items() if at >= until - OVERLAP}
    seen |= {each.request.id: each.request.received_at for each in new}
    kept = {name: at for name, at in cold.items() if at is None or at >= until - REMEMBERED}
    return Reader(until, seen, kept), tuple(new)


def _meets_cold_start(request: LoggedRequest, cold: dict[str, datetime | None]) -> bool:
    """Tell whether a request waited for its instance: it began before the first answer of that one."""
    if request.instance not in cold:
        return False
    first = cold[request.instance]
    if first is None:
        cold[request.instance] = first = request.received_at
    return request.started_at < first


def arrange_log(
    windows: Sequence[Window],
    stable: str,
    candidate: str,
    new: Iterable[NewRequest],
    since: datetime,
    until: datetime,
) -> Evidence:
    """Cut what is new since then into a tick for each block inside a window.

    Probes are left out; a request that met a cold start counts, but its latency does not.
    """
    by_block: dict[tuple[datetime, str], list[NewRequest]] = {}
    for each in new:
        if not each.request.is_probe:
            by_block.setdefault((each.block, each.request.revision), []).append(each)
    stages = []
    for window in windows:
        ticks = tuple(
            Tick(end, _sample(by_block.get((end, stable), ())), _sample(by_block.get((end, candidate), ())))
            for end in _blocks(window, since, until)
        )
        stages.append(Stage(window.percent, ticks))
    return Evidence(tuple(stages), source=Source.LOGS)


def _blocks(window: Window, since: datetime, until: datetime) -> list[datetime]:
    """Return the ends of the whole blocks inside the window, after `since` and up to `until`."""
    last = until if window.end is None else min(until, window.end)
    next_block = block_of(window.start)
    first = window.start if next_block - window.start == BLOCK else next_block
    begin = max(first, since)
    return [begin + number * BLOCK for number in range(1, max(0, (last - begin) // BLOCK) + 1)]


def _sample(requests: Sequence[NewRequest]) -> Sample:
    codes: dict[str, int] = {}
    refused = 0
    for each in requests:
        if NO_INSTANCE in each.request.refusal:
            refused += 1
        else:
            code = str(each.request.status)
            codes[code] = codes.get(code, 0) + 1
    warm = [each.request for each in requests if not each.is_cold]
    answered = [request.latency for request in warm if NO_INSTANCE not in request.refusal]
    return replace(Sample(codes, counted_in_buckets(answered) if answered else None), refused=refused)


@dataclass(frozen=True)
class Completeness:
    """How many requests the metrics and the log count in the same minutes, in which both are final."""

    metrics: int = 0
    logged: float = 0.0

    @property
    def is_known(self) -> bool:
        """Whether enough was compared."""
        return self.metrics >= FEWEST_TO_COMPARE

    def problem(self) -> str:
        """Say what is missing in the log; nothing where it is whole, or too little is known."""
        if not self.is_known or self.logged >= (1 - MOST_MISSING) * self.metrics:
            return ""
        counted = (
            f"Cloud Monitoring counts {self.metrics:,} requests where the log has {round(self.logged):,}"
        )
        if not self.logged:
            return f"they are excluded from the log ({counted})"
        return f"they are sampled or partly excluded ({counted})"
