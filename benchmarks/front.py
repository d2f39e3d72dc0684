"""How fast the HTTP front is, beside nginx in the same run, and whether split, memory and start-up are right.

`make bench-front` runs it; it writes docs/front-benchmark.md and says whether each promise is kept.
ARGS="--rounds 2 --seconds 3 --requests 100000" is quick and rough, ARGS=--json prints everything as JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import monitoring
from stage import CONNECTIONS, SHARES, Load, LocalProcess, nginx_front, send, wrk

from controller.emulator.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "front-benchmark.md"
SPLIT_REQUESTS = 100_000
LOG_CAPACITY = Settings().log_capacity
HUNDRED = 100
STARTS = 5


@dataclass(frozen=True)
class Promise:
    """A figure that has to be reached: at most the limit, or at least."""

    words: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the figure is reached."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True)
class Memory:
    """What the process of the local Cloud Run takes, in MiB, over so many requests."""

    requests: int
    before: float
    after: float
    logs_dropped: int


def measure(rounds: int, seconds: float, requests: int) -> dict[str, Any]:
    """Run everything, one after the other."""
    starts = [start() for _ in range(STARTS)]
    listings = monitoring.measure()
    with tempfile.TemporaryDirectory(prefix="bench-front-") as name:
        folder = Path(name)
        local = LocalProcess(folder)
        local.up()
        try:
            url = local.deploy_two()
            with nginx_front(folder) as nginx:
                pairs = side_by_side(url, nginx, rounds, seconds)
            split = split_of(local, url)
            memory = memory_over(local, url, requests)
        finally:
            local.down()
    return {
        "starts": starts,
        "listings": listings,
        "front": [front for front, _ in pairs],
        "nginx": [other for _, other in pairs],
        "split": split,
        "memory": memory,
    }


def start() -> float:
    """Return the seconds until the ports of a new local Cloud Run answer."""
    with tempfile.TemporaryDirectory(prefix="bench-front-") as folder:
        local = LocalProcess(Path(folder))
        seconds = local.up()
        local.down()
        return seconds


def side_by_side(url: str, nginx: str, rounds: int, seconds: float) -> list[tuple[Load, Load]]:
    """Load the front and nginx in turns, so that both see the same of whatever else the machine does."""
    for warm in (url, nginx):
        wrk(warm, 1)
    return [(wrk(url, seconds), wrk(nginx, seconds)) for _ in range(rounds)]


def split_of(local: LocalProcess, url: str) -> dict[str, int]:
    """Return how many of exactly so many requests each revision got."""
    before = local.counts()
    asyncio.run(send(int(url.rstrip("/").rpartition(":")[2]), SPLIT_REQUESTS))
    return {name: count - before[name] for name, count in local.counts().items()}


def memory_over(local: LocalProcess, url: str, requests: int) -> Memory:
    """Return what memory does once the log is full."""
    while sum(local.counts().values()) < 2 * LOG_CAPACITY:
        wrk(url, 2)
    begun, before = sum(local.counts().values()), local.resident_mebibytes()
    while (done := sum(local.counts().values()) - begun) < requests:
        wrk(url, 5)
    dropped = local.status()["logs_dropped"]
    return Memory(done, before, local.resident_mebibytes(), dropped if isinstance(dropped, int) else 0)


def middle(loads: list[Load]) -> Load:
    """Return the medians of the rounds, and all failures."""
    found = {name: statistics.median(getattr(one, name) for one in loads) for name in ("rate", "p50", "p99")}
    return replace(loads[0], **found, failures=sum(one.failures for one in loads))


def deviation(split: dict[str, int]) -> float:
    """Return by how many points the split missed, at most."""
    total = sum(split.values())
    return max(abs(100 * split[name] / total - percent) for name, percent in SHARES.items())


def promises(found: dict[str, Any]) -> list[Promise]:
    """Return every figure that has to be reached, as measured."""
    front, memory = middle(found["front"]), found["memory"]
    return [
        Promise("requests a second, median of the rounds", front.rate, 8000, "", at_least=True),
        Promise("requests that failed", front.failures, 0, ""),
        Promise(f"split over {SPLIT_REQUESTS:,} requests, off by", deviation(found["split"]), 0.2, " points"),
        Promise(
            f"memory gained over {memory.requests:,} requests, log full",
            memory.after - memory.before,
            10,
            " MiB",
        ),
        Promise("start to ready, median", statistics.median(found["starts"]), 1.5, " s"),
        *(
            Promise(
                f"ListTimeSeries, {one.metric}, {one.series:,} series of an hour, median",
                one.milliseconds,
                100,
                " ms",
            )
            for one in found["listings"]
        ),
    ]


def figure(value: float) -> str:
    """Return a figure with three digits, or all of them before the point."""
    return f"{value:,.0f}" if value >= HUNDRED else f"{value:.3g}"


def lines(found: dict[str, Any], kept: list[Promise], rounds: int, seconds: float) -> list[str]:
    """Return the page."""
    front, nginx, memory = middle(found["front"]), middle(found["nginx"]), found["memory"]
    rows = [
        f"| {one.words} | {figure(one.measured)}{one.unit} | {'at least' if one.at_least else 'at most'} "
        f"{one.limit:,g}{one.unit} | {'kept' if one.kept else '**not kept**'} |"
        for one in kept
    ]
    sides = [
        f"| {name} | {one.rate:,.0f} | {one.p50:.2f} ms | {one.p99:.2f} ms |"
        for name, one in (("HTTP front", front), ("nginx", nginx))
    ]
    split = ", ".join(f"{name} {count:,}" for name, count in found["split"].items())
    written = (
        f"Written by `make bench-front` ({rounds} rounds of {seconds:g} s in turns, wrk with one thread and "
        f"{CONNECTIONS} connections, {os.cpu_count()} cores for everything, Python "
        f"{platform.python_version()}). Two nginx revisions answer 60 bytes, split 90/10; the front counts "
        "and logs each request. nginx beside it has one worker, `split_clients` and a line of JSON a request."
    )
    other = (
        f"The front reaches {front.rate / nginx.rate:.2f} of nginx. The split: {split}. Memory: "
        f"{memory.before:.0f} MiB before, {memory.after:.0f} MiB after, {memory.logs_dropped:,} log entries "
        f"dropped, the oldest first. Starts: {', '.join(f'{one:.2f} s' for one in found['starts'])}."
    )
    return [
        "# How fast the HTTP front of the local Cloud Run is",
        "",
        written,
        "",
        "| promise | measured | limit |  |",
        "|---|---|---|---|",
        *rows,
        "",
        "| side by side | requests a second | p50 | p99 |",
        "|---|---|---|---|",
        *sides,
        "",
        other,
    ]


def main() -> int:
    """Measure, print, and write into docs/; 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--requests", type=int, default=1_000_000, help="over which memory is watched")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, and write nothing")
    options = parser.parse_args()
    found = measure(options.rounds, options.seconds, options.requests)
    kept = promises(found)
    if options.json:
        plain = [{**asdict(one), "kept": one.kept} for one in kept]
        print(json.dumps({"promises": plain, **found}, default=asdict))
    else:
        page = lines(found, kept, options.rounds, options.seconds)
        PAGE.write_text("\n".join(page) + "\n", encoding="utf-8")
        print("\n".join(page[4:]))
    return 0 if all(one.kept for one in kept) else 1


if __name__ == "__main__":
    sys.exit(main())
