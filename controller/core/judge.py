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

from controller.core.assessment import Assessment
from controller.core.evidence import Source
from controller.core.findings import Account, Case, Finding, VerdictValue, finding_of, limits_of
from controller.core.guards import deciding_guards, log_harm
from controller.core.policy import Policy
from controller.core.policy_steps import Hold
from controller.core.probe_evidence import answered_well
from controller.core.wording import counted


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


def judge(policy: Policy, hold: Hold, assessment: Assessment, others: Sequence[Assessment] = ()) -> Verdict:
    """Judge the latest stage by the policy's guards and the step's hold.

    `assessment` is that of the metrics, on which a step passes; the `others`, of the request log and of
    probes, can show harm and keep it from passing. Probes count as requests where users send few.
    """
    weighed = [each for each in (assessment, *others) if not each.problem]
    account = _account(policy, weighed)
    probed = next((each for each in weighed if each.source is Source.PROBES), None)
    findings = tuple(
        finding_of(Case(policy, each, account, test, probed)) for each in weighed for test in each.guards
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


def _account(policy: Policy, weighed: Sequence[Assessment]) -> Account:
    needed = -math.log(policy.confidence.false_rollback)
    tests = [test for each in weighed for test in each.guards]
    return Account(
        log_harm=log_harm(tests, deciding_guards(policy)),
        needed=needed,
        needed_safety=-math.log1p(-policy.confidence.promotion),
        was_shown=any(each.harmed is not None for each in weighed),
    )


def _is_proven(assessment: Assessment, account: Account) -> bool:
    """Tell whether the safety of all that decides here is shown."""
    alone = assessment.alone
    proving = [test for test in assessment.guards if test.decides and not test.may_be_silent]
    limits = [limit for test in proving for limit in limits_of(test, alone=alone)]
    return bool(limits) and all(limit.log_safety >= account.needed_safety for limit in limits)


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
    # Of probes only good answers count: what both fail, or could not be asked, says nothing of the candidate.
    candidate = assessment.candidate.requests + (answered_well(probed.candidate) if probed else 0)
    stable = assessment.stable.requests + (answered_well(probed.stable) if probed else 0)
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
