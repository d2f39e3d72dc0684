"""The process that ends what a local Cloud Run has started, when that one is gone without having done so.

`python -m controller.emulator.serving.orphans MARKER` reads lines `+PID` and `-PID` of instances that begin
and end. When its standard input ends, which it does however the local Cloud Run dies, it ends every process
whose environment carries the marker, also in a session of its own, and every process in the session of an
instance, also one that has overwritten its environment. It does so until none is left, then it ends itself.
"""

import os
import signal
import sys
from collections.abc import Iterable

import psutil

MARKER = "CANARY_LOCAL_RUN"
"""The variable in the environment of every instance that says whose it is."""
GRACE_SECONDS = 2.0
"""Real seconds from SIGTERM to SIGKILL."""
_POLL_SECONDS = 0.05


def main() -> int:
    """Watch until the other end is gone, then end what it left behind."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin.buffer:
        if line.startswith(b"+"):
            sessions.add(int(line[1:]))
        else:
            sessions.discard(int(line[1:]))
    ended = end_all(sys.argv[1], sessions)
    if ended:
        sys.stderr.write(f"local Cloud Run: ended {ended} processes that instances had left behind\n")
    return 0


def end_all(marker: str, sessions: set[int]) -> int:
    """End every process with the marker or in one of the sessions; return how many there were."""
    left = find(marker, sessions)
    ended = len(left)
    _signal(left, signal.SIGTERM)
    psutil.wait_procs(left, timeout=GRACE_SECONDS)
    while left := find(marker, sessions):
        killed = _signal(left, signal.SIGKILL)
        psutil.wait_procs(left, timeout=_POLL_SECONDS)
        if not killed:
            break  # they belong to another user by now
    return ended


def find(marker: str, sessions: set[int]) -> list[psutil.Process]:
    """Return the processes with the marker or in one of the sessions, this one excepted."""
    return [process for process in psutil.process_iter() if _belongs(process, marker, sessions)]


def _belongs(process: psutil.Process, marker: str, sessions: set[int]) -> bool:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return os.getsid(process.pid) in sessions or process.environ().get(MARKER) == marker
    except (psutil.Error, OSError):  # gone, or not ours to look at
        return False


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> int:
    """Return how many could be sent the signal."""
    sent = 0
    for process in processes:
        try:
            process.send_signal(number)
            sent += 1
        except psutil.Error:  # gone, or not ours
            pass
    return sent


if __name__ == "__main__":
    sys.exit(main())
