"""Anytime-valid tests on counts: whether the candidate is worse than it may be, or shown not to be.

Rules:

- A test is a value; feeding it a minute gives a new value. Its state is a few numbers, and a pure function of
  the minutes fed so far.
- Evidence is an e-value: its expectation is at most 1 as long as the null hypothesis holds in every minute,
  whatever stable's own share is and however that moves. So by Ville's inequality the chance that it ever
  reaches 1/a is at most a, over all looks together. It is kept as a logarithm, in nats.
- Each minute is a block of its own, and bets are made before it is seen: nothing is pooled over minutes or
  steps, so a drift that both revisions share is no evidence. A minute in which one side had no request waits
  for the next; that rule looks at the traffic alone, and the rates should stand still for so long.

The e-value of a block is the likelihood of an alternative over that of the point of the null nearest to it:
R. Turner, A. Ly and P. Gruenwald, "Generic E-variables for exact sequential k-sample tests" (2024,
arXiv:2106.02693); R. Turner and P. Gruenwald (2022, arXiv:2203.09785) for half-planes as nulls.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controller.core.counts import Counts

# The mixture: how many times worse than the limit, in odds, the candidate may be; and what is not bet at all.
ODDS = (1.25, 1.7, 2.5, 5.0, 15.0, 100.0, 1000.0)
CASH = 0.1
PRIOR = tuple((1 - CASH) * weight / 8.1 for weight in (1.0, 1.5, 2.0, 1.5, 1.0, 0.6, 0.5))
# The fast path looks for jumps of so many points beyond the limit, and is believed at once.
FAST_POINTS = 0.25
FAST_ODDS = (3.0, 20.0, 300.0)
FAST_PRIOR = ((1 - CASH) / 3,) * 3
FAST_SHARE = 0.05

AGREEING_MINUTES = 2.4
"""The evidence of one minute counts for at most 1/2.4 of what is needed, so that three have to agree."""

SHARED = 0.01
SHARED_AT_A_STEP = 0.3
"""How much of the bets is laid anew each minute, and when the traffic moves: late harm is found, too."""

RECURRING_CASH = 0.7
"""What is not bet in the account of harm that comes and goes, which limits what good minutes take of it."""

MEMORY = 0.97
SAFETY_MEMORY = 0.98
"""What a minute's counts are worth one minute later, for the rates that bets are based on."""

WORTH_A_BET = 0.98
"""A candidate whose own share is above this part of the limit gives safety nothing to win."""

# What the rates are taken for before anything is seen: so many bad of so many.
FIRST_BAD, FIRST_TOTAL = 0.5, 100.0
NO_ROOM = 0.999
"""A limit above this share cannot be exceeded by anything worth betting on."""

NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Line:
    """How much the candidate may have: `factor` times stable's share, and `points` (0 to 1) on top.

    With a factor of 0 it is a ceiling, and stable plays no part.
    """

    factor: float = 1.0
    points: float = 0.0

    def at(self, stable: float) -> float:
        """Return the most that the candidate may have beside this share of stable's."""
        return self.factor * stable + self.points


def nearest_on(
    line: Line, stable_total: float, candidate_total: float, stable: float, candidate: float
) -> tuple[float, float]:
    """Return the point of the line that is nearest to two shares, by Kullback-Leibler divergence.

    Each side counts by its requests. For a point beyond the line this is its reverse information projection
    onto the half-plane on the line's other side. Shares are strictly between 0 and 1.
    """
    factor, points = line.factor, line.points
    if not factor:
        return stable, points
    if factor == 1 and not points:
        pooled = (stable_total * stable + candidate_total * candidate) / (stable_total + candidate_total)
        return pooled, pooled
    # The derivative along the line rises from one end to the other: Newton, and halving where it leaps out.
    opposite = (candidate - points) / factor
    low, high = (stable, opposite) if opposite > stable else (max(opposite, 0.0), stable)
    weight = candidate_total * factor
    share = _first_guess(line, stable_total, candidate_total, stable, candidate)
    for _ in range(100):
        if not low < share < high:
            share = (low + high) / 2
        other = factor * share + points
        width, other_width = share * (1 - share), other * (1 - other)
        pull, other_pull = (share - stable) / width, (other - candidate) / other_width
        slope = stable_total * pull + weight * other_pull
        if slope > 0:
            high = share
        else:
            low = share
        bend = stable_total * (1 - pull * (1 - 2 * share)) / width
        bend += weight * factor * (1 - other_pull * (1 - 2 * other)) / other_width
        step = slope / bend
        share -= step
        if abs(step) <= 1e-15 * share or not low < high:
            break
    share = min(max(share, low), high)
    return share, factor * share + points


