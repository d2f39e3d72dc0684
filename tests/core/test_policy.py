"""Policies: what plain values become, which mistakes are found, and what is said about them."""

import json
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from controller.core.explanation import explain_policy, explanation_lines
from controller.core.mistakes import Mistake, PolicyInvalid
from controller.core.policy import (
    Policy,
    evidence_time,
    parse_policy,
    policy_as_plain,
    policy_digest,
    smallest_limit,
)
from controller.core.policy_choices import AdvanceOn, AfterPromotion, OnNewRevision, WhenUnsure
from controller.core.policy_fields import PERCENTILES
from controller.core.policy_guards import CustomGuard, ErrorGuard, Guards, LatencyGuard, Tolerance
from controller.core.policy_schema import policy_reference, policy_schema
from controller.core.policy_steps import AutoSteps, Confidence, Hold, Step
from controller.core.units import duration_text, parse_duration, parse_share, share_text

MINUTE = timedelta(minutes=1)
LARGEST_RECORD_SHARE = 1200
COUNT = 'metric.type="run.googleapis.com/request_count"'
REFUSED = f'{COUNT} AND metric.labels.response_code="402"'
LATENCIES = 'metric.type="run.googleapis.com/request_latencies"'


def mistakes_in(plain: object) -> dict[str, str]:
    with pytest.raises(PolicyInvalid) as caught:
        parse_policy(plain)
    assert caught.value.mistakes
    return {".".join(map(str, each.path)): each.message for each in caught.value.mistakes}


def policy_or_mistakes(plain: object) -> Policy | tuple[Mistake, ...]:
    try:
        return parse_policy(plain)
    except PolicyInvalid as error:
        return error.mistakes


def minutes(low: int, high: int) -> some.SearchStrategy[timedelta]:
    return some.integers(low, high).map(lambda count: count * MINUTE)


durations = some.integers(0, 3_600_000).map(lambda count: timedelta(milliseconds=count))
shares = some.floats(0, 1)
holds = some.builds(
    Hold, at_least=minutes(1, 60), at_most=minutes(300, 900), requests=some.integers(1, 10**6)
)
error_guards = some.builds(
    ErrorGuard,
    tolerance=some.builds(Tolerance, factor=some.floats(1, 100), points=shares),
    ceiling=some.none() | some.floats(0, 1, exclude_min=True, exclude_max=True),
    codes=some.lists(some.sampled_from(["5xx", "4xx", "503", "429"]), min_size=1, unique=True).map(tuple),
    observe=some.booleans(),
)
latency_guards = some.builds(
    LatencyGuard,
    tolerance=some.builds(Tolerance, factor=some.floats(1, 100)),
    ceilings=some.dictionaries(some.sampled_from(PERCENTILES), durations.filter(bool)),
    observe=some.booleans(),
)
label_values = some.text(some.characters(exclude_categories=["C", "Z"], exclude_characters='"\\'), max_size=9)
filters = label_values.map(lambda value: f'{COUNT} AND metric.labels.path="{value} OR"')
revision_labels = some.sampled_from(["resource.labels.revision_name", "metric.label.revision"])
custom_guards = some.one_of(
    some.builds(
        CustomGuard,
        bad=filters,
        total=filters,
        tolerance=some.builds(Tolerance, factor=some.floats(1, 100), points=shares),
        ceiling=some.none() | some.floats(0, 1, exclude_min=True, exclude_max=True),
        revision_label=revision_labels,
        observe=some.booleans(),
    ),
    some.builds(
        CustomGuard,
        distribution=filters,
        tolerance=some.builds(Tolerance, factor=some.floats(1, 100)),
        ceilings=some.dictionaries(some.sampled_from(PERCENTILES), some.floats(0, 1e18, exclude_min=True)),
        revision_label=revision_labels,
        observe=some.booleans(),
    ),
)
customs = some.dictionaries(some.sampled_from(["payments", "render", "a-1_b"]), custom_guards)
guards = some.one_of(
    some.builds(
        Guards,
        errors=error_guards.filter(lambda guard: not guard.observe),
        latency=some.none() | latency_guards,
        custom=customs,
    ),
    some.builds(
        Guards,
        errors=some.none() | error_guards,
        latency=latency_guards.filter(lambda guard: not guard.observe),
        custom=customs,
    ),
    some.builds(
        Guards,
        errors=some.none(),
        latency=some.none(),
        custom=customs.filter(lambda some_guards: not all(guard.observe for guard in some_guards.values())),
    ),
)
steps = some.sets(some.integers(1, 100), min_size=1, max_size=8).flatmap(
    lambda percents: some.tuples(
        *(some.builds(Step, traffic=some.just(percent), hold=holds) for percent in sorted(percents))
    )
)
policies = some.builds(
    Policy,
    steps=steps,
    hold=holds,
    bake=holds,
    guards=guards,
    confidence=some.builds(
        Confidence,
        false_rollback=some.floats(0, 0.5, exclude_min=True, exclude_max=True),
        promotion=some.floats(0.5, 1, exclude_max=True),
    ),
    advance_on=some.sampled_from(AdvanceOn),
    when_unsure=some.sampled_from(WhenUnsure),
    after_promotion=some.sampled_from(AfterPromotion),
    on_new_revision=some.sampled_from(OnNewRevision),
    smoke=some.lists(some.sampled_from(["/", "/healthz", "/a?b=c"]), unique=True).map(tuple),
    ready_within=durations.filter(bool),
    settle=durations,
    metrics_delay=durations,
)
field_names = some.sampled_from(
    [
        *Policy.model_fields,
        *Hold.model_fields,
        *ErrorGuard.model_fields,
        *LatencyGuard.model_fields,
        *CustomGuard.model_fields,
        "errors",
        "custom",
        "p95",
    ]
)
plain_values: some.SearchStrategy[Any] = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.text(max_size=8)
    | some.sampled_from(["10m", "5%", "off", "5xx", "hold", 1, 5, 0.05, COUNT, "metric.labels.x"]),
    lambda below: (
        some.lists(below, max_size=4)
        | some.dictionaries(field_names | some.text() | some.integers(), below, max_size=6)
    ),
    max_leaves=20,
)


