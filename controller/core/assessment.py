"""The assessment: all the evidence of a rollout so far, weighed guard by guard.

It is a fold over the minutes in their order: a pure function of policy and evidence. A controller that
runs keeps it and adds only the minutes that are new; one that starts again gets the same, to the last bit,
from all of them. It holds no minute, so it does not grow with them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.core.counts import EvidenceInvalid
from controller.core.evidence import Evidence, Sample, Source, Stage, Tick, Window, minutes_of
from controller.core.guards import AnyGuardTest, deciding_guards, guard_tests, log_harm
from controller.core.observed_split import ObservedSplit
from controller.core.policy import Policy
from controller.core.traffic import ALL


@dataclass(frozen=True)
class Totals:
    """What the users of both revisions met in the minutes of a stage."""

    percent: int
    minutes: int = 0
    stable: Sample = field(default_factory=Sample)
    candidate: Sample = field(default_factory=Sample)

    def after(self, tick: Tick) -> "Totals":
        """Return the totals with a minute more."""
        return Totals(
            self.percent,
            self.minutes + 1,
            _total(self.stable, tick.stable),
            _total(self.candidate, tick.candidate),
        )


@dataclass(frozen=True)
class Assessment:
    """What was weighed: the guards as they stand, and the totals of each stage so far.

    `last` is the end of the newest minute. `problem` says why there is no evidence; `problems` says by name
    which guards could not be read lately.
    """

    source: Source = Source.METRICS
    guards: tuple[AnyGuardTest, ...] = ()
    stages: tuple[Totals, ...] = ()
    last: datetime | None = None
    problem: str = ""
    problems: Mapping[str, str] = field(default_factory=dict)
    split: ObservedSplit = field(default_factory=ObservedSplit)
    harmed: int | None = None
    """The number of the stage in which harm was shown, in the minute to `last`. What comes later is not
    weighed: it must not take back what nobody has acted upon yet."""

    @property
    def judged(self) -> Totals | None:
        """The totals that are judged: those of the latest stage, or of the one in which harm was shown."""
        if not self.stages:
            return None
        return self.stages[-1 if self.harmed is None else self.harmed]

    @property
    def alone(self) -> bool:
        """Whether the candidate has no stable beside it: it serves everybody, and stable is not asked."""
        return self.percent == ALL and self.source is not Source.PROBES

    @property
    def percent(self) -> int | None:
        """The candidate's percent in the stage that is judged."""
        return self.judged.percent if self.judged else None

    @property
    def minutes(self) -> int:
        """The minutes of the stage that is judged."""
        return self.judged.minutes if self.judged else 0

    @property
    def stable(self) -> Sample:
        """What the users of stable met in the stage that is judged."""
        return self.judged.stable if self.judged else Sample()

    @property
    def candidate(self) -> Sample:
        """What the users of the candidate met in the stage that is judged."""
        return self.judged.candidate if self.judged else Sample()

    @property
    def earlier_minutes(self) -> int:
        """The minutes of the stages before the one that is judged."""
        before = self.stages[:-1] if self.harmed is None else self.stages[: self.harmed]
        return sum(stage.minutes for stage in before)

    def is_of(self, windows: Sequence[Window], until: datetime) -> bool:
        """Tell whether what was weighed is just what these windows hold up to `until`."""
        if self.harmed is not None:
            return True
        known = [stage.minutes for stage in self.stages] + [0] * (len(windows) - len(self.stages))
        return known == [minutes_of(window, until) for window in windows]


def assess(policy: Policy, evidence: Evidence, earlier: Assessment | None = None) -> Assessment:
    """Weigh the evidence: all of it, or what has come since an `earlier` assessment by the same policy."""
    source, of = evidence.source, _NAMES[evidence.source]
    if evidence.problem:
        return Assessment(source, problem=f"the {of} cannot be read: {evidence.problem}")
    if earlier and earlier.problem:
        return earlier  # more minutes do not mend it
    try:
        begun = earlier or _begun(policy, evidence)
        return replace(_extended(policy, begun, evidence.stages), problems=evidence.problems)
    except EvidenceInvalid as invalid:
        return Assessment(source, problem=f"the {of} cannot be judged: {invalid}")


_NAMES = {Source.METRICS: "metrics", Source.LOGS: "request logs", Source.PROBES: "answers to probes"}


def _begun(policy: Policy, evidence: Evidence) -> Assessment:
    tests = guard_tests(policy, evidence.source)
    return Assessment(
        evidence.source,
        tuple(_guard_knowing(test, evidence.history) for test in tests),
        split=ObservedSplit(needed=-math.log(policy.confidence.false_rollback)),
    )


def _guard_knowing(test: AnyGuardTest, history: Sequence[Sample]) -> AnyGuardTest:
    try:
        return test.knowing(history)
    except EvidenceInvalid as invalid:
        return test.failed(str(invalid))


def _extended(policy: Policy, assessment: Assessment, stages: Sequence[Stage]) -> Assessment:
    needed, deciding = -math.log(policy.confidence.false_rollback), deciding_guards(policy)
    for number, stage in enumerate(stages):
        if number == len(assessment.stages):
            assessment = replace(assessment, stages=(*assessment.stages, Totals(stage.percent)))
        for tick in stage.ticks:
            if assessment.harmed is not None:
                break
            assessment = _after(assessment, number, tick)
            if log_harm(assessment.guards, deciding) >= needed:
                assessment = replace(assessment, harmed=number)
    return assessment


def _after(assessment: Assessment, number: int, tick: Tick) -> Assessment:
    """Return the assessment after a minute of this stage, which may be one before the latest."""
    if assessment.last is not None and tick.end <= assessment.last:
        raise EvidenceInvalid(f"the minute that ends at {tick.end:%H:%M} comes twice or out of order")
    stages = assessment.stages
    alone = stages[number].percent == ALL and assessment.source is not Source.PROBES
    new_step = number > 0 and not stages[number].minutes
    return replace(
        assessment,
        guards=tuple(_guard_after(test, tick, alone=alone, new_step=new_step) for test in assessment.guards),
        stages=(*stages[:number], stages[number].after(tick), *stages[number + 1 :]),
        split=assessment.split.after(tick, stages[number].percent),
        last=tick.end,
    )


def _guard_after(test: AnyGuardTest, tick: Tick, *, alone: bool, new_step: bool) -> AnyGuardTest:
    """Return a guard after a minute; one that cannot be weighed must not blind the others."""
    try:
        return test.after(tick, alone=alone, new_step=new_step)
    except EvidenceInvalid as invalid:
        return test.failed(str(invalid))


def _total(total: Sample, sample: Sample) -> Sample:
    """Return both together; what no deciding guard looks at, and has changed its buckets, begins anew."""
    try:
        return total + sample
    except EvidenceInvalid:
        return replace(sample, codes=(Sample(total.codes) + Sample(sample.codes)).codes)
