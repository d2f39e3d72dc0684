import math
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders import BOUNDS, NOW, a_policy, a_sample, some_evidence
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.stats import lognorm

from controller.core.assessment import Assessment, assess
from controller.core.counts import Counts, Histogram
from controller.core.evidence import (
    Evidence,
    Minute,
    Sample,
    Stage,
    Tick,
    Window,
    arrange_evidence,
    final_until,
)
from controller.core.findings import VerdictValue
from controller.core.guards import GuardTest
from controller.core.judge import Verdict, judge
from controller.core.policy import Policy

FEW = (10.0, 20.0, 40.0)
SHARE = {"bad": 'metric.type="x"', "total": 'metric.type="y"'}
DISTRIBUTION = {"distribution": 'metric.type="z"'}
EVERYTHING: dict[str, Any] = {
    "latency": {"ceilings": {"p50": "20ms", "p95": "40ms"}},
    "custom": {
        "payments": {**SHARE, "ceiling": "5%"},
        "sizes": {**DISTRIBUTION, "ceilings": {"p90": 20}},
    },
}
POLICY = a_policy(guards=EVERYTHING)


def weighed(assessment: Assessment) -> list[Any]:
    """All that an assessment holds but the functions of its guards."""
    return [
        assessment.problem,
        assessment.stable,
        assessment.candidate,
        assessment.percent,
        assessment.minutes,
        assessment.earlier_minutes,
        *[(guard.name, guard.limits) for guard in assessment.guards],
    ]


def verdict_of(evidence: Evidence, policy: Policy = POLICY) -> Verdict:
    return judge(policy, policy.steps[0].hold, assess(policy, evidence))


def at(minute: int, stable: Sample, candidate: Sample) -> Tick:
    return Tick(NOW + timedelta(minutes=minute), stable, candidate)


def stage(percent: int, first: int, *pairs: tuple[Sample, Sample]) -> Stage:
    """Minutes one after the other, beginning with the one of that number."""
    return Stage(percent, tuple(at(first + each, *pair) for each, pair in enumerate(pairs)))


# --- minute by minute, and from scratch ---


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    total = draw(st.one_of(st.integers(0, 4), st.integers(0, 10**6)))
    return Counts(draw(st.integers(0, total)), total)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    many = st.one_of(st.integers(0, 4), st.integers(0, 10**6))
    return Histogram(FEW, tuple(draw(st.lists(many, min_size=4, max_size=4))))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Nothing, or codes with or without latencies and the policy's own metrics."""
    if draw(st.booleans()):
        return Sample()
    errors = draw(counts())
    custom: dict[str, Any] = draw(
        st.fixed_dictionaries({}, optional={"payments": counts(), "sizes": histograms()})
    )
    latencies = draw(st.one_of(st.none(), histograms()))
    return Sample({"200": errors.total - errors.bad, "503": errors.bad}, latencies, custom)


@st.composite
def rollouts(draw: st.DrawFn) -> Evidence:
    """Up to three steps and a bake, with pauses between them."""
    percents = [*sorted(draw(st.sets(st.integers(1, 99), max_size=3))), *draw(st.sampled_from([[], [100]]))]
    stages, minute = [], 0
    for percent in percents:
        pairs = draw(st.lists(st.tuples(samples(), samples()), max_size=5))
        stages.append(stage(percent, minute, *pairs))
        minute += len(pairs) + draw(st.integers(0, 3))
    return Evidence(tuple(stages), history=tuple(draw(st.lists(samples(), max_size=3))))


