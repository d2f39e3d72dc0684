"""Faults on demand, each as the official client meets it."""

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import monitoring_v3, run_v2

from contracts.conftest import PARENT, SECONDS, SIMULATED, Google, a_google, percents, to
from controller.cli.local import faults
from controller.emulator.faults.fault import KINDS, CallFault, FaultInvalid
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.principal import calling_as

WEB = f"{PARENT}/services/web"
MINUTE = timedelta(minutes=1)


def get(google: Google, timeout: float = SECONDS) -> Any:
    """Read the service, once: the client's own retries are off."""
    return google.services.get_service(name=WEB, timeout=timeout, retry=None)


def shift(google: Google, timeout: float) -> None:
    """Ask for all traffic to web-two, once."""
    service = run_v2.Service(name=WEB, traffic=[to("web-two", 100)])
    request = run_v2.UpdateServiceRequest(service=service, update_mask={"paths": ["traffic"]})
    google.services.update_service(request, timeout=timeout)


def struck(google: Google) -> list[tuple[int, int]]:
    """Return how often each fault has struck, of how many calls that it could have struck."""
    return [(fault["struck"], fault["seen"]) for fault in google.local.faults()]


# --- which calls ---


def test_the_next_calls_fail_and_then_no_more(google: Google) -> None:
    google.create()
    google.local.fault("error", method="GetService", next=2, code="INTERNAL")
    for _ in range(2):
        with pytest.raises(exceptions.InternalServerError, match="Internal error encountered"):
            get(google)
    assert get(google).name == WEB
    assert struck(google) == [(2, 2)]
    assert google.local.faults()[0]["over"]


def test_every_third_call_fails(google: Google) -> None:
    google.create()
    google.local.fault("error", method="GetService", every=3)
    failed = [_fails(lambda: get(google)) for _ in range(9)]
    assert failed == [False, False, True] * 3
    assert struck(google) == [(3, 9)]


@pytest.mark.parametrize(
    "method", ["GetService", "Get*", "/google.cloud.run.v2.Services/GetService", "google.cloud.run.*"]
)
def test_a_method_is_named_in_short_in_full_or_by_a_pattern(google: Google, method: str) -> None:
    google.create()
    google.local.fault("error", method=method, next=1)
    with pytest.raises(exceptions.ServiceUnavailable, match="currently unavailable"):
        get(google)
    assert google.services.get_service(name=WEB, timeout=SECONDS).name == WEB


def test_others_methods_and_principals_are_spared(google: Google) -> None:
    google.create()
    google.local.fault("error", method="GetService", principal="ada@*")
    ada = Google(google.local, calling_as(google.channel, "ada@example.com"))
    assert get(google).name == WEB
    assert ada.revision_names()
    with pytest.raises(exceptions.ServiceUnavailable):
        get(ada)


def test_a_fault_lasts_on_the_emulated_clock(google: Google) -> None:
    google.create()
    google.local.fault("error", method="GetService", lasts="5m")
    google.local.advance(timedelta(minutes=4, seconds=59))
    assert _fails(lambda: get(google))
    google.local.advance(timedelta(seconds=1))
    assert not _fails(lambda: get(google))


def test_faults_that_match_the_same_call_all_strike_it(google: Google) -> None:
    google.create()
    begun = google.local.now()
    google.local.fault("delay", method="GetService", by="30s", next=1)
    google.local.fault("error", method="GetService", code="ABORTED", message="try later", next=1)
    with pytest.raises(exceptions.Aborted, match="try later"):
        get(google)
    assert google.local.now() - begun == timedelta(seconds=30)


def test_cleared_faults_strike_no_more(google: Google) -> None:
    google.create()
    google.local.fault("partition")
    assert _fails(lambda: get(google))
    google.local.clear_faults()
    assert not _fails(lambda: get(google))
    assert google.local.faults() == []


def _fails(call: Callable[[], Any]) -> bool:
    try:
        call()
    except exceptions.GoogleAPICallError:
        return True
    return False


