"""The limits of a guard, each with the evidence so far that it is broken, or kept.

A comparison holds the candidate against stable in the same minute; a ceiling is absolute.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Self, TypeVar

from controller.core.counts import Counts, Histogram
from controller.core.sequential import NO_ROOM, Harm, Line, Rate, Safety
from controller.core.sequential_histograms import Slower

RULED_OUT_POINTS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
"""The increases over stable's share that are put to the test, to say which are ruled out."""

COMPARED_PERCENTILES = (0.5, 0.95, 0.99)
"""Where safety of latencies is shown: no larger share of the candidate's is beyond stable's percentiles."""

TAIL_SLACK = 0.1
"""So much of the tail may come on top, or nothing could be shown of a latency that hardly varies."""

RULED_OUT_FACTORS = (1.1, 1.25, 1.5, 2.0, 3.0)
RULED_OUT_PERCENTILE = 0.95
"""The factors on stable's 95th percentile that are put to the test, to say which are ruled out."""

FEWEST_TO_BE_BAD = 5.0
"""A stable with fewer requests than this, as far as they still count, is not called bad."""

NEAR = 0.8
"""A stable with more than this part of what a ceiling allows is too near it to blame the candidate for it."""

RAISED = 1.5
"""So many times what stable had is allowed where the candidate serves alone and stable was at the ceiling."""

USUAL = 0.9
"""What a minute of stable's is worth one minute later, for whether it is bad as a rule."""

RECENT = 20.0
"""So many of stable's latest requests, or a minute's, say whether it is bad right now."""

UNSEEN = Rate(0.0, 0.0)

M = TypeVar("M", Counts, Histogram)


@dataclass(frozen=True)
class Limit(ABC, Generic[M]):
    """One limit of a guard, and the evidence about it so far.

    `words` are the limit in words, to follow `worse than` or `within`. A ceiling is absolute: it means
    something without a stable beside it.
    """

    words: str
    harm: Harm | Slower
    safety: tuple[Safety, ...]
    is_ceiling: ClassVar[bool] = False

    @property
    def log_harm(self) -> float:
        """Evidence that the limit is broken, in nats."""
        return self.harm.log_evidence

    @property
    def log_safety(self) -> float:
        """Evidence that the limit is kept, in nats."""
        return min(each.log_evidence for each in self.safety)

    @property
    def log_shared_harm(self) -> float:
        """Evidence that the candidate breaks a limit that stable breaks now, too, in nats; -inf where not."""
        return -math.inf

    @property
    def broken_by_stable(self) -> bool:
        """Tell whether stable itself breaks the limit now."""
        return False

    @property
    def least_shown(self) -> str:
        """The limit in words, and where it is shown the least that it is kept."""
        return self.words

    def knowing(self, history: Sequence[M]) -> Self:  # noqa: ARG002 -- a ceiling needs no past
        """Return the limit with stable's past known."""
        return self

    def ruled_out(self, needed: float) -> str:  # noqa: ARG002 -- a ceiling is no increase
        """Return in words the smallest increase that so much evidence speaks against, or nothing."""
        return ""

    @abstractmethod
    def after(self, stable: M, candidate: M, *, new_step: bool) -> Self:
        """Return the limit after one more minute."""


@dataclass(frozen=True)
class ShareComparison(Limit[Counts]):
    """The share of the candidate against that of stable; `increases` are for reports alone."""

    harm: Harm
    increases: tuple[Safety, ...] = tuple(Safety(Line(1, points)) for points in RULED_OUT_POINTS)

    def ruled_out(self, needed: float) -> str:
        """Return in words the smallest increase that so much evidence speaks against, or nothing."""
        shown = (each.line.points for each in self.increases if each.log_evidence >= needed)
        points = min(shown, default=None)
        return "" if points is None else f"an increase of more than {points_text(points)} is ruled out"

    def knowing(self, history: Sequence[Counts]) -> Self:
        """Return the limit with stable's past known."""
        return replace(self, harm=self.harm.knowing(history))

    def after(self, stable: Counts, candidate: Counts, *, new_step: bool) -> Self:
        """Return the limit after one more minute."""
        return replace(
            self,
            harm=self.harm.after(stable, candidate, new_step=new_step),
            safety=tuple(each.after(stable, candidate, new_step=new_step) for each in self.safety),
            increases=tuple(each.after(stable, candidate, new_step=new_step) for each in self.increases),
        )


