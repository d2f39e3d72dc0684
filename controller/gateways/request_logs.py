"""Request logs in Cloud Logging: single requests and instance starts of a service's revisions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import grpc
from google.cloud.logging_v2 import types
from google.cloud.logging_v2.services.logging_service_v2 import LoggingServiceV2Client
from google.cloud.logging_v2.services.logging_service_v2.transports import LoggingServiceV2GrpcTransport

from controller.core.plain_text import plain
from controller.core.request_log import InstanceStart, LoggedRequest, RequestLog
from controller.gateways.calls import Caller
from controller.gateways.clock import SystemClock
from controller.gateways.filters import quoted
from controller.gateways.google_errors import translated
from controller.gateways.log_budget import LogBudget
from controller.gateways.probes import USER_AGENT
from controller.ports import RequestLogs, ThrottledError

ENDPOINT = "Cloud Logging"
PAGE_SIZE = 1000
PAGES_A_READ = 4
REQUESTS = "run.googleapis.com/requests"
SYSTEM = "run.googleapis.com/varlog/system"
PROBE_AGENT = USER_AGENT
"""How the user agent of our own requests begins."""
START = "Starting new instance"
"""How an entry of the system log begins that tells of one."""
LONGEST_REQUEST = timedelta(hours=2)
"""With all its waiting; Cloud Run ends each after one hour. An entry has the time of its request's start."""
SKEW = timedelta(minutes=1)
"""Between the clocks that an entry's two times are taken from, at most."""
STATUSES = range(100, 1000)
"""As HTTP writes them: three digits."""


class RequestLogGateway(RequestLogs):
    """The request logs of one project and region; `channel` leads to a local Cloud Run."""

    def __init__(
        self,
        project: str,
        region: str,
        sleep: Callable[[float], None],
        channel: grpc.Channel | None = None,
        budget: LogBudget | None = None,
    ) -> None:
        self._project = project
        self._region = region
        self._caller = Caller(ENDPOINT, sleep)
        self._budget = budget or LogBudget(SystemClock().now)
        with translated("opening Cloud Logging", ENDPOINT, "to sign in"):
            self._client = LoggingServiceV2Client(
                transport=LoggingServiceV2GrpcTransport(channel=channel) if channel else None
            )

    def read_requests(
        self, service: str, revisions: Sequence[str], start: datetime, end: datetime, *, share: float = 1.0
    ) -> RequestLog:
        """Return what was received from `start` on and before `end` of these revisions, each entry once.

        Of the requests a `share` is read, the same ones each time. Where that is still more than can be
        read, those that began last are missing, and so mostly quick ones: what is left is no fair sample.
        """
        if not 0 < share <= 1:
            raise ValueError(f"a share is above 0 and at most 1, not {share}")
        if not revisions or start >= end:
            return RequestLog(share=share)
        request = types.ListLogEntriesRequest(
            resource_names=[f"projects/{self._project}"],
            filter=" AND ".join([*self._place(service, revisions), *_window(start, end), _logs(share)]),
            order_by="timestamp asc",  # nothing else is offered
            page_size=PAGE_SIZE,
        )
        entries, cut = self._entries(request, f"reading the request log of {service}")
        wanted = [entry for entry in entries if self._is_of(entry, service, revisions)]
        requests = sorted(filter(None, map(_request, wanted)), key=lambda one: (one.received_at, one.id))
        starts = sorted(filter(None, map(_start, wanted)), key=lambda one: (one.at, one.instance))
        return RequestLog(tuple(requests), tuple(starts), share, cut)

    def _place(self, service: str, revisions: Sequence[str]) -> list[str]:
        names = " OR ".join(map(quoted, revisions))
        return [
            'resource.type="cloud_run_revision"',
            f"resource.labels.location={quoted(self._region)}",
            f"resource.labels.service_name={quoted(service)}",
            f"resource.labels.revision_name=({names})",
        ]

    def _is_of(self, entry: Any, service: str, revisions: Sequence[str]) -> bool:
        """Say whether an entry is what was asked for: Cloud Logging's own comparison takes A for a."""
        labels = entry.resource.labels
        place = labels.get("location"), labels.get("service_name")
        return place == (self._region, service) and labels.get("revision_name") in revisions

    def _entries(self, request: Any, doing: str) -> tuple[Iterable[Any], bool]:
        """Return the entries, and whether there are more of them; a page may be empty and not be the last."""
        pages = self._caller.pages(self._list, request, doing=doing, permission="logging.logEntries.list")
        found: dict[tuple[str, int, int], Any] = {}
        for _ in range(PAGES_A_READ):
            if wait := self._budget.wait():  # the pages so far would not be all of them
                raise self._exhausted(doing, wait)
            page = self._next(pages)
            for entry in types.ListLogEntriesResponse.pb(page).entries:
                found[entry.insert_id, entry.timestamp.seconds, entry.timestamp.nanos] = entry
            if not page.next_page_token:
                return found.values(), False
        return found.values(), True

    def _next(self, pages: Iterator[Any]) -> Any:
        try:
            return next(pages)
        except ThrottledError as refusal:
            self._budget.halve(refusal.wait)
            raise

    def _list(self, request: Any, **options: Any) -> Any:
        """Ask for a page; each try counts against the quota."""
        self._budget.spend()
        return self._client.list_log_entries(request, **options)

    def _exhausted(self, doing: str, wait: float) -> ThrottledError:
        return ThrottledError(
            f"{doing}: this controller has made as many calls to {ENDPOINT} as it may"
            f" ({self._budget.rate:.3g} a minute); it makes none for {wait:.3g} seconds",
            wait,
        )