@st.composite
def passes(draw: st.DrawFn) -> list[Evidence]:
    """The evidence of a rollout as a controller gets it: each time what is new, be it nothing or a lot.

    A stage may be there, and empty, while the last minutes of the one before are not final yet.
    """
    whole = draw(rollouts())
    ticks = [(number, tick) for number, stage in enumerate(whole.stages) for tick in stage.ticks]
    cuts = sorted(draw(st.lists(st.integers(0, len(ticks)), max_size=6)))
    known, parts = 0, []
    for first, last in pairwise([0, *cuts, len(ticks)]):
        needed = 1 + max((number for number, _ in ticks[first:last]), default=-1)
        known = max(known, needed, min(len(whole.stages), needed + draw(st.integers(0, 1))))
        new = [[tick for at, tick in ticks[first:last] if at == number] for number in range(known)]
        stages = zip(whole.stages, new, strict=False)
        parts.append(Evidence(tuple(Stage(stage.percent, tuple(some)) for stage, some in stages)))
    return [replace(parts[0], history=whole.history), *parts[1:]]


def together(parts: list[Evidence]) -> Evidence:
    """All that came in some passes, as one that begins anew reads it."""
    stages: list[Stage] = []
    for part in parts:
        for number, stage in enumerate(part.stages):
            before = stages[number].ticks if number < len(stages) else ()
            stages[number : number + 1] = [Stage(stage.percent, (*before, *stage.ticks))]
    return Evidence(tuple(stages), history=parts[0].history)


@given(passes())
@settings(max_examples=120)
def test_minutes_in_any_passes_are_the_same_as_all_from_scratch_to_the_last_bit(
    parts: list[Evidence],
) -> None:
    assessment = None
    for number, part in enumerate(parts):
        assessment = assess(POLICY, part, assessment)
        assert weighed(assessment) == weighed(assess(POLICY, together(parts[: number + 1])))


@given(
    lengths=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=4),
    pauses=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    delay=st.integers(0, 240),
)
@settings(max_examples=120)
def test_passes_at_any_times_over_windows_that_come_and_end_weigh_every_minute_once(
    lengths: list[tuple[int, int]], pauses: list[int], delay: int
) -> None:
    """Windows as a rollout writes them, in seconds: each begins in the future, and ends before the next."""
    minutes = [Minute(NOW + timedelta(minutes=n), a_sample(50 + n, n % 7)) for n in range(-5, 90)]
    known: tuple[Window, ...] = ()
    assessment: Assessment | None = None
    since: datetime | None = None
    now = begun = 0
    for number, (settle, length) in enumerate(lengths):
        window = Window(5 + number, NOW + timedelta(seconds=now + settle))
        for pause in [0, *pauses]:
            now = min(now + pause, begun + settle + length)
            until = final_until(NOW + timedelta(seconds=now), timedelta(seconds=delay))
            windows = (*known, window)
            assert assessment is None or since is None or assessment.is_of(windows, since)
            evidence = arrange_evidence(windows, minutes, minutes, until, since)
            assessment, since = assess(POLICY, evidence, assessment), until
            anew = assess(POLICY, arrange_evidence(windows, minutes, minutes, until))
            assert weighed(assessment) == weighed(anew)
        known = (*known, replace(window, end=NOW + timedelta(seconds=now)))
        begun = now


def test_no_new_minute_changes_nothing() -> None:
    once = assess(POLICY, Evidence((stage(5, 0, *[(a_sample(90, 1), a_sample(10))] * 5),)))
    assert assess(POLICY, Evidence((Stage(5),)), once) == once


def test_an_assessment_is_as_large_after_a_thousand_minutes_as_after_ten() -> None:
    few, many = (
        assess(POLICY, some_evidence(a_sample(90, 1), a_sample(10), minutes)) for minutes in (10, 1000)
    )
    assert len(repr(many)) < 1.5 * len(repr(few))


MINUTES = timedelta(minutes=1)
FIRST = Window(5, NOW, NOW + 5 * MINUTES)
SECOND = Window(25, NOW + 9 * MINUTES)