@dataclass(frozen=True)
class Ceiling(Limit[M]):
    """A fixed share that the candidate may have, with an eye on stable's own.

    Minutes in which stable is above the ceiling, too, are no evidence of harm: they go to `shared` alone.
    `usual` is stable's share as it was for the last ten minutes, `recent` that of its latest requests.
    """

    harm: Harm
    shared: Harm
    usual: Rate = UNSEEN
    recent: Rate = UNSEEN
    is_ceiling: ClassVar[bool] = True

    @property
    def log_shared_harm(self) -> float:
        """Evidence that the candidate breaks a limit that stable breaks now, too, in nats; -inf where not."""
        return self.shared.log_evidence if self.broken_by_stable else -math.inf

    @property
    def broken_by_stable(self) -> bool:
        """Tell whether stable itself breaks the limit now."""
        return all(self._is_reached_by(rate) for rate in (self.usual, self.recent))

    def _is_reached_by(self, rate: Rate, part: float = 1.0) -> bool:
        return rate.total >= FEWEST_TO_BE_BAD and rate.share > part * self.harm.line.points

    def without_stable(self) -> Self:
        """Return the limit for when nobody but the candidate serves.

        A ceiling that stable was at is raised to what stable had and a half, or the candidate would be blamed
        for being as it was.
        """
        alone = replace(self, usual=UNSEEN, recent=UNSEEN)
        if not self._is_reached_by(self.usual, NEAR):
            return alone
        raised = Line(0, min(RAISED * self.usual.share, NO_ROOM))
        return replace(
            alone,
            words=f"{self.words} (raised to {raised.points * 100:.2g} %, as stable was there itself)",
            harm=replace(self.harm, line=raised),
            shared=replace(self.shared, line=raised),
            safety=tuple(replace(each, line=raised) for each in self.safety),
        )

    def _after(self, stable: Counts, certain: Counts, possible: Counts, *, new_step: bool) -> Self:
        """Feed harm with what is bad for certain, and safety with what may be."""
        kept = max(0.0, RECENT - stable.total) / max(self.recent.total, RECENT)
        seen = replace(
            self,
            shared=self.shared.after(stable, certain, new_step=new_step),
            safety=tuple(each.after(stable, possible, new_step=new_step) for each in self.safety),
            usual=Rate(USUAL * self.usual.bad + stable.bad, USUAL * self.usual.total + stable.total),
            recent=Rate(kept * self.recent.bad + stable.bad, kept * self.recent.total + stable.total),
        )
        if any(self._is_reached_by(rate, NEAR) for rate in (seen.usual, seen.recent)):
            return seen
        return replace(seen, harm=self.harm.after(stable, certain, new_step=new_step))


@dataclass(frozen=True)
class ShareCeiling(Ceiling[Counts]):
    """The share of the candidate against a fixed one."""

    def after(self, stable: Counts, candidate: Counts, *, new_step: bool) -> Self:
        """Return the limit after one more minute."""
        return self._after(stable, candidate, candidate, new_step=new_step)


@dataclass(frozen=True)
class LatencyCeiling(Ceiling[Histogram]):
    """The candidate's percentile against a fixed latency, as the share of requests that lies beyond it."""

    most: float = 0.0

    def after(self, stable: Histogram, candidate: Histogram, *, new_step: bool) -> Self:
        """Return the limit after one more minute."""
        total = candidate.total
        return self._after(
            Counts(stable.from_edge(self.most), stable.total),
            Counts(candidate.from_edge(self.most), total),
            Counts(candidate.reaching(self.most), total),
            new_step=new_step,
        )


@dataclass(frozen=True)
class LatencyComparison(Limit[Histogram]):
    """The distribution of the candidate against that of stable, divided by the tolerated factor.

    `increases` are for reports alone, one for each of the factors that may be ruled out.
    """

    harm: Slower
    increases: tuple[Safety, ...]

    def ruled_out(self, needed: float) -> str:
        """Return in words the smallest increase that so much evidence speaks against, or nothing."""
        pairs = zip(RULED_OUT_FACTORS, self.increases, strict=True)
        factor = min((factor for factor, each in pairs if each.log_evidence >= needed), default=None)
        return (
            "" if factor is None else f"more than {factor:g}x at p{RULED_OUT_PERCENTILE * 100:g} is ruled out"
        )

    @property
    def least_shown(self) -> str:
        """The limit in words, and where it is shown the least that it is kept."""
        logs = [each.log_evidence for each in self.safety]
        return f"{self.words} at p{COMPARED_PERCENTILES[logs.index(min(logs))] * 100:g}"

    def knowing(self, history: Sequence[Histogram]) -> Self:
        """Return the limit with stable's past known."""
        return replace(self, harm=self.harm.knowing(history))

    def after(self, stable: Histogram, candidate: Histogram, *, new_step: bool) -> Self:
        """Return the limit after one more minute."""
        if not self.harm.past:  # there is nothing yet to take thresholds from
            return replace(self, harm=self.harm.after(stable, candidate, new_step=new_step))

        def beyond(test: Safety, edge: float, factor: float) -> Safety:
            ours = Counts(stable.from_edge(edge), stable.total)
            theirs = Counts(candidate.reaching(edge * factor), candidate.total)
            return test.after(ours, theirs, new_step=new_step)

        edges = dict(zip(COMPARED_PERCENTILES, self._edges(), strict=True))
        tail = edges[RULED_OUT_PERCENTILE]
        tests = zip(self.safety, edges.values(), strict=True)
        factors = zip(self.increases, RULED_OUT_FACTORS, strict=True)
        return replace(
            self,
            harm=self.harm.after(stable, candidate, new_step=new_step),
            safety=tuple(beyond(test, edge, self.harm.factor) for test, edge in tests),
            increases=tuple(beyond(test, tail, factor) for test, factor in factors),
        )

    def _edges(self) -> Iterator[float]:
        """Yield the edges beyond which stable's slowest half, twentieth and hundredth lay in the past."""
        past, bounds = self.harm.past, self.harm.bounds
        total, below, bucket = sum(past), 0.0, 0
        for percentile in COMPARED_PERCENTILES:
            while bucket < len(bounds) and below + past[bucket] < percentile * total:
                below += past[bucket]
                bucket += 1
            yield bounds[min(bucket, len(bounds) - 1)]


def points_text(points: float) -> str:
    """Return a share of requests as a difference: `0.2 points`, `1 point`."""
    number = f"{points * 100:g}"
    return f"{number} point{'' if number == '1' else 's'}"