@given(policies)
def test_a_policy_survives_the_way_through_json(policy: Policy) -> None:
    plain = policy_as_plain(policy)
    again = parse_policy(json.loads(json.dumps(plain)))
    assert again == policy
    assert policy_digest(again) == policy_digest(policy)


@given(policies, some.integers(1, 10**9))
def test_steps_that_fit_the_traffic_survive_the_way_through_json(policy: Policy, at_most: int) -> None:
    auto = parse_policy(policy_as_plain(policy) | {"steps": {"at_most": at_most}})
    assert auto.auto == AutoSteps(at_most=at_most)
    assert [step.traffic for step in auto.steps] == [5, 25, 50]
    assert parse_policy(json.loads(json.dumps(policy_as_plain(auto)))) == auto
    assert policy_digest(auto) != policy_digest(policy)


@given(policies)
def test_every_policy_can_be_explained(policy: Policy) -> None:
    explanation = explain_policy(policy)
    assert explanation.least < explanation.most
    assert len(explanation.steps) == len(policy.steps)
    assert all("\n" not in line for line in explanation_lines(explanation))


@given(
    plain_values
    | some.dictionaries(field_names, plain_values)
    | some.dictionaries(field_names | some.text(), plain_values).map(
        lambda plain: {"guards": {"custom": {"payments": plain, **plain}}}
    )
)
def test_any_plain_value_gives_a_policy_or_its_mistakes(plain: object) -> None:
    read = policy_or_mistakes(plain)
    assert read
    if not isinstance(read, Policy):
        assert all(each.message and "\n" not in each.message for each in read)


def test_an_empty_policy_is_the_standard_one() -> None:
    policy = parse_policy({})
    assert policy == Policy()
    assert [step.traffic for step in policy.steps] == [5, 25, 50]
    assert policy.hold == Hold(at_least=5 * MINUTE, at_most=30 * MINUTE, requests=50)
    assert policy.bake == Hold(at_least=15 * MINUTE, at_most=60 * MINUTE, requests=50)
    assert policy.guards.errors == ErrorGuard(tolerance=Tolerance(factor=1.25, points=0.002), ceiling=0.05)
    assert policy.guards.latency == LatencyGuard(tolerance=Tolerance(factor=1.21), ceilings={})
    assert policy.confidence == Confidence(false_rollback=0.01, promotion=0.95)