@pytest.mark.parametrize(
    ("windows", "fits"),
    [
        ((FIRST, SECOND), True),
        ((FIRST, replace(SECOND, end=NOW + 20 * MINUTES)), True),
        ((FIRST, SECOND, Window(50, NOW + 14 * MINUTES)), True),
        ((FIRST,), False),
        ((), False),
        ((FIRST, replace(SECOND, end=NOW + 12 * MINUTES)), False),
        ((FIRST, replace(SECOND, start=NOW + 8 * MINUTES)), False),
        ((replace(FIRST, end=NOW + 4 * MINUTES), SECOND), False),
        ((FIRST, SECOND, Window(50, NOW + 12 * MINUTES)), False),
    ],
    ids=[
        "the same",
        "the last has ended",
        "one more",
        "one less",
        "none",
        "ended before what was weighed",
        "begun earlier",
        "an earlier one is shorter",
        "one more that began before what was weighed",
    ],
)
def test_an_assessment_is_of_the_windows_whose_minutes_it_has_weighed(
    windows: tuple[Window, ...], fits: bool
) -> None:
    until = NOW + 14 * MINUTES
    assert assess(POLICY, arrange_evidence((FIRST, SECOND), [], [], until)).is_of(windows, until) == fits


def test_what_cannot_be_read_is_no_evidence_and_what_cannot_be_judged_stays_so() -> None:
    evidence = Evidence((stage(5, 0, *[(a_sample(90, 1), a_sample(10))] * 5),))
    unread = assess(POLICY, Evidence(problem="quota"), assess(POLICY, evidence))
    assert unread == Assessment(problem="the metrics cannot be read: quota")
    unjudged = assess(POLICY, Evidence((Stage(5, (at(3, GOOD, GOOD), at(3, GOOD, GOOD))),)))
    assert unjudged.problem
    assert assess(POLICY, Evidence((stage(5, 1, (GOOD, GOOD)),)), unjudged) == unjudged


@pytest.mark.parametrize("at_once", [True, False])
def test_harm_that_was_shown_is_not_taken_back_by_what_comes_later(at_once: bool) -> None:
    """A write that fails, or a controller that dies, must not let the evidence fall again."""
    bad = Sample({"200": 80, "500": 20}, GOOD.latencies)
    minutes = [(GOOD, bad)] * 5 + [(GOOD, GOOD)] * 200
    if at_once:
        assessment = assess(POLICY, Evidence((stage(5, 0, *minutes),)))
    else:
        assessment = assess(POLICY, Evidence((stage(5, 0, *minutes[:5]),)))
        assessment = assess(POLICY, Evidence((stage(5, 5, *minutes[5:]),)), assessment)
    assert assessment.harmed == 0
    assert assessment.minutes <= 5
    assert judge(POLICY, POLICY.hold, assessment).value is VerdictValue.FAIL


def test_a_guard_that_cannot_be_weighed_blinds_no_other() -> None:
    bad = Sample({"200": 10, "500": 90}, OTHER_BUCKETS.latencies)
    minutes = [(GOOD, OTHER_BUCKETS), *[(GOOD, bad)] * 5]
    assessment = assess(POLICY, Evidence((stage(5, 0, *minutes),)))
    assert [test.name for test in assessment.guards if test.problem] == ["latency"]
    verdict = judge(POLICY, POLICY.hold, assessment)
    assert verdict.value is VerdictValue.FAIL
    assert "errors: candidate 45 % errors" in verdict.reason


def test_a_guard_whose_metric_cannot_be_read_keeps_a_step_from_passing_and_harm_from_nothing() -> None:
    unreadable = {"errors": "the filter is wrong"}
    good = Evidence((stage(5, 0, *[(GOOD, GOOD)] * 9),))
    policy = a_policy()
    assert judge(policy, policy.hold, assess(policy, good)).value is VerdictValue.PASS
    unread = judge(policy, policy.hold, assess(policy, replace(good, problems=unreadable)))
    assert unread.value is VerdictValue.UNMEASURED
    assert "cannot be weighed: the filter is wrong" in unread.reason
    bad = Evidence((stage(5, 0, *[(GOOD, Sample({"500": 100}, GOOD.latencies))] * 9),), problems=unreadable)
    assert judge(policy, policy.hold, assess(policy, bad)).value is VerdictValue.FAIL


