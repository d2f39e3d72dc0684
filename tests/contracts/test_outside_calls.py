"""Calls to the outside: each has a timeout, a read is tried again as its error deserves, a write never."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.jobs.transports import JobsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

from contracts.bare_server import a_bare_server, a_channel, refusing
from contracts.conftest import PARENT, SECONDS, SIMULATED, Google, a_google, percents
from controller.core.traffic import Target
from controller.gateways.audit_log import LoggingGateway
from controller.gateways.calls import BUDGET, READ_SECONDS, WRITE_SECONDS, Budget, Caller
from controller.gateways.clock import EmulatorClock
from controller.gateways.cloud_run import CloudRunGateway
from controller.gateways.jobs import JobsGateway
from controller.gateways.log_budget import LogBudget
from controller.gateways.monitoring import MonitoringGateway
from controller.gateways.request_logs import RequestLogGateway
from controller.ports import (
    AuditEntry,
    AuditLog,
    CanaryError,
    CloudRun,
    ConflictError,
    DeniedError,
    EntryRefusedError,
    Jobs,
    Metrics,
    NotFoundError,
    PermanentError,
    RequestLogs,
    ServiceChange,
    Severity,
    ThrottledError,
    TransientError,
)
from controller.principal import calling_as

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
CHANGE = ServiceChange("web", "", {"by": "canary"}, (Target("web-two", 100),))
ENTRY = AuditEntry("1", NOON, "web", "web-two", Severity.INFO, "promoted")


@dataclass
class Gateways:
    """All that is called by gRPC, over one channel; nobody waits, but how long it would be is kept."""

    channel: grpc.Channel
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        place = ("demo", "local-1", self.waits.append, self.channel)
        self.cloud_run = CloudRunGateway(*place)
        self.metrics = MonitoringGateway(*place)
        self.audit_log = LoggingGateway(*place)
        hours = (NOON + hour * timedelta(hours=1) for hour in count())
        self.request_logs = RequestLogGateway(*place, LogBudget(lambda: next(hours)))
        self.jobs = JobsGateway(*place)
        self.clock = EmulatorClock(self.channel, self.waits.append)


@dataclass(frozen=True)
class Case:
    """A method of a gateway, and the method of Google's that it calls."""

    called: str
    call: Callable[[Gateways], Any]


READS: Mapping[str, Case] = {
    "read_service": Case("GetService", lambda g: g.cloud_run.read_service("web")),
    "list_services": Case("ListServices", lambda g: g.cloud_run.list_services()),
    "read_revision": Case("GetRevision", lambda g: g.cloud_run.read_revision("web", "web-one")),
    "list_revisions": Case("ListRevisions", lambda g: g.cloud_run.list_revisions("web")),
    "read_job": Case("GetJob", lambda g: g.jobs.read_job("canary")),
    "read_minutes": Case(
        "ListTimeSeries",
        lambda g: g.metrics.read_minutes("web", ["web-one"], NOON - timedelta(minutes=5), NOON),
    ),
    "read_services": Case(
        "ListTimeSeries", lambda g: g.metrics.read_services(NOON - timedelta(minutes=5), NOON)
    ),
    "read_totals": Case("ListTimeSeries", lambda g: g.metrics.read_totals(NOON - timedelta(days=1), NOON)),
    "read_entries": Case("ListLogEntries", lambda g: g.audit_log.read_entries("web")),
    "read_requests": Case(
        "ListLogEntries",
        lambda g: g.request_logs.read_requests("web", ["web-one"], NOON - timedelta(minutes=5), NOON),
    ),
}
WRITES: Mapping[str, Case] = {
    "write_service": Case("UpdateService", lambda g: g.cloud_run.write_service(CHANGE)),
    "run_job": Case("RunJob", lambda g: g.jobs.run_job("canary", ["rollout", "web"], {"CANARY_BY": "ada"})),
    "write_entries": Case("WriteLogEntries", lambda g: g.audit_log.write_entries([ENTRY])),
}
TRIALS: Mapping[str, Case] = {
    "try_service": Case("UpdateService", lambda g: g.cloud_run.try_service(CHANGE)),
    "try_entry": Case("WriteLogEntries", lambda g: g.audit_log.try_entry(ENTRY)),
}
"""Writes that are only tried: nothing is kept."""
CLOCK: Mapping[str, Case] = {"now": Case("Now", lambda g: g.clock.now())}
"""The local Cloud Run's clock, which no fault strikes."""
CALLS = {**READS, **WRITES, **TRIALS, **CLOCK}

