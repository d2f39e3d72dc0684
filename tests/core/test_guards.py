import math
import re
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from builders import BOUNDS, NOW, a_policy, a_sample
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import lognorm

from controller.core.counts import Counts, EvidenceInvalid, Histogram
from controller.core.evidence import Sample, Tick
from controller.core.guards import GuardTest, guard_tests
from controller.core.limits import Ceiling, LatencyComparison, Limit, ShareComparison
from controller.core.sequential import Harm, Line
from controller.core.sequential_histograms import Slower

SAFE = math.log(20)
SHARE = {"bad": 'metric.type="x"', "total": 'metric.type="y"'}
DISTRIBUTION = {"distribution": 'metric.type="z"'}
POLICIES: list[dict[str, Any]] = [
    {},
    {"errors": {"ceiling": "off"}},
    {"latency": {"ceilings": {"p95": "300ms", "p99": "1s"}}},
    {"errors": "off", "custom": {"sizes": {**DISTRIBUTION, "ceilings": {"p50": 5, "p90": 7, "p99": 9}}}},
    {"latency": {"observe": True}, "custom": {"payments": {**SHARE, "ceiling": "2%"}}},
]


def guards_of(**guards: Any) -> dict[str, Any]:
    return {test.name: test for test in guard_tests(a_policy(guards=guards))}


def fed(test: Any, stable: Sample, candidate: Sample, minutes: int = 1, *, alone: bool = False) -> Any:
    """The guard after so many minutes of the same samples."""
    for minute in range(minutes):
        tick = Tick(NOW + timedelta(minutes=minute), stable, candidate)
        test = test.after(tick, alone=alone, new_step=False)
    return test


def slow(edge: int, requests: int = 100) -> Histogram:
    """All requests in the bucket that begins at so many edges."""
    counts = [0] * 136
    counts[edge + 1] = requests
    return Histogram(BOUNDS, tuple(counts))


# --- what evidence weighs ---


@pytest.mark.parametrize("guards", POLICIES)
def test_the_parts_of_a_guard_weigh_one_together(guards: dict[str, Any]) -> None:
    for test in guards_of(**guards).values():
        assert len(test.weights) == len(test.limits)
        assert sum(test.weights) == pytest.approx(1)
        assert min(test.weights) > 0


@pytest.mark.parametrize("guards", POLICIES)
def test_a_part_needs_what_makes_the_whole_account_enough_by_itself(guards: dict[str, Any]) -> None:
    tests = guards_of(**guards).values()
    deciding = sum(test.decides for test in tests)
    for test in tests:
        for part, weight in zip(test.limits, test.weights, strict=True):
            weighed = part.harm.needed + math.log(weight / deciding)
            assert weighed == pytest.approx(math.log(100))


def test_observing_guards_weigh_nothing_beside_those_that_decide() -> None:
    tests = guards_of(latency={"observe": True}, custom={"payments": {**SHARE, "observe": True}})
    assert [test.decides for test in tests.values()] == [True, False, False]
    assert tests["errors"].limits == guards_of(latency="off")["errors"].limits
    assert tests["errors"].limits != guards_of(latency="on")["errors"].limits


@pytest.mark.parametrize("guards", POLICIES)
def test_a_guard_that_saw_nothing_is_neither_harmed_nor_safe_nor_suspicious(guards: dict[str, Any]) -> None:
    for test in guards_of(**guards).values():
        untouched = fed(test, Sample(), Sample(), 5)
        assert untouched.log_harm() == pytest.approx(0)
        assert untouched.log_suspicion(alone=False) == pytest.approx(0)
        assert all(part.log_safety == 0 for part in untouched.limits)
        assert all(part.ruled_out(SAFE) == "" for part in untouched.limits)


def test_a_guard_without_a_ceiling_has_nothing_to_suspect_a_candidate_of_that_serves_alone() -> None:
    test = fed(guards_of(errors={"ceiling": "off"})["errors"], a_sample(100), a_sample(100, 50), 5)
    assert test.log_suspicion(alone=False) > 1
    assert test.log_suspicion(alone=True) == -math.inf


# --- the limits in words ---


