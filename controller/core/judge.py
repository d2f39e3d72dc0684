"""The judge: the assessment and a step's hold in, one verdict with its reason out.

Rules, in the order in which they are asked:

1. Harm is shown when the weighted average of the deciding guards' evidence reaches 1 / `false_rollback`. It
   is one account for the whole rollout, all guards and all looks, so looking every minute does not raise it.
2. A ceiling that stable breaks too is not the candidate's fault, unless it compares badly with that stable:
   nobody is blamed and, when the step has had its minutes, a person is asked.
3. A guard that measured nothing of one of the two is unmeasured, never passed.
4. A guard whose evidence points to harm without proving it, or to harm that comes and goes, is unsure. With
   `advance_on: proven` so is one whose safety is not shown yet.
5. While the candidate serves everybody there is no stable to compare with: only ceilings decide.
6. A step passes when its minutes and its requests are there; where safety is shown, fewer requests will do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from controller.core.assessment import Assessment
from controller.core.counts import Counts
from controller.core.evidence import BLOCK, MINUTE, Measure, Source
from controller.core.guards import AnyGuardTest, deciding_guards, log_harm
from controller.core.limits import Limit
from controller.core.needs import NO_NEED, Need, need_for_harm, need_for_safety
from controller.core.policy import Policy
from controller.core.policy_choices import AdvanceOn
from controller.core.policy_steps import Hold
from controller.core.wording import breach_text, counted, need_text, numbers_text, odds_text, ruled_out_text

SUSPICION = math.log(2)
"""Evidence of harm, in nats, that keeps a step from passing: what was seen is twice as likely with harm."""


class VerdictValue(StrEnum):
    """What the evidence says; there are never fewer than these four."""

    PASS = "pass"  # noqa: S105 -- a verdict
    FAIL = "fail"
    UNSURE = "unsure"
    UNMEASURED = "unmeasured"


@dataclass(frozen=True)
class Finding:
    """What one guard says, with the numbers that it rests on written for people.

    `log_harm` and `log_safety` are its evidence in nats; `need` is what it lacks to be sure.
    """

    guard: str
    value: VerdictValue
    reason: str
    stable_is_bad: bool = False
    decides: bool = True
    log_harm: float = 0.0
    log_safety: float = 0.0
    need: Need = NO_NEED


@dataclass(frozen=True)
class Verdict:
    """What all guards say together, and what the candidate still needs to pass.

    `log_harm` is the evidence of harm in nats, which is held against what the policy needs.
    """

    value: VerdictValue
    reason: str
    findings: tuple[Finding, ...] = ()
    stable_is_bad: bool = False
    requests_missing: int = 0
    minutes_missing: int = 0
    log_harm: float = 0.0


@dataclass(frozen=True)
class _Account:
    """The evidence of all deciding guards together, beside what the policy needs; in nats."""

    log_harm: float
    needed: float
    needed_safety: float
    was_shown: bool

    @property
    def shows_harm(self) -> bool:
        return self.was_shown or self.log_harm >= self.needed


def judge(policy: Policy, hold: Hold, assessment: Assessment, others: Sequence[Assessment] = ()) -> Verdict:
    """Judge the latest stage by the policy's guards and the step's hold.

    `assessment` is that of the metrics, on which a step passes; the `others`, of the request log and of
    probes, can show harm and keep it from passing. Probes count as requests where users send few.
    """
    weighed = [each for each in (assessment, *others) if not each.problem]
    account = _account(policy, weighed)
    probed = next((each for each in weighed if each.source is Source.PROBES), None)
    findings = tuple(
        _finding(_Case(policy, each, account, test, probed)) for each in weighed for test in each.guards
    )
    findings += _of_the_split(policy, assessment)
    verdict = _combine(findings, alone=assessment.alone)
    if verdict.value is not VerdictValue.FAIL:
        verdict = _of_too_early(policy, hold, assessment, verdict) or _with_hold(
            verdict, hold, assessment, probed, proven=_is_proven(assessment, account)
        )
    return replace(verdict, log_harm=account.log_harm)


def _of_the_split(policy: Policy, assessment: Assessment) -> tuple[Finding, ...]:
    """Say that the candidate gets too few requests for its share: a reason to wait, not to go back."""
    capacity, split = policy.guards.capacity, assessment.split
    if capacity is None or assessment.alone or not split.is_short:
        return ()
    ours, all_of_them = (
        assessment.candidate.requests,
        assessment.stable.requests + assessment.candidate.requests,
    )
    instances = assessment.candidate.instances
    with_ = f", with at most {counted(instances, 'instance')}" if instances else ""
    reason = (
        f"candidate got {counted(ours, 'request')} of {all_of_them:,}{with_}, where {split.percent} % are its"
        " share: it cannot keep up, or users stick to stable (session affinity)"
    )
    return (Finding("split", VerdictValue.UNSURE, reason, decides=not capacity.observe),)


def _of_too_early(policy: Policy, hold: Hold, assessment: Assessment, verdict: Verdict) -> Verdict | None:
    """Say that there is nothing to judge by yet, or that it cannot be read."""
    if assessment.problem:
        return replace(verdict, value=VerdictValue.UNMEASURED, reason=assessment.problem, stable_is_bad=False)
    if assessment.minutes:
        return None
    late = f"{policy.metrics_delay.total_seconds():g} s"
    reason = f"no minute of this step is final yet (Cloud Monitoring is {late} late)"
    return Verdict(
        VerdictValue.UNSURE,
        reason,
        verdict.findings,
        requests_missing=hold.requests,
        minutes_missing=_minutes(hold),
    )


def _account(policy: Policy, weighed: Sequence[Assessment]) -> _Account:
    needed = -math.log(policy.confidence.false_rollback)
    tests = [test for each in weighed for test in each.guards]
    return _Account(
        log_harm=log_harm(tests, deciding_guards(policy)),
        needed=needed,
        needed_safety=-math.log1p(-policy.confidence.promotion),
        was_shown=any(each.harmed is not None for each in weighed),
    )


def _is_proven(assessment: Assessment, account: _Account) -> bool:
    """Tell whether the safety of all that decides here is shown."""
    alone = assessment.alone
    proving = [test for test in assessment.guards if test.decides and not test.may_be_silent]
    limits = [limit for test in proving for limit in _limits(test, alone=alone)]
    return bool(limits) and all(limit.log_safety >= account.needed_safety for limit in limits)


def _limits(test: AnyGuardTest, *, alone: bool) -> Sequence[Limit[Any]]:
    """Return the limits of a guard that mean something here: without a stable beside it, only ceilings."""
    return [limit for limit in test.limits if limit.is_ceiling or not alone]


@dataclass(frozen=True)
class _Case:
    """One guard before the judge, with all that is asked about it."""

    policy: Policy
    assessment: Assessment
    account: _Account
    test: AnyGuardTest
    probed: Assessment | None

    @property
    def alone(self) -> bool:
        return self.assessment.alone

    def in_minutes(self, need: Need) -> Need:
        """Return what is needed with its time in minutes, whatever the ticks of the source are."""
        minutes = minutes_a_tick(self.policy, self.assessment.source)
        return Need(need.requests, math.ceil(need.minutes * minutes))

    @property
    def is_silent(self) -> bool:
        """Whether it has nothing to say, and others speak in its place."""
        if self.test.may_be_silent:
            return not self.candidate.total or not (self.alone or self.stable.total)
        stands_in = self.probed is not None and self.probed.candidate.requests > 0
        return self.assessment.source is Source.METRICS and stands_in and not self.candidate.total

    @property
    def limits(self) -> Sequence[Limit[Any]]:
        return _limits(self.test, alone=self.alone)

    @property
    def stable(self) -> Measure:
        measured = self.test.measure(self.assessment.stable)
        return measured if measured is not None else Counts()

    @property
    def candidate(self) -> Measure:
        measured = self.test.measure(self.assessment.candidate)
        return measured if measured is not None else Counts()


def minutes_a_tick(policy: Policy, source: Source) -> float:
    """Return how many minutes pass from one tick of a source to the next, on average."""
    match source:
        case Source.METRICS:
            return 1.0
        case Source.LOGS:
            return BLOCK / MINUTE
        case Source.PROBES:
            return 1 / sum((MINUTE / probe.every for probe in policy.probes), 0.0)


@dataclass(frozen=True)
class _Said:
    """What the judge says of a guard, without its numbers."""

    value: VerdictValue
    words: str
    need: Need = NO_NEED
    stable_is_bad: bool = False


def _finding(case: _Case) -> Finding:
    """Say what one guard says: the rules of this module's head, in their order."""
    said = (
        _of_harm(case)
        or _of_shared_harm(case)
        or _of_nothing_measured(case)
        or _of_suspicion(case)
        or _of_missing_proof(case)
        or _Said(VerdictValue.PASS, _joined("within limits", _bad_stable(case), _ruled_out(case)))
    )
    return Finding(
        guard=case.test.name,
        value=said.value,
        reason=f"{numbers_text(case.test, case.assessment)}: {said.words}",
        stable_is_bad=said.stable_is_bad,
        decides=_decides(case, said.value),
        log_harm=case.test.log_harm(),
        log_safety=min((limit.log_safety for limit in case.limits), default=0.0),
        need=said.need,
    )