TRIES: Mapping[str, tuple[type[CanaryError], int]] = {
    "UNAVAILABLE": (TransientError, 5),
    "INTERNAL": (TransientError, 3),
    "UNKNOWN": (TransientError, 3),
    "CANCELLED": (TransientError, 3),
    "DEADLINE_EXCEEDED": (TransientError, 2),
    "RESOURCE_EXHAUSTED": (ThrottledError, 1),
    "ABORTED": (ConflictError, 1),
    "PERMISSION_DENIED": (DeniedError, 1),
    "UNAUTHENTICATED": (DeniedError, 1),
    "NOT_FOUND": (NotFoundError, 1),
    "ALREADY_EXISTS": (PermanentError, 1),
    "INVALID_ARGUMENT": (PermanentError, 1),
    "FAILED_PRECONDITION": (PermanentError, 1),
    "OUT_OF_RANGE": (PermanentError, 1),
    "UNIMPLEMENTED": (PermanentError, 1),
    "DATA_LOSS": (PermanentError, 1),
}
"""What each status becomes, and how often a read is tried that meets nothing else."""
LONGEST_WAITS = 0.3 + 0.6 + 1.2 + 2.4
"""Seconds that the waits before four further tries take together at most."""


def error_of(call: Callable[[Gateways], Any], gateways: Gateways) -> CanaryError | None:
    try:
        call(gateways)
    except CanaryError as error:
        return error
    return None


def make_the_job(google: Google) -> None:
    task = run_v2.TaskTemplate(containers=[run_v2.Container(image="canary")])
    jobs = run_v2.JobsClient(transport=JobsGrpcTransport(channel=google.channel))
    job = run_v2.Job(template=run_v2.ExecutionTemplate(template=task))
    jobs.create_job(parent=PARENT, job_id="canary", job=job, timeout=SECONDS)


def facing(
    google: Google, case: Case, gateways: Gateways, kind: str = "error", **fields: Any
) -> tuple[CanaryError | None, int]:
    """Let a call meet a fault; return what becomes of it, and how often the server was called."""
    google.local.fault(kind, method=case.called, **fields)
    error = error_of(case.call, gateways)
    struck = int(google.local.faults()[0]["struck"])
    google.local.clear_faults()
    return error, struck


def test_every_status_has_its_answer() -> None:
    assert TRIES.keys() == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize("code", TRIES)
def test_a_read_is_tried_again_as_its_error_deserves(google: Google, code: str) -> None:
    google.two_revisions()
    gateways = Gateways(google.channel)
    expected, tries = TRIES[code]
    for name, case in READS.items():
        gateways.waits.clear()
        error, struck = facing(google, case, gateways, code=code)
        assert (struck, len(gateways.waits)) == (tries, tries - 1), name
        assert sum(gateways.waits) <= LONGEST_WAITS
        if (name, code) == ("read_revision", "NOT_FOUND"):
            assert error is None  # that is its answer
        else:
            assert type(error) is expected, name


@pytest.mark.parametrize("code", TRIES)
def test_a_write_is_made_once_whatever_its_error(google: Google, code: str) -> None:
    google.two_revisions()
    before = google.get()
    gateways = Gateways(google.channel)
    for name, case in WRITES.items():
        error, struck = facing(google, case, gateways, code=code)
        assert (struck, gateways.waits) == (1, []), name
        refused = (name, code) == ("write_entries", "INVALID_ARGUMENT")
        assert type(error) is (EntryRefusedError if refused else TRIES[code][0]), name
    for name, case in TRIALS.items():
        error, struck = facing(google, case, gateways, code=code)
        assert (type(error), struck, gateways.waits) == (TRIES[code][0], 1, []), name
    assert google.get() == before
    assert gateways.audit_log.read_entries("web") == []


def test_what_is_only_tried_leaves_nothing_behind(google: Google) -> None:
    google.two_revisions()
    before = google.get()
    gateways = Gateways(google.channel)
    assert [error_of(case.call, gateways) for case in TRIALS.values()] == [None, None]
    google.settle()
    assert google.get() == before
    assert gateways.audit_log.read_entries("web") == []


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"])
def test_a_read_that_fails_once_is_no_failure(google: Google, code: str) -> None:
    google.two_revisions()
    make_the_job(google)
    gateways = Gateways(google.channel)
    for name, case in READS.items():
        assert facing(google, case, gateways, code=code, next=1) == (None, 1), name


