"""What can be chosen when a local Cloud Run is started."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

STARTUP_SECONDS = 240
"""How long Cloud Run lets an instance take until it listens."""


class EtagMode(StrEnum):
    """What a stale etag does: nothing (as observed of Google's v2 API), or ABORTED."""

    IGNORE = "ignore"
    ENFORCE = "enforce"


class RuntimeKind(StrEnum):
    """What a revision is: real processes behind the HTTP front, or drawn numbers without either."""

    PROCESSES = "processes"
    SIMULATED = "simulated"


class SimulatedLogs(StrEnum):
    """Which users' requests to simulated revisions are logged: all, or those that failed."""

    ALL = "all"
    FAILURES = "failures"


@dataclass(frozen=True, slots=True)
class Settings:
    """The choices, with their defaults. Durations are on the emulator's clock unless they say otherwise."""

    project: str = "demo"
    region: str = "local-1"
    runtime: RuntimeKind = RuntimeKind.PROCESSES
    speed: float = 1.0
    """Emulated seconds per real second; 0 = the clock moves only when it is told to."""
    start: datetime | None = None
    """Where the clock starts; by default now, or a fixed instant when the clock is moved by hand."""
    reconcile_delay: timedelta = timedelta(seconds=3)
    """From a write until its operation is done and the service's status follows."""
    propagation_delay: timedelta = timedelta(seconds=2)
    """From the status until requests follow the new split."""
    visibility_delay: timedelta = timedelta(seconds=120)
    """From the sample on the whole minute until Monitoring shows it."""
    startup_timeout: timedelta = timedelta(seconds=STARTUP_SECONDS)
    """How long a new revision may take until it listens on its port."""
    startup_least_seconds: float = 10.0
    """The same in real seconds, at least: a fast clock does not make a process start faster."""
    idle_timeout: timedelta = timedelta(minutes=15)
    """An instance without requests for so long is stopped."""
    pending_seconds: float = 10.0
    """Real seconds that a request waits for room in an instance at least, before it is refused."""
    grace_seconds: float = 10.0
    """Real seconds from SIGTERM to SIGKILL."""
    etag: EtagMode = EtagMode.IGNORE
    newest_decides: bool = True
    """Whether a service is not Ready while its newest revision has failed, though others serve all of its
    traffic: reported of Cloud Run, not established. A change of traffic then takes effect and yet fails."""
    state: str = ""
    """Path of a directory in which everything is kept across restarts; "" = nothing is kept."""
    iam: str = ""
    """Path of a file with roles and bindings; "" = everybody may do everything."""
    quotas: bool = True
    """Whether calls above the quotas are refused; the minutes are those of the emulated clock."""
    keeps_regions: bool = False
    """Whether the settings of a multi-region service are kept, though it is served in one region alone: for
    what only reads them. Else they are refused."""
    reads_a_minute: int = 3000
    """Of the Cloud Run API, for each project and region."""
    writes_a_minute: int = 180
    log_lists_a_minute: int = 60
    """Of entries.list of Cloud Logging, for each project."""
    seed: int = 1
    """Of every random choice: split, generated names, simulated requests."""
    simulated_logs: SimulatedLogs = SimulatedLogs.FAILURES
    """All only where it is asked for: at volume it takes longer than everything else."""
    simulated_front: bool = False
    """Whether simulated revisions answer HTTP too, at the front; else nothing listens at their addresses."""
    log_capacity: int = 100_000
    """Log entries kept; the oldest go first."""
    log_bytes: int = 64 * 1024 * 1024
    """Memory that they may take, about; the oldest go first."""
    log_delay: timedelta = timedelta()
    """From the receipt of an entry until a list shows it; of Google 10 to 20 seconds have been seen."""
    log_scan_limit: int = 50_000
    """Entries looked at for one page of a list; where nothing fits among so many, a page is empty, and has
    a token to go on with. Fewer, where the filter has more than ten comparisons."""
    host: str = "127.0.0.1"
    grpc_port: int = 0
    """0 = any free port, for each of the three."""
    front_port: int = 0
    admin_port: int = 0
    front_head_seconds: float = 30.0
    """Real seconds in which the head of a request must have come to the front."""
    front_idle_seconds: float = 75.0
    """Real seconds that a connection to the front stays open without a request."""
