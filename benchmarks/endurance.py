"""Whether a controller that passes over a rollout for weeks grows: memory, threads, files, time a pass.

The controller is this process. The local Cloud Run is another one, on a clock that is moved by hand, so that
what it keeps is not counted.
"""

import argparse
import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

import psutil

from controller.cli.logs import configure_logs
from controller.core.policy import Policy, parse_policy
from controller.core.rollout import Event
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.engine import begin as beginning
from controller.engine.commands import obey
from controller.engine.loop import follow
from controller.engine.outside import Outside
from controller.engine.reconcile import Pass
from controller.ports import Clock
from controller.wiring import Place, connect

LONG = {"at_least": "20d", "at_most": "30d"}
STATES: dict[str, dict[str, Any]] = {
    "stepping": {"steps": ["20%"], "hold": LONG},
    "paused": {"steps": ["20%"], "hold": LONG},
    "baking": {"steps": ["100%"], "bake": LONG},
}
"""What the rollout does all the time, and the policy that makes it do so."""
USERS_RPS = 20
MARKS = 10
"""Measured so often, at equal distances."""


class Enough(Exception):
    """As many passes as were asked for."""


@dataclass(frozen=True)
class Mark:
    """The process after so many passes, when all garbage is collected."""

    passes: int
    milliseconds: float
    """A pass, on average since the last mark."""
    rss_kib: int
    blocks: int
    """Pieces of memory that the interpreter holds: what `tracemalloc` counts, but at no cost."""
    threads: int
    files: int


class HandMovedClock(Clock):
    """The clock of the other process: waiting moves it."""

    def __init__(self, admin_address: str) -> None:
        self._connection = HTTPConnection(admin_address, timeout=60)
        self._now = datetime.now(UTC)
        self.sleep(0)

    def now(self) -> datetime:
        """Return its time as of the last move."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move it on."""
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", "/advance", json.dumps({"seconds": seconds}), headers)
        self._now = datetime.fromisoformat(json.load(self._connection.getresponse())["now"])


class Meter:
    """Takes a mark every so many passes."""

    def __init__(self, passes: int) -> None:
        self.marks: list[Mark] = []
        self._last, self._every = passes, max(1, passes // MARKS)
        self._passes, self._since = 0, time.perf_counter()
        self._process = psutil.Process()

    def count(self, _: Pass) -> None:
        """Count a pass; raises Enough after the last."""
        self._passes += 1
        if self._passes % self._every == 0:
            self._mark()
        if self._passes >= self._last:
            raise Enough

    def _mark(self) -> None:
        took = time.perf_counter() - self._since
        gc.collect()
        self.marks.append(
            Mark(
                self._passes,
                round(took / self._every * 1000, 2),
                self._process.memory_info().rss // 1024,
                sys.getallocatedblocks(),
                threading.active_count(),
                self._process.num_fds(),
            )
        )
        self._since = time.perf_counter()


def measured(state: str, passes: int) -> list[Mark]:
    """Follow a rollout for so many passes, and return what the process was like on the way."""
    policy = parse_policy({"version": 1, **STATES[state]})
    with a_cloud() as (grpc_address, admin_address):
        outside = connect(Place("demo", "local-1", grpc_address))
        outside = replace(outside, clock=HandMovedClock(admin_address))
        return followed(outside, policy, passes, is_paused=state == "paused")


def followed(outside: Outside, policy: Policy, passes: int, *, is_paused: bool) -> list[Mark]:
    """Begin the rollout and follow it."""
    begun = beginning.begin(outside, beginning.Request("web", policy, "the benchmark"))
    if not isinstance(begun, beginning.Begun):
        raise TypeError(begun)
    if is_paused:
        obey(outside, "web", Event.PAUSE, "the benchmark", lambda _: None)
    meter = Meter(passes)
    try:
        follow(outside, begun.rollout, meter.count)
    except Enough:
        return meter.marks
    raise RuntimeError("the rollout has ended before")


@contextmanager
def a_cloud() -> Iterator[tuple[str, str]]:
    """Start the other process; give its addresses: of the APIs, and at which the clock is moved."""
    with subprocess.Popen(
        [sys.executable, __file__, "--cloud"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or process.stdin is None:
            raise OSError
        try:
            grpc_address, admin_address = process.stdout.readline().split()
            yield grpc_address, admin_address
        finally:
            process.stdin.close()


def be_a_cloud() -> None:
    """Serve a local Cloud Run with a service to roll out, until standard input ends."""
    command = [sys.executable, "-m", "controller.emulator.sample"]
    with LocalCloudRun.started(Settings(runtime=RuntimeKind.SIMULATED, speed=0)) as local:
        local.deploy("web", command, revision="web-v1")
        local.users("web", rps=USERS_RPS)
        local.deploy("web", command, revision="web-v2", no_traffic=True)
        print(local.grpc_address, local.admin_address, flush=True)
        sys.stdin.read()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=10_000)
    parser.add_argument("--states", nargs="*", choices=STATES, default=list(STATES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cloud", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    configure_logs()
    if chosen.cloud:
        be_a_cloud()
        return
    for state in chosen.states:
        marks = measured(state, chosen.passes)
        if chosen.json:
            print(json.dumps({"state": state, "marks": [asdict(mark) for mark in marks]}))
        else:
            show(state, marks)


def show(state: str, marks: list[Mark]) -> None:
    """Print a table of the marks."""
    print(f"\n{state}, {USERS_RPS} requests a second")
    print(f"{'passes':>8} {'ms a pass':>10} {'RSS KiB':>9} {'blocks':>9} {'threads':>8} {'files':>6}")
    for mark in marks:
        print(
            f"{mark.passes:>8,} {mark.milliseconds:>10.2f} {mark.rss_kib:>9,} {mark.blocks:>9,}"
            f" {mark.threads:>8} {mark.files:>6}",
            flush=True,
        )


if __name__ == "__main__":
    main()
