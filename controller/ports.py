"""The interfaces that the engine needs, and the errors, named by what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from controller.core.evidence import Minute, Sample
from controller.core.notices import Notice
from controller.core.observation import RevisionState, ServiceState
from controller.core.policy_guards import Guards
from controller.core.policy_notices import Receiver
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.core.request_log import RequestLog
from controller.core.traffic import Split


class CanaryError(Exception):
    """Something outside went wrong; the text names the place, the cause and the next step."""


class TransientError(CanaryError):
    """It may work the next time: try again."""


class ThrottledError(TransientError):
    """The calls that a quota allows are used up: make none for `wait` seconds, then try again.

    A write that was throttled was not applied.
    """

    wait = 60.0
    """Seconds; Google's quotas are by the minute."""

    def __init__(self, text: str, wait: float = wait) -> None:
        super().__init__(text)
        self.wait = wait


class ConflictError(CanaryError):
    """Somebody else wrote in between: read and decide again, never resend."""


class PermanentError(CanaryError):
    """It will not work by itself: stop and tell a person."""


class NotFoundError(PermanentError):
    """The service or revision does not exist, or has no such tag or address."""


class RecordUnreadableError(PermanentError):
    """The service's record is damaged, or a newer version's; it must not be overwritten."""


class NoRolloutError(PermanentError):
    """The service has no rollout on record."""


class NotServingError(PermanentError):
    """A revision that was asked for cannot serve."""


class EntryRefusedError(PermanentError):
    """The audit log will never keep one of these entries as it is."""


class DeniedError(PermanentError):
    """A permission is missing; the text names it."""


@dataclass(frozen=True)
class ServiceChange:
    """One write: annotations always, as a whole; the split only where it is to change."""

    service: str
    etag: str
    annotations: Mapping[str, str]
    split: Split | None = None


class CloudRun(Protocol):
    """Services and revisions of one project and region."""

    def read_service(self, service: str) -> ServiceState:
        """Return the service as it is now; raises NotFoundError."""
        ...

    def list_services(self) -> Sequence[ServiceState]:
        """Return all services, by name."""
        ...

    def read_revision(self, service: str, revision: str) -> RevisionState | None:
        """Return the revision, or None where there is none of that name."""
        ...

    def list_revisions(self, service: str) -> Sequence[RevisionState]:
        """Return all revisions, the newest first."""
        ...

    def write_service(self, change: ServiceChange) -> None:
        """Ask for the change and return when it is accepted, not when it is in force.

        Never repeated by itself. A TransientError may mean that it was applied: read to find out.
        """
        ...

    def try_service(self, change: ServiceChange) -> None:
        """Ask whether the change would be accepted; nothing is stored."""
        ...


@dataclass(frozen=True)
class Minutes:
    """The minutes of each revision, the oldest first.

    `problems` says by name which of the policy's own guards cannot be read; the samples are without them.
    """

    of: Mapping[str, Sequence[Minute]]
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceMinutes:
    """The minutes of many services, each by service and revision, the oldest first.

    `problems` says by service what cannot be read; the others are whole.
    """

    of: Mapping[tuple[str, str], Sequence[Minute]]
    problems: Mapping[str, str] = field(default_factory=dict)


PLAIN = Guards()
"""The guards of a policy that says nothing of them: they rest on requests and latencies alone."""


class Metrics(Protocol):
    """Request counts, latencies and other metrics of one project and region, in whole minutes."""

    def read_minutes(
        self,
        service: str,
        revisions: Sequence[str],
        start: datetime,
        end: datetime,
        guards: Guards = PLAIN,
    ) -> Minutes:
        """Return each revision's minutes that end after `start` and not after `end`, both whole minutes.

        The samples hold what the `guards` rest on besides requests and latencies: their own metrics by the
        custom guards' names, how long instances took to start, whether requests found room in them.
        """
        ...

    def read_services(
        self, start: datetime, end: datetime, services: Sequence[str] = (), *, latencies: bool = True
    ) -> ServiceMinutes:
        """Return the minutes of all services, or of some, with as few calls as of one."""
        ...

    def read_totals(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], Sample]:
        """Return the responses of all services in that time, by service and revision."""
        ...