def _window(start: datetime, end: datetime) -> list[str]:
    """Return what selects by receipt, which follows the end of a request.

    The bounds of `timestamp` select nothing more: they spare Cloud Logging, which sorts by it, a search.
    """
    return [
        f"receiveTimestamp>={_instant(start)}",
        f"receiveTimestamp<{_instant(end)}",
        f"timestamp>={_instant(start - LONGEST_REQUEST)}",
        f"timestamp<{_instant(end + SKEW)}",
    ]


def _instant(moment: datetime) -> str:
    return quoted(moment.astimezone(UTC).isoformat())


def _logs(share: float) -> str:
    """Return what selects the two logs; an instance start is never left to chance."""
    sample = f" AND sample(insertId, {share:.9f})" if share < 1 else ""
    requests = f"log_id({quoted(REQUESTS)}){sample}"
    starts = f"log_id({quoted(SYSTEM)}) AND textPayload:{quoted(START)}"
    return f"(({requests}) OR ({starts}))"


def _log_id(entry: Any) -> str:
    return unquote(entry.log_name.rpartition("/logs/")[2])


def _request(entry: Any) -> LoggedRequest | None:
    """Read a request; None for an entry that is none, or makes no sense."""
    http, labels = entry.http_request, entry.labels
    started, received = _moment(entry, "timestamp"), _moment(entry, "receive_timestamp")
    latency = _milliseconds(http)
    if _log_id(entry) != REQUESTS or http.status not in STATUSES:
        return None
    if started is None or received is None or latency is None:
        return None
    return LoggedRequest(
        id=entry.insert_id,
        revision=entry.resource.labels["revision_name"],
        received_at=received,
        started_at=started,
        status=http.status,
        latency=latency,
        instance=labels.get("instanceId", ""),
        refusal=plain(entry.text_payload),
        is_probe=http.user_agent.startswith(PROBE_AGENT),
    )


def _start(entry: Any) -> InstanceStart | None:
    """Read an instance start; None for an entry that is none, or makes no sense."""
    at = _moment(entry, "timestamp")
    if _log_id(entry) != SYSTEM or not entry.text_payload.startswith(START) or at is None:
        return None
    return InstanceStart(entry.resource.labels["revision_name"], entry.labels.get("instanceId", ""), at)


def _moment(entry: Any, field: str) -> datetime | None:
    try:
        moment: datetime = getattr(entry, field).ToDatetime(UTC)
    except ValueError:
        return None
    return moment if entry.HasField(field) else None


def _milliseconds(http: Any) -> float | None:
    """Return the latency, or None where there is none, or one that cannot be."""
    latency = float(http.latency.seconds * 1e3 + http.latency.nanos / 1e6)
    possible = 0 <= latency <= LONGEST_REQUEST.total_seconds() * 1e3
    return latency if http.HasField("latency") and possible else None