def test_a_policy_in_a_record_is_small() -> None:
    assert len(json.dumps(policy_as_plain(Policy()))) < LARGEST_RECORD_SHARE


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"steps": ["5%", 25]}, {"steps": [{"traffic": "5%"}, {"traffic": 25}]}),
        ({"steps": "auto"}, {"steps": {"at_most": 50}}),
        ({"steps": {"at_most": "20 failed requests"}}, {"steps": {"at_most": 20}}),
        ({"steps": "auto", "hold": "10m"}, {"steps": {}, "hold": {"at_least": "10m"}}),
        ({"hold": "10m"}, {"hold": {"at_least": "10m", "at_most": "40m", "requests": 50}}),
        ({"hold": "6m"}, {"hold": {"at_least": "6m", "at_most": "30m"}}),
        ({"bake": "20m"}, {"bake": {"at_least": "20m", "at_most": "80m"}}),
        ({"bake": {"requests": 9}}, {"bake": {"at_least": "15m", "at_most": "1h", "requests": 9}}),
        ({"guards": {"errors": "2%"}}, {"guards": {"errors": {"ceiling": 0.02}}}),
        ({"guards": {"errors": True}}, {}),
        ({"guards": {"latency": "800ms"}}, {"guards": {"latency": {"ceilings": {"p95": "800ms"}}}}),
        ({"guards": {"latency": False}}, {"guards": {"latency": None}}),
        ({"guards": {"latency": "off"}}, {"guards": {"latency": None}}),
        (
            {"guards": {"errors": {"tolerance": 2}}},
            {"guards": {"errors": {"tolerance": {"factor": 2, "points": "0.2%"}}}},
        ),
        ({"guards": {"errors": {"codes": 503}}}, {"guards": {"errors": {"codes": ["503"]}}}),
        ({"confidence": {"false_rollback": "1%"}}, {"confidence": {"false_rollback": 0.01}}),
    ],
)
def test_a_short_form_means_its_long_form(short: object, long: object) -> None:
    assert parse_policy(short) == parse_policy(long)


def test_a_custom_guard_is_a_share_or_a_distribution_each_with_its_own_tolerance() -> None:
    custom = {"payments": {"bad": REFUSED, "total": COUNT}, "render": {"distribution": LATENCIES}}
    guards = parse_policy({"guards": {"custom": custom}}).guards.custom
    assert guards == {
        "payments": CustomGuard(
            bad=REFUSED, total=COUNT, tolerance=Tolerance(factor=1.25, points=0.002), ceiling=None
        ),
        "render": CustomGuard(distribution=LATENCIES, tolerance=Tolerance(factor=1.21), ceilings={}),
    }
    assert [guard.is_ratio for guard in guards.values()] == [True, False]
    assert {guard.revision_label for guard in guards.values()} == {"resource.labels.revision_name"}


def test_a_custom_guard_keeps_all_that_is_written() -> None:
    plain = {
        "distribution": f" {LATENCIES} ",
        "tolerance": {"factor": 2},
        "ceilings": {"p99": 1500, "p50": 0.5},
        "revision_label": "metric.label.revision",
        "observe": True,
    }
    assert parse_policy({"guards": {"custom": {"render": plain}}}).guards.custom["render"] == CustomGuard(
        distribution=LATENCIES,
        tolerance=Tolerance(factor=2),
        ceilings={"p50": 0.5, "p99": 1500},
        revision_label="metric.label.revision",
        observe=True,
    )


