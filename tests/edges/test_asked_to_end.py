"""Commands that are asked to end while they wait for something that does not come."""

import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from controller.principal import VARIABLE

from .conftest import CANARY, PLACE, SECONDS, Running, Shell, in_force, until
from .simulated import SimulatedCloud, a_simulated_cloud

pytestmark = pytest.mark.processes

SOON = 5.0
"""Real seconds in which a command that was asked to end has ended."""
CONTROLLER = "canary@demo.iam.gserviceaccount.com"
TERM, INT = signal.SIGTERM, signal.SIGINT
CODES = {TERM: 143, INT: 130}
WORDS = {TERM: "terminated", INT: "interrupted"}
GOES_ON = "a rollout stays as it is, and the same command goes on with it"


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedCloud]:
    with a_simulated_cloud(tmp_path_factory.mktemp("simulated"), speed=60) as cloud:
        yield cloud


@pytest.fixture
def cloud(clouds: SimulatedCloud) -> Iterator[SimulatedCloud]:
    yield clouds
    clouds.local.clear_faults()


def suffering(cloud: SimulatedCloud, name: str) -> Running:
    """Follow a rollout as the one whom faults strike."""
    return cloud.rollout(name, cloud.patient, **{VARIABLE: CONTROLLER})


def strike(cloud: SimulatedCloud, **fault: Any) -> None:
    cloud.local.fault_of({"principal": CONTROLLER, **fault})


def struck(cloud: SimulatedCloud, times: int = 1) -> bool:
    return until(lambda: cloud.local.faults()[-1]["struck"] >= times)


def assert_ended_well(running: Running, *numbers: signal.Signals) -> None:
    """Assert that it ended soon, as one of these signals asks, and said how to go on."""
    code = running.end(SOON)
    ends = {CODES[number]: f"canary: {WORDS[number]}; {GOES_ON}\n" for number in numbers}
    assert (code, running.stderr.splitlines(keepends=True)[-1]) in ends.items()
    assert "Traceback" not in running.stderr


WAITS: dict[str, dict[str, Any] | None] = {
    "sleeps": None,
    "reads a service and hears nothing": {
        "kind": "delay", "method": "GetService", "by": "10m", "real": True,
    },
    "reads metrics and hears nothing": {
        "kind": "delay", "method": "ListTimeSeries", "by": "10m", "real": True,
    },
    "gets no call through": {"kind": "partition", "hang": True},
    "tries again and again": {"kind": "partition", "method": "GetService"},
}  # fmt: skip


@pytest.mark.parametrize(("what", "number"), [*((what, TERM) for what in WAITS), ("sleeps", INT)])
def test_a_rollout_stays_as_it_is_when_its_controller_is_asked_to_end_while_it(
    cloud: SimulatedCloud, what: str, number: signal.Signals
) -> None:
    name, fault = cloud.candidate(), WAITS[what]
    with suffering(cloud, name) as running:
        running.until(in_force(20))
        record = cloud.record(name)
        if fault:
            strike(cloud, **fault)
            assert struck(cloud, times=3 if fault == WAITS["tries again and again"] else 1)
        running.send(number)
        assert_ended_well(running, number)
    assert cloud.record(name) == record
    assert cloud.serving(name) == {"v1": 80, "v2": 20}


@pytest.mark.parametrize(
    ("fault", "is_written"),
    [({"kind": "delay", "by": "10m", "real": True}, False), ({"kind": "lost-answer", "hang": True}, True)],
)
def test_a_write_that_hangs_is_done_or_not_when_its_controller_is_asked_to_end(
    cloud: SimulatedCloud, fault: dict[str, Any], is_written: bool
) -> None:
    name = cloud.candidate()
    strike(cloud, method="UpdateService", every=2, **fault)  # the first one is only tried
    with suffering(cloud, name) as running:
        assert struck(cloud)
        running.send(TERM)
        assert_ended_well(running, TERM)
    assert bool(cloud.record(name)) == is_written
    assert cloud.serving(name) == {"v1": 100}
    cloud.local.clear_faults()
    with cloud.rollout(name, cloud.patient) as again:
        again.until(in_force(20))


@pytest.mark.parametrize("numbers", [(TERM, TERM), (TERM, INT), (INT, INT, INT)])
def test_who_asks_several_times_gets_one_answer(
    cloud: SimulatedCloud, numbers: tuple[signal.Signals, ...]
) -> None:
    strike(cloud, kind="delay", method="GetService", by="10m", real=True)
    with suffering(cloud, cloud.candidate()) as running:
        assert struck(cloud)
        for number in numbers:
            running.send(number)
            until(lambda: running.process.poll() is not None, seconds=0.05)
        # Those that come close together count as asked at once.
        assert_ended_well(running, *set(numbers))


