"""The plan of a rollout's steps: shares and times that fit the traffic, and what each of them risks.

Rules:

- What a step risks is how many requests the worst candidate fails in it, beyond what stable would have, until
  it is noticed or the step's limit is over. A failure rate that is tolerated is no risk.
- A step has the largest share that risks no more than the policy allows. What the steps before have ruled
  out need not be feared any more.
- It lasts until so much is ruled out that the next may have five times its share; less where that takes too
  long, but twice at least.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from controller.core.evidence import MINUTE
from controller.core.policy import Policy, smallest_limit
from controller.core.policy_choices import AdvanceOn
from controller.core.policy_steps import AutoSteps, Hold, Step
from controller.core.reach import (
    Eye,
    Traffic,
    eyes_of,
    increase_text,
    proof_of,
    reach_warnings,
    requests_text,
    requests_to_show,
    rounded_up,
    ruled_out,
    seen_after,
    tolerated,
    tolerated_text,
)
from controller.core.sequential import NO_ROOM, Line
from controller.core.units import duration_text
from controller.core.wording import percent_text

LARGEST: Final = 50
"""The largest share of a step: with more, stable has too few requests to compare with."""
MOST_TIMES, LEAST_TIMES = 5, 2
SHORTEST, LONGEST = 3, 120
"""Minutes of evidence that a step has."""
LIMIT_FACTOR: Final = 4
SHARES: Final = 60
"""So many shares of failures are looked at to find the worst."""


@dataclass(frozen=True)
class Risk:
    """The worst that a candidate can do in a step: it fails `share` of its requests, `failed` in all.

    It is noticed and without users after the time `noticed`, if that is within the step's limit.
    """

    share: float
    failed: float
    noticed: timedelta


@dataclass(frozen=True)
class PlannedStep:
    """A step with its reasons; `feared` is the largest share of failures that was not ruled out before."""

    step: Step
    feared: float
    risk: Risk
    rules_out: float

    def text(self, traffic: Traffic) -> str:
        """Return the arithmetic of the step in words."""
        hold, risk = self.step.hold, self.risk
        noticed = f"is noticed and without users after {duration_text(rounded_up(risk.noticed))}"
        if risk.noticed > hold.at_most:
            noticed = f"may not be noticed before the limit of {duration_text(hold.at_most)}"
        return (
            f"{traffic.of(self.step.traffic).text}. The worst that is still possible fails"
            f" {percent_text(risk.share)} of them, {noticed}, and has failed"
            f" {requests_text(math.ceil(risk.failed))} more than stable would have."
            f" {duration_text(hold.at_least)} of good evidence rule out more than"
            f" {percent_text(self.rules_out)} failures."
        )


@dataclass(frozen=True)
class StepPlan:
    """Steps that fit the traffic: each may risk `allowed` failed requests, or what even the smallest does.

    `instead` says what can be shown where there is too little traffic for what the policy asks for.
    """

    traffic: Traffic
    steps: tuple[PlannedStep, ...]
    allowed: int
    instead: str = ""

    def policy(self, policy: Policy) -> Policy:
        """Return the policy with these steps written out."""
        return policy.model_copy(update={"steps": tuple(each.step for each in self.steps), "auto": None})

    @property
    def is_as_wanted(self) -> bool:
        """Whether no step risks more than it may, and what the policy wants can be shown."""
        return self._risk <= self.allowed and not self.instead

    @property
    def _risk(self) -> int:
        return max(math.ceil(each.risk.failed) for each in self.steps)

    @property
    def sentence(self) -> str:
        """The plan in one sentence, without its end."""
        steps = [f"{each.step.traffic}% for {duration_text(each.step.hold.at_least)}" for each in self.steps]
        risk = self._risk
        text = (
            f"steps chosen for {self.traffic.text}: {', '.join(steps)}; the worst candidate fails about"
            f" {requests_text(risk)} in a step before it is noticed"
        )
        if risk > self.allowed:
            text += f", more than the {self.allowed} allowed, as failures are not noticed sooner at this rate"
        return f"{text}; {self.instead}" if self.instead else text

    def lines(self) -> Iterator[str]:
        """Yield the arithmetic of each step, for people."""
        for each in self.steps:
            yield f"{each.step.traffic}%: {each.text(self.traffic)}"


def plan_steps(policy: Policy, traffic: Traffic) -> StepPlan | None:
    """Return the steps that fit the traffic; None where no guard decides on errors, so that none can."""
    eyes = eyes_of(policy, traffic)
    if not eyes:
        return None
    allowed = (policy.auto or AutoSteps()).at_most
    planner = _Planner(policy, traffic, eyes, allowed)
    steps = tuple(planner.steps())
    return StepPlan(traffic, steps, allowed, _instead(policy, traffic, steps[0]) if planner.is_quiet else "")


def _instead(policy: Policy, traffic: Traffic, only: PlannedStep) -> str:
    """Say what can be shown with too little traffic, and how long the policy's own proof would take."""
    time = proof_of(policy, traffic, LARGEST) / traffic.at(LARGEST) * MINUTE
    return (
        f"an increase of {increase_text(only.rules_out - traffic.errors)} can be ruled out in"
        f" {duration_text(only.step.hold.at_least)}; the policy's proof of {tolerated_text(policy, traffic)}"
        f" would take {duration_text(rounded_up(time))}"
    )


@dataclass(frozen=True)
class Fitted:
    """A policy whose steps are written out, and what there is to say about them at the traffic measured."""

    policy: Policy
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    plan: StepPlan | None = None


