"""Reach: after how many requests a failing candidate is noticed, and what so many requests can rule out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from controller.core.counts import Counts
from controller.core.evidence import BLOCK, MINUTE, Minute, Source
from controller.core.guards import guard_tests
from controller.core.limits import NEAR, points_text
from controller.core.policy import Policy, evidence_time
from controller.core.policy_choices import AdvanceOn
from controller.core.policy_guards import ErrorGuard
from controller.core.policy_steps import Step
from controller.core.sequential import (
    FAST_POINTS,
    FAST_PRIOR,
    FIRST_BAD,
    NO_ROOM,
    PRIOR,
    Harm,
    Line,
    Rate,
    growth,
)
from controller.core.traffic import ALL
from controller.core.units import duration_text

LONGEST: Final = timedelta(days=365)
MANY: Final = 1000
PASS: Final = timedelta(seconds=20)
"""Time from evidence that is there to a split that is in force."""
_UNTOLD: Final = -math.log(min(PRIOR))
_FAST_UNTOLD: Final = -math.log(min(FAST_PRIOR))
"""What it costs at most, in nats, that the bets are not told how much the candidate fails."""

LATELY = timedelta(minutes=10)
FEWEST_LATELY = 20
"""Requests in the latest minutes that say more of the rate than the whole time before."""


@dataclass(frozen=True)
class Traffic:
    """What is known of a service before a rollout.

    `a_minute` is its number of requests a minute, above 0; `errors` the share of them that fail in stable,
    strictly between 0 and 1: where none failed, it is what that many requests leave possible.
    """

    a_minute: float
    errors: float
    never_failed: bool = False

    def at(self, percent: int) -> float:
        """Return the requests a minute to a revision that has so many percent."""
        return self.a_minute * percent / ALL

    @property
    def text(self) -> str:
        """The rate as people say it: `20 requests a second`."""
        for unit, rate in (("a second", self.a_minute / 60), ("a minute", self.a_minute)):
            if rate >= 1:
                return f"{requests_text(rate)} {unit}"
        return f"{requests_text(self.a_minute * 60)} an hour"

    def of(self, percent: int) -> "Traffic":
        """Return what a revision gets that has so many percent."""
        return replace(self, a_minute=self.at(percent))


def traffic_of(minutes: Sequence[Minute], until: datetime, guard: ErrorGuard | None) -> Traffic | None:
    """Return the traffic of a revision since its first request in these minutes; None without any.

    Its latest minutes alone count where they were busier: it may have had a step's share only before.
    """
    served = [minute for minute in minutes if minute.sample.requests]
    if not served:
        return None
    codes = guard.codes if guard else ()
    rate = Rate()
    for minute in served:
        rate = rate.after(Counts(minute.sample.having(codes), minute.sample.requests), memory=1)
    requests = sum(minute.sample.requests for minute in served)
    since = min(minute.end for minute in served) - MINUTE
    lately = sum(minute.sample.requests for minute in served if minute.end > until - LATELY)
    a_minute = requests * MINUTE / (until - since)
    if lately >= FEWEST_LATELY:
        a_minute = max(a_minute, lately * MINUTE / LATELY)
    return Traffic(a_minute, rate.share, never_failed=rate.bad == FIRST_BAD)


@dataclass(frozen=True)
class Eye:
    """One way in which failures are seen.

    `tick` is the time of one piece of evidence, `blind` the time in which requests come that say nothing yet.
    """

    harm: Harm
    tick: timedelta
    blind: timedelta

    def sees(self, traffic: Traffic, percent: int, share: float) -> timedelta:
        """Return how long a candidate that fails this share of its requests goes on; longest for ever."""
        a_tick = traffic.at(percent) * (self.tick / MINUTE)
        ticks = min(_ticks(nats, least, a_tick) for nats, least in self._ways(traffic, percent, share))
        return self.blind + ticks * self.tick if ticks < LONGEST / self.tick else LONGEST

    def _ways(self, traffic: Traffic, percent: int, share: float) -> Iterator[tuple[float, float]]:
        """Yield the requests that it takes, and the ticks at least: slowly, or at once for large jumps."""
        line, needed, fast = self.harm.line, self.harm.needed, self.harm.fast_share
        slowly = needed - math.log1p(-fast) + _UNTOLD
        yield slowly / _growth(line, traffic, percent, share), math.ceil(self.harm.minutes)
        least = math.ceil(self.harm.fast_minutes) if percent == ALL else 1
        far = Line(line.factor, line.points + FAST_POINTS)
        yield (needed - math.log(fast) + _FAST_UNTOLD) / _growth(far, traffic, percent, share), least


_NOTHING: Final = 1e-12


def _ticks(requests: float, least: float, a_tick: float) -> float:
    return max(least, math.ceil(requests / a_tick))


def _growth(line: Line, traffic: Traffic, percent: int, share: float) -> float:
    """Return the evidence of harm that a request gives, in nats, never quite 0."""
    if not line.at(traffic.errors) < share or (line.factor and percent == ALL):
        return _NOTHING
    share = min(share, NO_ROOM)
    return max(_NOTHING, growth(line, ALL - percent, percent, traffic.errors, share))


def eyes_of(policy: Policy, traffic: Traffic) -> tuple[Eye, ...]:
    """Return the ways in which failures are seen and decide; none where no guard of errors does."""
    return tuple(_eyes(policy, traffic))


def _eyes(policy: Policy, traffic: Traffic) -> Iterator[Eye]:
    late = policy.settle + policy.metrics_delay + MINUTE + PASS
    yield from (Eye(harm, MINUTE, late) for harm in _harms(policy, traffic, Source.METRICS, "errors"))
    if policy.request_logs:
        late = policy.settle + policy.request_logs.delay + PASS
        logged = _harms(policy, traffic, Source.LOGS, "logged errors")
        yield from (Eye(harm, BLOCK, late) for harm in logged)


def _harms(policy: Policy, traffic: Traffic, source: Source, name: str) -> Iterator[Harm]:
    for test in guard_tests(policy, source):
        if test.name != name or not test.decides:
            continue
        for limit in test.limits:
            harm = limit.harm
            if isinstance(harm, Harm) and not (limit.is_ceiling and traffic.errors > NEAR * harm.line.points):
                yield harm


def tolerated(policy: Policy, traffic: Traffic) -> float:
    """Return the share of failures that the policy tolerates beside this stable."""
    guard = policy.guards.errors or ErrorGuard()
    return min(NO_ROOM, guard.tolerance.factor * traffic.errors + guard.tolerance.points)


def seen_after(eyes: Iterable[Eye], traffic: Traffic, percent: int, share: float) -> timedelta:
    """Return how long it takes until a candidate that fails this share has lost its users."""
    return min((eye.sees(traffic, percent, share) for eye in eyes), default=LONGEST)


def requests_to_show(policy: Policy, traffic: Traffic, percent: int, line: Line) -> float:
    """Return how many requests show of a candidate as good as stable that it is not beyond the line."""
    errors, needed = traffic.errors, -math.log1p(-policy.confidence.promotion)
    if not errors < line.at(errors) < 1:
        return math.inf
    stable = max(ALL - percent, 1)
    return needed / max(_NOTHING, growth(line, stable, percent, errors, errors))


def ruled_out(policy: Policy, traffic: Traffic, percent: int, requests: float) -> float:
    """Return the smallest share of failures that so many requests to the candidate can rule out."""
    low, high = traffic.errors, NO_ROOM
    for _ in range(40):
        share = (low + high) / 2
        if requests_to_show(policy, traffic, percent, Line(1, share - traffic.errors)) <= requests:
            high = share
        else:
            low = share
    return high


def proof_of(policy: Policy, traffic: Traffic, percent: int) -> float:
    """Return how many requests show that a candidate as good as stable is within the policy's tolerance."""
    tolerance = (policy.guards.errors or ErrorGuard()).tolerance
    return requests_to_show(policy, traffic, percent, Line(tolerance.factor, tolerance.points))


