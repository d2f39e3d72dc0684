"""Findings: what each guard says for itself, on the evidence of its source. The judge puts them together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.core.assessment import Assessment
from controller.core.counts import Counts
from controller.core.evidence import BLOCK, MINUTE, Measure, Source
from controller.core.guards import AnyGuardTest
from controller.core.limits import Limit
from controller.core.needs import NO_NEED, Need, need_for_harm, need_for_safety
from controller.core.policy import Policy
from controller.core.policy_choices import AdvanceOn
from controller.core.probe_evidence import answered_well
from controller.core.wording import breach_text, need_text, numbers_text, odds_text, ruled_out_text

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
class Account:
    """The evidence of all deciding guards together, beside what the policy needs; in nats."""

    log_harm: float
    needed: float
    needed_safety: float
    was_shown: bool

    @property
    def shows_harm(self) -> bool:
        """Whether harm is beyond doubt, now or in a minute before."""
        return self.was_shown or self.log_harm >= self.needed


def limits_of(test: AnyGuardTest, *, alone: bool) -> Sequence[Limit[Any]]:
    """Return the limits of a guard that mean something here: without a stable beside it, only ceilings."""
    return [limit for limit in test.limits if limit.is_ceiling or not alone]


@dataclass(frozen=True)
class Case:
    """One guard before the judge, with all that is asked about it."""

    policy: Policy
    assessment: Assessment
    account: Account
    test: AnyGuardTest
    probed: Assessment | None

    @property
    def alone(self) -> bool:
        """Whether the candidate has no stable beside it."""
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
        stands_in = self.probed is not None and answered_well(self.probed.candidate) > 0
        return self.assessment.source is Source.METRICS and stands_in and not self.candidate.total

    @property
    def limits(self) -> Sequence[Limit[Any]]:
        """The limits that mean something here."""
        return limits_of(self.test, alone=self.alone)

    @property
    def stable(self) -> Measure:
        """What the guard measured of stable."""
        measured = self.test.measure(self.assessment.stable)
        return measured if measured is not None else Counts()

    @property
    def candidate(self) -> Measure:
        """What the guard measured of the candidate."""
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


def finding_of(case: Case) -> Finding:
    """Say what one guard says: the rules of the judge, in their order."""
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


def _decides(case: Case, value: VerdictValue) -> bool:
    if value is VerdictValue.FAIL:
        return case.test.decides
    return case.test.decides and bool(case.limits) and not case.is_silent


def _of_harm(case: Case) -> _Said | None:
    evidence, account, decides = case.test.log_harm(), case.account, case.test.decides
    if evidence < account.needed or (decides and not account.shows_harm):
        return None
    limits: Sequence[Limit[Any]] = case.test.limits
    worst = max(limits, key=lambda limit: limit.log_harm)
    odds = odds_text(account.log_harm if decides else evidence)
    return _Said(VerdictValue.FAIL, f"{breach_text(worst)}, beyond doubt ({odds})")


def _of_shared_harm(case: Case) -> _Said | None:
    shared = [limit for limit in case.limits if limit.log_shared_harm >= SUSPICION]
    compared = max((limit.log_harm for limit in case.limits if not limit.is_ceiling), default=0.0)
    if not shared or compared >= SUSPICION:  # worse than a bad stable is still worse
        return None
    worst = max(shared, key=lambda limit: limit.log_shared_harm)
    sure = worst.log_shared_harm >= worst.harm.needed
    words = f"both are {breach_text(worst)}" if sure else f"both look {breach_text(worst)}, not sure yet"
    return _Said(VerdictValue.UNSURE, words, stable_is_bad=sure)


def _of_nothing_measured(case: Case) -> _Said | None:
    if problem := case.test.problem or case.assessment.problems.get(case.test.name):
        return _Said(VerdictValue.UNMEASURED, f"cannot be weighed: {problem}")
    if not case.limits:
        return _Said(VerdictValue.UNMEASURED, "nothing to compare with")
    if not case.candidate.total:
        return _Said(VerdictValue.UNMEASURED, "nothing was measured of the candidate")
    if not (case.alone or case.stable.total) and case.assessment.stable.requests:
        return _Said(VerdictValue.UNMEASURED, "nothing was measured of stable")
    return None


def _of_suspicion(case: Case) -> _Said | None:
    if case.test.log_suspicion(alone=case.alone) < SUSPICION:
        return _of_recurring_harm(case)
    worst = max(case.limits, key=lambda limit: limit.log_harm)
    need = case.in_minutes(need_for_harm(worst, case.stable, case.candidate, case.assessment.minutes))
    return _Said(VerdictValue.UNSURE, f"looks {breach_text(worst)}, not sure yet: {need_text(need)}", need)


def _of_recurring_harm(case: Case) -> _Said | None:
    if not case.test.recurs(alone=case.alone):
        return None
    worst = max(case.limits, key=lambda limit: limit.harm.recurring)
    return _Said(VerdictValue.UNSURE, f"again and again {breach_text(worst)}, with good minutes in between")


def _of_missing_proof(case: Case) -> _Said | None:
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


def _ruled_out(case: Case) -> str:
    return "" if case.alone else ruled_out_text(case.test, case.account.needed_safety)


def _bad_stable(case: Case) -> str:
    """Say that being no worse than stable was not enough, as stable is bad itself."""
    broken = next((limit for limit in case.limits if limit.broken_by_stable and not case.alone), None)
    return f"stable itself is {breach_text(broken)}, so the candidate is held to that" if broken else ""


def _joined(*words: str) -> str:
    return "; ".join(filter(None, words))
