"""Guards as tests: what each guard of a policy measures and limits, fed minute by minute."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Self

from controller.core.counts import Counts, EvidenceInvalid, Histogram
from controller.core.evidence import BLOCK, MINUTE, Sample, Source, Tick
from controller.core.limits import (
    COMPARED_PERCENTILES,
    RULED_OUT_FACTORS,
    RULED_OUT_PERCENTILE,
    TAIL_SLACK,
    Ceiling,
    LatencyCeiling,
    LatencyComparison,
    Limit,
    M,
    ShareCeiling,
    ShareComparison,
    points_text,
)
from controller.core.policy import Policy
from controller.core.policy_guards import (
    AnyGuard,
    CapacityGuard,
    CustomGuard,
    ErrorGuard,
    LatencyGuard,
    StartupGuard,
    Tolerance,
)
from controller.core.sequential import (
    AGREEING_MINUTES,
    FAST_SHARE,
    FIRST_TOTAL,
    Harm,
    Line,
    Rate,
    Safety,
    log_sum,
)
from controller.core.sequential_histograms import Slower
from controller.core.units import duration_text

RECURS = 0.6
"""So much of the evidence needed makes harm that comes and goes a reason to wait: two bad minutes or more."""

WAITING = {"ceiling": None, "tolerance": Tolerance(factor=1.25, points=0.2)}
"""What is compared of the minutes in which requests wait for an instance: now and then they may."""

_OFTEN_SILENT = {"startup", "room", "probe latency"}
"""Guards on what happens now and then: instances that start, requests that wait, pairs that both answer."""

COMPARISON_SHARE = 0.75
"""The comparison's part of a guard's evidence where there are ceilings, too; they share the rest."""


@dataclass(frozen=True)
class GuardTest(Generic[M]):
    """A guard under test: what it measures, its limits, and what each limit's evidence weighs.

    `measure` takes a sample apart; None where the sample says nothing of it.
    """

    name: str
    decides: bool
    measure: Callable[[Sample], M | None]
    limits: tuple[Limit[M], ...]
    weights: tuple[float, ...]
    moved: bool = False
    """The traffic was moved since the last minute that said something."""
    problem: str = ""
    """Why no further minute can be weighed."""
    may_be_silent: bool = False
    """Whether there is often nothing to measure, which is then no reason to wait."""

    def failed(self, problem: str) -> Self:
        """Return the guard as it stands; it weighs nothing any more."""
        return replace(self, problem=problem)

    def knowing(self, history: Iterable[Sample]) -> Self:
        """Return the guard with stable's past known."""
        known = [measured for sample in history if (measured := self.measure(sample)) is not None]
        try:
            return replace(self, limits=tuple(limit.knowing(known) for limit in self.limits))
        except EvidenceInvalid as invalid:
            raise EvidenceInvalid(f"{self.name}: {invalid}") from None

    def after(self, tick: Tick, *, alone: bool, new_step: bool) -> Self:
        """Return the guard after one more minute; `alone`: the candidate has no stable beside it.

        Raises EvidenceInvalid where the two sides, or this minute and those before, cannot be compared.
        """
        if self.problem:
            return self
        stable, candidate = self.measure(tick.stable), self.measure(tick.candidate)
        known = stable if stable is not None else candidate
        if known is None:
            return replace(self, moved=self.moved or new_step)
        new_step = new_step or self.moved
        ours = stable if stable is not None else known.emptied()
        theirs = candidate if candidate is not None else known.emptied()
        after = _after_alone if alone else _after
        try:
            limits = tuple(after(limit, ours, theirs, new_step=new_step) for limit in self.limits)
            return replace(self, limits=limits, moved=False)
        except EvidenceInvalid as invalid:
            raise EvidenceInvalid(f"{self.name}: {invalid}") from None

    def log_harm(self) -> float:
        """Return the weighted average of the limits' evidence, in nats."""
        weighed = zip(self.limits, self.weights, strict=True)
        return log_sum([math.log(weight) + limit.log_harm for limit, weight in weighed])

    def recurs(self, *, alone: bool) -> bool:
        """Tell whether a limit is broken again and again, with good minutes in between."""
        return any(
            limit.harm.recurring >= RECURS * limit.harm.needed
            for limit in self.limits
            if limit.is_ceiling or not alone
        )

    def log_suspicion(self, *, alone: bool) -> float:
        """Return the same average of the limits that mean something here: `alone`, only of ceilings."""
        weighed = [
            (limit, weight)
            for limit, weight in zip(self.limits, self.weights, strict=True)
            if limit.is_ceiling or not alone
        ]
        logs = [math.log(weight) + limit.log_harm for limit, weight in weighed]
        return log_sum(logs) - math.log(sum(weight for _, weight in weighed) or 1)