def tolerated_text(policy: Policy, traffic: Traffic) -> str:
    """Return how many more failures the policy tolerates beside this stable: `0.46 points`."""
    return increase_text(tolerated(policy, traffic) - traffic.errors)


@dataclass(frozen=True)
class StepReach:
    """What a step can show at the traffic measured: `wanted` is what it waits for, and how long that takes.

    It takes `least` where there is much traffic. `shown` is the smallest increase of failures that can be
    ruled out within its limit.
    """

    number: int
    step: Step
    wanted: str
    least: timedelta
    takes: timedelta
    shown: float

    @property
    def is_out_of_reach(self) -> bool:
        """Whether the evidence takes longer than the step may."""
        return self.takes > self.step.hold.at_most

    @property
    def time_text(self) -> str:
        """How long its evidence takes, in words."""
        if self.takes >= LONGEST:
            return "more than a year"
        return duration_text(self.takes if self.takes == self.least else rounded_up(self.takes))


def probed_a_minute(policy: Policy) -> float:
    """Return how many probes each revision gets in a minute, which count as requests of a step."""
    return sum(MINUTE / probe.every for probe in policy.probes)


def reach_of(policy: Policy, traffic: Traffic) -> tuple[StepReach, ...]:
    """Return what each step can show; with 100 % there is nothing to compare with."""
    steps = enumerate(policy.steps, start=1)
    return tuple(_reach(policy, traffic, number, step) for number, step in steps if step.traffic != ALL)