class Probes(Protocol):
    """Requests of our own to a revision."""

    def ask(self, address: str, probe: Probe) -> Answer:
        """Ask the revision at this address once."""
        ...

    def lacking(self, probe: Probe) -> str:
        """Return what is missing here to ask this at all; "" where nothing is."""
        ...

    def warm_up(self, address: str, probe: Probe, number: int) -> None:
        """Ask `number` times at once, so that instances start; the answers do not matter."""
        ...


class RequestLogs(Protocol):
    """The request logs of one project and region; few reads a minute are allowed."""

    def read_requests(
        self, service: str, revisions: Sequence[str], start: datetime, end: datetime, *, share: float = 1.0
    ) -> RequestLog:
        """Return what was received from `start` on and before `end` of these revisions.

        With a `share` of less than 1 only so many of the requests, always the same ones. Raises
        ThrottledError where the reads that are allowed are used up.
        """
        ...


@dataclass(frozen=True)
class JobSettings:
    """What of a Cloud Run job matters to a rollout that it follows."""

    max_retries: int
    timeout: timedelta
    """After which each try is ended."""


class Jobs(Protocol):
    """The Cloud Run jobs of one project and region."""

    def read_job(self, job: str) -> JobSettings:
        """Return what matters of a job; raises NotFoundError."""
        ...

    def run_job(self, job: str, args: Sequence[str], variables: Mapping[str, str]) -> str:
        """Start an execution with these arguments, and variables besides its own; return its short name.

        Never repeated by itself. A TransientError may mean that it was started.
        """
        ...


class Severity(StrEnum):
    """How much an entry of the audit trail matters, in the words of Cloud Logging."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


ROLLOUT_LABEL = "rollout"
"""The label of an entry that holds the id of its rollout."""
EVENT_LABEL, HARM = "event", "harm"
"""The label of an entry that names what happened; harm between rollouts is no transition of one."""
EVERY_SERVICE = "-"
"""In place of a name, which it cannot be."""
MOST_ENTRIES = 1000
"""Of the audit trail, in one reading, unless asked for otherwise."""


@dataclass(frozen=True)
class AuditEntry:
    """One entry of the audit trail.

    The same time and `insert_id` make two entries one, so an entry can be written again at any time, by
    anybody.
    """

    insert_id: str
    time: datetime
    service: str
    revision: str
    """The revision that it is about, or "" for the service as a whole."""
    severity: Severity
    message: str
    labels: Mapping[str, str] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    """Plain data, as in JSON. Numbers are kept as floating point: whole ones come back as int.

    Infinity comes back as text.
    """
    cut: str = ""
    """What is missing in the payload of an entry that was read, since it was too large to be kept."""


class AuditLog(Protocol):
    """The audit trail of the services of one project and region: a mirror of their records."""

    def write_entries(self, entries: Sequence[AuditEntry]) -> None:
        """Keep the entries; those that are there already stay one.

        Never repeated by itself. After a TransientError some may have been kept: write them all again. An
        EntryRefusedError will come again for the same entries; the others of them have been kept.
        """
        ...

    def try_entry(self, entry: AuditEntry) -> None:
        """Ask whether the entry would be kept; nothing is."""
        ...

    def read_entries(
        self, service: str, rollout: str = "", since: datetime | None = None, limit: int = MOST_ENTRIES
    ) -> Sequence[AuditEntry]:
        """Return the newest entries of a service, or of one rollout of it, the oldest first, each once.

        Of all services for EVERY_SERVICE.

        An entry can be read some seconds after it was written.
        """
        ...


class Notices(Protocol):
    """Whoever is told of rollouts; nothing raised, nothing tried again, and soon over whatever they do."""

    def send(self, notices: Sequence[Notice]) -> Sequence[str]:
        """Send each notice to each of its receivers once; return what failed, without anything secret."""
        ...

    def lacking(self, receivers: Sequence[Receiver]) -> Sequence[str]:
        """Return what is missing here to tell these receivers anything, without anything secret."""
        ...


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """Return the time, with its zone."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock."""
        ...
