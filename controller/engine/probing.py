"""Probing: our own requests to both revisions, asked when they are due, and kept for whoever goes on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from controller.core.assessment import Assessment, assess
from controller.core.evidence import Evidence, Source
from controller.core.observation import ServiceState
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer, Pair, arrange_probes, parse_pair, slot_of
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.engine.probe_log import OVERLAP, entry_of_pair
from controller.ports import AuditEntry, CanaryError, PermanentError

log = structlog.get_logger()

BUDGET = timedelta(seconds=60)
"""How long a pass may ask; what is left is asked at the next one."""
WARM = timedelta(minutes=5)
"""After this time without a probe an instance may have to start for the next, which is no latency of its."""
MOST_PAIRS = 10_000
"""Of one rollout, the newest, that are read back."""
PATIENCE = timedelta(minutes=3)
"""How long the metrics wait for the log that says which of their requests were ours."""


@dataclass
class ProbeCache:
    """What a controller keeps of a rollout's probes from pass to pass."""

    pairs: list[Pair] = field(default_factory=list)
    """Those that are not weighed yet."""
    fresh: list[Pair] = field(default_factory=list)
    """Those that are not taken off the metrics yet, whoever asked them."""
    until: datetime | None = None
    assessment: Assessment | None = None
    asked: dict[str, datetime] = field(default_factory=dict)
    """The newest turn of each probe."""
    unkept: list[Pair] = field(default_factory=list)
    """What could not be put into the log yet."""
    controller: str = field(default_factory=lambda: uuid4().hex[:8])
    """Tells its entries from those of others, who may ask the same at the same time."""
    known: dict[str, datetime] = field(default_factory=dict)
    """The entries of the log that need not be read again, with their times."""
    read_until: datetime | None = None
    """The log was read when the metrics were final up to here."""
    begun: datetime | None = None
    """From when on all that was asked is known, where there was too much to read."""
    unread_since: datetime | None = None


def recall_probes(
    outside: Outside, rollout: Rollout, cache: ProbeCache, until: datetime, now: datetime
) -> bool:
    """Read back what other controllers have asked, before the metrics up to `until` are looked at.

    Return whether it is known which of their requests were ours, or was waited for long enough.
    """
    if not rollout.policy.probes or (cache.read_until and until <= cache.read_until):
        return True
    begun = rollout.windows[0].start
    since = max(begun, cache.read_until - OVERLAP) if cache.read_until else begun
    try:
        entries = outside.probe_log.read_entries(rollout.service, rollout.id, since, MOST_PAIRS)
    except CanaryError as error:
        cache.unread_since = cache.unread_since or now
        if now - cache.unread_since < PATIENCE and not isinstance(error, PermanentError):
            return False
        log.warning("answers to earlier probes cannot be read", service=rollout.service, error=str(error))
        return True
    _take_in(cache, entries)
    if len(entries) >= MOST_PAIRS:
        cache.begun = entries[0].time
    cache.read_until, cache.unread_since = until, None
    return True


def _take_in(cache: ProbeCache, entries: Sequence[AuditEntry]) -> None:
    """Take what others have asked off the metrics; where it is new, it is evidence, too."""
    pairs = [
        (entry.insert_id, pair)
        for entry in entries
        if entry.insert_id not in cache.known and (pair := parse_pair(entry.time, entry.payload))
    ]
    news = [pair for _, pair in sorted(pairs, key=lambda each: (each[1].time, each[0]))]
    cache.fresh += news
    cache.pairs += [pair for pair in news if cache.until is None or pair.time > cache.until]
    for pair in news:
        cache.asked[pair.name] = max(pair.time, cache.asked.get(pair.name, pair.time))
    newest = max((entry.time for entry in entries), default=None)
    cache.known |= {name: pair.time for name, pair in pairs}
    if newest:  # older ones will not be read again
        cache.known = {name: time for name, time in cache.known.items() if time > newest - 2 * OVERLAP}


def assess_probes(
    outside: Outside, service: ServiceState, rollout: Rollout, cache: ProbeCache, now: datetime, *, asks: bool
) -> Assessment | None:
    """Ask what is due, and return the assessment of all answers so far; None where there are no probes."""
    policy = rollout.policy
    if not policy.probes:
        return None
    problem = _problem(service, rollout)
    if asks and not problem:
        news = _ask_due(outside, service, rollout, cache, now)
        cache.fresh += news
        cache.pairs += news
        _keep(outside, rollout, cache, news)
    pairs = cache.pairs
    if cache.assessment is None and not pairs and problem:
        return assess(policy, Evidence(problem=problem, source=Source.PROBES))
    known = [pair for pair in pairs if pair.time <= now]  # all but where a replay looks back
    cache.pairs = [pair for pair in pairs if pair.time > now]
    cache.assessment = assess(policy, arrange_probes(rollout.windows, known, cache.until), cache.assessment)
    cache.until = max((pair.time for pair in known), default=cache.until)
    return cache.assessment


def _problem(service: ServiceState, rollout: Rollout) -> str:
    """Say why nothing can be asked."""
    wanted = [rollout.candidate_tag, *([rollout.stable_tag] if rollout.stable else [])]
    if all(service.addresses.get(tag) for tag in wanted):
        return ""
    return "Cloud Run gives its tags no address (the service's default URL is disabled)"


def _ask_due(
    outside: Outside, service: ServiceState, rollout: Rollout, cache: ProbeCache, now: datetime
) -> list[Pair]:
    """Ask each probe whose turn has come; a turn that was missed is not made up for."""
    window = rollout.window
    latest = max(cache.asked.values(), default=None)
    is_cold = latest is None or now - latest > WARM
    pairs: list[Pair] = []
    for number, probe in enumerate(rollout.policy.probes):
        turn = slot_of(probe, number, now)
        known = cache.asked.get(probe.name)
        if window is None or turn < window.start or (known and turn <= known):
            continue
        if outside.clock.now() - now > BUDGET:
            break
        cache.asked[probe.name] = turn
        pairs.append(replace(_pair(outside, service, rollout, probe, turn), cold=is_cold))
    return pairs


def _pair(outside: Outside, service: ServiceState, rollout: Rollout, probe: Probe, turn: datetime) -> Pair:
    """Ask both revisions, in an order that nobody can foresee and that is the same for each controller."""
    addresses = {"candidate": service.addresses[rollout.candidate_tag]}
    if rollout.stable:
        addresses["stable"] = service.addresses[rollout.stable_tag]
    drawn = hashlib.sha256(f"{rollout.id} {probe.name} {turn.isoformat()}".encode()).digest()[0]
    roles = sorted(addresses, reverse=bool(drawn % 2))
    answers, asked_at = dict[str, Answer](), outside.clock.now()
    for role in roles:
        answers[role] = outside.probes.ask(addresses[role], probe)
    return Pair(turn, probe.name, answers["candidate"], answers.get("stable"), asked_at)


def _keep(outside: Outside, rollout: Rollout, cache: ProbeCache, news: Sequence[Pair]) -> None:
    """Put pairs into the log; what fails is tried again at the next pass."""
    cache.unkept = [*cache.unkept, *news][-MOST_PAIRS:]
    if not cache.unkept:
        return
    entries = [entry_of_pair(rollout, pair, cache.controller) for pair in cache.unkept]
    cache.known |= {entry.insert_id: entry.time for entry in entries}  # also where no reply comes
    try:
        outside.probe_log.write_entries(entries)
    except CanaryError as error:
        log.warning("answers to probes cannot be kept; the rollout goes on", error=str(error))
        return
    cache.unkept = []
