"""The assessment: all the evidence of a rollout so far, weighed guard by guard.

It is a pure function of policy and evidence. A controller that runs keeps it and adds only the minutes that
are new; one that starts again gets the same, to the last bit, from the same evidence.
"""

from dataclasses import dataclass, field

from controller.core.counts import EvidenceInvalid
from controller.core.evidence import Evidence, Sample, Stage, Tick
from controller.core.guards import AnyGuardTest, guard_tests
from controller.core.policy import Policy
from controller.core.traffic import ALL


@dataclass(frozen=True)
class Assessment:
    """What was weighed: the guards as they stand, and the totals of the latest stage.

    `problem` says what cannot be weighed, or why there is no evidence.
    """

    evidence: Evidence
    guards: tuple[AnyGuardTest, ...] = ()
    stable: Sample = field(default_factory=Sample)
    candidate: Sample = field(default_factory=Sample)
    problem: str = ""

    @property
    def stage(self) -> Stage | None:
        """The latest stage, which is judged."""
        return self.evidence.stages[-1] if self.evidence.stages else None

    @property
    def minutes(self) -> int:
        """The minutes of the latest stage."""
        return len(self.stage.ticks) if self.stage else 0


def assess(policy: Policy, evidence: Evidence, earlier: Assessment | None = None) -> Assessment:
    """Weigh the evidence; an `earlier` assessment by the same policy spares the minutes that it holds."""
    if evidence.problem:
        return Assessment(evidence, problem=f"the metrics cannot be read: {evidence.problem}")
    try:
        if earlier is None or not _continues(evidence, earlier):
            guards = tuple(test.knowing(evidence.history) for test in guard_tests(policy))
            earlier = Assessment(Evidence(history=evidence.history), guards)
        return _extended(earlier, evidence)
    except EvidenceInvalid as invalid:
        return Assessment(evidence, problem=f"the metrics cannot be judged: {invalid}")


def _continues(evidence: Evidence, earlier: Assessment) -> bool:
    """Tell whether the evidence holds all that was weighed before, in its place."""
    before = earlier.evidence.stages
    if earlier.problem or earlier.evidence.history != evidence.history or len(before) > len(evidence.stages):
        return False
    return all(
        len(old.ticks) <= len(new.ticks) and old.ticks[-1:] == new.ticks[len(old.ticks) - 1 : len(old.ticks)]
        for old, new in zip(before, evidence.stages, strict=False)
    )


def _extended(earlier: Assessment, evidence: Evidence) -> Assessment:
    guards, stages, before = earlier.guards, evidence.stages, earlier.evidence.stages
    same_stage = len(stages) == len(before)
    stable, candidate = (earlier.stable, earlier.candidate) if same_stage else (Sample(), Sample())
    last = next((stage.ticks[-1].end for stage in reversed(before) if stage.ticks), None)
    for number, stage in enumerate(stages):
        seen = len(before[number].ticks) if number < len(before) else 0
        for position, tick in enumerate(stage.ticks[seen:], start=seen):
            if last is not None and tick.end <= last:
                raise EvidenceInvalid(f"the minute that ends at {tick.end:%H:%M} comes twice or out of order")
            last = tick.end
            alone, new_step = stage.percent == ALL, number > 0 and position == 0
            guards = tuple(_after(test, tick, alone=alone, new_step=new_step) for test in guards)
            if number == len(stages) - 1:
                stable, candidate = stable + tick.stable, candidate + tick.candidate
    return Assessment(evidence, guards, stable, candidate)


def _after(test: AnyGuardTest, tick: Tick, *, alone: bool, new_step: bool) -> AnyGuardTest:
    """Return a guard after a minute; one that only observes must not blind the others."""
    try:
        return test.after(tick, alone=alone, new_step=new_step)
    except EvidenceInvalid:
        if test.decides:
            raise
        return test
