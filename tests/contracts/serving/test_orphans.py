"""Nothing that an instance has started outlives the local Cloud Run, however that one ends."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from contracts.conftest import SECONDS
from controller.emulator.deploy import Deployment, deploy
from controller.emulator.serving.orphans import MARKER

from .pools import LISTENS, a_revision, alone, program, until

pytestmark = pytest.mark.processes

CHOSEN = {"speed": 60, "etag": "ignore"}
FAMILY = f"""
import subprocess
deaf = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)'
sleep = [sys.executable, '-S', '-c', deaf]
family = [
    subprocess.Popen(sleep),
    subprocess.Popen(sleep, start_new_session=True),
    subprocess.Popen(['env', '-i', *sleep]),
]
{LISTENS}time.sleep(1000)
"""
"""An instance with children in its group, in a session of their own, and without its environment."""


DAEMON = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    print(os.getpid(), flush=True)
    time.sleep(1000)
os.wait()
{LISTENS}time.sleep(1000)
"""


@contextmanager
def an_emulator(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """Start a local Cloud Run as a process of its own; give it and where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "controller.emulator", json.dumps(CHOSEN)],
        env={**os.environ, "CANARY_LOCAL_DIR": str(folder)},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        state = folder / "local.json"
        wait_until(lambda: state.exists() or process.poll() is not None)
        yield process, json.loads(state.read_text())
    finally:
        process.kill()
        process.wait(SECONDS)


def wait_until(condition: Callable[[], object]) -> None:
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.02)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def started_by(emulator: int) -> list[psutil.Process]:
    """Return the instance, its family and the watchdog."""
    found = psutil.Process(emulator).children(recursive=True)
    assert len(found) == 5
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_emulator_is_killed_or_asked_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """No orphan process is left behind, also after SIGKILL of the emulator itself."""
    with an_emulator(tmp_path) as (emulator, state):
        deploy(state["grpc_address"], "demo", "local-1", Deployment("web", [*program(FAMILY)]), SECONDS)
        processes = started_by(emulator.pid)
        (marker,) = {one.environ()[MARKER] for one in processes if MARKER in one.environ()}
        assert marker
        emulator.send_signal(number)
        emulator.wait(SECONDS)
        wait_until(lambda: not alive(processes))


def test_a_daemon_of_an_instance_ends_with_the_emulator() -> None:
    """It has left the instance's session, and its parent is gone."""

    async def check() -> None:
        async with alone(a_revision(*program(DAEMON))) as one:
            await one.first()
            await until(one.printed)
            process = psutil.Process(int(one.printed()[0]))
            await one.pool.close()
            assert alive([process])
            await one.host.watchdog.close()
            assert not alive([process])

    asyncio.run(check())


def test_a_watchdog_that_was_killed_is_replaced_with_the_next_instance() -> None:
    async def check() -> None:
        async with alone(a_revision()) as one:
            first = psutil.Process((await one.first()).pid)
            (watchdog,) = [child for child in psutil.Process().children() if MARKER not in child.environ()]
            watchdog.kill()
            watchdog.wait(SECONDS)
            await one.first()
            await one.host.watchdog.close()  # as if the emulator were gone: the instances are still there
            assert not alive([first])

    asyncio.run(check())


def test_a_watchdog_takes_no_signal_for_an_answer() -> None:
    """It ends when the emulator has ended, not when a terminal ends everything that it shows."""
    process = subprocess.Popen(
        [sys.executable, "-m", "controller.emulator.serving.orphans", "nobody"], stdin=subprocess.PIPE
    )
    try:
        wait_until(lambda: "SigIgn" in Path(f"/proc/{process.pid}/status").read_text())
        wait_until(lambda: ignores(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait(SECONDS)


def ignores(pid: int, number: signal.Signals) -> bool:
    (mask,) = [
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigIgn" in line
    ]
    return bool(int(mask, 16) >> (number - 1) & 1)
