"""Startup probes: how the platform finds out that an instance is ready, and what it says of it."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import aiohttp
from google.cloud import run_v2
from yarl import URL

from controller.emulator.clock import Clock
from controller.emulator.run import defaults
from controller.emulator.run.failures import container_name, port_of
from controller.emulator.settings import STARTUP_SECONDS, Settings

POLL_SECONDS = 0.02
LEAST_ANSWER_SECONDS = 1.0
"""Real seconds that an answer may take, however fast the clock is."""
_GOOD = range(200, 400)
_REFUSED = "Connection failed with status ERROR_CONNECTION_FAILED."
_TIMED_OUT = "Connection failed with status DEADLINE_EXCEEDED."


class ProbeFailedError(Exception):
    """An instance that did not pass; the text is the platform's."""


@dataclass(frozen=True)
class StartupProbe:
    """A probe as the template asks for it. Times are in seconds of the emulated clock."""

    container: str
    container_port: int
    port: int
    path: str | None = None
    """Of an HTTP probe. A gRPC probe is one of TCP here: it asks whether somebody listens."""
    headers: dict[str, str] = field(default_factory=dict)
    initial_delay: int = 0
    timeout: int = defaults.PROBE_TIMEOUT
    period: int = defaults.PROBE_PERIOD
    threshold: int = defaults.PROBE_FAILURES

    @classmethod
    def of(cls, revision: run_v2.Revision) -> Self:
        """Read the startup probe of a revision's first container."""
        probe, port = revision.containers[0].startup_probe, port_of(revision)
        http = "http_get" in probe
        named = probe.http_get.port or probe.tcp_socket.port or probe.grpc.port
        if not http and "tcp_socket" not in probe and "grpc" not in probe:
            probe = defaults.startup_probe(port)
        return cls(
            container_name(revision),
            port,
            named or port,
            path=(probe.http_get.path or "/") if http else None,
            headers={header.name: header.value for header in probe.http_get.http_headers},
            initial_delay=probe.initial_delay_seconds,
            timeout=probe.timeout_seconds or defaults.PROBE_TIMEOUT,
            period=probe.period_seconds or defaults.PROBE_PERIOD,
            threshold=probe.failure_threshold or defaults.PROBE_FAILURES,
        )

    @property
    def is_default(self) -> bool:
        """Whether it is the one that a template without a probe gets."""
        numbers = (self.initial_delay, self.timeout, self.period, self.threshold)
        is_tcp = self.path is None and self.port == self.container_port
        return is_tcp and numbers == (0, STARTUP_SECONDS, STARTUP_SECONDS, 1)

    async def passes(self, port: int, clock: Clock, settings: Settings) -> str:
        """Probe until the instance passes; return what the platform says then; raises ProbeFailedError.

        The instance listens on `port` where the template says the container's. The probe's times are those of
        the emulated clock, but a process gets `startup_least_seconds` real seconds at least.
        """
        port = port if self.port == self.container_port else self.port
        began, really_began = clock.now(), time.monotonic()
        last = began + settings.startup_timeout
        await _until(clock, began + timedelta(seconds=self.initial_delay))
        attempts = 0
        while True:
            attempts += 1
            attempt_began = clock.now()
            failure = await self._failure(port, clock, last)
            tried = min(attempts, self.threshold)
            if failure is None:
                return f"{self._name} succeeded after {_times(tried, 'attempt')} for {self._place}."
            if attempts < self.threshold and clock.now() < last:
                await _until(clock, min(last, attempt_began + timedelta(seconds=self.period)))
            elif time.monotonic() - really_began < settings.startup_least_seconds:
                await asyncio.sleep(POLL_SECONDS)
            else:
                raise ProbeFailedError(
                    f"{self._name} failed {_times(tried, 'time')} consecutively for {self._place}. "
                    f"The instance was not started. {failure}".rstrip()
                )

    async def _failure(self, port: int, clock: Clock, last: datetime) -> str | None:
        """Try once; return why it failed, None if it did not."""
        if self.path is None:
            return await _tcp_failure(port, clock, min(last, clock.now() + timedelta(seconds=self.timeout)))
        seconds = max(self.timeout / (clock.speed or 1.0), LEAST_ANSWER_SECONDS)
        return await _http_failure(f"http://127.0.0.1:{port}{self.path}", self.headers, seconds)

    @property
    def _name(self) -> str:
        kind = "TCP" if self.path is None else "HTTP"
        return f"Default STARTUP {kind} probe" if self.is_default else f"STARTUP {kind} probe"

    @property
    def _place(self) -> str:
        path = "" if self.path is None else f' path "{self.path}"'
        return f'container "{self.container}" on port {self.port}{path}'


async def _until(clock: Clock, when: datetime) -> None:
    """Wait for an instant of the emulated clock, which may be moved by hand."""
    if clock.now() < when:
        reached = asyncio.Event()
        clock.at(when, lambda _: reached.set())
        await reached.wait()


async def _tcp_failure(port: int, clock: Clock, until: datetime) -> str | None:
    """Wait for somebody to listen. That nobody does as yet is no failure before the time is over."""
    while not await _listens(port):
        if clock.now() >= until:
            return _TIMED_OUT
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    # Without a listener the system may connect a socket to itself, when it gives it just this port.
    is_itself = writer.get_extra_info("sockname") == writer.get_extra_info("peername")
    writer.close()
    return not is_itself


async def _http_failure(url: str, headers: Mapping[str, str], seconds: float) -> str | None:
    """Ask once: unlike with TCP, that nobody listens is a failure, and "" is a bad answer."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as answer,
        ):
            return None if answer.status in _GOOD else ""
    except TimeoutError:
        return _TIMED_OUT
    except (aiohttp.ClientError, OSError):
        return _REFUSED


def _times(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