@pytest.mark.parametrize(
    ("guards", "limits"),
    [
        ({}, ["the tolerated 1.25x + 0.2 points", "the ceiling of 5 %", "the tolerated 1.21x"]),
        (
            {"errors": {"tolerance": {"factor": 1, "points": "1%"}, "ceiling": "0.5%"}, "latency": "800ms"},
            [
                "the tolerated 1x + 1 point",
                "the ceiling of 0.5 %",
                "the tolerated 1.21x",
                "the ceiling of 800ms at p95",
            ],
        ),
        (
            {
                "errors": "off",
                "latency": "off",
                "custom": {"sizes": {**DISTRIBUTION, "ceilings": {"p99": 800}}},
            },
            ["the tolerated 1.21x", "the ceiling of 800 at p99"],
        ),
    ],
)
def test_limits_are_named_as_the_policy_has_them(guards: dict[str, Any], limits: list[str]) -> None:
    assert [part.words for test in guards_of(**guards).values() for part in test.limits] == limits


# --- ceilings ---


def ceiling_of(test: Any) -> Ceiling[Any]:
    return next(part for part in test.limits if isinstance(part, Ceiling))


def test_a_ceiling_that_only_the_candidate_breaks_is_harm() -> None:
    ceiling = ceiling_of(fed(guards_of()["errors"], a_sample(100, 1), a_sample(100, 12), 10))
    assert ceiling.log_harm >= ceiling.harm.needed
    assert ceiling.log_shared_harm == -math.inf


def test_a_ceiling_that_both_break_is_nobodys_fault() -> None:
    ceiling = ceiling_of(fed(guards_of()["errors"], a_sample(100, 12), a_sample(100, 12), 10))
    assert ceiling.log_harm <= 0
    assert ceiling.log_shared_harm >= ceiling.harm.needed


@pytest.mark.parametrize("earlier", [0, 3, 60])
@pytest.mark.parametrize(("share", "minutes"), [(12, 20), (30, 5), (60, 1), (100, 2)])
def test_an_incident_that_both_had_is_not_held_against_the_candidate_later_either(
    earlier: int, share: int, minutes: int
) -> None:
    test = fed(guards_of()["errors"], a_sample(100, 1), a_sample(100, 1), earlier)
    for _ in range(minutes):
        test = fed(test, a_sample(100, share), a_sample(100, share))
        assert ceiling_of(test).log_harm <= 0.1
    for _ in range(60):
        test = fed(test, a_sample(100, 1), a_sample(100, 1))
        assert ceiling_of(test).log_harm <= 0.1
    assert ceiling_of(test).log_shared_harm == -math.inf


def test_a_candidate_that_breaks_the_ceiling_after_a_shared_incident_is_blamed_again() -> None:
    test = fed(guards_of()["errors"], a_sample(100, 40), a_sample(100, 40), 5)
    test = fed(test, a_sample(100, 1), a_sample(100, 15), 40)
    assert ceiling_of(test).log_harm >= ceiling_of(test).harm.needed


def test_a_stable_that_nobody_has_asked_yet_excuses_nothing() -> None:
    test = fed(guards_of()["errors"], a_sample(2, 2, latency=None), a_sample(100, 15), 1)
    assert ceiling_of(test).log_harm > 0


def test_while_the_candidate_serves_alone_only_ceilings_are_fed() -> None:
    before = fed(guards_of()["errors"], a_sample(100, 1), a_sample(100, 1), 5)
    after = fed(before, a_sample(100, 100), a_sample(100, 20), 10, alone=True)
    assert after.limits[0] == before.limits[0]
    assert ceiling_of(after).log_harm >= ceiling_of(after).harm.needed
    assert after.log_suspicion(alone=True) == pytest.approx(ceiling_of(after).log_harm)


def test_a_ceiling_that_stable_was_at_is_raised_while_the_candidate_serves_alone() -> None:
    before = fed(guards_of()["errors"], a_sample(100, 6), a_sample(100, 6), 10)
    alike = fed(before, Sample(), a_sample(200, 12), 30, alone=True)
    assert "raised to 9 %, as stable was there itself" in ceiling_of(alike).words
    assert ceiling_of(alike).log_harm < 0
    worse = fed(before, Sample(), a_sample(200, 60), 10, alone=True)
    assert ceiling_of(worse).log_harm >= ceiling_of(worse).harm.needed


