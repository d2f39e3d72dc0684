"""Every combination of guards that pass, fail, are unsure or measured nothing, through the whole judge."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from builders import NOW, a_policy, a_sample

from controller.core.assessment import assess
from controller.core.counts import Counts
from controller.core.evidence import MINUTE, Evidence, Measure, Sample, Stage, Tick
from controller.core.findings import VerdictValue
from controller.core.judge import Verdict, judge
from controller.core.policy_steps import Hold

HOLD = Hold(requests=50)
PASS, FAIL, UNSURE, UNMEASURED = (
    VerdictValue.PASS,
    VerdictValue.FAIL,
    VerdictValue.UNSURE,
    VerdictValue.UNMEASURED,
)
BAD_OF_200: dict[VerdictValue, int | None] = {PASS: 0, FAIL: 60, UNSURE: 1, UNMEASURED: None}
"""How many of the candidate's 200 a minute are bad for a guard to say that, beside a stable without any."""
MINUTES, GOOD_MINUTES = 10, 7
"""Harm comes last: what was shown is not weighed on, and the others are to have their say."""
NAMES = ("one", "two", "three")
TABLE = list(product(VerdictValue, repeat=3))


def verdict_of(values: tuple[VerdictValue, ...], observing: tuple[str, ...] = ()) -> Verdict:
    """Judge three guards of the policy's own, each of which says one of these for itself."""
    guard: dict[str, Any] = {"bad": 'metric.type="b"', "total": 'metric.type="t"'}
    custom = {name: {**guard, "observe": name in observing} for name in NAMES}
    policy = a_policy(guards={"errors": "off", "latency": "off", "custom": custom})
    stable = measuring(dict.fromkeys(NAMES, 0))
    bad = {name: BAD_OF_200[value] for name, value in zip(NAMES, values, strict=True)}
    good = {name: 0 if value is FAIL else bad[name] for name, value in zip(NAMES, values, strict=True)}
    ticks = tuple(
        Tick(NOW + number * MINUTE, stable, measuring(good if number < GOOD_MINUTES else bad))
        for number in range(MINUTES)
    )
    return judge(policy, HOLD, assess(policy, Evidence((Stage(5, ticks),))))


def measuring(bad: dict[str, int | None]) -> Sample:
    found: dict[str, Measure] = {name: Counts(n, 200) for name, n in bad.items() if n is not None}
    return replace(a_sample(200, latency=None), custom=found)


def expected(values: tuple[VerdictValue, ...]) -> VerdictValue:
    """Harm goes back; else what nobody measured, or nobody is sure of, does not pass."""
    return next(value for value in (FAIL, UNMEASURED, UNSURE, PASS) if value in values)


@pytest.mark.scenario(36)
@pytest.mark.parametrize("values", TABLE, ids="-".join)
def test_of_three_guards_the_worst_decides_and_each_is_reported_as_it_stands(
    values: tuple[VerdictValue, ...],
) -> None:
    verdict = verdict_of(values)
    assert verdict.value is expected(values)
    assert tuple(finding.value for finding in verdict.findings) == values
    speaking = [name for name, value in zip(NAMES, values, strict=True) if value is verdict.value]
    assert [
        part.partition(":")[0] for part in verdict.reason.split("; ") if part.startswith(NAMES)
    ] == speaking


@pytest.mark.scenario(36)
@pytest.mark.parametrize("values", TABLE, ids="-".join)
def test_a_guard_that_only_observes_is_as_if_it_were_not_there(values: tuple[VerdictValue, ...]) -> None:
    verdict = verdict_of(values, observing=("three",))
    assert verdict.value is expected(values[:2])
    assert [finding.decides for finding in verdict.findings] == [True, True, False]
