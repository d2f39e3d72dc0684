"""The file that says where the local Cloud Run of this user is."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalState:
    """Where a local Cloud Run is, and which process it is."""

    grpc_address: str
    front_address: str
    admin_address: str
    project: str
    region: str
    speed: float
    pid: int
    started: str = ""
    """When the process started, as the system counts; tells it from another that got its id later."""


def directory() -> Path:
    """Return where state and log are kept: $CANARY_LOCAL_DIR, or below $XDG_STATE_HOME."""
    if chosen := os.environ.get("CANARY_LOCAL_DIR"):
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "cloud-run-canary"


def log_file() -> Path:
    """Return the file that the server prints to."""
    return directory() / "local.log"


def write_state(state: LocalState) -> None:
    """Write the state file, whole or not at all."""
    path = _path()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)


def read_state() -> LocalState | None:
    """Return where the local Cloud Run is; None if none is up, whatever the file says."""
    try:
        state = LocalState(**json.loads(_path().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return state if is_alive(state) else None


def remove_state() -> None:
    """Forget where it was."""
    _path().unlink(missing_ok=True)


def is_alive(state: LocalState) -> bool:
    """Return whether the recorded process is still that process."""
    try:
        os.kill(state.pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return False  # another user's process has got the id
    return not state.started or state.started == start_of(state.pid)


def start_of(pid: int) -> str:
    """Return when a process started, in the system's ticks; "" if it is gone or nobody tells."""
    try:
        _, _, after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")
    except OSError:
        return ""
    fields = after_name.split()
    return "" if fields[0] == "Z" else fields[19]


def _path() -> Path:
    return directory() / "local.json"
