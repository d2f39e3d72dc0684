"""The assessment: all the evidence of a rollout so far, weighed guard by guard.

It is a fold over the minutes in their order: a pure function of policy and evidence. A controller that
runs keeps it and adds only the minutes that are new; one that starts again gets the same, to the last bit,
from all of them. It holds no minute, so it does not grow with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.core.counts import EvidenceInvalid
from controller.core.evidence import Evidence, Sample, Stage, Tick, Window, minutes_of
from controller.core.guards import AnyGuardTest, guard_tests
from controller.core.policy import Policy
from controller.core.traffic import ALL


@dataclass(frozen=True)
class Assessment:
    """What was weighed: the guards as they stand, and the totals of the latest stage.

    `weighed` has the number of minutes of each stage so far, `last` is the end of the newest one, `percent`
    the candidate's in the latest stage. `problem` says what cannot be weighed, or why there is no evidence.
    """

    guards: tuple[AnyGuardTest, ...] = ()
    percent: int | None = None
    weighed: tuple[int, ...] = ()
    last: datetime | None = None
    stable: Sample = field(default_factory=Sample)
    candidate: Sample = field(default_factory=Sample)
    problem: str = ""

    @property
    def minutes(self) -> int:
        """The minutes of the latest stage, which is judged."""
        return self.weighed[-1] if self.weighed else 0

    @property
    def earlier_minutes(self) -> int:
        """The minutes of the stages before the latest."""
        return sum(self.weighed[:-1])

    def is_of(self, windows: Sequence[Window], until: datetime) -> bool:
        """Tell whether what was weighed is just what these windows hold up to `until`."""
        known = self.weighed + (0,) * (len(windows) - len(self.weighed))
        return known == tuple(minutes_of(window, until) for window in windows)


def assess(policy: Policy, evidence: Evidence, earlier: Assessment | None = None) -> Assessment:
    """Weigh the evidence: all of it, or what has come since an `earlier` assessment by the same policy."""
    if evidence.problem:
        return Assessment(problem=f"the metrics cannot be read: {evidence.problem}")
    if earlier and earlier.problem:
        return earlier  # more minutes do not mend it
    try:
        return _extended(earlier or _begun(policy, evidence.history), evidence.stages)
    except EvidenceInvalid as invalid:
        return Assessment(problem=f"the metrics cannot be judged: {invalid}")


def _begun(policy: Policy, history: Sequence[Sample]) -> Assessment:
    return Assessment(tuple(test.knowing(history) for test in guard_tests(policy)))


def _extended(assessment: Assessment, stages: Sequence[Stage]) -> Assessment:
    for number, stage in enumerate(stages):
        if number == len(assessment.weighed):
            weighed = (*assessment.weighed, 0)
            nothing = Sample()
            assessment = replace(
                assessment, percent=stage.percent, weighed=weighed, stable=nothing, candidate=nothing
            )
        for tick in stage.ticks:
            assessment = _after(assessment, number, stage.percent, tick)
    return assessment


def _after(assessment: Assessment, number: int, percent: int, tick: Tick) -> Assessment:
    """Return the assessment after a minute of this stage, which may be one before the latest."""
    if assessment.last is not None and tick.end <= assessment.last:
        raise EvidenceInvalid(f"the minute that ends at {tick.end:%H:%M} comes twice or out of order")
    weighed = assessment.weighed
    alone, new_step = percent == ALL, number > 0 and not weighed[number]
    after = replace(
        assessment,
        guards=tuple(_guard_after(test, tick, alone=alone, new_step=new_step) for test in assessment.guards),
        weighed=(*weighed[:number], weighed[number] + 1, *weighed[number + 1 :]),
        last=tick.end,
    )
    if number + 1 < len(weighed):
        return after
    stable, candidate = _total(after.stable, tick.stable), _total(after.candidate, tick.candidate)
    return replace(after, stable=stable, candidate=candidate)


def _guard_after(test: AnyGuardTest, tick: Tick, *, alone: bool, new_step: bool) -> AnyGuardTest:
    """Return a guard after a minute; one that only observes must not blind the others."""
    try:
        return test.after(tick, alone=alone, new_step=new_step)
    except EvidenceInvalid:
        if test.decides:
            raise
        return test


def _total(total: Sample, sample: Sample) -> Sample:
    """Return both together; what no deciding guard looks at, and has changed its buckets, begins anew."""
    try:
        return total + sample
    except EvidenceInvalid:
        return replace(sample, codes=(Sample(total.codes) + Sample(sample.codes)).codes)