def _after(limit: Limit[M], stable: M, candidate: M, *, new_step: bool) -> Limit[M]:
    return limit.after(stable, candidate, new_step=new_step)


def _after_alone(limit: Limit[M], stable: M, candidate: M, *, new_step: bool) -> Limit[M]:
    """Return a limit after a minute in which the candidate served everybody: only ceilings mean something."""
    if not isinstance(limit, Ceiling):
        return limit
    return limit.without_stable().after(stable.emptied(), candidate, new_step=new_step)


AnyGuardTest = GuardTest[Counts] | GuardTest[Histogram]


def guard_tests(policy: Policy, source: Source = Source.METRICS) -> tuple[AnyGuardTest, ...]:
    """Return the guards of a policy that rest on this source, before anything is seen.

    What is needed to be sure is divided among all that decide, whatever they rest on.
    """
    needed = -math.log(policy.confidence.false_rollback / deciding_guards(policy))
    sure = _SURE[source](needed)
    return tuple(
        replace(_guard_test(name, guard, sure), may_be_silent=source is Source.LOGS or name in _OFTEN_SILENT)
        for name, guard in _guards(policy)[source].items()
    )


@dataclass(frozen=True)
class Sure:
    """What it takes to be sure: evidence in nats, about how many ticks at least, and the fast path's part."""

    needed: float
    ticks: float = AGREEING_MINUTES
    fast_share: float = FAST_SHARE
    fast_ticks: float = 0.0
    """So many ticks have to agree where there is no stable to share an outage of a moment with."""

    def harm(self, line: Line, weight: float) -> Harm:
        """Return a test of a limit whose evidence weighs so much of its guard's."""
        return Harm(line, self.needed - math.log(weight), self.ticks, self.fast_share, self.fast_ticks)


# The log is read to go back at once: half of its account is on the fast path.
_SURE: Mapping[Source, Callable[[float], Sure]] = {
    Source.METRICS: Sure,
    Source.LOGS: partial(Sure, ticks=AGREEING_MINUTES * (MINUTE / BLOCK), fast_share=0.5, fast_ticks=3.4),
    Source.PROBES: Sure,
}


def deciding_guards(policy: Policy) -> int:
    """Return how many guards decide, on all sources together; at least 1."""
    return max(1, sum(not guard.observe for of in _guards(policy).values() for guard in of.values()))


def _guards(policy: Policy) -> Mapping[Source, Mapping[str, AnyGuard]]:
    """Return the guards on each source, by the names under which they report."""
    errors, latency, named = policy.guards.errors, policy.guards.latency, policy.guards.named
    logged, probed = policy.request_logs is not None, bool(policy.probes)
    logs = {"logged errors": errors, "logged latency": latency, "capacity": policy.guards.capacity}
    # What both fail is nobody's fault: of pairs, only the comparison means something.
    failing = (errors or ErrorGuard()).model_copy(update={"codes": ("5xx",), "ceiling": None})
    slower = latency and latency.model_copy(update={"ceilings": {}})
    probes = {"probes": failing, "probe latency": slower}
    metrics = {"room" if name == "capacity" else name: guard for name, guard in named.items()}
    return {
        Source.METRICS: metrics,
        Source.LOGS: {name: guard for name, guard in logs.items() if guard and logged},
        Source.PROBES: {name: guard for name, guard in probes.items() if guard and probed},
    }


def log_harm(guards: Iterable[AnyGuardTest], deciding: int) -> float:
    """Return the evidence of harm of all deciding guards together, in nats: the average of their e-values.

    Of `deciding` guards those that are not given have said nothing: they count for nothing.
    """
    return log_sum([guard.log_harm() for guard in guards if guard.decides]) - math.log(deciding)