def _first_guess(
    line: Line, stable_total: float, candidate_total: float, stable: float, candidate: float
) -> float:
    """Return what the shares would meet at if their errors were normal."""
    stable_weight = stable_total / (stable * (1 - stable))
    candidate_weight = candidate_total * line.factor / (candidate * (1 - candidate))
    return (stable_weight * stable + candidate_weight * (candidate - line.points)) / (
        stable_weight + candidate_weight * line.factor
    )


def log_e_value(line: Line, stable: Counts, candidate: Counts, stable_bet: float, bet: float) -> float:
    """Return the log e-value of a block, for a bet on two shares beyond the line."""
    nearest_stable, nearest = nearest_on(line, stable.total, candidate.total, stable_bet, bet)
    log = candidate.bad * math.log(bet / nearest)
    log += (candidate.total - candidate.bad) * math.log((1 - bet) / (1 - nearest))
    if line.factor:
        log += stable.bad * math.log(stable_bet / nearest_stable)
        log += (stable.total - stable.bad) * math.log((1 - stable_bet) / (1 - nearest_stable))
    return log


def growth(line: Line, stable_total: int, candidate_total: int, stable_share: float, share: float) -> float:
    """Return the evidence in nats that a request to the candidate gives on average.

    The shares are what both revisions really have. The totals, above 0, say how the requests are divided:
    only their ratio matters.
    """
    at_stable, at = nearest_on(line, stable_total, candidate_total, stable_share, share)
    nats = _divergence(share, at)
    if line.factor:
        nats += stable_total / candidate_total * _divergence(stable_share, at_stable)
    return nats


def _divergence(share: float, other: float) -> float:
    return share * math.log(share / other) + (1 - share) * math.log((1 - share) / (1 - other))


def odds_times(share: float, times: float) -> float:
    """Return the share whose odds are so many times those of a share."""
    odds = times * share / (1 - share)
    return odds / (1 + odds)


@dataclass(frozen=True, slots=True)
class Rate:
    """A share as known from the past, the older the less it counts."""

    bad: float = FIRST_BAD
    total: float = FIRST_TOTAL

    @property
    def share(self) -> float:
        """The share, strictly between 0 and 1."""
        return self.bad / self.total

    def after(self, counts: Counts, memory: float) -> "Rate":
        """Return the rate with a block more; what it began with is kept up."""
        fresh = 1 - memory
        return Rate(
            memory * self.bad + fresh * FIRST_BAD + counts.bad,
            memory * self.total + fresh * FIRST_TOTAL + counts.total,
        )


@dataclass(frozen=True, slots=True)
class Mixture:
    """Bets side by side: one for each of several alternatives, and what is not bet.

    `weights` has the unbet cash first. Fixed share (M. Herbster and M. Warmuth, "Tracking the best expert",
    1998) lays a part of the bets anew each time.
    """

    weights: tuple[float, ...]

    def laid_anew(self, prior: tuple[float, ...], shared: float) -> "Mixture":
        """Return the bets with a part of them laid anew as at first."""
        pairs = zip(self.weights, prior, strict=True)
        return Mixture(tuple((1 - shared) * weight + shared * first for weight, first in pairs))

    def with_cash(self, least: float) -> "Mixture":
        """Return the bets with at least so much unbet, which limits what the next minute can lose."""
        cash, *bets = self.weights
        if cash >= least:
            return self
        return Mixture((least, *(bet * (1 - least) / (1 - cash) for bet in bets)))

    def after(
        self, logs: Iterable[float], prior: tuple[float, ...], shared: float
    ) -> tuple[float, "Mixture"]:
        """Return the log e-value of the mixture on a block, and the mixture after it."""
        known = (0.0, *logs)
        largest = max(known)
        won = [weight * math.exp(log - largest) for weight, log in zip(self.weights, known, strict=True)]
        total = sum(won)
        mixture = Mixture(tuple(each / total for each in won)).laid_anew(prior, shared)
        return largest + math.log(total), mixture