def test_at_a_ceiling_inside_a_bucket_harm_counts_what_is_certain_and_safety_what_is_possible() -> None:
    """The ceiling of 55 ms lies between two edges; all latencies are in the bucket around it."""
    test = guards_of(errors="off", latency={"ceilings": {"p95": "55ms"}})["latency"]
    around = Sample({"200": 100}, slow(17))
    assert BOUNDS[17] < 55 < BOUNDS[18]
    ceiling = ceiling_of(fed(test, a_sample(latency=20), around, 10))
    assert ceiling.log_harm < 0
    assert ceiling.log_safety <= 0
    above = ceiling_of(fed(test, a_sample(latency=20), Sample({"200": 100}, slow(18)), 10))
    assert above.log_harm >= above.harm.needed
    below = ceiling_of(fed(test, a_sample(latency=20), Sample({"200": 100}, slow(16)), 10))
    assert below.log_safety >= SAFE


# --- comparisons of latency ---


def comparison(factor: float = 1.21, past: Histogram | None = None) -> LatencyComparison:
    test = guards_of(latency={"tolerance": factor})["latency"]
    part = test.limits[0]
    assert isinstance(part, LatencyComparison)
    return part.knowing([past]) if past else part


def spread(*at: tuple[int, int]) -> Histogram:
    """So many requests in each of the buckets that begin at so many edges."""
    total = slow(at[0][0], at[0][1])
    for edge, requests in at[1:]:
        total += slow(edge, requests)
    return total


BODY_AND_TAIL = ((20, 60), (25, 35), (40, 5))


def shifted(buckets: int) -> Histogram:
    return spread(*((edge + buckets, requests) for edge, requests in BODY_AND_TAIL))


def test_a_tolerance_of_1_21_is_exactly_two_buckets_of_ten_percent_for_harm() -> None:
    stable = shifted(0)
    plain, tolerant = (Slower(factor, 5.0).knowing([stable]) for factor in (1.0, 1.21))
    for candidate, lowered in ((shifted(2), shifted(0)), (shifted(3), shifted(1)), (shifted(1), shifted(-1))):
        evidence = plain.after(stable, lowered).log_evidence
        assert tolerant.after(stable, candidate).log_evidence == evidence
    course = comparison(1.21, stable)
    for _ in range(50):
        course = course.after(stable, shifted(2), new_step=False)
    assert course.log_harm < 0


def counted_beyond(factor: float, candidate: Histogram) -> list[int]:
    """What safety counts as slower than stable's median, and its 95th and 99th percentile."""
    part = comparison(factor, shifted(0))
    part = part.after(candidate.emptied(), candidate, new_step=False)
    return [each.waiting[1].bad for each in part.safety]


def test_a_tolerance_of_1_21_is_exactly_two_buckets_of_ten_percent_for_safety() -> None:
    within, beyond = counted_beyond(1.21, shifted(2)), counted_beyond(1.21, shifted(3))
    assert within == counted_beyond(1.0, shifted(0))
    assert beyond == counted_beyond(1.0, shifted(1))
    assert all(more >= less for more, less in zip(beyond, within, strict=True))
    assert beyond != within


def test_a_tolerance_inside_a_bucket_is_rounded_against_the_candidate_for_safety_and_for_it_for_harm() -> (
    None
):
    """1.15 lies between one bucket and two: two are no harm, and more than one is not safe."""
    stable = shifted(0)
    assert counted_beyond(1.15, shifted(1)) == counted_beyond(1.0, shifted(0))
    assert counted_beyond(1.15, shifted(2)) == counted_beyond(1.0, shifted(1))
    between, exact = (Slower(factor, 5.0).knowing([stable]) for factor in (1.15, 1.21))
    for buckets in range(5):
        evidence = exact.after(stable, shifted(buckets)).log_evidence
        assert between.after(stable, shifted(buckets)).log_evidence == evidence


