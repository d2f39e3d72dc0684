"""What a policy will do, in plain English: step by step, with times, and with what is doubtful about it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, assert_never

from controller.core.policy import Policy, evidence_time
from controller.core.policy_choices import (
    AdvanceOn,
    AfterPromotion,
    OnDeadline,
    OnHarm,
    OnNewRevision,
    WhenUnsure,
)
from controller.core.policy_guards import (
    AnyGuard,
    CapacityGuard,
    CustomGuard,
    ErrorGuard,
    LatencyGuard,
    StartupGuard,
    Tolerance,
)
from controller.core.policy_health import Health
from controller.core.policy_steps import Hold, Step
from controller.core.traffic import ALL
from controller.core.units import duration_text, share_text

_SHORT_EVIDENCE: Final = timedelta(minutes=2)
_BOLD_FIRST_STEP: Final = 50
_TAKEN: Final = "/healthz"
"""A path that never reaches a container: the front end of Cloud Run answers it."""


@dataclass(frozen=True)
class StepTime:
    """How long the candidate has a share of the traffic: `traffic` percent, from `least` to `most`."""

    traffic: int
    least: timedelta
    most: timedelta


@dataclass(frozen=True)
class Explanation:
    """A policy in words; `least` and `most` are the times of a release that is never paused."""

    steps: tuple[str, ...]
    bake: str
    least: timedelta
    most: timedelta
    has_gates: bool
    rules: tuple[str, ...]
    warnings: tuple[str, ...]


def explain_policy(policy: Policy) -> Explanation:
    """Say what a policy will do and how long a good release takes."""
    times = step_times(policy)
    return Explanation(
        steps=tuple(
            _step_text(index, time, step)
            for index, (time, step) in enumerate(zip(times, policy.steps, strict=False), start=1)
        ),
        bake=_bake_text(policy, times[-1]),
        least=sum((time.least for time in times), timedelta(0)),
        most=sum((time.most for time in times), timedelta(0)),
        has_gates=any(step.gate for step in policy.steps),
        rules=tuple(_rules(policy)),
        warnings=tuple(_warnings(policy)),
    )


def explanation_lines(explanation: Explanation) -> Iterator[str]:
    """Yield an explanation as lines for people."""
    yield from explanation.steps
    yield explanation.bake
    yield ""
    least, most = duration_text(explanation.least), duration_text(explanation.most)
    gates = " and to be let through its gates" if explanation.has_gates else ""
    yield f"A good release takes about {least}, and at most {most} plus the time to become ready{gates}."
    yield ""
    yield from explanation.rules
    if explanation.warnings:
        yield ""
        yield from (f"Warning: {warning}" for warning in explanation.warnings)


def step_times(policy: Policy) -> tuple[StepTime, ...]:
    """Return how long each step lasts, and the bake as the last one."""
    shares = [(step.traffic, step.hold) for step in policy.steps] + [(ALL, policy.bake)]
    return tuple(StepTime(traffic, evidence_time(policy, hold), hold.at_most) for traffic, hold in shares)


def _step_text(index: int, time: StepTime, step: Step) -> str:
    if time.traffic == ALL:
        return f"Step {index}: {_until(time, step.hold)} are there; only ceilings decide."
    enough = "to each revision are there, or fewer show that it is safe"
    return f"Step {index}: {_until(time, step.hold)} {enough}.{_gate_text(step)}"


def _gate_text(step: Step) -> str:
    if step.gate is None:
        return ""
    if step.gate.opens_after is None:
        return " Then a person must let it go on."
    return f" Then a person may let it go on; after {duration_text(step.gate.opens_after)} it does by itself."


def _until(time: StepTime, hold: Hold) -> str:
    share = "all" if time.traffic == ALL else f"{time.traffic}%"
    evidence = f"{duration_text(hold.at_least)} of evidence"
    return f"{share} of the traffic for {_span(time)}, until {evidence} and {_requests(hold)}"


def _bake_text(policy: Policy, time: StepTime) -> str:
    decides = (
        "only ceilings decide, as there is nothing to compare with"
        if _ceilings(policy)
        else "nothing can roll it back, as no guard has a ceiling and there is nothing to compare with"
    )
    return f"Bake: {_until(time, policy.bake)} are there; {decides}."


def _span(time: StepTime) -> str:
    return f"{duration_text(time.least)} to {duration_text(time.most)}"


def _requests(hold: Hold) -> str:
    return "1 request" if hold.requests == 1 else f"{hold.requests} requests"


def _rules(policy: Policy) -> Iterator[str]:
    if policy.auto:
        yield (
            "The steps above are for a service whose traffic is not known. When a rollout begins, they are "
            f"chosen so that the worst candidate fails about {policy.auto.at_most} requests at most in a "
            "step before it is noticed."
        )
    ready = f"be ready within {duration_text(policy.ready_within)}"
    if policy.smoke:
        ready += f" and answer {', '.join(policy.smoke)} with 2xx or 3xx"
    if policy.probes:
        ready += " and answer its probes well"
    yield f"Before the first step, the candidate must {ready}."
    if policy.probes:
        asked = ", ".join(f"{probe.name} every {duration_text(probe.every)}" for probe in policy.probes)
        yield f"Probes ask both revisions, in pairs: {asked}. They count as requests of a step."
    if policy.request_logs:
        yield "The request log is read, too: what users meet is seen seconds later, and not minutes."
    if policy.on_deadline is OnDeadline.REPORT:
        yield "A candidate that is not ready in time is reported, and waited for."
    errors, latency = policy.guards.errors, policy.guards.latency
    yield _error_text(errors) if errors else "Errors are not looked at."
    yield _latency_text(latency) if latency else "Latency is not looked at."
    if policy.guards.startup:
        yield _startup_text(policy.guards.startup)
    if policy.guards.capacity:
        yield _capacity_text(policy.guards.capacity)
    yield from (_custom_text(name, guard) for name, guard in policy.guards.custom.items())
    chance = share_text(policy.confidence.false_rollback)
    yield (
        f"A candidate as good as stable is rolled back in at most {chance} of rollouts, "
        "all guards and looks together."
    )
    yield _advance_text(policy)
    yield _unsure_text(policy.when_unsure)
    yield _end_text(policy.after_promotion)
    yield _new_revision_text(policy.on_new_revision)
    if policy.health:
        yield _health_text(policy.health, probed=policy.health.probes and bool(policy.probes))


def _health_text(health: Health, *, probed: bool) -> str:
    does = "is reported" if health.on_harm is OnHarm.ALERT else "sends all users back to the one before"
    ceiling = f"above {share_text(health.errors)}, or " if health.errors is not None else ""
    usual = f"far above what was usual in the {duration_text(health.past)} before"
    latency = _ceilings_text({name: duration_text(limit) for name, limit in health.latency.items()})
    probes = ", or when a probe fails" if probed else ""
    return (
        "Between rollouts, `canary check` and `canary run` look at the last"
        f" {duration_text(health.window)} of the revision that serves: harm {does}. It is harm when"
        f" {' and '.join(health.codes)} responses are {ceiling}{usual}{latency}{probes}; one false alarm in"
        f" {duration_text(health.false_alarm)} at most, on average."
    )


def _error_text(guard: ErrorGuard) -> str:
    tolerance = _share_text(guard.tolerance, "requests")
    ceiling = "" if guard.ceiling is None else f", or when they are above {share_text(guard.ceiling)}"
    return f"{_verb(guard)} when {' and '.join(guard.codes)} responses are more than {tolerance}{ceiling}."


def _latency_text(guard: LatencyGuard) -> str:
    ceilings = _ceilings_text({name: duration_text(limit) for name, limit in guard.ceilings.items()})
    return f"{_verb(guard)} when latency is {_anywhere_text(guard.tolerance)}{ceilings}."


def _startup_text(guard: StartupGuard) -> str:
    ceilings = _ceilings_text({name: duration_text(limit) for name, limit in guard.ceilings.items()})
    slower = f"{_anywhere_text(guard.tolerance)}{ceilings}"
    return f"{_verb(guard)} when the time in which instances start is {slower}."


def _capacity_text(guard: CapacityGuard) -> str:
    refused = _share_text(guard.tolerance, "requests")
    held = "" if guard.observe else " A candidate that gets less than half of its share is not let on."
    return f"{_verb(guard)} when requests refused for want of an instance are more than {refused}.{held}"


def _custom_text(name: str, guard: CustomGuard) -> str:
    if guard.is_ratio:
        tolerance = _share_text(guard.tolerance, "its total")
        ceiling = "" if guard.ceiling is None else f", or when it is above {share_text(guard.ceiling)}"
        return f"{_verb(guard)} when the bad share of {name} is more than {tolerance}{ceiling}."
    ceilings = _ceilings_text({each: f"{limit:.12g}" for each, limit in guard.ceilings.items()})
    return f"{_verb(guard)} when {name} is {_anywhere_text(guard.tolerance)}{ceilings}."


def _share_text(tolerance: Tolerance, of: str) -> str:
    points = f" plus {share_text(tolerance.points)} of {of}" if tolerance.points else ""
    return f"{tolerance.factor:g} times stable's share{points}"


def _anywhere_text(tolerance: Tolerance) -> str:
    return f"more than {tolerance.factor:g} times stable's, anywhere in the distribution"


def _ceilings_text(limits: Mapping[str, str]) -> str:
    return "".join(f", or when {percentile} is above {limit}" for percentile, limit in limits.items())


def _verb(guard: AnyGuard) -> str:
    return "It only reports" if guard.observe else "It rolls back"


def _advance_text(policy: Policy) -> str:
    match policy.advance_on:
        case AdvanceOn.NO_HARM:
            return "A step passes when its evidence is there and nothing points to harm."
        case AdvanceOn.PROVEN:
            sure = share_text(policy.confidence.promotion)
            return (
                f"A step passes when it is shown for every guard, {sure} sure, "
                "that the candidate is within tolerance."
            )
        case _ as unreachable:
            assert_never(unreachable)


def _unsure_text(when_unsure: WhenUnsure) -> str:
    match when_unsure:
        case WhenUnsure.HOLD:
            return "A step that is still unsure at its limit is held until a person decides."
        case WhenUnsure.ADVANCE:
            return "A step that is still unsure at its limit goes on to the next."
        case WhenUnsure.ROLLBACK:
            return "A step that is still unsure at its limit is rolled back."
        case _ as unreachable:
            assert_never(unreachable)


def _end_text(after_promotion: AfterPromotion) -> str:
    match after_promotion:
        case AfterPromotion.AS_FOUND:
            return (
                "At the end, traffic follows the latest revision if it did so before, or else stays pinned."
            )
        case AfterPromotion.PINNED:
            return "At the end, traffic stays pinned to the promoted revision."
        case AfterPromotion.LATEST:
            return "At the end, traffic follows the latest revision."
        case _ as unreachable:
            assert_never(unreachable)


def _new_revision_text(on_new_revision: OnNewRevision) -> str:
    match on_new_revision:
        case OnNewRevision.SUPERSEDE:
            return "A newer revision ends this rollout and starts its own at step one."
        case OnNewRevision.QUEUE:
            return "A newer revision waits for the end of this rollout."
        case OnNewRevision.IGNORE:
            return "A newer revision is ignored."
        case _ as unreachable:
            assert_never(unreachable)


def _ceilings(policy: Policy) -> bool:
    """Say whether any guard that decides has a ceiling."""
    return any(_has_ceiling(guard) for guard in policy.guards.named.values() if not guard.observe)


def _has_ceiling(guard: AnyGuard) -> bool:
    match guard:
        case ErrorGuard() | CapacityGuard():
            return guard.ceiling is not None
        case LatencyGuard():
            return bool(guard.ceilings)
        case CustomGuard():
            return guard.ceiling is not None or bool(guard.ceilings)
        case _ as unreachable:
            assert_never(unreachable)


def _warnings(policy: Policy) -> Iterator[str]:
    if not _ceilings(policy):
        yield "no ceiling decides, so the bake cannot find harm; set guards.errors.ceiling."
    for name, guard in policy.guards.named.items():
        if guard.tolerance.factor == 1 and not guard.tolerance.points:
            path = f"custom.{name}" if isinstance(guard, CustomGuard) else name
            yield f"guards.{path} tolerates nothing, so a difference too small to matter rolls back."
    for index, step in enumerate(policy.steps):
        if step.hold.at_least < _SHORT_EVIDENCE:
            minutes = duration_text(step.hold.at_least)
            yield f"steps[{index}] is judged on {minutes} of evidence; slow harm needs longer to show."
    if policy.steps[0].traffic > _BOLD_FIRST_STEP:
        yield f"the first step gives {policy.steps[0].traffic}% to a candidate that nobody has seen serving."
    if policy.when_unsure is WhenUnsure.ADVANCE:
        yield "when_unsure: advance lets a candidate go on without evidence; hold waits for a person."
    yield from _taken_paths("smoke", policy.smoke)
    yield from _taken_paths("probes", (probe.path for probe in policy.probes))


def _taken_paths(field: str, paths: Iterable[str]) -> Iterator[str]:
    for index, path in enumerate(paths):
        if path.partition("?")[0] == _TAKEN:
            yield f"{field}[{index}]: Cloud Run answers {_TAKEN} itself, with 404; use another path."