def test_a_custom_guard_can_be_the_only_one_that_decides() -> None:
    guards = {"errors": "off", "latency": "off", "custom": {"render": {"distribution": LATENCIES}}}
    assert parse_policy({"guards": guards}).guards.latency is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (5, "expected a filter such as metric.type="),
        ('resource.type="cloud_run_revision"', "names exactly one metric"),
        ("metric.type=x", "names exactly one metric"),
        ('metric.type!="x"', "names exactly one metric"),
        ('metric.type=starts_with("x")', "names exactly one metric"),
        (f"{COUNT} AND {LATENCIES}", "names exactly one metric"),
        (f'{COUNT} AND metric.labels.x="metric.type" AND NOT metric.type="y"', "names exactly one metric"),
        (f'{COUNT} AND (metric.labels.a="1" OR metric.labels.b="1")', "no OR"),
        (f'{COUNT} AND metric.labels.a="1', "quotation mark"),
        (f'{COUNT} AND metric.labels.a="1\\"', "quotation mark"),
        (f'{COUNT}\nAND metric.labels.a="1"', "one line of printable characters"),
        (f'{COUNT} AND metric.labels.a="{"x" * 2000}"', "at most 2000 characters, not 2069"),
    ],
)
def test_a_filter_to_which_no_condition_could_be_added_is_a_mistake(text: object, words: str) -> None:
    found = mistakes_in({"guards": {"custom": {"render": {"distribution": text}}}})
    assert list(found) == ["guards.custom.render.distribution"]
    assert words in found["guards.custom.render.distribution"]


@pytest.mark.parametrize(
    "text",
    [
        f'{COUNT} AND metric.labels.a="this OR that"',
        f'{COUNT} AND metric.labels.a="metric.type"',
        f'{COUNT} AND metric.labels.a="say \\"hi\\" OR go"',
        f"{COUNT} metric.labels.OR=1",
        'metric.type = "workload.googleapis.com/é" AND metric.labels.a=one_of("1", "2")',
    ],
)
def test_what_only_looks_like_a_mistake_in_a_filter_is_none(text: str) -> None:
    policy = parse_policy({"guards": {"custom": {"render": {"distribution": text}}}})
    assert policy.guards.custom["render"].distribution == text


@pytest.mark.parametrize(
    ("plain", "place", "words"),
    [
        ({}, "", "there is no metric in it; write bad and total, or a distribution"),
        ({"bad": " ", "total": ""}, "", "there is no metric"),
        (5, "", "expected a mapping such as {bad: ..., total: ...}"),
        (False, "", "take it away, or write observe: true"),
        ("off", "", "take it away, or write observe: true"),
        ({"bad": REFUSED}, ".total", "total is missing"),
        ({"total": COUNT}, ".bad", "bad is missing"),
        ({"bad": REFUSED, "total": COUNT, "distribution": COUNT}, ".distribution", "make two guards of it"),
        ({"total": COUNT, "distribution": COUNT}, ".distribution", "make two guards of it"),
        ({"bad": REFUSED, "total": COUNT, "ceilings": {"p95": 1}}, ".ceilings", "write one such as ceiling"),
        ({"distribution": COUNT, "ceiling": "2%"}, ".ceiling", "write ceilings such as {p95: 800}"),
        ({"distribution": COUNT, "tolerance": {"factor": 2, "points": "1%"}}, ".tolerance.points", "factor"),
        ({"distribution": COUNT, "tolerance": 0.5}, ".tolerance.factor", "at least 1"),
        ({"distribution": COUNT, "tolerance": {"fatcor": 2}}, ".tolerance.fatcor", "did you mean 'factor'?"),
        (
            {"distribution": COUNT, "ceilings": {"p95": "800ms"}},
            ".ceilings.p95",
            "a plain number such as 800",
        ),
        ({"distribution": COUNT, "ceilings": {"p95": 0}}, ".ceilings.p95", "not a number above 0"),
        ({"distribution": COUNT, "ceilings": {"p95": math.inf}}, ".ceilings.p95", "not a number above 0"),
        ({"distribution": COUNT, "ceilings": {"p95": True}}, ".ceilings.p95", "not true"),
        ({"distribution": COUNT, "ceilings": {"p96": 9}}, ".ceilings.p96", "known are p50, p90, p95, p99"),
        (
            {"distribution": COUNT, "revision_label": "revision"},
            ".revision_label",
            "a label such as resource",
        ),
        ({"distribution": COUNT, "tolerence": 2}, ".tolerence", "did you mean 'tolerance'?"),
    ],
)
def test_a_mistake_in_a_custom_guard_says_its_place_and_what_to_write(
    plain: object, place: str, words: str
) -> None:
    found = mistakes_in({"guards": {"custom": {"payments": plain}}})
    assert list(found) == [f"guards.custom.payments{place}"]
    assert words in found[f"guards.custom.payments{place}"]