@pytest.mark.parametrize("guards", [{"latency": "off"}, {"latency": {"observe": True}}])
def test_buckets_that_change_are_no_problem_where_no_guard_decides_by_them(guards: dict[str, Any]) -> None:
    minutes = [(GOOD, GOOD)] * 3 + [(OTHER_BUCKETS, OTHER_BUCKETS)] * 2
    assessment = assess(a_policy(guards=guards), Evidence((stage(5, 0, *minutes),)))
    assert assessment.problem == ""
    assert assessment.candidate.requests == 500
    assert assessment.candidate.latencies == Histogram((1.0, 2.0), (0, 200, 0))


def test_the_totals_are_those_of_the_latest_stage_alone() -> None:
    earlier, later = [(a_sample(90, 5), a_sample(10, 1))] * 4, [(a_sample(70, 1), a_sample(30, 2))] * 3
    assessment = assess(a_policy(), Evidence((stage(5, 0, *earlier), stage(30, 9, *later))))
    assert (assessment.stable.requests, assessment.candidate.requests) == (210, 90)
    assert assessment.candidate.having(["5xx"]) == 6
    assert assessment.minutes == 3


@given(rollouts())
@settings(max_examples=30)
def test_the_state_of_every_part_survives_json_to_the_last_bit(evidence: Evidence) -> None:
    tick = at(10**4, a_sample(5, 1, latency=None), a_sample(5, 3, latency=None))
    guards: tuple[GuardTest[Any], ...] = assess(POLICY, evidence).guards
    for guard in guards:
        adapters: list[TypeAdapter[Any]] = [TypeAdapter(type(part)) for part in guard.limits]
        parts = tuple(
            adapter.validate_json(adapter.dump_json(part))
            for adapter, part in zip(adapters, guard.limits, strict=True)
        )
        read = replace(guard, limits=parts)
        assert read.limits == guard.limits
        after, expected = (each.after(tick, alone=False, new_step=False) for each in (read, guard))
        assert after.limits == expected.limits


# --- what cannot be what happened ---

GOOD = a_sample(100)
OTHER_BUCKETS = Sample({"200": 100}, Histogram((1.0, 2.0), (0, 100, 0)))
CUSTOM = a_policy(guards={"custom": {"payments": SHARE, "sizes": DISTRIBUTION}})


def with_sizes(*bounds: float) -> Sample:
    return replace(GOOD, custom={"sizes": Histogram(bounds, (5,) * (len(bounds) + 1))})


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence((stage(5, 0, (GOOD, OTHER_BUCKETS)),)),
        Evidence((stage(5, 0, (GOOD, GOOD), (OTHER_BUCKETS, OTHER_BUCKETS)),)),
        Evidence((stage(5, 0, (GOOD, GOOD)), stage(25, 5, (OTHER_BUCKETS, OTHER_BUCKETS)))),
        Evidence((stage(5, 0, (GOOD, Sample()), (Sample(), OTHER_BUCKETS)),)),
        Evidence((stage(5, 0, (with_sizes(1.0, 2.0), with_sizes(1.0, 3.0))),)),
        Evidence((stage(5, 0, (with_sizes(1.0, 2.0),) * 2, (with_sizes(1.0, 3.0),) * 2),)),
    ],
)
def test_what_one_guard_cannot_weigh_is_never_a_number_and_never_a_pass(evidence: Evidence) -> None:
    assessment = assess(CUSTOM, evidence)
    assert assessment.problem == ""
    assert any(test.problem for test in assessment.guards)
    verdict = verdict_of(evidence, CUSTOM)
    assert verdict.value is VerdictValue.UNMEASURED
    assert "cannot be weighed: " in verdict.reason


