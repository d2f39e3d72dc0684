"""An open-loop load: requests go out at their times, whether or not earlier ones were answered."""

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

MOST_OUTSTANDING = 2000
REQUEST_SECONDS = 60.0
GIVE_UP_AFTER = 20
"""So many failures to connect, one after the other, mean that nobody listens."""


class ServerGoneError(Exception):
    """Nobody answers at the address any more."""


@dataclass
class Summary:
    """What was sent and what came back."""

    sent: int = 0
    dropped: int = 0
    """Not sent because too many were outstanding."""
    answers: Counter[str] = field(default_factory=Counter)
    """By class: 2xx, 4xx, 5xx, and `none` for those without an answer."""
    milliseconds: list[float] = field(default_factory=list)

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latencies, in milliseconds; 0 if there are none."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0

    def lines(self) -> list[str]:
        """Return the summary for people."""
        answers = ", ".join(f"{kind}: {count}" for kind, count in sorted(self.answers.items())) or "none"
        latency = ", ".join(f"p{percent} {self.percentile(percent):.1f} ms" for percent in (50, 95, 99))
        dropped = (
            f", not sent because {MOST_OUTSTANDING} were outstanding: {self.dropped}" if self.dropped else ""
        )
        return [f"sent: {self.sent}{dropped}", f"answers: {answers}", f"latency: {latency}"]


@dataclass(frozen=True)
class Load:
    """How much to send where. Arrivals are a Poisson process, as those of many independent users are."""

    front_address: str
    service: str
    rps: float
    path: str = "/"
    seconds: float | None = None
    """None = until SIGTERM or SIGINT."""
    seed: int = 1


def run(load: Load) -> Summary:
    """Send until the time is over or the process is asked to end; raises ServerGoneError."""
    return asyncio.run(_Sending(load).run())


class _Sending:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._summary = Summary()
        self._outstanding: set[asyncio.Task[None]] = set()
        self._failures_in_a_row = 0
        self._ended = asyncio.Event()

    async def run(self) -> Summary:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            await self._send_all(session)
            if self._outstanding:
                await asyncio.wait(self._outstanding, timeout=REQUEST_SECONDS)
        if self._failures_in_a_row >= GIVE_UP_AFTER:
            raise ServerGoneError(f"Nobody answers at {self._load.front_address} any more.")
        return self._summary

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        rng = random.Random(self._load.seed)
        begun = time.monotonic()
        due = 0.0
        while self._failures_in_a_row < GIVE_UP_AFTER:
            due += rng.expovariate(self._load.rps)
            if self._load.seconds is not None and due > self._load.seconds:
                return
            if await self._ends_within(begun + due - time.monotonic()):
                return
            if len(self._outstanding) >= MOST_OUTSTANDING:
                self._summary.dropped += 1
                continue
            task = asyncio.create_task(self._send(session))
            self._outstanding.add(task)
            task.add_done_callback(self._outstanding.discard)

    async def _ends_within(self, seconds: float) -> bool:
        """Wait, and return whether we were asked to end meanwhile."""
        if seconds > 0:
            await asyncio.sleep(min(seconds, 1.0))
            if seconds > 1.0 and not self._ended.is_set():
                return await self._ends_within(seconds - 1.0)
        return self._ended.is_set()

    async def _send(self, session: aiohttp.ClientSession) -> None:
        url = f"http://{self._load.front_address}{self._load.path}"
        begun = time.monotonic()
        self._summary.sent += 1
        try:
            async with session.get(url, headers={"Host": f"{self._load.service}.localhost"}) as answer:
                await answer.read()
        except aiohttp.ClientConnectorError:
            self._failures_in_a_row += 1
            self._summary.answers["none"] += 1
        except (aiohttp.ClientError, TimeoutError):
            self._summary.answers["none"] += 1
        else:
            self._failures_in_a_row = 0
            self._summary.answers[f"{answer.status // 100}xx"] += 1
            self._summary.milliseconds.append((time.monotonic() - begun) * 1000)