def _reach(policy: Policy, traffic: Traffic, number: int, step: Step) -> StepReach:
    percent, hold, errors = step.traffic, step.hold, policy.guards.errors
    late = evidence_time(policy, hold) - hold.at_least
    minutes = hold.requests / (traffic.at(min(percent, ALL - percent)) + probed_a_minute(policy))
    wanted = f"{requests_text(hold.requests)} to each revision"
    if policy.advance_on is AdvanceOn.PROVEN and errors and not errors.observe:
        proof = proof_of(policy, traffic, percent) / traffic.at(percent)
        if proof > minutes:
            minutes, wanted = proof, f"proof of at most {tolerated_text(policy, traffic)} more failures"
    evidence = math.ceil(min(minutes, LONGEST / MINUTE)) * MINUTE
    requests = traffic.at(percent) * ((hold.at_most - late) / MINUTE)
    shown = ruled_out(policy, traffic, percent, requests) - traffic.errors
    least = hold.at_least + late
    return StepReach(number, step, wanted, least, max(least, evidence + late), shown)


def reach_lines(policy: Policy, traffic: Traffic) -> Iterator[str]:
    """Yield how long each step takes at this traffic, for people."""
    for each in reach_of(policy, traffic):
        rate = f"{each.step.traffic}% are {traffic.of(each.step.traffic).text}"
        yield f"Step {each.number}: {rate}; with {each.wanted} it takes about {each.time_text}."


def reach_warnings(policy: Policy, traffic: Traffic) -> Iterator[str]:
    """Yield what is out of reach at this traffic, and what can be shown instead."""
    beyond = [each for each in reach_of(policy, traffic) if each.is_out_of_reach]
    if not beyond:
        return
    first, numbers = beyond[0], ", ".join(str(each.number) for each in beyond)
    steps = f"step{'s' if len(beyond) > 1 else ''} {numbers}"
    limit, percent = duration_text(first.step.hold.at_most), first.step.traffic
    yield (
        f"at {traffic.text}, what {steps} must show is out of reach: with {percent}%, {first.wanted} would"
        f" take {first.time_text}, and the limit is {limit}; an increase of {increase_text(first.shown)} can"
        " be ruled out by then"
    )


def increase_text(share: float) -> str:
    """Write an increase of failures, rounded up: `3 points`, `0.46 points`."""
    points = share * 100
    return points_text((math.ceil(points) if points > 1 else math.ceil(points * 100) / 100) / 100)


def requests_text(requests: float) -> str:
    """Write a number of requests: `1 request`, `50 requests`."""
    number = f"{requests:.3g}" if requests < MANY else f"{requests:.0f}"
    return "1 request" if number == "1" else f"{number} requests"


def rounded_up(duration: timedelta) -> timedelta:
    """Return a duration without what nobody asks for: minutes of days, seconds of hours."""
    for unit in (timedelta(days=1), timedelta(hours=1), MINUTE):
        if duration >= 3 * unit:
            return -(-duration // unit) * unit
    return -(-duration // timedelta(seconds=1)) * timedelta(seconds=1)
