"""A verdict and its evidence as plain values, for JSON: in reports and in the audit trail."""

import math
from typing import Any

from controller.core.assessment import Assessment
from controller.core.evidence import Sample
from controller.core.judge import Verdict


def verdict_summary(verdict: Verdict) -> dict[str, Any]:
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


def evidence_summary(assessment: Assessment | None) -> dict[str, Any] | None:
    """Return the totals of the latest stage; None where nothing was weighed."""
    if assessment is None or assessment.percent is None:
        return None
    return {
        "minutes": assessment.minutes,
        "stable": _sample_summary(assessment.stable),
        "candidate": _sample_summary(assessment.candidate),
    }


def _sample_summary(sample: Sample) -> dict[str, Any]:
    """Return the counts of a sample, and its percentiles in milliseconds."""
    latencies = sample.latencies if sample.latencies and sample.latencies.total else None
    return {
        "requests": sample.requests,
        "codes": dict(sorted(sample.codes.items())),
        "p50": round(latencies.percentile(0.5), 1) if latencies else None,
        "p95": round(latencies.percentile(0.95), 1) if latencies else None,
    }


def _rounded(nats: float) -> float | None:
    """Return evidence as JSON can carry it: None where there is none at all."""
    return round(nats, 3) if math.isfinite(nats) else None
