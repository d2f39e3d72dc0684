"""A pass as plain data: what status prints with --json, and what the views show."""

import math
from typing import Any

from controller.core.evidence import Sample
from controller.core.judge import Verdict
from controller.core.rollout import Rollout
from controller.engine.reconcile import Pass


def report_of(seen: Pass) -> dict[str, Any]:
    """Return a pass as JSON-able values; times in UTC, shares in percent, latencies in milliseconds."""
    report: dict[str, Any] = {"service": seen.service.name, "serving": seen.service.shares_served}
    if seen.decision is None or seen.observation is None:
        return {**report, "phase": None}
    rollout, decision = seen.decision.rollout, seen.decision
    weighed = seen.assessment
    return {
        "time": seen.observation.now.isoformat(timespec="seconds"),
        **report,
        **rollout_report(rollout),
        "event": decision.event.name.lower() if decision.event else None,
        "reason": decision.reason,
        "verdict": verdict_report(decision.verdict) if decision.verdict else None,
        "evidence": {
            "minutes": weighed.minutes,
            "stable": sample_report(weighed.stable),
            "candidate": sample_report(weighed.candidate),
        }
        if weighed and weighed.stage
        else None,
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


def verdict_report(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with what each guard says; evidence in nats, the natural logarithm of its odds."""
    return {
        "value": verdict.value.value,
        "reason": verdict.reason,
        "requests_missing": verdict.requests_missing,
        "minutes_missing": verdict.minutes_missing,
        "log_harm": _rounded(verdict.log_harm),
        "guards": [
            {
                "guard": finding.guard,
                "value": finding.value.value,
                "reason": finding.reason,
                "decides": finding.decides,
                "log_harm": _rounded(finding.log_harm),
                "log_safety": _rounded(finding.log_safety),
            }
            for finding in verdict.findings
        ],
    }


def _rounded(nats: float) -> float | None:
    """Return evidence as JSON can carry it: None where there is none at all."""
    return round(nats, 3) if math.isfinite(nats) else None


def sample_report(sample: Sample) -> dict[str, Any]:
    """Return the counts and percentiles of a sample."""
    latencies = sample.latencies if sample.latencies and sample.latencies.total else None
    return {
        "requests": sample.requests,
        "codes": dict(sorted(sample.codes.items())),
        "p50": round(latencies.percentile(0.5), 1) if latencies else None,
        "p95": round(latencies.percentile(0.95), 1) if latencies else None,
    }
