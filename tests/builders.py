"""Builders of values for tests: each gives a sensible whole, of which a test names only what matters."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.core.assessment import Assessment, assess
from controller.core.counts import Histogram
from controller.core.evidence import Evidence, Sample, Stage, Tick
from controller.core.observation import Observation, RevisionState, ServiceState
from controller.core.policy import Policy, parse_policy
from controller.core.rollout import Pause, Phase, Rollout
from controller.core.traffic import Split, Target

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ID = "1f2e3d4c"
STABLE, CANDIDATE = "web-00001-abc", "web-00002-def"
BOUNDS = tuple(10 * 1.1**i for i in range(135))


def a_policy(**fields: Any) -> Policy:
    return parse_policy({"version": 1, **fields})


def a_rollout(phase: Phase = Phase.STEPPING, step: int = 0, **fields: Any) -> Rollout:
    policy = fields.pop("policy", None) or a_policy()
    rollout = Rollout(
        id=ID,
        service="web",
        stable=STABLE,
        candidate=CANDIDATE,
        newest=CANDIDATE,
        follows_latest=False,
        policy=policy,
        phase=phase,
        step=step,
        started_at=NOW - timedelta(minutes=30),
        since=NOW - timedelta(minutes=10),
        reason="because",
        by="controller",
        paused_phase=Phase.STEPPING if phase is Phase.PAUSED else None,
        pause=Pause.PERSON if phase is Phase.PAUSED else None,
    )
    return replace(rollout, **fields)


def a_split(stable: int = 100, candidate: int = 0, *more: Target) -> Split:
    return tuple(t for t in (Target(STABLE, stable), Target(CANDIDATE, candidate)) if t.percent) + more


def a_service(traffic: Split | None = None, served: Split | None = None, **fields: Any) -> ServiceState:
    traffic = a_split() if traffic is None else traffic
    service = ServiceState(
        name="web",
        etag="e1",
        generation=1,
        settled=True,
        failed=False,
        message="",
        traffic=traffic,
        served=traffic if served is None else served,
        latest_ready=CANDIDATE,
        latest_created=CANDIDATE,
    )
    return replace(service, **fields)


def a_revision(name: str = CANDIDATE, **fields: Any) -> RevisionState:
    return replace(RevisionState(name, NOW - timedelta(hours=1), ready=True), **fields)


def an_observation(service: ServiceState | None = None, **fields: Any) -> Observation:
    observation = Observation(
        NOW, service or a_service(), stable=a_revision(STABLE), candidate=a_revision(CANDIDATE)
    )
    return replace(observation, **fields)


def a_sample(requests: int = 100, failed: int = 0, latency: float | None = 50.0, slow: float = 0.0) -> Sample:
    """So many requests, all about `latency` ms but for a `slow` share that takes ten times as long."""
    codes = {"200": requests - failed, "500": failed}
    if latency is None:
        return Sample(codes)
    many = round(requests * slow)
    counts = [0] * (len(BOUNDS) + 1)
    for milliseconds, number in ((latency, requests - many), (latency * 10, many)):
        counts[sum(bound <= milliseconds for bound in BOUNDS)] += number
    return Sample(codes, Histogram(BOUNDS, tuple(counts)))


def some_evidence(
    stable: Sample, candidate: Sample, minutes: int = 10, percent: int = 25, earlier: int = 0
) -> Evidence:
    """The same two samples in each of so many minutes, after a stage of `earlier` empty ones."""
    ticks = tuple(Tick(NOW + timedelta(minutes=minute), stable, candidate) for minute in range(minutes))
    before = tuple(Tick(NOW - timedelta(hours=1, minutes=m), Sample(), Sample()) for m in range(earlier))
    return Evidence((Stage(5, before), Stage(percent, ticks)) if earlier else (Stage(percent, ticks),))


def an_assessment(
    stable: Sample, candidate: Sample, policy: Policy | None = None, **evidence: int
) -> Assessment:
    """Some evidence, assessed by the policy."""
    return assess(policy or a_policy(), some_evidence(stable, candidate, **evidence))
