"""The store of metrics: cheap to write, bounded, and kept across restarts."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

from controller.emulator.monitoring.catalog import METRICS
from controller.emulator.monitoring.histogram import Histogram
from controller.emulator.monitoring.minutes import minute_end
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ONE = RevisionKey("local-1", "web", "web-one")
TWO = RevisionKey("local-1", "web", "web-two")


def everything(metrics: Metrics, minutes: int = 200) -> dict[str, dict[tuple[object, ...], list[object]]]:
    """Return all points of all metrics by revision and labels, as they can be compared; newest first."""
    first = int(START.timestamp())
    wanted = range(first + minutes * 60, first, -60)
    return {
        name: {
            (one.key, *(value for label, value in one.labels.items() if "class" not in label and value)): [
                _plain(value) for value in one.read(wanted)
            ]
            for one in metric.series(metrics)
        }
        for name, metric in METRICS.items()
    }


def _plain(value: object) -> object:
    if isinstance(value, Histogram):
        return value.count, value.total, value.squares, sorted(value.buckets.items())
    return value


def busy(seed: int = 1) -> Metrics:
    """Return a store with two hours of everything."""
    metrics, rng = Metrics(), random.Random(seed)
    for key in (ONE, TWO):
        metrics.instance_started(key, START, 800.0)
    metrics.instance_stopped(TWO, START + 70 * MINUTE)
    for minute in range(1, 120):
        at = START + minute * MINUTE
        for key in (ONE, TWO):
            for _ in range(rng.randrange(3)):
                code, pending = rng.choice([200, 200, 500]), rng.choice([0.0, 0.0, 900.0])
                metrics.record(key, code, rng.lognormvariate(4, 0.5), at, pending)
            metrics.sample(key, at, active=rng.randrange(3), idle=1, pending=rng.randrange(2))
    return metrics


def restored(metrics: Metrics) -> Metrics:
    result = Metrics()
    result.restore(json.loads(json.dumps(list(metrics.export()))))
    return result


@pytest.mark.parametrize("seed", range(3))
def test_what_is_exported_comes_back(seed: int) -> None:
    metrics = busy(seed)
    metrics.instance_stopped(ONE, START + 119 * MINUTE)
    again = restored(metrics)
    assert everything(again) == everything(metrics)
    assert again.totals() == metrics.totals()
    assert again.oldest == metrics.oldest


def test_instances_that_were_alive_ended_with_the_newest_minute() -> None:
    metrics = Metrics()
    metrics.instance_started(ONE, START)
    metrics.record(ONE, 200, 80, START + MINUTE)
    metrics.record(TWO, 200, 80, START + 3 * MINUTE)
    counts = everything(restored(metrics), minutes=5)["run.googleapis.com/request_count"]
    assert counts[ONE, "200"] == [None, None, 0, 0, 1]


def test_a_restored_store_counts_on() -> None:
    again = restored(busy())
    before = again.totals()[ONE][200]
    again.record(ONE, 200, 80, START + 119 * MINUTE)
    again.instance_started(ONE, START + 130 * MINUTE)
    again.record(ONE, 200, 80, START + 131 * MINUTE)
    assert again.totals()[ONE][200] == before + 2


def test_only_the_minutes_that_may_have_changed_are_exported() -> None:
    metrics = busy()
    since = int((START + 110 * MINUTE).timestamp())
    rows = list(metrics.export(since))
    assert {row.minute for row in rows if row.minute} == {since + 60 * n for n in range(10)}
    older = {row[:6]: row for row in metrics.export()}
    assert all(older[row[:6]] == row for row in rows)


def test_a_name_is_exported_once() -> None:
    names = [row[:6] for row in busy().export()]
    assert len(names) == len(set(names))


def test_a_row_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'nonsense'"):
        Metrics().restore([["nonsense", "", "", "", 0, 0, []]])


def test_a_minute_holds_what_ended_after_its_beginning_and_up_to_its_end() -> None:
    metrics = Metrics()
    for seconds in (0.0, 0.000001, 59.999999, 60.0, 60.000001):
        metrics.record(ONE, 200, 80, START + timedelta(seconds=seconds))
    counts = metrics.requests[ONE][200].counts
    first = int(START.timestamp())
    assert counts == {first: 1, first + 60: 3, first + 120: 1}
    assert minute_end(first + 0.5) == first + 60


def test_requests_that_come_out_of_order_find_their_minute() -> None:
    rng = random.Random(4)
    times = [START + timedelta(seconds=rng.random() * 7200) for _ in range(500)]
    mixed, sorted_ = Metrics(), Metrics()
    for at in times:
        mixed.record(ONE, 200, 80, at)
    for at in sorted(times):
        sorted_.record(ONE, 200, 80, at)
    assert mixed.requests[ONE][200].counts == sorted_.requests[ONE][200].counts
    assert mixed.oldest == sorted_.oldest


def test_many_at_once_are_the_same_as_one_by_one() -> None:
    together, apart = Metrics(), Metrics()
    latencies = Histogram()
    for latency in (5.0, 80.0, 80.0, 4e6):
        latencies.add(latency)
        apart.record(ONE, 200, latency, START + MINUTE)
    together.record_many(ONE, 200, latencies, START + MINUTE)
    together.record_many(ONE, 500, Histogram(), START + MINUTE)
    assert everything(together) == everything(apart)
    assert together.totals() == apart.totals() == {ONE: {200: 4}}


def test_a_wait_is_kept_apart_whichever_request_of_the_minute_had_it() -> None:
    waits = [0.0, 500.0, 0.0]
    for order in ([0, 1, 2], [1, 0, 2], [2, 0, 1]):
        metrics = Metrics()
        for place in order:
            metrics.record(ONE, 200, 80, START + MINUTE, waits[place])
        many = Histogram()
        many.add(80.0)
        metrics.record_many(ONE, 200, many, START + MINUTE)
        series = metrics.requests[ONE][200]
        (apart,), (inside,) = series.apart.values(), series.latencies.values()
        assert (apart.count, apart.total) == (4, 820)
        assert (inside.count, inside.total) == (4, 320)


def test_what_is_older_than_six_weeks_is_gone_and_the_store_stays_bounded() -> None:
    metrics = Metrics()
    weeks, hours = 8, 24 * 7
    for hour in range(weeks * hours):
        at = START + timedelta(hours=hour)
        metrics.record(ONE, 200, 80, at, 10.0)
        metrics.sample(ONE, at, active=1, idle=0, pending=0)
        metrics.instance_started(ONE, at, 500)
        metrics.instance_stopped(ONE, at + MINUTE)
        metrics.record(ONE._replace(revision=f"web-{hour // hours}"), 200, 80, at)
    series = metrics.requests[ONE][200]
    kept = 6 * hours
    for minutes in (
        series.counts,
        series.latencies,
        series.apart,
        metrics.samples[ONE],
        metrics.startups[ONE],
    ):
        assert len(minutes) <= kept + 1
    assert len(metrics.lifetimes[ONE].spans) <= kept + 1
    assert "web-0" not in {key.revision for key in metrics.requests}
    assert metrics.totals()[ONE] == {200: weeks * hours}
    assert metrics.oldest == max(series.counts) - kept * 3600 + 60


def test_totals_outlive_the_minutes_they_were_counted_in() -> None:
    metrics = busy()
    counted = {
        key: {code: sum(one.counts.values()) for code, one in by_code.items()}
        for key, by_code in metrics.requests.items()
    }
    assert metrics.totals() == counted