def test_a_write_whose_answer_is_lost_was_made_and_is_not_made_again(google: Google) -> None:
    google.two_revisions()
    before = google.get().generation
    gateways = Gateways(google.channel)
    for case in WRITES.values():
        error, struck = facing(google, case, gateways, "lost-answer")
        assert (type(error), struck) == (TransientError, 1)
    google.settle()
    assert google.get().generation == before + 1
    assert percents(google.get()) == {"web-two": 100}
    assert [entry.message for entry in gateways.audit_log.read_entries("web")] == ["promoted"]


# --- timeouts ---


def names_of(*protocols: type) -> set[str]:
    return {name for protocol in protocols for name in vars(protocol) if not name.startswith("_")}


def test_no_call_is_made_without_a_timeout() -> None:
    """Fact 1.2 [M]: list_revisions with defaults hangs for ever where nobody answers."""
    assert names_of(CloudRun, Metrics, AuditLog, RequestLogs, Jobs) | CLOCK.keys() == CALLS.keys()
    with a_channel(refusing(grpc.StatusCode.UNAVAILABLE)) as (bare, channel):
        gateways = Gateways(channel)
        for case in CALLS.values():
            assert type(error_of(case.call, gateways)) is TransientError
    assert bare.deadlines.keys() == {case.called for case in CALLS.values()}
    for case in CALLS.values():
        is_write = case in (*WRITES.values(), *TRIALS.values())
        longest = WRITE_SECONDS if is_write else READ_SECONDS
        for seconds in bare.deadlines[case.called]:
            assert seconds is not None
            assert 0 < seconds <= longest * 1.05, case.called  # gRPC rounds up what it sends


def services_at(channel: grpc.Channel) -> run_v2.ServicesClient:
    return run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))


def test_a_server_that_never_answers_costs_no_more_than_the_budget() -> None:
    over = Event()

    def silent(_: Any) -> bytes:
        over.wait()
        return b""

    waits: list[float] = []
    with a_channel(silent) as (bare, channel):
        begun = time.monotonic()
        with pytest.raises(TransientError, match="did not answer in time"):
            Caller("Cloud Run", waits.append).read(
                services_at(channel).get_service,
                run_v2.GetServiceRequest(name="projects/p/locations/l/services/s"),
                doing="reading",
                permission="none",
                budget=Budget(0.5),
            )
        over.set()
    assert time.monotonic() - begun < 5
    assert len(bare.deadlines["GetService"]) == 1


def test_a_list_without_an_end_costs_no_more_than_the_budget() -> None:
    page = run_v2.ListServicesResponse.serialize(run_v2.ListServicesResponse({"next_page_token": "more"}))
    with a_channel(lambda _: page) as (_, channel):
        pages = Caller("Cloud Run", lambda _: None).pages(
            services_at(channel).list_services,
            run_v2.ListServicesRequest(parent="projects/p/locations/l"),
            doing="listing",
            permission="none",
            budget=Budget(0.5),
        )
        begun = time.monotonic()
        with pytest.raises(TransientError, match="did not answer in time"):
            list(pages)
        assert time.monotonic() - begun < 5


def test_a_sign_in_that_hangs_does_not_hold_up_a_call(tmp_path: Path) -> None:
    over = Event()
    with signing_in(tmp_path, over.wait) as client:
        begun = time.monotonic()
        with pytest.raises(TransientError, match="did not answer in time"):
            read_with(client)
        assert time.monotonic() - begun < 5
        over.set()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("invalid_grant: Token has been expired or revoked.", DeniedError), ("timed out", TransientError)],
)
def test_a_refused_sign_in_is_told_from_one_that_fails(
    tmp_path: Path, text: str, expected: type[CanaryError]
) -> None:
    def fail() -> None:
        raise OSError(text)

    with signing_in(tmp_path, fail) as client, pytest.raises(CanaryError, match=text) as raised:
        read_with(client)
    assert type(raised.value) is expected


@contextmanager
def signing_in(directory: Path, sign_in: Callable[[], Any]) -> Iterator[run_v2.ServicesClient]:
    """Give a client that has to sign in before each call, as google-auth does."""

    def plugin(_: Any, callback: Callable[[Any, Exception | None], None]) -> None:
        try:
            sign_in()
        except OSError as error:
            callback(None, error)
        else:
            callback((("authorization", "Bearer x"),), None)

    credentials = grpc.composite_channel_credentials(
        grpc.local_channel_credentials(grpc.LocalConnectionType.UDS),
        grpc.metadata_call_credentials(plugin),
    )
    with (
        a_bare_server(lambda _: b"", f"unix:{directory}/socket") as (_, address),
        grpc.secure_channel(address, credentials) as channel,
    ):
        yield services_at(channel)


