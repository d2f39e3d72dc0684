"""A pass as plain data: what status prints with --json, and what the views show."""

from typing import Any

from controller.core.plain_text import plain_values
from controller.core.rollout import Phase, Rollout
from controller.core.summary import evidence_summary, verdict_summary
from controller.engine.health import ServiceHealth
from controller.engine.reconcile import Pass


def report_of(seen: Pass) -> dict[str, Any]:
    """Return a pass as JSON-able values; times in UTC, shares in percent, latencies in milliseconds.

    Every text in it is plain: whoever decodes the JSON may print it on a terminal.
    """
    plainly: dict[str, Any] = plain_values(_report(seen))
    return plainly


def _report(seen: Pass) -> dict[str, Any]:
    report: dict[str, Any] = {"service": seen.service.name, "serving": seen.service.shares_served}
    if seen.decision is None or seen.observation is None:
        return {**report, "phase": None}
    rollout, decision = seen.decision.rollout, seen.decision
    return {
        "time": seen.observation.now.isoformat(timespec="seconds"),
        **report,
        **rollout_report(rollout),
        "event": decision.event.name.lower() if decision.event else None,
        "reason": decision.reason,
        "verdict": verdict_summary(decision.verdict) if decision.verdict else None,
        "evidence": evidence_summary(seen.assessment),
    }


def rollout_report(rollout: Rollout) -> dict[str, Any]:
    """Return where a rollout stands."""
    return {
        "rollout": rollout.id,
        "phase": rollout.phase.value,
        "step": rollout.step + 1,
        "steps": len(rollout.policy.steps),
        "candidate_percent": rollout.percent,
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "in_force": rollout.observed_at is not None,
        "since": rollout.since.isoformat(timespec="seconds"),
        "by": rollout.by,
        "reason": rollout.reason,
    }


def health_text(health: ServiceHealth) -> str:
    """Return why a service at rest is as it is, and what was done about it, in one line."""
    told = f"{health.revision}: {health.verdict.reason}"
    if health.back_to:
        return f"{told}; rolled back to {health.back_to}"
    return f"{told}; not rolled back: {health.why_not}" if health.why_not else told


def way_back(service: str, rollout: Rollout | None, health: ServiceHealth | None) -> str:
    """Return the command that sends the users of a harmful revision back; empty where none is needed."""
    if health is None or not health.is_harmful or health.back_to:
        return ""
    # Known as good is only what was stable when this very revision was promoted.
    known = rollout and rollout.phase is Phase.PROMOTED and rollout.candidate == health.revision
    return f"canary rollback {service} --to {(known and rollout and rollout.stable) or 'REVISION'}"


def health_report(health: ServiceHealth) -> dict[str, Any]:
    """Return how a service at rest is as JSON-able values."""
    verdict = health.verdict
    report: dict[str, Any] = plain_values(
        {
            "value": verdict.value.value,
            "revision": health.revision,
            "reason": verdict.reason,
            "limit_percent": None if verdict.limit is None else verdict.limit * 100,
            "minutes": verdict.minutes,
            "back_to": health.back_to or None,
            "why_not_back": health.why_not or None,
        }
    )
    return report