_BETS = (CASH, *PRIOR)
_FAST_BETS = (CASH, *FAST_PRIOR)


@dataclass(frozen=True, slots=True)
class Harm:
    """Evidence that the candidate is beyond a line: H of the design, with its cap and its fast path.

    `needed` is the evidence in nats at which somebody will act; one minute counts for at most
    1/`minutes` of it, so that a burst is not taken for a bad revision. The minute after may lose no more than
    that, or what was capped would be paid back in full. The fast path is not capped, for jumps of 25 points
    and more, but where nobody is beside the candidate: there `fast_minutes` have to agree, too. It has a part
    `fast_share` of the account. With `minutes` of 0 there is neither cap nor fast path.

    `recurring` is an account of its own, of harm that comes and goes: it starts anew whenever it is spent, so
    it promises nothing and is a reason to wait, never to act.
    """

    line: Line
    needed: float
    minutes: float = AGREEING_MINUTES
    fast_share: float = FAST_SHARE
    fast_minutes: float = 0.0
    capped: float = 0.0
    fast: float = 0.0
    bets: Mixture = Mixture(_BETS)
    fast_bets: Mixture = Mixture(_FAST_BETS)
    recurring: float = 0.0
    stable: Rate = Rate()
    waiting: tuple[Counts, Counts] = (NOTHING, NOTHING)

    @property
    def log_evidence(self) -> float:
        """The evidence so far, in nats; it may fall again."""
        if not self.minutes:
            return self.capped
        return log_sum((math.log1p(-self.fast_share) + self.capped, math.log(self.fast_share) + self.fast))

    def knowing(self, history: Iterable[Counts]) -> "Harm":
        """Return the test with stable's past known, which makes its bets better and changes no promise."""
        rate = self.stable
        for counts in history:
            rate = rate.after(counts, MEMORY)
        return replace(self, stable=rate)

    def after(self, stable: Counts, candidate: Counts, *, new_step: bool = False) -> "Harm":
        """Return the test after one more minute; `new_step`: the first one since the traffic was moved."""
        if new_step:
            return self._at_a_new_step().after(stable, candidate)
        stable, candidate = self.waiting[0] + stable, self.waiting[1] + candidate
        if not candidate.total or (self.line.factor and not stable.total):
            return replace(self, waiting=(stable, candidate))
        return replace(
            self._bet(stable, candidate),
            stable=self.stable.after(stable, MEMORY),
            waiting=(NOTHING, NOTHING),
        )

    def _at_a_new_step(self) -> "Harm":
        """Return the test as the traffic moves: what waits is dropped, and a part of the bets laid anew."""
        return replace(
            self,
            bets=self.bets.laid_anew(_BETS, SHARED_AT_A_STEP),
            fast_bets=self.fast_bets.laid_anew(_FAST_BETS, SHARED_AT_A_STEP),
            waiting=(NOTHING, NOTHING),
        )

    def _bet(self, stable: Counts, candidate: Counts) -> "Harm":
        logs = self._logs(self.line, ODDS, stable, candidate)
        if not logs:
            return self
        log, bets = self.bets.after(logs, _BETS, SHARED)
        if not self.minutes:
            return replace(self, capped=self.capped + log, bets=bets)
        most = (self.needed - math.log1p(-self.fast_share)) / self.minutes
        log, bets = _at_most(most, log, bets)
        far = Line(self.line.factor, self.line.points + FAST_POINTS)
        fast_logs = self._logs(far, FAST_ODDS, stable, candidate)
        fast_log, fast_bets = 0.0, self.fast_bets
        if fast_logs:
            fast_log, fast_bets = self.fast_bets.after(fast_logs, _FAST_BETS, SHARED)
            if self.fast_minutes and not stable.total:
                most_fast = (self.needed - math.log(self.fast_share)) / self.fast_minutes
                fast_log, fast_bets = _at_most(most_fast, fast_log, fast_bets)
        return replace(
            self,
            capped=self.capped + log,
            bets=bets,
            fast=self.fast + fast_log,
            fast_bets=fast_bets,
            recurring=recurring_after(self.recurring, logs, PRIOR, most),
        )

    def _logs(self, line: Line, odds: tuple[float, ...], stable: Counts, candidate: Counts) -> list[float]:
        """Return the log e-values of bets on these odds; none where there is no room beyond the line."""
        rate = self.stable.share
        limit = line.at(rate)
        if limit > NO_ROOM:
            return []
        return [log_e_value(line, stable, candidate, rate, odds_times(limit, times)) for times in odds]