def drawn(rng: np.random.Generator, requests: int, median: float) -> Histogram:
    """Latencies in milliseconds whose logarithms are normal."""
    below = lognorm.cdf(np.array(BOUNDS), 0.6, scale=median)
    counts = rng.multinomial(requests, np.diff(np.concatenate(([0.0], below, [1.0]))))
    return Histogram(BOUNDS, tuple(int(count) for count in counts))


def test_safety_of_latencies_is_shown_of_a_candidate_like_stable() -> None:
    rng = np.random.default_rng(1)
    part = comparison(1.21, drawn(rng, 1000, 100))
    assert part.log_safety == 0
    for _ in range(30):
        part = part.after(drawn(rng, 800, 100), drawn(rng, 200, 100), new_step=False)
    assert part.log_safety >= SAFE
    assert re.fullmatch(r"more than 1\.(1|25)x at p95 is ruled out", part.ruled_out(SAFE))


@pytest.mark.parametrize("seed", range(20))
def test_safety_of_latencies_is_not_shown_of_a_candidate_beyond_the_tolerance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    part = comparison(1.21, drawn(rng, 1000, 100))
    for _ in range(30):
        part = part.after(drawn(rng, 800, 100), drawn(rng, 200, 140), new_step=False)
        assert part.log_safety < SAFE
        assert part.ruled_out(SAFE) in {"", *(f"more than {x}x at p95 is ruled out" for x in ("1.5", 2, 3))}


@pytest.mark.parametrize("bucket", [-1, 0, 30, 133])
def test_safety_can_be_shown_where_all_latencies_are_in_one_bucket(bucket: int) -> None:
    part = comparison()
    for _ in range(60):
        part = part.after(slow(bucket, 1000), slow(bucket, 1000), new_step=False)
    assert part.log_safety >= SAFE


def test_of_latencies_beyond_the_last_edge_nothing_can_be_shown() -> None:
    part = comparison()
    for _ in range(60):
        part = part.after(slow(134, 1000), slow(134, 1000), new_step=False)
    assert part.log_safety < SAFE
    assert part.log_harm < SAFE


def test_a_safe_body_does_not_make_a_slower_tail_safe_and_the_tail_is_named() -> None:
    rng = np.random.default_rng(2)
    part = comparison(1.21, drawn(rng, 1000, 100))
    for _ in range(60):
        slower_tail = drawn(rng, 180, 100) + drawn(rng, 20, 1000)
        part = part.after(drawn(rng, 800, 100), slower_tail, new_step=False)
    body, *tail = (each.log_evidence for each in part.safety)
    assert body >= SAFE
    assert part.log_safety == min(tail) < 0
    assert part.least_shown in {"the tolerated 1.21x at p95", "the tolerated 1.21x at p99"}


# --- comparisons of shares ---


def share_part(part: Limit[Counts]) -> ShareComparison:
    assert isinstance(part, ShareComparison)
    return part


def test_the_smaller_the_increase_the_more_requests_it_takes_to_rule_it_out() -> None:
    part, said = share_part(guards_of()["errors"].limits[0]), []
    for _ in range(200):
        part = part.after(Counts(0, 20), Counts(0, 5), new_step=False)
        said.append(part.ruled_out(SAFE))
    order = list(dict.fromkeys(said))
    points = [float(words.split()[5]) for words in order if words]
    assert order[0] == ""
    assert points == sorted(points, reverse=True)
    assert len(points) >= 4
    assert points[-1] <= 1


@pytest.mark.parametrize("extra", [2, 6, 15])
def test_an_increase_that_is_there_is_not_ruled_out(extra: int) -> None:
    part = share_part(guards_of()["errors"].limits[0])
    for _ in range(60):
        part = part.after(Counts(10, 1000), Counts(10 + 10 * extra, 1000), new_step=False)
        words = part.ruled_out(SAFE)
        assert not words or float(words.split()[5]) > extra


def test_a_guards_comparison_uses_the_tolerance_of_the_policy() -> None:
    part = guards_of(errors={"tolerance": {"factor": 1.5, "points": "0.4%"}})["errors"].limits[0]
    assert isinstance(part.harm, Harm)
    assert part.harm.line == Line(1.5, 0.004)
    assert part.safety[0].line == Line(1.5, 0.004)