@contextmanager
def a_mute() -> Iterator[tuple[str, threading.Event]]:
    """Give the address of a server that accepts and never says a word, and whether it was called."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as connections:
        called, over = threading.Event(), threading.Event()

        def accept() -> None:
            while not over.is_set():
                connections.enter_context(server.accept()[0])
                called.set()

        accepting = threading.Thread(target=accept)
        accepting.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}", called
        finally:
            over.set()
            with socket.create_connection((host, port)):
                accepting.join()


@pytest.mark.parametrize("number", CODES)
def test_a_command_ends_when_asked_although_the_other_side_accepts_and_never_answers(
    shell: Shell, number: signal.Signals
) -> None:
    with (
        a_mute() as (address, called),
        shell.start("rollout", "web", "--emulator", address, *PLACE) as running,
    ):
        assert called.wait(SECONDS)
        running.send(number)
        assert_ended_well(running, number)


@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.3, 0.45])
def test_a_command_that_is_still_loading_ends_when_asked(cloud: SimulatedCloud, seconds: float) -> None:
    name = cloud.candidate()
    with cloud.rollout(name, cloud.patient) as running:
        assert until(lambda: hears(running.process.pid))
        until(lambda: running.process.poll() is not None, seconds)
        running.send(TERM)
        assert_ended_well(running, TERM)
    assert cloud.serving(name) == {"v1": 100}


def hears(pid: int) -> bool:
    """Return whether a process has said what it does when it is asked to end."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return all(int(caught, 16) >> (number - 1) & 1 for number in CODES)


# --- where it speaks ---


class Terminal:
    """A terminal of 120 columns, read all the time."""

    def __init__(self, command: subprocess.Popen[bytes], own_side: int) -> None:
        self.command = command
        self.shown = b""
        self._own_side = own_side
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            while some := os.read(self._own_side, 65536):
                self.shown += some
        except OSError:  # the command's side is closed
            pass

    def close(self) -> None:
        self.command.kill()
        self.command.wait()
        self._reader.join()
        os.close(self._own_side)


@contextmanager
def on_a_terminal(cloud: SimulatedCloud, name: str) -> Iterator[Terminal]:
    """Follow a rollout at a terminal."""
    own_side, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    command = subprocess.Popen(
        [*CANARY, "rollout", name, *cloud.at, "--policy", cloud.patient],
        env=cloud.environment | {"TERM": "xterm-256color"},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    terminal = Terminal(command, own_side)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("number", CODES)
def test_the_live_view_gives_the_terminal_back_when_asked_to_end(
    cloud: SimulatedCloud, number: signal.Signals
) -> None:
    with on_a_terminal(cloud, cloud.candidate()) as terminal:
        assert until(lambda: b"[20 %]" in terminal.shown)
        terminal.command.send_signal(number)
        assert terminal.command.wait(SOON) == CODES[number]
        assert until(lambda: GOES_ON.encode() in terminal.shown)
        _, _, after_the_panel = terminal.shown.rpartition(b"\x1b[?25h")  # shows the cursor again
    assert after_the_panel.decode().strip().endswith(GOES_ON)
    assert b"Traceback" not in terminal.shown


@contextmanager
def a_full_pipe() -> Iterator[int]:
    """Give the writing end of a pipe that holds all it can, and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(writing, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_ends_when_asked_although_nobody_reads_what_it_says(
    cloud: SimulatedCloud, stream: str
) -> None:
    name = cloud.candidate()
    with a_full_pipe() as pipe:
        streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: pipe}
        command = subprocess.Popen(
            [*CANARY, "rollout", name, *cloud.at, "--policy", cloud.patient, "--json"],
            env=cloud.environment,
            stdin=subprocess.DEVNULL,
            **streams,
        )
        try:
            assert until(lambda: bool(cloud.record(name)))
            begun = time.monotonic()
            command.send_signal(TERM)
            assert command.wait(SOON) == 143
            assert time.monotonic() - begun < SOON
        finally:
            command.kill()
            command.wait()


IN_A_DESTRUCTOR = """
import os, signal, sys, time, types
import controller.cli
from controller.__main__ import main

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        list(range(1000))  # the signal is heard here

def run():
    Dying()
    time.sleep(60)

sys.modules["controller.cli.main"] = types.SimpleNamespace(run=run)
sys.exit(main())
"""


def test_a_signal_in_a_destructor_which_lets_nothing_out_is_heard_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=SOON, check=False
    )
    assert (done.returncode, done.stderr) == (143, f"canary: terminated; {GOES_ON}\n")