def _decides(case: _Case, value: VerdictValue) -> bool:
    if value is VerdictValue.FAIL:
        return case.test.decides
    return case.test.decides and bool(case.limits) and not case.is_silent


def _of_harm(case: _Case) -> _Said | None:
    evidence, account, decides = case.test.log_harm(), case.account, case.test.decides
    if evidence < account.needed or (decides and not account.shows_harm):
        return None
    limits: Sequence[Limit[Any]] = case.test.limits
    worst = max(limits, key=lambda limit: limit.log_harm)
    odds = odds_text(account.log_harm if decides else evidence)
    return _Said(VerdictValue.FAIL, f"{breach_text(worst)}, beyond doubt ({odds})")


def _of_shared_harm(case: _Case) -> _Said | None:
    shared = [limit for limit in case.limits if limit.log_shared_harm >= SUSPICION]
    compared = max((limit.log_harm for limit in case.limits if not limit.is_ceiling), default=0.0)
    if not shared or compared >= SUSPICION:  # worse than a bad stable is still worse
        return None
    worst = max(shared, key=lambda limit: limit.log_shared_harm)
    sure = worst.log_shared_harm >= worst.harm.needed
    words = f"both are {breach_text(worst)}" if sure else f"both look {breach_text(worst)}, not sure yet"
    return _Said(VerdictValue.UNSURE, words, stable_is_bad=sure)