@pytest.mark.parametrize(
    "evidence",
    [
        Evidence((Stage(5, (at(3, GOOD, GOOD), at(3, GOOD, GOOD))),)),
        Evidence((Stage(5, (at(3, GOOD, GOOD), at(2, GOOD, GOOD))),)),
        Evidence((stage(5, 0, (GOOD, GOOD)), stage(25, 0, (GOOD, GOOD)))),
        Evidence((stage(5, 5, (GOOD, GOOD)), Stage(25), stage(50, 4, (GOOD, GOOD)))),
    ],
)
def test_what_cannot_be_what_happened_is_a_problem_and_never_a_number(evidence: Evidence) -> None:
    assessment = assess(CUSTOM, evidence)
    assert assessment.problem.startswith("the metrics cannot be judged: ")
    assert assessment.guards == ()
    verdict = verdict_of(evidence, CUSTOM)
    assert verdict.value is VerdictValue.UNMEASURED
    assert verdict.reason == assessment.problem
    assert verdict.findings == ()


def test_a_minute_that_comes_again_later_is_a_problem_for_a_controller_that_goes_on_too() -> None:
    evidence = Evidence((stage(5, 0, *[(GOOD, GOOD)] * 3),))
    again = Evidence((Stage(5, (at(2, GOOD, GOOD),)),))
    assert "comes twice or out of order" in assess(POLICY, again, assess(POLICY, evidence)).problem


def test_minutes_without_any_request_are_no_evidence_and_no_problem() -> None:
    minutes = [(GOOD, GOOD), (Sample(), Sample()), (GOOD, GOOD)]
    with_gap = assess(a_policy(), Evidence((stage(5, 0, *minutes),)))
    without = assess(a_policy(), Evidence((stage(5, 0, minutes[0], minutes[2]),)))
    assert with_gap.problem == ""
    errors, expected = with_gap.guards[0].log_harm(), without.guards[0].log_harm()
    assert errors == pytest.approx(expected)


def test_nothing_at_all_is_not_judged() -> None:
    assert assess(POLICY, Evidence()).minutes == 0
    assert verdict_of(Evidence()).value is VerdictValue.UNSURE
    assert verdict_of(Evidence((stage(5, 0, *[(Sample(), Sample())] * 9),))).value is VerdictValue.UNMEASURED


# --- stages ---


def harm_of_errors(*stages: Stage) -> Any:
    """The evidence of the comparison of errors."""
    policy = a_policy(guards={"latency": "off", "errors": {"ceiling": "off"}})
    return assess(policy, Evidence(stages)).guards[0].limits[0].harm


def test_what_waits_at_the_end_of_a_step_is_not_compared_with_the_next() -> None:
    only_stable, only_candidate = (a_sample(5), Sample()), (Sample(), a_sample(5, 5))
    within = harm_of_errors(stage(5, 0, only_stable, only_candidate))
    across = harm_of_errors(stage(5, 0, only_stable), stage(25, 5, only_candidate))
    assert within.log_evidence > 1
    assert across.log_evidence == pytest.approx(0)
    assert across.waiting == (Counts(), Counts(5, 5))


def test_the_bake_leaves_the_comparison_as_it_was() -> None:
    step = stage(5, 0, *[(a_sample(90, 1), a_sample(10, 1))] * 5)
    bake = stage(100, 9, *[(Sample(), a_sample(100, 9))] * 5)
    assert harm_of_errors(step, bake) == harm_of_errors(step)


def test_stable_in_the_bake_is_not_looked_at() -> None:
    """A few requests still end there after all traffic has moved."""
    policy = a_policy()
    bakes = [
        stage(100, 0, *[(late, a_sample(100, 15))] * 5) for late in (Sample(), a_sample(3, 3, latency=None))
    ]
    alone, beside = (assess(policy, Evidence((bake,))) for bake in bakes)
    assert alone.guards[0].limits == beside.guards[0].limits
    assert alone.guards[0].log_harm() > math.log(100)


# --- whole rollouts, simulated with the default policy ---


def drawn(rng: np.random.Generator, requests: int, share: float, median: float = 100.0) -> Sample:
    """A sample with this share of errors, and latencies whose logarithms are normal."""
    below = lognorm.cdf(np.array(BOUNDS), 0.6, scale=median)
    latencies = rng.multinomial(requests, np.diff(np.concatenate(([0.0], below, [1.0]))))
    failed = int(rng.binomial(requests, share))
    histogram = Histogram(BOUNDS, tuple(int(count) for count in latencies))
    return Sample({"200": requests - failed, "500": failed}, histogram if requests else None)