def _at_most(most: float, log: float, bets: Mixture) -> tuple[float, Mixture]:
    """Return a log e-value that is capped, and bets that lose no more than that in the next minute."""
    return (most, bets.with_cash(math.exp(-most))) if log > most else (log, bets)


@dataclass(frozen=True, slots=True)
class Safety:
    """Evidence that the candidate is not beyond a line: N of the design, for promotion.

    It bets on equal shares or, `own_rates`, on each side's own: for shares beyond thresholds of their own,
    which differ where both sides are alike.
    """

    line: Line
    own_rates: bool = False
    log_evidence: float = 0.0
    stable: Rate = Rate()
    candidate: Rate = Rate()
    waiting: tuple[Counts, Counts] = (NOTHING, NOTHING)

    def after(self, stable: Counts, candidate: Counts, *, new_step: bool = False) -> "Safety":
        """Return the test after one more minute; `new_step`: the first one since the traffic was moved."""
        if not new_step:
            stable, candidate = self.waiting[0] + stable, self.waiting[1] + candidate
        if not candidate.total or (self.line.factor and not stable.total):
            return replace(self, waiting=(stable, candidate))
        return Safety(
            self.line,
            self.own_rates,
            self.log_evidence + self._log_e_value(stable, candidate),
            self.stable.after(stable, SAFETY_MEMORY),
            self.candidate.after(candidate, SAFETY_MEMORY),
        )

    def _log_e_value(self, stable: Counts, candidate: Counts) -> float:
        stable_bet, bet = self.shares()
        limit = self.line.at(stable_bet)
        most = WORTH_A_BET * limit if self.own_rates else limit
        if bet >= most or limit >= 1:
            return 0.0
        return log_e_value(self.line, stable, candidate, stable_bet, bet)

    def shares(self) -> tuple[float, float]:
        """Return the shares of stable and candidate that the next minute is expected to have."""
        if self.own_rates:
            return self.stable.share, self.candidate.share
        if not self.line.factor:
            return self.candidate.share, self.candidate.share
        pooled = (self.stable.bad + self.candidate.bad) / (self.stable.total + self.candidate.total)
        return pooled, pooled


def recurring_after(recurring: float, logs: Sequence[float], prior: Sequence[float], most: float) -> float:
    """Return the account of harm that comes and goes after a minute with these log e-values.

    It never learns: each minute the same part is bet, on the prior, and it wins `most` at most.
    """
    bet = math.log((1 - RECURRING_CASH) / sum(prior))
    won = [bet + math.log(weight) + log for weight, log in zip(prior, logs, strict=True)]
    return max(0.0, recurring + min(most, log_sum([math.log(RECURRING_CASH), *won])))


def log_sum(logs: Sequence[float]) -> float:
    """Return the logarithm of the sum of numbers that are given by their logarithms; -inf for none."""
    largest = max(logs, default=-math.inf)
    if math.isinf(largest):
        return largest
    return largest + math.log(sum(math.exp(log - largest) for log in logs))
