"""Random runs: a plan is carried out, everything is healed, a controller goes on, and the end is checked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from crowd import Crowd, a_crowd
from invariants import CONTROLLER_ITSELF, Violated
from plans import Changing, Disturbance, Plan, draw_plan, prepare
from sight import Sight, split_due

from controller.core.rollout import Phase

TROUBLED = timedelta(minutes=75)
"""How long the disturbances go on at most."""
HEALED = timedelta(hours=6)
"""In how long a rollout must have ended, or be held, once nothing goes wrong any more."""
GROSS = 0.3
"""A share of errors that is never let through by mistake."""


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    seed: int
    end: str
    """The phase on record in the end."""
    digest: str = ""
    checked: int = 0
    kills: int = 0
    commands: int = 0
    struck: int = 0
    """How many calls a fault struck."""
    raced: int = 0
    passes_to_undo: tuple[int, ...] = ()
    """Of each rollback, how many passes it took, those that failed too."""
    simulated: timedelta = timedelta()
    violation: str = ""
    trace: tuple[str, ...] = ()

    @property
    def invariant(self) -> str:
        """The name of the invariant that was violated, or nothing."""
        return self.violation.partition(":")[0]


def run_seed(seed: int) -> Ran:
    """Run the plan of a seed."""
    return run(draw_plan(seed))


def run(plan: Plan, *, whole_trace: bool = False) -> Ran:
    """Carry a plan out, and heal; a violation is returned, not raised."""
    with a_crowd(plan.seed, whole_trace=whole_trace, **plan.settings) as crowd:
        prepare(crowd, plan)
        for number, disturbance in enumerate(plan.disturbances):
            disturbance.join(crowd, number)
        violation = ""
        struck = 0
        try:
            crowd.run(TROUBLED)
            struck = _heal(crowd)
            crowd.heal()
            crowd.run(HEALED)
            _check_end(crowd, plan)
        except Violated as violated:
            violation = str(violated)
        rollout = crowd.observer.sight.rollout if crowd.observer.sight else None
        return Ran(
            seed=plan.seed,
            end=rollout.phase.value if rollout else "no record",
            digest=crowd.trace.digest,
            checked=crowd.observer.checked,
            kills=crowd.kills,
            commands=crowd.commands,
            struck=struck,
            raced=crowd.observer.raced,
            passes_to_undo=tuple(crowd.observer.harm.passes),
            simulated=crowd.scheduler.elapsed,
            violation=violation,
            trace=tuple(crowd.trace.lines),
        )


def _heal(crowd: Crowd) -> int:
    """Let nothing go wrong any more; return how many calls were struck until now."""
    local = crowd.world.local
    struck = sum(int(fault["struck"]) for fault in local.faults())
    local.clear_faults()
    return struck


def _check_end(crowd: Crowd, plan: Plan) -> None:
    """Check that it has ended well, whatever happened on the way."""
    try:
        crowd.observer.commands.check_end()
        _check_nothing_gross(crowd, plan)
        if crowd.observer.sight:
            _check_rest(crowd.observer.sight, by_hand=crowd.observer.by_hand)
        if crowd.observer.is_whole:
            crowd.observer.trail.check_end(crowd.audit_trail())
    except Violated as violated:
        lines = "\n".join(crowd.trace.lines)
        raise Violated(f"{violated}\nseed {plan.seed}, at the end\n{lines}") from None


def _check_rest(sight: Sight, *, by_hand: bool) -> None:
    """Check that nothing is under way any more, and that what is served is what is on record."""
    rollout = sight.rollout
    if rollout is None:
        return
    rests = rollout.is_over or (rollout.held and rollout.observed_at is not None)
    if not rests:
        raise Violated(f"Rest: {rollout.id} is still {rollout.phase}: {rollout.reason}")
    if rollout.phase.is_terminal and sight.by_controller and sight.own_tags:
        raise Violated(f"Rest: {rollout.phase}, and its tags are left: {sight.own_tags}")
    left = by_hand or not sight.by_controller or rollout.phase is Phase.SUPERSEDED
    if not left and sight.in_force != split_due(rollout):
        raise Violated(f"Rest: {rollout.phase}, and in force is {dict(sight.in_force)}")


def _check_nothing_gross(crowd: Crowd, plan: Plan) -> None:
    """Check that a candidate with gross errors was not promoted, but by a person."""
    policy = plan.checked_policy
    unsafe = policy.when_unsure == "advance" or policy.guards.errors is None or policy.guards.errors.observe
    changed = any(isinstance(disturbance, Changing) for disturbance in plan.disturbances)
    if unsafe or changed or float(plan.candidate.get("ERROR_SHARE", 0)) < GROSS:
        return
    for rollout in crowd.observer.commands.records:
        by_itself = rollout.phase is Phase.PROMOTED and rollout.by == CONTROLLER_ITSELF
        if by_itself and rollout.candidate == crowd.candidate:
            raise Violated(f"NothingGross: {rollout.candidate} was promoted: {rollout.reason}")


def shrink(plan: Plan) -> Plan:
    """Return the plan with as few disturbances as still violate the same, leaving out ever smaller parts."""
    sought = run(plan).invariant
    left: Sequence[Disturbance] = plan.disturbances
    size = math.ceil(len(left) / 2)
    while sought and size:
        start = 0
        while start < len(left):
            fewer = (*left[:start], *left[start + size :])
            if run(replace(plan, disturbances=fewer)).invariant == sought:
                left = fewer
            else:
                start += size
        size //= 2
    return replace(plan, disturbances=tuple(left))