Pairs = list[tuple[int, Sample, Sample]]


def verdicts(policy: Policy, minutes: Pairs, history: tuple[Sample, ...] = ()) -> list[Verdict]:
    """What the judge says after each minute; every minute comes with the candidate's percent."""
    said, assessment = [], None
    percents = list(dict.fromkeys(percent for percent, _, _ in minutes))
    for number, (percent, stable, candidate) in enumerate(minutes):
        before = [Stage(each) for each in percents[: percents.index(percent)]]
        new = Evidence((*before, stage(percent, number, (stable, candidate))), history=history)
        assessment = assess(policy, new, assessment)
        said.append(judge(policy, policy.steps[0].hold, assessment))
    return said


def is_blamed(policy: Policy, minutes: Pairs, history: tuple[Sample, ...] = ()) -> bool:
    return any(verdict.value is VerdictValue.FAIL for verdict in verdicts(policy, minutes, history))


def steps(rng: np.random.Generator, shares: tuple[float, float, float]) -> Pairs:
    """Ten minutes each of 5, 25 and 50 %, with these shares of errors on both sides."""
    return [
        (percent, drawn(rng, 6 * (100 - percent), share), drawn(rng, 6 * percent, share))
        for percent, share in zip((5, 25, 50), shares, strict=True)
        for _ in range(10)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shares", [(0.01, 0.01, 0.01), (0.005, 0.01, 0.02), (0.03, 0.1, 0.03)])
def test_hardly_any_healthy_candidate_is_rolled_back(seed: int, shares: tuple[float, float, float]) -> None:
    """25 rollouts each, with a drift that both share, and one with errors above the ceiling in between."""
    rng, policy = np.random.default_rng(seed), a_policy()
    history = tuple(drawn(rng, 600, shares[0]) for _ in range(5))
    assert sum(is_blamed(policy, steps(rng, shares), history) for _ in range(25)) <= 1


@pytest.mark.parametrize("share", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("minutes", [1, 2, 5, 15])
def test_an_incident_of_both_is_never_taken_for_harm_of_the_candidate(share: float, minutes: int) -> None:
    rng = np.random.default_rng(1)
    for begin in (0, 7, 40):
        errors = [share if begin <= minute < begin + minutes else 0.01 for minute in range(begin + 45)]
        course: Pairs = [(25, drawn(rng, 300, each), drawn(rng, 100, each)) for each in errors]
        assert not is_blamed(a_policy(), course)


def test_an_outage_at_low_traffic_is_found_within_ten_requests() -> None:
    """Thirty requests an hour, half of them to a candidate that fails every one."""
    rng, policy, needed = np.random.default_rng(2), a_policy(), []
    for _ in range(25):
        course: Pairs = []
        for _ in range(120):
            stable, candidate = (int(count) for count in rng.poisson(0.25, 2))
            course.append((50, drawn(rng, stable, 0.0), drawn(rng, candidate, 1.0)))
        said = [verdict.value for verdict in verdicts(policy, course)]
        minute = said.index(VerdictValue.FAIL)
        needed.append(sum(candidate.requests for _, _, candidate in course[: minute + 1]))
    assert np.median(needed) <= 10


@pytest.mark.parametrize(("share", "median", "within"), [(0.05, 100, 15), (0.3, 100, 4), (0.01, 200, 6)])
def test_a_bad_candidate_is_found_within_minutes(share: float, median: float, within: int) -> None:
    rng, policy, found = np.random.default_rng(3), a_policy(), []
    for _ in range(10):
        history = tuple(drawn(rng, 400, 0.01) for _ in range(5))
        course: Pairs = [(25, drawn(rng, 300, 0.01), drawn(rng, 100, share, median)) for _ in range(30)]
        said = [verdict.value for verdict in verdicts(policy, course, history)]
        found.append(said.index(VerdictValue.FAIL) + 1)
    assert np.median(found) <= within
