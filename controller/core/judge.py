"""The judge: guards and evidence in, one verdict with its reason out.

Rules, in the order in which they are asked:

1. A guard fails when a limit is broken beyond doubt. The doubt allowed is `confidence.false_rollback` for the
   whole rollout: it is shared by the guards, and by all looks (look k gets 6 / (pi k)^2 of it, which adds up
   to one), so looking every minute does not raise it.
2. A ceiling that stable breaks too is not the candidate's fault: nobody is blamed, a person is asked.
3. A guard that points to harm without proving it is unsure, and so is one with too few requests.
4. Without any request to the candidate there is nothing to judge: unmeasured, never passed.
5. While the candidate serves everybody there is no stable to compare with: only ceilings decide.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from controller.core.counts import EvidenceInvalid, Histogram
from controller.core.evidence import Evidence, Stage
from controller.core.limits import Limit, Share, ceiling_on, tolerance_on
from controller.core.policy import AdvanceOn, ErrorGuard, Hold, LatencyGuard, Policy
from controller.core.traffic import ALL

FEWEST_TO_BLAME = 20
"""No revision is blamed on fewer requests than this, on either side."""

SUSPICION = 0.1
"""A limit broken with less than this probability by chance keeps a step from passing."""

COMPARED_PERCENTILES = (0.5, 0.95)
"""The parts of stable's latencies that the candidate's are held against: the body and the tail."""


class VerdictValue(StrEnum):
    """What the evidence says; there are never fewer than these four."""

    PASS = "pass"  # noqa: S105 -- a verdict
    FAIL = "fail"
    UNSURE = "unsure"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Finding:
    """What one guard says, with the numbers that it rests on written for people."""

    guard: str
    value: VerdictValue
    reason: str
    stable_is_bad: bool = False
    decides: bool = True


@dataclass(frozen=True)
class Verdict:
    """What all guards say together, and what the candidate still needs to pass."""

    value: VerdictValue
    reason: str
    findings: tuple[Finding, ...] = ()
    stable_is_bad: bool = False
    requests_missing: int = 0
    minutes_missing: int = 0


def judge(policy: Policy, hold: Hold, evidence: Evidence) -> Verdict:
    """Judge the latest stage of the evidence by the policy's guards and the step's hold."""
    if evidence.problem:
        return Verdict(VerdictValue.UNMEASURED, f"the metrics cannot be read: {evidence.problem}")
    stage = evidence.stages[-1] if evidence.stages else None
    if stage is None or not stage.ticks:
        late = f"{policy.metrics_delay.total_seconds():g} s"
        reason = f"no minute of this step is final yet (Cloud Monitoring is {late} late)"
        return Verdict(VerdictValue.UNSURE, reason, (), False, hold.requests, _minutes(hold))
    try:
        findings = tuple(_findings(policy, stage, evidence.looks))
        return _with_hold(_combine(findings, stage), hold, stage)
    except EvidenceInvalid as invalid:
        return Verdict(VerdictValue.UNMEASURED, str(invalid))


def _findings(policy: Policy, stage: Stage, look: int) -> Iterator[Finding]:
    guards = policy.guards
    deciding = [guard for guard in (guards.errors, guards.latency) if guard and not guard.observe]
    doubt = policy.confidence.false_rollback / max(1, len(deciding)) * 6 / (math.pi * look) ** 2
    proof = 1 - policy.confidence.promotion if policy.advance_on is AdvanceOn.PROVEN else None
    if guards.errors:
        numbers, limits = _error_limits(guards.errors, stage)
        yield _find("errors", numbers, limits, doubt, proof, decides=not guards.errors.observe)
    if guards.latency:
        numbers, limits = _latency_limits(guards.latency, stage)
        yield _find("latency", numbers, limits, doubt, proof, decides=not guards.latency.observe)


def _find(
    guard: str, numbers: str, limits: list[Limit], doubt: float, proof: float | None, *, decides: bool
) -> Finding:
    """Ask every limit of a guard; the first one that is broken speaks."""

    def found(value: VerdictValue, reason: str, *, bad: bool = False) -> Finding:
        return Finding(guard, value, f"{numbers}: {reason}", bad, decides)

    if not limits:
        return Finding(guard, VerdictValue.UNMEASURED, f"{numbers}: nothing to compare with", decides=False)
    share_of_doubt = doubt / len(limits)
    for limit in limits:
        if limit.fewest_requests >= FEWEST_TO_BLAME and limit.is_broken(share_of_doubt):
            if limit.is_broken_by_stable(share_of_doubt):
                return found(VerdictValue.UNSURE, f"both are above {limit.words}", bad=True)
            odds = limit.odds(share_of_doubt)
            return found(VerdictValue.FAIL, f"worse than {limit.words}, beyond doubt ({odds})")
    for limit in limits:
        if limit.is_broken(SUSPICION):
            return found(VerdictValue.UNSURE, f"looks worse than {limit.words}, not proven yet")
    unproven = [limit.words for limit in limits if proof is not None and not limit.is_kept(proof)]
    if unproven:
        return found(VerdictValue.UNSURE, f"not proven yet to stay under {unproven[0]}")
    return found(VerdictValue.PASS, "within limits")


def _combine(findings: tuple[Finding, ...], stage: Stage) -> Verdict:
    """Let the worst deciding guard speak; the others are reported as they stand."""
    order = (VerdictValue.FAIL, VerdictValue.UNMEASURED, VerdictValue.UNSURE, VerdictValue.PASS)
    deciding = [finding for finding in findings if finding.decides]
    if not deciding:
        value = VerdictValue.PASS if stage.percent == ALL else VerdictValue.UNMEASURED
        return Verdict(value, "no guard can decide here", findings)
    worst = min((finding.value for finding in deciding), key=order.index)
    bad = worst is not VerdictValue.FAIL and any(finding.stable_is_bad for finding in deciding)
    speaking = [f for f in deciding if (f.stable_is_bad if bad else f.value is worst)]
    reason = "; ".join(f"{finding.guard}: {finding.reason}" for finding in speaking)
    return Verdict(worst, reason, findings, bad)


def _with_hold(verdict: Verdict, hold: Hold, stage: Stage) -> Verdict:
    """Turn a pass into unsure until the step has its minutes and its requests on both sides."""
    minutes_seen, candidate = len(stage.ticks), stage.candidate.requests
    if not candidate:
        reason = f"no request reached the candidate in {counted(minutes_seen, 'minute')}"
        return Verdict(
            VerdictValue.UNMEASURED, reason, verdict.findings, False, hold.requests, _minutes(hold)
        )
    fewest = candidate if stage.percent == ALL else min(candidate, stage.stable.requests)
    requests = max(0, hold.requests - fewest)
    for_requests = math.ceil(requests * minutes_seen / fewest) if fewest else 0
    minutes = max(_minutes(hold) - minutes_seen, for_requests, 0)
    if verdict.value is VerdictValue.FAIL or not (requests or minutes):
        return verdict
    waiting = verdict.value is VerdictValue.PASS
    side = "" if stage.percent == ALL else " on each side"
    needs = [f"{counted(requests, 'more request')}{side}"] if requests else []
    needs += [counted(minutes, "more minute")] if minutes else []
    needed = f"needs {' and about '.join(needs)}"
    return Verdict(
        VerdictValue.UNSURE if waiting else verdict.value,
        f"no sign of harm so far, {needed}; {verdict.reason}" if waiting else f"{verdict.reason}; {needed}",
        verdict.findings,
        verdict.stable_is_bad,
        requests,
        minutes,
    )


def _error_limits(guard: ErrorGuard, stage: Stage) -> tuple[str, list[Limit]]:
    stable = Share(stage.stable.having(guard.codes), stage.stable.requests)
    candidate = Share(stage.candidate.having(guard.codes), stage.candidate.requests)
    tolerance, limits = guard.tolerance, []
    if stage.percent < ALL:
        words = f"the tolerated {tolerance.factor:g}x stable + {tolerance.points * 100:g} points"
        limits.append(tolerance_on(words, candidate, stable, tolerance.factor, tolerance.points))
    if guard.ceiling is not None:
        words = f"the ceiling of {guard.ceiling * 100:g} %"
        limits.append(ceiling_on(words, candidate, stable, guard.ceiling))
    return f"candidate {_errors(candidate)}, {_beside(stage, _errors(stable))}", limits


def _latency_limits(guard: LatencyGuard, stage: Stage) -> tuple[str, list[Limit]]:
    stable, candidate = stage.stable.latencies, stage.candidate.latencies
    numbers = f"candidate {_percentiles(candidate)}, {_beside(stage, _percentiles(stable))}"
    if candidate is None or not candidate.total:
        return numbers, []
    limits = []
    if stage.percent < ALL and stable is not None and stable.total:
        if stable.bounds != candidate.bounds:
            raise EvidenceInvalid("stable and candidate count latencies in different buckets")
        limits += [_slower(guard.tolerance.factor, stable, candidate, part) for part in COMPARED_PERCENTILES]
    for name, ceiling in guard.ceilings.items():
        most = ceiling.total_seconds() * 1000
        slow = Share(candidate.from_edge(most), candidate.total)
        slow_stable = Share(stable.from_edge(most), stable.total) if stable else Share(0, 0)
        allowed = 1 - float(name.removeprefix("p")) / 100
        limits.append(ceiling_on(f"the ceiling of {most:g} ms at {name}", slow, slow_stable, allowed))
    return numbers, limits


def _slower(factor: float, stable: Histogram, candidate: Histogram, part: float) -> Limit:
    """Hold the candidate's share above factor x t against stable's share above t, stable's percentile."""
    edge = next((edge for edge in stable.bounds if edge >= stable.percentile(part)), stable.bounds[-1])
    slow_candidate = Share(candidate.from_edge(edge * factor), candidate.total)
    slow_stable = Share(stable.from_edge(edge), stable.total)
    return tolerance_on(f"the tolerated {factor:g}x at p{part * 100:g}", slow_candidate, slow_stable)


def _beside(stage: Stage, stable_numbers: str) -> str:
    minutes = counted(len(stage.ticks), "minute")
    return f"over {minutes}" if stage.percent == ALL else f"stable {stable_numbers}, over {minutes}"


def _errors(share: Share) -> str:
    if not share.whole:
        return "no request"
    return f"{share.part / share.whole * 100:.1f} % of {counted(share.whole, 'request')}"


def _percentiles(histogram: Histogram | None) -> str:
    if histogram is None or not histogram.total:
        return "no latency"
    body, tail = (histogram.percentile(part) for part in COMPARED_PERCENTILES)
    return f"p50 {body:.0f} ms, p95 {tail:.0f} ms"


def _minutes(hold: Hold) -> int:
    return math.ceil(hold.at_least.total_seconds() / 60)


def counted(number: int, noun: str) -> str:
    """Return `1 minute`, `2 minutes`, `1,940 requests`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
