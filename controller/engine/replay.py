"""Replay: the transitions in the audit log, decided again by today's code."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from controller.core.decision import Decision, decide, needs_evidence
from controller.core.log_evidence import last_block
from controller.core.observation import Observation
from controller.core.rollout import Rollout
from controller.core.summary import evidence_summary
from controller.core.trail import Transition
from controller.engine.evidence import EvidenceCache, weigh
from controller.engine.outside import Outside


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


def replay(outside: Outside, transitions: Iterable[Transition]) -> Iterator[Replayed]:
    """Decide each transition again; the evidence is read anew, as it was final at that time."""
    cache = EvidenceCache()
    for transition in transitions:
        before, observation = transition.before, transition.observation
        if before is None or observation is None or transition.event is None:
            yield Replayed(transition)
            continue
        seen = observation
        if needs_evidence(before) and transition.verdict is not None:  # it was read then, too
            seen = weighed_anew(outside, observation, before, cache)
        decision = decide(before, seen, transition.command)
        other = seen.assessment is not None and evidence_summary(seen.assessment) != transition.evidence
        yield Replayed(transition, decision, other, _problem(seen, before, cache))


def weighed_anew(
    outside: Outside, observation: Observation, rollout: Rollout, cache: EvidenceCache
) -> Observation:
    """Return the observation with the evidence of its time."""
    assessment, others = weigh(outside, observation.service, rollout, cache, observation.now, asks=False)
    return replace(observation, assessment=assessment, others=others)


def _problem(seen: Observation, rollout: Rollout, cache: EvidenceCache) -> str:
    """Say what evidence of that time cannot be read any more."""
    if seen.assessment is None:
        return ""
    if seen.assessment.problem:
        return seen.assessment.problem
    logs = rollout.policy.request_logs
    read = cache.log.reader.until if cache.log.reader else None
    if logs and (read is None or read < last_block(seen.now, logs.delay)):
        return "the request log of that time cannot be read now: too many reads, or too many requests"
    return ""