def _of_nothing_measured(case: _Case) -> _Said | None:
    if problem := case.test.problem or case.assessment.problems.get(case.test.name):
        return _Said(VerdictValue.UNMEASURED, f"cannot be weighed: {problem}")
    if not case.limits:
        return _Said(VerdictValue.UNMEASURED, "nothing to compare with")
    if not case.candidate.total:
        return _Said(VerdictValue.UNMEASURED, "nothing was measured of the candidate")
    if not (case.alone or case.stable.total) and case.assessment.stable.requests:
        return _Said(VerdictValue.UNMEASURED, "nothing was measured of stable")
    return None


def _of_suspicion(case: _Case) -> _Said | None:
    if case.test.log_suspicion(alone=case.alone) < SUSPICION:
        return _of_recurring_harm(case)
    worst = max(case.limits, key=lambda limit: limit.log_harm)
    need = case.in_minutes(need_for_harm(worst, case.stable, case.candidate, case.assessment.minutes))
    return _Said(VerdictValue.UNSURE, f"looks {breach_text(worst)}, not sure yet: {need_text(need)}", need)


def _of_recurring_harm(case: _Case) -> _Said | None:
    if not case.test.recurs(alone=case.alone):
        return None
    worst = max(case.limits, key=lambda limit: limit.harm.recurring)
    return _Said(VerdictValue.UNSURE, f"again and again {breach_text(worst)}, with good minutes in between")