# --- what happens to them ---


def test_a_delay_moves_a_clock_that_only_the_caller_could_move(google: Google) -> None:
    google.two_revisions()
    begun = google.local.now()
    google.local.fault("delay", method="UpdateService", by="1m", next=1)
    google.update(traffic=[to("web-two", 100)])
    assert google.local.now() - begun == MINUTE
    assert google.get().update_time == begun + MINUTE


def test_a_delay_takes_its_part_of_real_time_on_a_clock_that_runs() -> None:
    for google in a_google(replace(SIMULATED, speed=100.0)):
        google.local.fault("delay", method="ListServices", by="20s")
        begun, real = google.local.now(), time.monotonic()
        list(google.services.list_services(parent=PARENT, timeout=SECONDS, retry=None))
        assert google.local.now() - begun >= timedelta(seconds=20)
        assert time.monotonic() - real >= 0.2


def test_a_real_delay_leaves_the_clock_alone(google: Google) -> None:
    google.create()
    google.local.fault("delay", method="GetService", by="10s", real=True)
    begun = google.local.now()
    with pytest.raises(exceptions.DeadlineExceeded):
        get(google, timeout=0.2)
    assert google.local.now() == begun


@pytest.mark.parametrize("hang", [False, True])
def test_a_call_whose_answer_is_lost_was_carried_out(google: Google, hang: bool) -> None:
    """Fact 1.2: "(`update_service` DeadlineExceeded at 15 s) may have been applied"."""
    google.two_revisions()
    google.local.fault("lost-answer", method="UpdateService", next=1, hang=hang)
    before = google.get().generation
    with pytest.raises(exceptions.DeadlineExceeded):
        shift(google, 0.5 if hang else SECONDS)
    google.settle()
    assert google.get().generation == before + 1
    assert percents(google.get()) == {"web-two": 100}


@pytest.mark.parametrize(
    ("hang", "error"), [(False, exceptions.ServiceUnavailable), (True, exceptions.DeadlineExceeded)]
)
def test_nothing_gets_through_a_partition(google: Google, hang: bool, error: type[Exception]) -> None:
    google.two_revisions()
    before = google.get().generation
    google.local.fault("partition", lasts="10m", hang=hang)
    with pytest.raises(error):
        shift(google, 0.3)
    google.local.advance(timedelta(minutes=10))
    assert google.get().generation == before


def test_a_slow_operation_ends_later(google: Google) -> None:
    """Fact 7: "RESOURCE_EXHAUSTED quota text, slow LRO, foreign writer"."""
    google.two_revisions()
    google.local.fault("slow-operation", by="5m", next=1)
    operation = google.update(traffic=[to("web-two", 100)])
    google.local.advance(timedelta(minutes=5))
    assert google.get().reconciling
    assert not google.operation(operation.name).done
    assert percents(google.get()) == {"web-one": 100}
    google.local.advance(timedelta(seconds=3))
    assert google.operation(operation.name).done
    assert percents(google.get()) == {"web-two": 100}
    assert struck(google) == [(1, 1)]


def test_a_slow_deletion_of_a_service_ends_later(google: Google) -> None:
    google.create()
    google.settle()
    google.local.fault("slow-operation", method="DeleteService", by="5m", next=1)
    operation = google.delete()
    google.local.advance(timedelta(minutes=5))
    assert not google.operation(operation.name).done
    assert get(google).delete_time
    google.local.advance(timedelta(seconds=3))
    assert google.operation(operation.name).done
    with pytest.raises(exceptions.NotFound):
        get(google)


def test_a_slow_deletion_of_a_revision_ends_later(google: Google) -> None:
    google.two_revisions()
    google.update(traffic=[to("web-two", 100)])
    google.settle()
    google.local.fault("slow-operation", method="Delete*", by="5m", next=1)
    operation = google.revisions.delete_revision(name=f"{WEB}/revisions/web-one", timeout=SECONDS).operation
    google.local.advance(timedelta(minutes=5))
    assert not google.operation(operation.name).done
    assert "web-one" in google.revision_names()
    google.local.advance(timedelta(seconds=3))
    assert google.operation(operation.name).done
    assert google.revision_names() == ["web-two"]