@pytest.mark.parametrize("name", ["errors", "latency", "Payments", "2nd", "-", "", "a" * 32, "a b", 5])
def test_a_name_that_a_custom_guard_cannot_have_is_a_mistake(name: str | int) -> None:
    found = mistakes_in({"guards": {"custom": {name: {"distribution": COUNT}}}})
    assert list(found) == [f"guards.custom.{name}"]
    assert "name" in found[f"guards.custom.{name}"]


def test_all_mistakes_in_custom_guards_are_found_at_once() -> None:
    found = mistakes_in(
        {
            "stpes": [5],
            "guards": {
                "errors": {"tolerence": 1},
                "custom": {
                    "payments": {"bad": "x", "observe": 1, "ceilings": {"p95": 1}, "tolernce": 2},
                    "Render": {"distribution": COUNT, "ceiling": "2%", "tolerance": {"points": "9%"}},
                    "errors": "off",
                },
            },
        }
    )
    assert set(found) == {
        "stpes",
        "guards.errors.tolerence",
        "guards.custom.payments.bad",
        "guards.custom.payments.total",
        "guards.custom.payments.observe",
        "guards.custom.payments.tolernce",
        "guards.custom.Render",
        "guards.custom.Render.ceiling",
        "guards.custom.Render.tolerance.points",
        "guards.custom.errors",
    }


def test_no_more_than_eight_custom_guards_and_no_longer_filters_than_a_record_can_hold() -> None:
    guard = {"distribution": COUNT}
    assert len(parse_policy({"guards": {"custom": {f"g{n}": guard for n in range(8)}}}).guards.custom) == 8
    found = mistakes_in({"guards": {"custom": {f"g{n}": guard for n in range(9)}}})
    assert found == {"guards.custom": "at most 8 custom guards, not 9; keep what matters most"}
    wide = {"bad": f'{COUNT} AND metric.labels.a="{"é" * 1900}"', "total": COUNT}
    found = mistakes_in({"guards": {"custom": {f"g{n}": wide for n in range(8)}}})
    assert "too long to go into the record" in found["guards.custom"]


def test_a_step_takes_from_the_policys_hold_what_it_does_not_say() -> None:
    policy = parse_policy(
        {
            "hold": {"at_least": "10m", "requests": 7},
            "steps": ["5%", {"traffic": "9%", "hold": {"requests": 3}}],
        }
    )
    assert policy.steps[0].hold == Hold(at_least=10 * MINUTE, at_most=40 * MINUTE, requests=7)
    assert policy.steps[1].hold == Hold(at_least=10 * MINUTE, at_most=40 * MINUTE, requests=3)


def test_a_step_without_a_limit_gets_one_that_fits_its_own_time() -> None:
    policy = parse_policy({"hold": "10m", "steps": [{"traffic": 5, "hold": "1h"}]})
    assert policy.steps[0].hold.at_most == timedelta(hours=4)


def test_everything_at_once_is_a_policy() -> None:
    assert parse_policy({"steps": [100]}).steps == (Step(traffic=100),)