def test_history_makes_the_comparison_know_stable_and_is_no_evidence() -> None:
    for test in guards_of().values():
        known = test.knowing([a_sample(200, 10)] * 20)
        assert known.log_harm() == pytest.approx(0)
        assert known.limits[0] != test.limits[0]
        assert known.limits[1:] == test.limits[1:]
    known = guards_of()["errors"].knowing([a_sample(200, 10)] * 20)
    assert known.limits[0].harm.stable.share == pytest.approx(0.05, rel=0.2)


def test_history_that_says_nothing_of_a_guard_is_skipped() -> None:
    latency = guards_of()["latency"]
    assert latency.knowing([a_sample(5, latency=None), Sample()]) == latency


# --- guards of the policy's own ---


def measured(name: str, measure: Counts | Histogram | None) -> Sample:
    return Sample({"200": 10}, custom={} if measure is None else {name: measure})


def test_a_custom_share_is_compared_like_errors() -> None:
    custom = fed(
        guards_of(custom={"payments": {**SHARE, "ceiling": "5%"}})["payments"],
        measured("payments", Counts(2, 200)),
        measured("payments", Counts(5, 100)),
        8,
    )
    errors = fed(
        guards_of(custom={"other": SHARE})["errors"],
        a_sample(200, 2, latency=None),
        a_sample(100, 5, latency=None),
        8,
    )
    assert [part.log_harm for part in custom.limits] == [part.log_harm for part in errors.limits]
    assert custom.log_harm() > 0


def test_a_custom_distribution_is_compared_like_latency() -> None:
    stable, candidate = shifted(0), shifted(4)
    custom = fed(
        guards_of(custom={"sizes": DISTRIBUTION})["sizes"],
        measured("sizes", stable),
        measured("sizes", candidate),
        8,
    )
    latency = fed(
        guards_of(custom={"other": SHARE})["latency"],
        Sample({"200": 100}, stable),
        Sample({"200": 100}, candidate),
        8,
    )
    assert custom.log_harm() == latency.log_harm() > 0


@pytest.mark.parametrize("stable", [None, Counts(0, 0)])
def test_a_custom_metric_that_one_side_lacks_waits_for_it(stable: Counts | None) -> None:
    test = guards_of(custom={"payments": SHARE})["payments"]
    waits = fed(test, measured("payments", stable), measured("payments", Counts(5, 5)))
    assert waits.log_harm() == test.log_harm()
    assert waits.limits[0].harm.waiting == (Counts(0, 0), Counts(5, 5))


def test_a_measure_of_the_wrong_kind_is_no_measure() -> None:
    tests = guards_of(custom={"payments": SHARE, "sizes": DISTRIBUTION})
    assert tests["payments"].measure(measured("payments", slow(3))) is None
    assert tests["sizes"].measure(measured("sizes", Counts(1, 2))) is None
    assert tests["sizes"].measure(measured("payments", slow(3))) is None


@pytest.mark.parametrize("name", ["latency", "sizes"])
def test_buckets_that_cannot_be_compared_are_refused_in_the_name_of_the_guard(name: str) -> None:
    test: GuardTest[Histogram] = guards_of(custom={"sizes": DISTRIBUTION})[name]
    other = Histogram((1.0, 2.0), (1, 1, 1))

    def sample(histogram: Histogram) -> Sample:
        return Sample({"200": 100}, histogram, {"sizes": histogram})

    with pytest.raises(EvidenceInvalid, match=f"^{name}: .*different buckets"):
        fed(test, sample(shifted(0)), sample(other))
    with pytest.raises(EvidenceInvalid, match=f"^{name}: .*different buckets"):
        fed(fed(test, sample(shifted(0)), sample(shifted(0))), sample(other), sample(other))


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 12))
def test_the_evidence_of_a_guard_is_never_more_than_that_of_its_strongest_part(
    ours: int, theirs: int, minutes: int
) -> None:
    test = fed(guards_of()["errors"], a_sample(100, ours), a_sample(100, theirs), minutes)
    assert test.log_harm() <= max(part.log_harm for part in test.limits) + 1e-12
    assert test.log_harm() >= min(part.log_harm for part in test.limits) - 1e-12