def test_the_clock_jumps_at_a_call(google: Google) -> None:
    google.create()
    begun = google.local.now()
    google.local.fault("clock-jump", method="GetService", by="-1h", next=1)
    get(google)
    assert google.local.now() - begun == timedelta(hours=-1)


@pytest.mark.parametrize(("when", "seen"), [("before", 100), ("after", 0)])
def test_somebody_else_writes_just_before_or_just_after(google: Google, when: str, seen: int) -> None:
    """Fact 2.7: "`last_modifier`: e-mail of the last writer → foreign-change attribution"."""
    google.two_revisions()
    google.local.fault(
        "foreign-write",
        method="GetService",
        when=when,
        writer="mallory@example.com",
        traffic={"web-two": 100},
        annotations={"by": "mallory"},
        next=1,
    )
    found = get(google)
    assert sum(target.percent for target in found.traffic if target.revision == "web-two") == seen
    written = google.get()
    assert written.last_modifier == "mallory@example.com"
    assert written.annotations == {"by": "mallory"}
    google.settle()
    assert percents(google.get()) == {"web-two": 100}


def test_a_foreign_write_passes_no_gate_and_keeps_other_annotations(google: Google) -> None:
    google.create()
    google.update(annotations={"mine": "yes"})
    google.local.fault("partition", method="UpdateService")
    google.local.fault("foreign-write", method="ListRevisions", annotations={"by": "x"}, next=1)
    google.revision_names()
    assert google.get().annotations == {"mine": "yes", "by": "x"}


def test_a_foreign_write_in_vain_harms_no_call_and_is_told(google: Google) -> None:
    google.create()
    google.local.fault("foreign-write", method="GetService", service="no-such", annotations={"a": "b"})
    assert get(google).name == WEB
    assert "no-such" in google.local.faults()[0]["trouble"]


# --- metrics ---


def a_measured(google: Google) -> None:
    """Let 30 minutes of traffic pass over a service."""
    google.two_revisions()
    google.update(traffic=[to("web-one", 50), to("web-two", 50)])
    google.settle()
    google.local.users("web", rps=5)
    google.local.advance(timedelta(minutes=30))


def minutes(google: Google, metric: str = "request_count") -> dict[str, int]:
    """Return the number of points by revision over the last 20 minutes."""
    end = google.local.now()
    counts: dict[str, int] = {}
    for series in google.series(
        metric,
        end - timedelta(minutes=20),
        end,
        alignment_period={"seconds": 60},
        per_series_aligner=monitoring_v3.Aggregation.Aligner.ALIGN_DELTA,
        cross_series_reducer=monitoring_v3.Aggregation.Reducer.REDUCE_SUM,
        group_by=["resource.label.revision_name"],
    ):
        name = series.resource.labels["revision_name"]
        counts[name] = counts.get(name, 0) + len(series.points)
    return counts


def test_metrics_that_are_missing_are_missing(google: Google) -> None:
    """Monitoring fact 1: "absent series ≠ 0 ≠ not yet arrived"."""
    a_measured(google)
    assert minutes(google).keys() == {"web-one", "web-two"}
    google.local.fault("missing-metrics", revision="web-two", metric="request_count", lasts="1h")
    assert minutes(google).keys() == {"web-one"}
    assert minutes(google, "request_latencies").keys() == {"web-one", "web-two"}
    google.local.advance(timedelta(hours=1))
    assert minutes(google).keys() == {"web-one", "web-two"}


