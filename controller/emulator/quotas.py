"""The gate that counts calls against Google's quotas by the minute, and refuses what is above them."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import grpc
from google.rpc import error_details_pb2

from controller.emulator.calls import Call, Gate, GoOn
from controller.emulator.errors import ApiError
from controller.emulator.names import by_id, project_number
from controller.emulator.settings import Settings

SECONDS: Final = 60
_RUN_METHOD: Final = re.compile(r"/google\.(?:cloud\.run\.v2|longrunning)\.\w+/(\w+)")
_READ: Final = re.compile(r"Get|List|Wait|Test")
_PLACE: Final = re.compile(r"projects/([^/]+)(/locations/([^/]+))?")
_LIST_LOGS: Final = "/google.logging.v2.LoggingServiceV2/ListLogEntries"


@dataclass(frozen=True)
class Quota:
    """So many calls in a minute; the words are those of Google's refusal."""

    service: str
    metric: str
    title: str
    limit: str
    limit_title: str
    most: int


class QuotaGate(Gate):
    """Counts in whole minutes of the emulated clock, for each project, or project and region."""

    def __init__(self, settings: Settings) -> None:
        self._is_on = settings.quotas
        self._project = settings.project
        run = "run.googleapis.com"
        self._reads = Quota(
            run,
            f"{run}/read_regional",
            "Read requests",
            "ReadRequestsPerMinutePerRegion",
            "Read requests per minute per region",
            settings.reads_a_minute,
        )
        self._writes = Quota(
            run,
            f"{run}/write_regional",
            "Write requests",
            "WriteRequestsPerMinutePerRegion",
            "Write requests per minute per region",
            settings.writes_a_minute,
        )
        self._log_lists = Quota(
            "logging.googleapis.com",
            "logging.googleapis.com/read_requests",
            "Read requests",
            "ReadRequestsPerMinutePerProject",
            "Read requests per minute",
            settings.log_lists_a_minute,
        )
        self._minute = 0
        self._used: Counter[tuple[str, str, str]] = Counter()
        """Calls in this minute by metric, project, and region or ""."""

    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Answer, or refuse with RESOURCE_EXHAUSTED. Refused calls are not counted."""
        if self._is_on and (quota := self._quota_of(call.method)):
            for project, region in _places(quota, request, self._project):
                self._count(quota, project, region, call.now)
        return await go_on()

    def _quota_of(self, method: str) -> Quota | None:
        if method == _LIST_LOGS:
            return self._log_lists
        if match := _RUN_METHOD.fullmatch(method):
            return self._reads if _READ.match(match[1]) else self._writes
        return None

    def _count(self, quota: Quota, project: str, region: str, now: datetime) -> None:
        minute = int(now.timestamp()) // SECONDS
        if minute != self._minute:
            self._minute = minute
            self._used.clear()
        key = (quota.metric, project, region)
        if self._used[key] >= quota.most:
            raise _exhausted(quota, project, region)
        self._used[key] += 1


def _places(quota: Quota, request: Any, project: str) -> set[tuple[str, str]]:
    """Return the projects that a request is counted for, by id, each with its region or ""."""
    names = request.resource_names if quota.service == "logging.googleapis.com" else [_name_in(request)]
    matches = [_PLACE.match(by_id(name, project)) for name in names]
    return {(match[1], match[3] or "") for match in matches if match}


def _name_in(request: Any) -> str:
    """Return the resource that a request to Cloud Run names."""
    texts = (getattr(request, field, "") for field in ("name", "parent", "resource"))
    name = next((text for text in texts if text), "")
    written = next((getattr(request, field) for field in ("service", "job") if hasattr(request, field)), None)
    return name or (written.name if written is not None else "")


def _exhausted(quota: Quota, project: str, region: str) -> ApiError:
    consumer = f"project_number:{project_number(project)}"
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain="googleapis.com")
    info.metadata.update(
        {
            "service": quota.service,
            "consumer": consumer.replace("project_number:", "projects/"),
            "quota_metric": quota.metric,
            "quota_limit": quota.limit,
            "quota_limit_value": str(quota.most),
            "quota_location": region or "global",
        }
    )
    return ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"Quota exceeded for quota metric '{quota.title}' and limit '{quota.limit_title}' of service "
        f"'{quota.service}' for consumer '{consumer}'.",
        details=(info,),
    )