@pytest.mark.parametrize(
    ("plain", "place", "words"),
    [
        (None, "", "expected a mapping"),
        ([], "", "expected a mapping"),
        ({"version": 2}, "version", "version 1"),
        ({"version": True}, "version", "version 1"),
        ({"steps": []}, "steps", "at least one step"),
        ({"steps": "5%"}, "steps", "expected a list"),
        ({"steps": "atuo"}, "steps", "or auto, not 'atuo'; did you mean 'auto'?"),
        ({"steps": {"at_mots": 5}}, "steps.at_mots", "did you mean 'at_most'?"),
        ({"steps": {"at_most": 0}}, "steps.at_most", "between 1"),
        ({"steps": {"at_most": "5 users"}}, "steps.at_most", "a whole number such as 50"),
        ({"auto": None}, "auto", "write steps: auto"),
        ({"steps": [10, 200]}, "steps.1.traffic", "between 1% and 100%"),
        ({"steps": [0]}, "steps.0.traffic", "between 1% and 100%"),
        ({"steps": ["0.5%"]}, "steps.0.traffic", "whole percents"),
        ({"steps": [True]}, "steps.0.traffic", "not true"),
        ({"steps": [10, 5]}, "steps.1.traffic", "5% follows 10%"),
        ({"steps": [10, 10]}, "steps.1.traffic", "must rise"),
        ({"steps": [{"hold": "5m"}]}, "steps.0.traffic", "missing"),
        ({"hold": 10}, "hold.at_least", "write 10m or 10s"),
        ({"hold": "10"}, "hold.at_least", "write 10m or 10s"),
        ({"hold": "1:30"}, "hold.at_least", "write 1h30m or 1m30s"),
        ({"hold": "1.5h"}, "hold.at_least", "1h30m"),
        ({"hold": "90s"}, "hold.at_least", "write 2m"),
        ({"hold": "99d"}, "hold.at_least", "too long"),
        ({"hold": "5m1h"}, "hold.at_least", "out of order"),
        ({"hold": {"at_most": False}}, "hold.at_most", "not false"),
        ({"hold": {"requests": 0}}, "hold.requests", "between 1"),
        ({"hold": {"requests": True}}, "hold.requests", "not true"),
        ({"hold": {"at_most": "9m"}}, "hold.at_most", "write at least 10m"),
        ({"bake": {"at_most": "5m"}}, "bake.at_most", "write at least 20m"),
        ({"guards": {"errors": {"ceiling": 5}}}, "guards.errors.ceiling", "percent sign"),
        ({"guards": {"errors": {"ceiling": float("nan")}}}, "guards.errors.ceiling", "between 0% and 100%"),
        ({"guards": {"errors": {"codes": ["5xx", "abc"]}}}, "guards.errors.codes.1", "'abc'"),
        ({"guards": {"errors": {"tolerance": float("inf")}}}, "guards.errors.tolerance.factor", "inf"),
        ({"guards": {"errors": {"tolerance": 0.9}}}, "guards.errors.tolerance.factor", "at least 1"),
        (
            {"guards": {"latency": {"tolerance": {"factor": 2, "points": "1%"}}}},
            "guards.latency.tolerance.points",
            "by a factor alone",
        ),
        ({"guards": {"latency": {"ceilings": {"p96": "1s"}}}}, "guards.latency.ceilings.p96", "p50, p90"),
        ({"guards": {"latency": {"ceilings": {"p95": 800}}}}, "guards.latency.ceilings.p95", "no unit"),
        ({"guards": {"errors": "off", "latency": "off"}}, "guards", "no guard decides"),
        ({"guards": {"errors": "off", "latency": {"observe": True}}}, "guards", "no guard decides"),
        (
            {
                "guards": {
                    "errors": False,
                    "latency": False,
                    "custom": {"render": {"distribution": COUNT, "observe": True}},
                }
            },
            "guards",
            "no guard decides",
        ),
        ({"guards": {"custom": "off"}}, "guards.custom", "expected a mapping such as {payments:"),
        ({"confidence": {"false_rollback": "50%"}}, "confidence.false_rollback", "below 50%"),
        ({"confidence": {"promotion": "100%"}}, "confidence.promotion", "below 100%"),
        ({"when_unsure": "advanse"}, "when_unsure", "did you mean 'advance'?"),
        ({"when_unsure": True}, "when_unsure", "not true"),
        ({"on_deadline": "rolback"}, "on_deadline", "did you mean 'rollback'?"),
        ({"on_deadline": 5}, "on_deadline", "expected rollback or report"),
        ({"steps": [{"traffic": 5, "gate": "manul"}]}, "steps.0.gate", "expected manual, a duration"),
        ({"steps": [5, {"traffic": 100, "gate": "2h"}]}, "steps.1.gate", "on the step before"),
        ({"tolerence": 1, "steps": [5]}, "tolerence", "unknown field 'tolerence'"),
        ({"guards": {"errors": {"tolerence": 1}}}, "guards.errors.tolerence", "did you mean 'tolerance'?"),
        ({"settle": "-1s"}, "settle", "expected a duration"),
        ({"ready_within": "0s"}, "ready_within", "longer than 0s"),
        ({"request_logs": "2h"}, "request_logs.delay", "2h is not from 5s to 5m"),
        ({"request_logs": "0s"}, "request_logs.delay", "0s is not from 5s to 5m"),
        ({"health": {"false_alarm": "1m"}}, "health.false_alarm", "write at least 1h"),
        ({"health": {"window": "2d", "past": "1h"}}, "health.window", "2d is no part of 1h"),
        ({"guards": {"capacity": "on"}}, "guards.capacity", "write request_logs: on"),
        (
            {"probes": [{"path": "/", "method": "HEAD", "expect": {"contains": "ok"}}]},
            "probes.0.expect.contains",
            "an answer to HEAD has no text, so this can never pass; ask with GET, or leave it out",
        ),
        ({"probes": [{"path": "x"}]}, "probes.0.path", "expected a path such as /health, not 'x'"),
        ({"probes": [{"path": "/", "method": "POST"}]}, "probes.0.method", "write writes: true"),
        ({"probes": [{"path": "/", "every": "1s"}]}, "probes.0.every", "a probe must not be a load"),
        ({"probes": ["/", "/"]}, "probes.1", "GET / is asked already"),
        (
            {"probes": [{"path": "/", "headers": {"Authorization": "Bearer x"}}]},
            "probes.0.headers.Authorization",
            "write env:NAME",
        ),
        ({"probes": [{"path": "/", "headers": {"Host": "x"}}]}, "probes.0.headers.Host", "leave it out"),
        ({"smoke": "healthz"}, "smoke", "expected a path such as /health, not 'healthz'"),
        ({"smoke": ["/", "/a b"]}, "smoke.1", "expected a path such as /health, not '/a b'"),
        ({"smoke": ["/"] * 11}, "smoke", "at most 10 paths, not 11"),
    ],
)
def test_a_mistake_says_its_place_and_what_to_write(plain: object, place: str, words: str) -> None:
    found = mistakes_in(plain)
    assert list(found) == [place]
    assert words in found[place]