def test_metrics_that_are_late_come_later(google: Google) -> None:
    """Monitoring fact 1: "data is not visible for up to **120 seconds**", or for longer."""
    a_measured(google)
    usual = minutes(google)["web-one"]
    google.local.fault("late-metrics", by="5m", metric="request_*")
    assert minutes(google)["web-one"] == usual - 5
    google.local.clear_faults()
    assert minutes(google)["web-one"] == usual


def test_metrics_that_are_incomplete_say_so(google: Google) -> None:
    """Monitoring fact 2: "`execution_errors` non-empty ⇒ data may be incomplete"."""
    a_measured(google)
    google.local.fault("incomplete-metrics", message="a shard is away")
    end = google.local.now()
    answer = google.metrics.list_time_series(
        request={
            "name": "projects/demo",
            "filter": 'metric.type="run.googleapis.com/request_count"',
            "interval": {"start_time": end - timedelta(minutes=5), "end_time": end},
        },
        timeout=SECONDS,
    )
    assert [error.message for error in next(iter(answer.pages)).execution_errors] == ["a shard is away"]


# --- what can be asked for ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "the field kind is missing; write one of error, delay"),
        ({"kind": "flood"}, "kind: 'flood' is not known"),
        ({"kind": "error", "methods": "X"}, "methods: there is no such field here; there are for, method"),
        ({"kind": "error", "method": "UpdateServce"}, "did you mean UpdateService"),
        (
            {"kind": "slow-operation", "by": "1m", "method": "GetService"},
            "called 'GetService'; there are CreateService, DeleteRevision, DeleteService, UpdateService",
        ),
        (
            {"kind": "slow-operation", "by": "1m", "method": "DeleteServce"},
            "did you mean DeleteService?",
        ),
        ({"kind": "error", "code": "OK"}, "code: 'OK' is no status code; write one of ABORTED"),
        ({"kind": "error", "code": 14}, "code: 14 is no status code"),
        ({"kind": "error", "next": 0}, "next: Input should be greater than or equal to 1"),
        ({"kind": "error", "next": "2"}, "next: Input should be a valid integer"),
        ({"kind": "error", "next": True}, "next: Input should be a valid integer"),
        ({"kind": "delay"}, "by: is missing"),
        ({"kind": "delay", "by": "soon"}, "by: 'soon' is no duration; write one such as 90s"),
        ({"kind": "delay", "by": "-5s"}, "by: must be longer than 0s"),
        ({"kind": "delay", "by": math.inf}, "by: inf is no duration"),
        ({"kind": "delay", "by": "99d"}, "by: '99d' is too long; 31d is the most"),
        ({"kind": "clock-jump", "by": 0}, "by: must not be 0s"),
        ({"kind": "foreign-write"}, "it writes nothing; give traffic, annotations or both"),
        (
            {"kind": "foreign-write", "traffic": {"a": 101}},
            "traffic.a: Input should be less than or equal to",
        ),
        ({"kind": "missing-metrics", "next": 1}, "next: there is no such field here"),
        ({"kind": "missing-metrics", "metric": "nope"}, "metric: no metric is called 'nope'; there are"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(
    google: Google, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(FaultInvalid) as invalid:
        google.local.fault_of(fields)
    assert message in str(invalid.value)
    assert google.local.faults() == []


def test_every_kind_is_named_by_the_command_and_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "local-cloud-run.md").read_text(encoding="utf-8")
    assert ", ".join(KINDS) == faults.KINDS
    for kind, model in KINDS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
        own = model.model_fields.keys() - CallFault.model_fields.keys() - {"kind"}
        assert all(f"`{field}`" in row for field in own), (kind, own)


def test_every_mistake_is_told_at_once(google: Google) -> None:
    with pytest.raises(FaultInvalid) as invalid:
        google.local.fault("error", next=0, code="NO", more=1)
    assert len(invalid.value.lines) == 3


EXAMPLES: dict[str, dict[str, Any]] = {
    "error": {"code": "ABORTED", "message": "x", "method": "GetService", "next": 3},
    "delay": {"by": "90s", "real": True, "every": 2},
    "lost-answer": {"hang": True, "for": "60s"},
    "partition": {"principal": "ada@example.com"},
    "slow-operation": {"by": "300s"},
    "clock-jump": {"by": "-60s"},
    "foreign-write": {"when": "after", "traffic": {"LATEST": 100}, "annotations": {"a": "b"}},
    "missing-metrics": {"metric": "request_count", "revision": "web-*"},
    "late-metrics": {"by": "60s", "metric": "*"},
    "incomplete-metrics": {"message": "x"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_reads_as_it_was_written(google: Google, kind: str) -> None:
    google.local.fault_of({"kind": kind, **EXAMPLES[kind]})
    shown = google.local.faults()[0]["fault"]
    google.local.fault_of(shown)
    assert google.local.faults()[1]["fault"] == shown
    assert shown["kind"] == kind
    left_at_default = {"metric": "*"} if kind == "late-metrics" else {}
    assert {**shown, **left_at_default} == {"kind": kind, **EXAMPLES[kind]}


# --- by HTTP ---


@pytest.fixture
def local() -> Iterator[LocalCloudRun]:
    """A local Cloud Run with an admin port, and a clock that only the test moves."""
    with LocalCloudRun.started(Settings(runtime=RuntimeKind.PROCESSES, speed=0)) as local:
        yield local


def ask(local: LocalCloudRun, method: str, path: str, body: str = "") -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(
        f"http://{local.admin_address}{path}", body.encode() or None, method=method
    )
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_faults_are_added_listed_and_cleared_by_http(local: LocalCloudRun) -> None:
    status, added = ask(local, "POST", "/faults", '{"kind": "error", "method": "GetService", "next": 2}')
    assert (status, json.loads(added)["number"]) == (201, 1)
    ask(local, "POST", "/faults", '{"kind": "partition", "for": "5m"}')
    faults = json.loads(ask(local, "GET", "/faults")[1])["faults"]
    assert [fault["fault"] for fault in faults] == [
        {"kind": "error", "method": "GetService", "next": 2},
        {"kind": "partition", "for": "300s"},
    ]
    assert json.loads(ask(local, "DELETE", "/faults/1")[1]) == {"cleared": 1}
    assert ask(local, "DELETE", "/faults/1")[0] == 404
    assert json.loads(ask(local, "DELETE", "/faults")[1]) == {"cleared": 1}
    assert local.faults() == []


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/faults", "", "the body is no JSON"),
        ("/faults", "{", "the body is no JSON"),
        ("/faults", "[]", "a fault is described by fields"),
        ("/faults", "[" * 100_000, "the body is no JSON"),
        ("/faults", '{"kind": "error", "kind": "delay"}', "kind given twice"),
        ("/faults", '{"kind": "delay", "by": NaN}', "by: nan is no duration"),
        ("/faults", '{"kind": "error", "\\ud800": 1}', "unable to parse raw data as a unicode string"),
        ("/faults", '{"kind": "error", "message": "\\ud800"}', "message: "),
        ("/faults", '{"kind": "delay", "by": "' + "x" * 500_000 + '"}', "is no duration"),
        ("/clock/jump", '{"by": "never"}', "by: 'never' is no duration"),
        ("/clock/jump", "{}", "by: Field required"),
        ("/clock/jump", "1", "send {"),
    ],
)
def test_what_http_cannot_read_is_refused(local: LocalCloudRun, path: str, body: str, message: str) -> None:
    status, text = ask(local, "POST", path, body)
    assert status == 400
    assert message in text
    assert len(text) < 1000
    assert local.faults() == []


def test_the_clock_jumps_by_http(local: LocalCloudRun) -> None:
    begun = local.now()
    status, answer = ask(local, "POST", "/clock/jump", '{"by": "-90s"}')
    assert status == 200
    assert json.loads(answer)["now"] == (begun - timedelta(seconds=90)).isoformat()
    assert local.now() == begun - timedelta(seconds=90)
