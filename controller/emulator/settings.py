"""What can be chosen when a local Cloud Run is started."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class EtagMode(StrEnum):
    """What a stale etag does: nothing (as observed of Google's v2 API), or ABORTED."""

    IGNORE = "ignore"
    ENFORCE = "enforce"


class RuntimeKind(StrEnum):
    """What a revision is: real processes behind the HTTP front, or drawn numbers without either."""

    PROCESSES = "processes"
    SIMULATED = "simulated"


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
    startup_timeout: timedelta = timedelta(seconds=240)
    """How long a new revision may take until it listens on its port."""
    startup_least_seconds: float = 10.0
    """The same in real seconds, at least: a fast clock does not make a process start faster."""
    idle_timeout: timedelta = timedelta(minutes=15)
    """An instance without requests for so long is stopped."""
    etag: EtagMode = EtagMode.IGNORE
    seed: int = 1
    """Of every random choice: split, generated names, simulated requests."""
    log_capacity: int = 100_000
    """Log entries kept; the oldest go first."""
    host: str = "127.0.0.1"
    grpc_port: int = 0
    """0 = any free port, for each of the three."""
    front_port: int = 0
    admin_port: int = 0