def _of_missing_proof(case: _Case) -> _Said | None:
    least = min(case.limits, key=lambda limit: limit.log_safety)
    needed = case.account.needed_safety
    if case.policy.advance_on is not AdvanceOn.PROVEN or least.log_safety >= needed:
        return None
    if case.assessment.source is not Source.METRICS or case.test.may_be_silent:
        return None  # proof takes many requests, which these never have
    need = case.in_minutes(
        need_for_safety(least, needed, case.stable, case.candidate, case.assessment.minutes)
    )
    words = f"not shown yet to stay within {least.least_shown}: {need_text(need)}"
    return _Said(VerdictValue.UNSURE, _joined(words, _ruled_out(case)), need)


def _ruled_out(case: _Case) -> str:
    return "" if case.alone else ruled_out_text(case.test, case.account.needed_safety)


def _bad_stable(case: _Case) -> str:
    """Say that being no worse than stable was not enough, as stable is bad itself."""
    broken = next((limit for limit in case.limits if limit.broken_by_stable and not case.alone), None)
    return f"stable itself is {breach_text(broken)}, so the candidate is held to that" if broken else ""


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))


def _combine(findings: tuple[Finding, ...], *, alone: bool) -> Verdict:
    """Let the worst deciding guard speak; the others are reported as they stand."""
    order = (VerdictValue.FAIL, VerdictValue.UNMEASURED, VerdictValue.UNSURE, VerdictValue.PASS)
    deciding = [finding for finding in findings if finding.decides]
    if not deciding:
        value = VerdictValue.PASS if alone else VerdictValue.UNMEASURED
        return Verdict(value, "no guard can decide here", findings)
    worst = min((finding.value for finding in deciding), key=order.index)
    bad = worst is not VerdictValue.FAIL and any(finding.stable_is_bad for finding in deciding)
    speaking = [f for f in deciding if (bad and f.stable_is_bad) or f.value is worst]
    reason = "; ".join(f"{finding.guard}: {finding.reason}" for finding in speaking)
    requests = max(finding.need.requests for finding in speaking)
    minutes = max(finding.need.minutes for finding in speaking)
    return Verdict(worst, reason, findings, bad, requests, minutes)


def _with_hold(
    verdict: Verdict, hold: Hold, assessment: Assessment, probed: Assessment | None, *, proven: bool
) -> Verdict:
    """Turn a pass into unsure until the step has its minutes and its requests on both sides."""
    minutes_seen = assessment.minutes
    candidate = assessment.candidate.requests + (probed.candidate.requests if probed else 0)
    stable = assessment.stable.requests + (probed.stable.requests if probed else 0)
    if not candidate:
        reason = f"no request reached the candidate in {counted(minutes_seen, 'minute')}"
        return replace(
            verdict,
            value=VerdictValue.UNMEASURED,
            reason=reason,
            stable_is_bad=False,
            requests_missing=hold.requests,
            minutes_missing=_minutes(hold),
        )
    alone = assessment.alone
    fewest = candidate if alone else min(candidate, stable)
    requests = 0 if proven else max(0, hold.requests - fewest)
    for_requests = math.ceil(requests * minutes_seen / fewest) if fewest else 0
    minutes = max(_minutes(hold) - minutes_seen, for_requests, 0)
    if not (requests or minutes):
        return verdict
    if verdict.stable_is_bad:  # a comparison needs its time, too, before a person is asked
        verdict = replace(verdict, stable_is_bad=False)
    if verdict.requests_missing and verdict.value is not VerdictValue.PASS:
        return verdict  # it has said what is missing
    enough = stable >= hold.requests
    side = "" if alone else " to the candidate" if enough else " on each side"
    needs = [f"{counted(requests, 'more request')}{side}"] if requests else []
    needs += [counted(minutes, "more minute")] if minutes else []
    value, reason = verdict.value, f"{verdict.reason}; needs {' and about '.join(needs)}"
    if value is VerdictValue.PASS:
        value = VerdictValue.UNSURE
        reason = f"no sign of harm so far, needs {' and about '.join(needs)}; {verdict.reason}"
    return replace(
        verdict,
        value=value,
        reason=reason,
        requests_missing=max(requests, verdict.requests_missing),
        minutes_missing=max(minutes, verdict.minutes_missing),
    )


def _minutes(hold: Hold) -> int:
    return math.ceil(hold.at_least.total_seconds() / 60)