def test_all_mistakes_are_found_at_once_also_those_between_fields() -> None:
    found = mistakes_in(
        {
            "stpes": [5],
            "steps": [10, 5],
            "hold": {"at_least": "10m", "at_most": "12m"},
            "guards": {"errors": {"ceiling": 7, "codes": []}, "latency": {"tolerance": []}},
            "when_unsure": "panic",
        }
    )
    assert set(found) == {
        "stpes",
        "steps.1.traffic",
        "hold.at_most",
        "guards.errors.ceiling",
        "guards.errors.codes",
        "guards.latency.tolerance",
        "when_unsure",
    }


@given(minutes(1, 600), durations, durations)
def test_the_smallest_limit_that_a_mistake_names_is_accepted(
    at_least: timedelta, settle: timedelta, metrics_delay: timedelta
) -> None:
    policy = Policy(steps=(Step(traffic=5),), settle=timedelta(0), metrics_delay=timedelta(0))
    policy = policy.model_copy(update={"settle": settle, "metrics_delay": metrics_delay})
    hold = Hold(at_least=at_least, at_most=timedelta(days=3))
    smallest = smallest_limit(policy, hold)
    assert evidence_time(policy, hold) < smallest <= evidence_time(policy, hold) + MINUTE


@given(some.integers(0, 30 * 86_400_000).map(lambda count: timedelta(milliseconds=count)))
def test_a_duration_reads_back_as_it_was_written(duration: timedelta) -> None:
    assert parse_duration(duration_text(duration)) == duration


@given(shares)
def test_a_share_reads_back_as_it_was_written(share: float) -> None:
    assert parse_share(share_text(share)) == share


def test_a_change_of_policy_changes_its_digest() -> None:
    assert policy_digest(parse_policy({"bake": "16m"})) != policy_digest(Policy())


def test_the_explanation_of_the_standard_policy_gives_times() -> None:
    lines = list(explanation_lines(explain_policy(Policy())))
    assert lines[0].startswith("Step 1: 5% of the traffic for 9m30s to 30m, until 5m of evidence")
    assert "A good release takes about 48m, and at most 2h30m plus the time to become ready." in lines
    assert not any(line.startswith("Warning") for line in lines)