def _guard_test(name: str, guard: AnyGuard, sure: Sure) -> AnyGuardTest:
    match guard:
        case CapacityGuard() if name == "room":
            return _share_test(name, guard.model_copy(update=WAITING), _waits, sure)
        case CapacityGuard():
            return _share_test(name, guard, _refusals, sure)
        case ErrorGuard():
            return _share_test(name, guard, _errors(guard), sure)
        case LatencyGuard():
            most = {name: limit.total_seconds() * 1000 for name, limit in guard.ceilings.items()}
            words = {name: duration_text(limit) for name, limit in guard.ceilings.items()}
            measure = _startups if isinstance(guard, StartupGuard) else _latencies
            return _latency_test(name, guard, measure, most, words, sure)
        case CustomGuard() if guard.is_ratio:
            return _share_test(name, guard, _custom_share(name), sure)
        case CustomGuard():
            words = {name: f"{limit:g}" for name, limit in guard.ceilings.items()}
            return _latency_test(name, guard, _custom_distribution(name), dict(guard.ceilings), words, sure)


def _share_test(
    name: str,
    guard: ErrorGuard | CapacityGuard | CustomGuard,
    measure: Callable[[Sample], Counts | None],
    sure: Sure,
) -> GuardTest[Counts]:
    line = Line(guard.tolerance.factor, guard.tolerance.points)
    weights = _weights(1 if guard.ceiling is not None else 0)
    harm = sure.harm(line, weights[0])
    limits: list[Limit[Counts]] = [
        ShareComparison(f"the tolerated {_line_text(line)}", harm, (Safety(line),))
    ]
    if guard.ceiling is not None:
        most = Line(0, guard.ceiling)
        limit = f"the ceiling of {guard.ceiling * 100:g} %"
        ceiling = sure.harm(most, weights[1])
        limits.append(ShareCeiling(limit, ceiling, (Safety(most),), ceiling))
    return GuardTest(name, not guard.observe, measure, tuple(limits), weights)


def _latency_test(
    name: str,
    guard: LatencyGuard | CustomGuard,
    measure: Callable[[Sample], Histogram | None],
    ceilings: dict[str, float],
    words: dict[str, str],
    sure: Sure,
) -> GuardTest[Histogram]:
    weights = _weights(len(ceilings))
    factor = guard.tolerance.factor
    safety = tuple(_no_larger_tail(percentile) for percentile in COMPARED_PERCENTILES)
    increases = (_no_larger_tail(RULED_OUT_PERCENTILE),) * len(RULED_OUT_FACTORS)
    harm = Slower(factor, sure.needed - math.log(weights[0]), sure.ticks)
    comparison = LatencyComparison(f"the tolerated {factor:g}x", harm, safety, increases)
    limits: list[Limit[Histogram]] = [comparison]
    for (percentile, most), weight in zip(ceilings.items(), weights[1:], strict=True):
        line = Line(0, 1 - float(percentile.removeprefix("p")) / 100)
        limit = f"the ceiling of {words[percentile]} at {percentile}"
        ceiling = sure.harm(line, weight)
        limits.append(LatencyCeiling(limit, ceiling, (Safety(line),), ceiling, most=most))
    return GuardTest(name, not guard.observe, measure, tuple(limits), weights)


def _no_larger_tail(percentile: float) -> Safety:
    tail = 1 - percentile
    as_made = Rate(tail * FIRST_TOTAL, FIRST_TOTAL)
    return Safety(Line(1, TAIL_SLACK * tail), own_rates=True, stable=as_made, candidate=as_made)


def _weights(ceilings: int) -> tuple[float, ...]:
    if not ceilings:
        return (1.0,)
    return (COMPARISON_SHARE, *((1 - COMPARISON_SHARE) / ceilings,) * ceilings)


def _line_text(line: Line) -> str:
    points = f" + {points_text(line.points)}" if line.points else ""
    return f"{line.factor:g}x{points}"


def _errors(guard: ErrorGuard) -> Callable[[Sample], Counts]:
    return lambda sample: Counts(sample.having(guard.codes), sample.requests)


def _latencies(sample: Sample) -> Histogram | None:
    return sample.latencies


def _startups(sample: Sample) -> Histogram | None:
    return sample.startups


def _waits(sample: Sample) -> Counts | None:
    return sample.waited


def _refusals(sample: Sample) -> Counts:
    return Counts(sample.refused, sample.requests + sample.refused)


def _custom_share(name: str) -> Callable[[Sample], Counts | None]:
    def measure(sample: Sample) -> Counts | None:
        found = sample.custom.get(name)
        return found if isinstance(found, Counts) else None

    return measure


def _custom_distribution(name: str) -> Callable[[Sample], Histogram | None]:
    def measure(sample: Sample) -> Histogram | None:
        found = sample.custom.get(name)
        return found if isinstance(found, Histogram) else None

    return measure
