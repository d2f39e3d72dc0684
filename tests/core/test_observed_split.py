"""The observed split: a candidate that gets far less than its share, and one that gets about that."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from builders import NOW, a_policy, a_sample

from controller.core.assessment import Assessment, assess
from controller.core.counts import Counts
from controller.core.evidence import Evidence, Sample, Stage, Tick
from controller.core.findings import VerdictValue
from controller.core.judge import judge

POLICY = a_policy(guards={"capacity": "on", "latency": "off"}, request_logs="on")
MINUTE = timedelta(minutes=1)


def with_room(requests: int) -> Sample:
    return replace(a_sample(requests, latency=None), waited=Counts(0, 1))


def seen(percent: int, ours: list[int], total: int = 100) -> Assessment:
    ticks = tuple(
        Tick(NOW + number * MINUTE, with_room(total - each), with_room(each))
        for number, each in enumerate(ours)
    )
    return assess(POLICY, Evidence((Stage(percent, ticks),)))


@pytest.mark.parametrize(("percent", "ours"), [(25, 2), (25, 8), (50, 10), (10, 0)])
def test_a_candidate_that_gets_less_than_half_of_its_share_keeps_its_step_from_passing(
    percent: int, ours: int
) -> None:
    assessment = seen(percent, [ours] * 20)
    assert assessment.split.is_short
    verdict = judge(POLICY, POLICY.hold, assessment)
    if ours:
        assert verdict.value is VerdictValue.UNSURE
        assert f"split: candidate got {ours * 20} requests of 2,000, where {percent} %" in verdict.reason


@pytest.mark.parametrize(("percent", "ours"), [(25, 25), (25, 18), (25, 60), (50, 40), (5, 4), (1, 1)])
def test_a_candidate_that_gets_about_its_share_passes(percent: int, ours: int) -> None:
    assessment = seen(percent, [ours] * 20)
    assert not assessment.split.is_short
    if ours * 20 >= POLICY.hold.requests:
        assert judge(POLICY, POLICY.hold, assessment).value is VerdictValue.PASS


def test_where_the_candidate_has_everybody_nothing_is_asked_of_its_share() -> None:
    assert not seen(100, [0] * 20).split.is_short


def test_chance_alone_is_hardly_ever_taken_for_a_split_that_is_not_kept() -> None:
    rng = np.random.default_rng(1)
    shares = rng.binomial(30, 0.25, size=(60, 60)).tolist()
    wrong = sum(seen(25, row, total=30).split.is_short for row in shares)
    assert wrong == 0


def test_each_step_is_asked_anew() -> None:
    short = tuple(
        Tick(NOW + n * MINUTE, a_sample(99, latency=None), a_sample(1, latency=None)) for n in range(9)
    )
    fine = tuple(
        Tick(NOW + (20 + n) * MINUTE, a_sample(50, latency=None), a_sample(50, latency=None))
        for n in range(9)
    )
    assert not assess(POLICY, Evidence((Stage(25, short), Stage(50, fine)))).split.is_short


def test_a_candidate_that_was_slow_to_scale_is_let_on_when_it_gets_its_share() -> None:
    assert seen(50, [10] * 5).split.is_short
    assert seen(50, [10] * 5 + [50] * 4).split.is_short is False
    assert judge(POLICY, POLICY.hold, seen(50, [10] * 5 + [50] * 10)).value is VerdictValue.PASS


def test_a_guard_on_starts_waits_for_nobody_where_only_the_candidate_starts_instances() -> None:
    policy = a_policy(guards={"startup": "on", "latency": "off"})
    starting = replace(a_sample(100), startups=a_sample(1).latencies)
    ticks = tuple(Tick(NOW + n * MINUTE, a_sample(100), starting) for n in range(20))
    assert (
        judge(policy, policy.hold, assess(policy, Evidence((Stage(50, ticks),)))).value is VerdictValue.PASS
    )