@pytest.mark.parametrize(
    ("plain", "warning"),
    [
        ({"guards": {"errors": {"ceiling": "off"}}}, "no ceiling decides"),
        ({"guards": {"errors": {"tolerance": {"factor": 1, "points": "0%"}}}}, "tolerates nothing"),
        ({"hold": "1m"}, "judged on 1m"),
        ({"steps": [60]}, "the first step gives 60%"),
        ({"when_unsure": "advance"}, "without evidence"),
        ({"smoke": ["/", "/healthz"]}, "smoke[1]: Cloud Run answers /healthz itself, with 404"),
        ({"probes": ["/healthz?deep=1"]}, "probes[0]: Cloud Run answers /healthz itself, with 404"),
        (
            {"guards": {"custom": {"render": {"distribution": COUNT, "tolerance": 1}}}},
            "guards.custom.render tolerates nothing",
        ),
    ],
)
def test_a_doubtful_policy_is_warned_about(plain: object, warning: str) -> None:
    assert any(warning in text for text in explain_policy(parse_policy(plain)).warnings)


@pytest.mark.parametrize("path", ["/health", "/healthz/", "/api/healthz"])
def test_a_path_that_reaches_the_application_is_not_warned_about(path: str) -> None:
    assert not explain_policy(parse_policy({"smoke": path, "probes": path})).warnings


def test_the_bake_is_said_to_decide_by_ceilings_alone() -> None:
    assert "only ceilings decide" in explain_policy(Policy()).bake
    without = parse_policy({"guards": {"errors": {"ceiling": "off"}}})
    assert "nothing can roll it back" in explain_policy(without).bake


@pytest.mark.parametrize(
    "guard",
    [{"bad": REFUSED, "total": COUNT, "ceiling": "2%"}, {"distribution": COUNT, "ceilings": {"p95": 800}}],
)
def test_a_ceiling_of_a_custom_guard_decides_the_bake_unless_it_only_observes(guard: dict[str, Any]) -> None:
    guards = {"errors": {"ceiling": "off"}, "custom": {"mine": guard}}
    deciding = explain_policy(parse_policy({"guards": guards}))
    assert "only ceilings decide" in deciding.bake
    assert not deciding.warnings
    guards["custom"] = {"mine": {**guard, "observe": True}}
    assert "nothing can roll it back" in explain_policy(parse_policy({"guards": guards})).bake


def test_every_guard_is_explained_in_words() -> None:
    guards = {
        "latency": "800ms",
        "custom": {
            "payments": {"bad": REFUSED, "total": COUNT, "ceiling": "2%"},
            "render": {"distribution": COUNT, "ceilings": {"p95": 1200000.5}, "observe": True},
        },
    }
    rules = explain_policy(parse_policy({"guards": guards, "advance_on": "proven"})).rules
    tolerance = "more than 1.25 times stable's share plus 0.2% of"
    anywhere = "more than 1.21 times stable's, anywhere in the distribution"
    often = "at most 1% of rollouts"
    assert rules[1:7] == (
        f"It rolls back when 5xx responses are {tolerance} requests, or when they are above 5%.",
        f"It rolls back when latency is {anywhere}, or when p95 is above 800ms.",
        f"It rolls back when the bad share of payments is {tolerance} its total, or when it is above 2%.",
        f"It only reports when render is {anywhere}, or when p95 is above 1200000.5.",
        f"A candidate as good as stable is rolled back in {often}, all guards and looks together.",
        "A step passes when it is shown for every guard, 95% sure, that the candidate is within tolerance.",
    )


def test_every_field_in_the_schema_is_described_and_closed() -> None:
    schema = policy_schema()
    objects = [schema, *schema["$defs"].values()]
    parts = [form for each in objects for form in (each, *each.get("anyOf", [])) if "properties" in form]
    assert len(parts) == 18
    for part in parts:
        assert part["additionalProperties"] is False
        assert all(field["description"].endswith((".", "`")) for field in part["properties"].values())
    assert schema["properties"]["settle"]["default"] == "30s"
    assert schema["properties"]["steps"]["default"] == ["5%", "25%", "50%"]


def test_the_reference_names_every_field() -> None:
    reference = policy_reference()
    for name, field in Policy.model_fields.items():
        assert field.exclude or f"| `{name}` |" in reference
    assert "| `steps.at_most` |" in reference
    for name in CustomGuard.model_fields:
        assert f"| `guards.custom.NAME.{name}` |" in reference