def read_with(client: run_v2.ServicesClient) -> None:
    Caller("Cloud Run", lambda _: None).read(
        client.get_service,
        run_v2.GetServiceRequest(name="projects/p/locations/l/services/s"),
        doing="reading",
        permission="none",
        budget=Budget(0.5),
    )


# --- quotas, and what a server asks for ---


def test_a_quota_that_is_used_up_is_waited_for_and_not_run_against() -> None:
    """Fact 3: 3,000 reads a minute; fact 1.2: 429 is ours to handle."""
    for google in a_google(replace(SIMULATED, reads_a_minute=6)):
        google.two_revisions()
        google.local.advance(timedelta(minutes=1))
        gateways = Gateways(google.channel)
        for _ in range(6):
            gateways.cloud_run.read_service("web")
        with pytest.raises(ThrottledError, match="left alone for 60 seconds") as throttled:
            gateways.cloud_run.read_service("web")
        assert gateways.waits == []
        google.local.advance(timedelta(seconds=throttled.value.wait))
        assert gateways.cloud_run.read_service("web").name == "web"


def asking_for(seconds: int) -> error_details_pb2.RetryInfo:
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds))


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, asking_for(7)), 7),
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, asking_for(-7)), 60),
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, asking_for(10**11)), 600),
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=[("retry-after", "90")]), 90),
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, trailers=[("retry-after", "Tue, 1 Dec")]), 60),
        (refusing(grpc.StatusCode.RESOURCE_EXHAUSTED), 60),
    ],
)
def test_the_wait_that_a_server_asks_for_is_handed_on(answer: Callable[[Any], bytes], wait: float) -> None:
    with a_channel(answer) as (_, channel), pytest.raises(ThrottledError) as throttled:
        Gateways(channel).cloud_run.read_service("web")
    assert throttled.value.wait == wait


def test_a_server_that_asks_for_a_short_wait_gets_it_before_the_next_try() -> None:
    with a_channel(refusing(grpc.StatusCode.UNAVAILABLE, asking_for(3))) as (_, channel):
        gateways = Gateways(channel)
        assert type(error_of(READS["read_service"].call, gateways)) is TransientError
    assert gateways.waits == [3.0] * 4


def test_a_server_that_asks_for_more_than_the_budget_is_not_asked_again() -> None:
    with a_channel(refusing(grpc.StatusCode.UNAVAILABLE, asking_for(int(BUDGET) + 1))) as (bare, channel):
        gateways = Gateways(channel)
        assert type(error_of(READS["read_service"].call, gateways)) is TransientError
    assert gateways.waits == []
    assert len(bare.deadlines["GetService"]) == 1


# --- lists ---


def test_all_services_are_listed_by_name_over_pages(google: Google) -> None:
    names = [f"web-{number:03}" for number in range(120)]
    for name in reversed(names):
        google.create(name)
    google.settle()
    gateways = Gateways(google.channel)
    google.local.fault("delay", method="ListServices", by="1s")
    services = gateways.cloud_run.list_services()
    assert google.local.faults()[0]["struck"] == 2
    assert [service.name for service in services] == names
    assert services[7] == gateways.cloud_run.read_service("web-007")


def test_a_page_that_fails_is_asked_for_again_by_itself(google: Google) -> None:
    for number in range(120):
        google.create(f"web-{number:03}")
    gateways = Gateways(google.channel)
    google.local.fault("error", method="ListServices", every=2, next=1)
    assert len(gateways.cloud_run.list_services()) == 120
    assert len(gateways.waits) == 1


def test_a_region_without_services_has_none(google: Google) -> None:
    assert Gateways(google.channel).cloud_run.list_services() == []


def test_a_refused_list_of_services_names_the_permission(tmp_path: Path) -> None:
    file = tmp_path / "iam.yaml"
    file.write_text("bindings: []\n", encoding="utf-8")
    for google in a_google(replace(SIMULATED, iam=str(file))):
        gateways = Gateways(calling_as(google.channel, "ada@example.com"))
        with pytest.raises(DeniedError, match=r"it needs the permission run\.services\.list"):
            gateways.cloud_run.list_services()


def test_metrics_that_are_only_a_part_are_asked_for_again(google: Google) -> None:
    """Monitoring fact 2: `execution_errors`: treat as unknown, never as healthy."""
    google.local.fault("incomplete-metrics", message="a shard is away")
    google.local.fault("delay", method="ListTimeSeries", by="1s")
    gateways = Gateways(google.channel)
    error = error_of(READS["read_minutes"].call, gateways)
    assert type(error) is TransientError
    assert "only a part (a shard is away)" in str(error)
    assert google.local.faults()[1]["struck"] == 3
