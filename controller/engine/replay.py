"""Replay: the transitions in the audit log, decided again by today's code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from controller.core.decision import Decision, decide, needs_evidence
from controller.core.summary import evidence_summary
from controller.core.trail import Transition
from controller.engine.evidence import EvidenceCache, assess_rollout
from controller.ports import Metrics


@dataclass(frozen=True)
class Replayed:
    """A transition, and the decision of today from what was seen then.

    `decision` is None for an opening, which was no decision on evidence. `other_evidence` says that the
    metrics of that time read differently today, so that a difference may be theirs.
    """

    transition: Transition
    decision: Decision | None = None
    other_evidence: bool = False
    problem: str = ""
    """Why nothing can be told: the metrics of that time cannot be read any more."""

    @property
    def differs(self) -> bool:
        """Tell whether today's decision leads elsewhere."""
        if self.decision is None or self.problem:
            return False
        then, today = self.transition.after, self.decision.rollout
        return (self.transition.event, then.phase, then.percent, then.stable) != (
            self.decision.event,
            today.phase,
            today.percent,
            today.stable,
        )


def replay(metrics: Metrics, transitions: Iterable[Transition]) -> Iterator[Replayed]:
    """Decide each transition again; the evidence is read anew, as it was final at that time."""
    cache = EvidenceCache()
    for transition in transitions:
        before, observation = transition.before, transition.observation
        if before is None or observation is None or transition.event is None:
            yield Replayed(transition)
            continue
        assessment = None
        if needs_evidence(before) and transition.verdict is not None:  # it was read then, too
            assessment = assess_rollout(metrics, before, cache, transition.time)
        decision = decide(before, replace(observation, assessment=assessment), transition.command)
        other = assessment is not None and evidence_summary(assessment) != transition.evidence
        yield Replayed(transition, decision, other, assessment.problem if assessment else "")