def fit_steps(policy: Policy, traffic: Traffic | None) -> Fitted:
    """Return the policy with the steps that fit the traffic, or as it is where it names its steps."""
    if not policy.auto:
        return Fitted(policy, tuple(reach_warnings(policy, traffic)) if traffic else ())
    plan = plan_steps(policy, traffic) if traffic else None
    if plan:
        fitted = plan.policy(policy)
        beyond, said = tuple(reach_warnings(fitted, plan.traffic)), (plan.sentence,)
        if plan.is_as_wanted:
            return Fitted(fitted, beyond, said, plan)
        return Fitted(fitted, (*said, *beyond), plan=plan)
    why = "no guard decides on errors" if traffic else "stable had no request in the last hour"
    usual = ", ".join(f"{step.traffic}%" for step in policy.steps)
    warning = f"{why}, so no steps can be chosen by it: they are the usual ones, {usual}"
    return Fitted(policy.model_copy(update={"auto": None}), (warning,))


class _Planner:
    """What all steps of a plan have in common."""

    def __init__(self, policy: Policy, traffic: Traffic, eyes: tuple[Eye, ...], allowed: int) -> None:
        self._policy, self._traffic, self._eyes = policy, traffic, eyes
        self._least = math.ceil(policy.hold.requests / LONGEST / traffic.at(1))
        """The percent that has the requests of a step in the longest time."""
        self.is_quiet = self._least > LARGEST
        smallest = min(self._least, LARGEST)
        self.at_most = max(float(allowed), self._risk(smallest, NO_ROOM, self._hold(smallest)).failed)

    def steps(self) -> Iterator[PlannedStep]:
        """Yield the steps from the smallest share to the largest."""
        percent, feared = self._first(), NO_ROOM
        while True:
            following, requests = self._following(percent, feared)
            hold = self._hold(percent, max(requests, self._proof(percent)))
            requests = self._traffic.at(percent) * (hold.at_least / MINUTE)
            known = min(feared, ruled_out(self._policy, self._traffic, percent, requests))
            risk = self._risk(percent, feared, hold)
            yield PlannedStep(Step(traffic=percent, hold=hold), feared, risk, known)
            if percent == LARGEST:
                return
            percent, feared = following, known

    def _first(self) -> int:
        for percent in range(LARGEST, self._least, -1):
            if self._risk(percent, NO_ROOM, self._hold(percent)).failed <= self.at_most:
                return percent
        return min(self._least, LARGEST)

    def _following(self, percent: int, feared: float) -> tuple[int, float]:
        """Return the next share, and the requests that rule out what must not happen there."""
        lowest, longest = min(LEAST_TIMES * percent, LARGEST), LONGEST * self._traffic.at(percent)
        if percent == LARGEST:
            return percent, 0
        fitting = [
            (following, requests)
            for following in range(min(MOST_TIMES * percent, LARGEST), lowest - 1, -1)
            if (requests := self._to_rule_out(percent, self._bearable(following))) <= longest
        ]
        for following, requests in fitting:
            if self._risk(percent, feared, self._hold(percent, requests)).failed <= self.at_most:
                return following, requests
        return fitting[-1] if fitting else (lowest, longest)

    def _proof(self, percent: int) -> float:
        """Return the requests to wait for where the policy wants a proof that can be had before the limit."""
        proof, longest = proof_of(self._policy, self._traffic, percent), LONGEST * self._traffic.at(percent)
        wanted = self._policy.advance_on is AdvanceOn.PROVEN and proof <= LIMIT_FACTOR * longest
        return min(proof, longest) if wanted else 0

    def _to_rule_out(self, percent: int, share: float) -> float:
        more = Line(1, share - self._traffic.errors)
        return requests_to_show(self._policy, self._traffic, percent, more)

    def _bearable(self, percent: int) -> float:
        """Return the largest share of failures up to which none risks more than it may."""
        bearable, hold = tolerated(self._policy, self._traffic), self._hold(percent)
        for share in self._shares(NO_ROOM):
            if self._failed(percent, share, hold) > self.at_most:
                break
            bearable = share
        return bearable

    def _hold(self, percent: int, requests: float = 0) -> Hold:
        """Return how long a step must be for so many requests, and those that the policy asks for."""
        a_minute = self._traffic.at(percent)
        wanted = max(math.ceil(requests), self._policy.hold.requests)
        minutes = min(max(SHORTEST, math.ceil(wanted / a_minute)), LONGEST)
        at_least = minutes * MINUTE
        hold = Hold(at_least=at_least, requests=max(1, min(wanted, round(minutes * a_minute))))
        limit = max(LIMIT_FACTOR * at_least, smallest_limit(self._policy, hold))
        return hold.model_copy(update={"at_most": limit})

    def _risk(self, percent: int, feared: float, hold: Hold) -> Risk:
        share = max(self._shares(feared), key=lambda share: self._failed(percent, share, hold))
        noticed = seen_after(self._eyes, self._traffic, percent, share)
        return Risk(share, self._failed(percent, share, hold), noticed)

    def _failed(self, percent: int, share: float, hold: Hold) -> float:
        time = min(seen_after(self._eyes, self._traffic, percent, share), hold.at_most)
        return (share - self._traffic.errors) * self._traffic.at(percent) * (time / MINUTE)

    def _shares(self, feared: float) -> list[float]:
        """Return shares of failures from what is tolerated up to what is feared."""
        least = tolerated(self._policy, self._traffic)
        most = max(feared, least)
        return [least * (most / least) ** (number / SHARES) for number in range(1, SHARES + 1)]
