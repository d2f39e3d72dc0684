"""The product as a person or a pipeline sees it: real commands, and a local Cloud Run that is up."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport
from google.protobuf import field_mask_pb2

from controller.core.record import ANNOTATION
from controller.emulator.deploy import LATEST, REVISION, Deployment, deploy
from controller.emulator.state import LocalState

ROOT = Path(__file__).parents[2]
CANARY = (sys.executable, "-m", "controller")
SAMPLE = (sys.executable, "-m", "controller.emulator.sample")
PLACE = ("--project", "demo", "--region", "local-1")
SECONDS = 60.0
"""How long anything may take on a busy machine; what takes longer does not end by itself."""

Report = dict[str, Any]

ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
from controller.__main__ import main

ends = []
for line in json.loads(sys.argv[1]):
    sys.argv = ["canary", *line]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main()
    ends.append((int(code), out.getvalue(), err.getvalue()))
print(json.dumps({"ends": ends, "loaded": sorted({name.partition(".")[0] for name in sys.modules})}))
"""

QUICK = """\
version: 1
steps: [20%, 50%]
hold: {at_least: 1m, at_most: 1d, requests: 10}
bake: {at_least: 1m, at_most: 1d, requests: 10}
settle: 0s
guards:
  errors: {ceiling: 10%}
  latency: {observe: true}
"""
"""Passes as soon as there is evidence, whatever the latencies of a busy machine."""

SHORT = QUICK.replace("[20%, 50%]", "[20%]")

SURE = QUICK.replace("requests: 10}", "requests: 60}")
"""Asks for as much evidence as it takes to tell 30 % of errors from none for certain."""

PATIENT = QUICK.replace("at_least: 1m", "at_least: 12h")
"""Goes on only when somebody says so."""


def until(is_true: Callable[[], bool], seconds: float = SECONDS) -> bool:
    """Wait for a condition; return whether it came true in time."""
    deadline, never = time.monotonic() + seconds, threading.Event()
    while not is_true():
        if time.monotonic() > deadline:
            return False
        never.wait(0.02)
    return True


def as_read(text: str) -> str:
    """Return what a person reads: without the frame around it, and wherever the lines are broken."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def reports_in(text: str) -> list[Report]:
    """Return the JSON objects in the lines of an output; it may hold nothing else."""
    reports = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(report, dict) for report in reports)
    return reports


def splits_in(reports: list[Report], revision: str) -> list[int]:
    """Return the percents that a revision served, as they followed one another."""
    served = [report["serving"].get(revision, 0) for report in reports if "serving" in report]
    return [percent for n, percent in enumerate(served) if n == 0 or percent != served[n - 1]]


class Running:
    """A command that runs, its standard output read as JSON lines."""

    def __init__(self, process: subprocess.Popen[str], errors: Any) -> None:
        self.process = process
        self.reports: list[Report] = []
        self._errors = errors
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until(self, is_it: Callable[[Report], bool], seconds: float = SECONDS) -> Report:
        """Read on until a report is the wanted one, and return it."""
        deadline = time.monotonic() + seconds
        while (report := self._next(deadline)) is not None:
            if is_it(report):
                return report
        raise AssertionError(f"ended with {self.process.wait(SECONDS)} after {self.reports}: {self.stderr}")

    def end(self, seconds: float = SECONDS) -> int:
        """Read all that comes and return the exit code."""
        deadline = time.monotonic() + seconds
        while self._next(deadline) is not None:
            pass
        return self.process.wait(max(0.0, deadline - time.monotonic()))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    @property
    def stderr(self) -> str:
        self._errors.seek(0)
        return str(self._errors.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        if self.process.stdout:
            self.process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next(self, deadline: float) -> Report | None:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"nothing more came after {self.reports}: {self.stderr}") from None
        if line is None:
            return None
        (report,) = reports_in(line)
        self.reports.append(report)
        return report


class End(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Types commands in an environment of its own: no settings, sign-in or local Cloud Run of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "CANARY_LOCAL_DIR": str(folder / "local"),
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*CANARY, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=self.folder,
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def one_after_the_other(self, *lines: Sequence[str]) -> tuple[list[End], set[str]]:
        """Run commands in one process, which loads Google's clients once; return also what was loaded."""
        done = subprocess.run(
            [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(lines)],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=self.folder,
        )
        assert (done.returncode, done.stderr) == (0, "")
        found = json.loads(done.stdout)
        return [End(*end) for end in found["ends"]], set(found["loaded"])

    def start(self, *arguments: str, **environment: str) -> Running:
        """Start a command that prints JSON; use it as a context, which ends it."""
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed by Running
        process = subprocess.Popen(
            [*CANARY, *arguments],
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            cwd=self.folder,
        )
        return Running(process, errors)

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


class Cloud(Shell):
    """A local Cloud Run that is up, with its services' owner, users and commands."""

    def __init__(self, folder: Path, state: LocalState, services: run_v2.ServicesClient) -> None:
        super().__init__(folder)
        self.state = state
        self.at = ("--emulator", state.grpc_address, *PLACE)
        self.quick = self.file("quick.yaml", QUICK)
        self.short = self.file("short.yaml", SHORT)
        self.sure = self.file("sure.yaml", SURE)
        self.patient = self.file("patient.yaml", PATIENT)
        self._services = services
        self._parent = f"projects/{state.project}/locations/{state.region}"
        self._names = (f"svc{number}" for number in count(1))

    # --- the owner ---

    def a_service(self, **knobs: str) -> str:
        """Deploy stable, NAME-v1, of a new service and return the service's name."""
        name = next(self._names)
        self.deploy(name, "v1", knobs)
        return name

    def two_revisions(self, **knobs: str) -> str:
        """Deploy stable, and NAME-v2 with these knobs, which serves nobody yet."""
        name = self.a_service()
        self.deploy(name, "v2", knobs, no_traffic=True)
        return name

    def deploy(self, name: str, revision: str, knobs: Mapping[str, str] | None = None, **fields: Any) -> None:
        env = {"LATENCY_MS": "2"} | dict(knobs or {})
        wanted = Deployment(name, SAMPLE, env, revision=f"{name}-{revision}", **fields)
        deploy(self.state.grpc_address, self.state.project, self.state.region, wanted, SECONDS)

    def service(self, name: str) -> run_v2.Service:
        return self._services.get_service(name=f"{self._parent}/services/{name}", timeout=SECONDS)

    def set_traffic(self, name: str, **percents: int) -> None:
        """Edit the traffic by hand: v1=50 is 50 % for NAME-v1."""
        targets = [
            run_v2.TrafficTarget(type_=REVISION, revision=f"{name}-{revision}", percent=percent)
            for revision, percent in percents.items()
        ]
        self._update(run_v2.Service(traffic=targets), name, "traffic")

    def record(self, name: str) -> str:
        return self.service(name).annotations.get(ANNOTATION, "")

    def set_record(self, name: str, record: str) -> None:
        annotations = {**self.service(name).annotations, ANNOTATION: record}
        self._update(run_v2.Service(annotations=annotations), name, "annotations")

    def _update(self, service: run_v2.Service, name: str, path: str) -> None:
        service.name = f"{self._parent}/services/{name}"
        mask = field_mask_pb2.FieldMask(paths=[path])
        self._services.update_service(service=service, update_mask=mask, timeout=SECONDS)
        assert until(lambda: not self.service(name).reconciling)

    # --- the world ---

    def serving(self, name: str) -> dict[str, int]:
        """Return who serves how many percent, as Cloud Run says: {"v1": 80, "v2": 20}."""
        service, shares = self.service(name), dict[str, int]()
        for status in service.traffic_statuses:
            revision = service.latest_ready_revision if status.type_ == LATEST else status.revision
            short = revision.rpartition("/")[2].removeprefix(f"{name}-")
            shares[short] = shares.get(short, 0) + status.percent
        return {revision: percent for revision, percent in shares.items() if percent}

    def tags(self, name: str) -> set[str]:
        service = self.service(name)
        asked, served = ({each.tag for each in part} for part in (service.traffic, service.traffic_statuses))
        return (asked | served) - {""}

    @contextmanager
    def users(self, name: str, rps: int = 120, path: str = "/") -> Iterator[None]:
        """Send steady traffic from a process of its own."""
        load = ("local", "load", name, f"--rps={rps}", f"--path={path}")
        process = subprocess.Popen(
            [*CANARY, *load], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            process.kill()
            process.wait(SECONDS)

    # --- the controller ---

    def rollout(self, name: str, policy: str = "", **environment: str) -> Running:
        """Start `canary rollout` in the background, with its reports as JSON."""
        file = policy or self.quick
        return self.start("rollout", name, *self.at, "--policy", file, "--json", **environment)

    def canary(self, command: str, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a command about a service to its end."""
        return self(command, name, *self.at, *more)

    def commands(self, name: str, *lines: str) -> list[End]:
        """Run several commands about a service, one after the other; each line is a command with options."""
        split = [line.split() for line in lines]
        ends, _ = self.one_after_the_other(*([first, name, *self.at, *rest] for first, *rest in split))
        return ends

    def status(self, name: str) -> Report:
        done = self.canary("status", name, "--json")
        assert done.returncode == 0, done.stderr
        (report,) = reports_in(done.stdout)
        return report


def in_force(percent: int) -> Callable[[Report], bool]:
    """Return what tells the first report of a step that is served from all others."""

    def is_it(report: Report) -> bool:
        return bool(report.get("in_force")) and report.get("candidate_percent") == percent

    return is_it


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Commands where no local Cloud Run is up."""
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A local Cloud Run for all tests that have no latency to measure: a minute takes 0.25 s."""
    with a_cloud(tmp_path_factory.mktemp("cloud"), speed=240) as cloud:
        yield cloud


@contextmanager
def a_cloud(folder: Path, speed: int) -> Iterator[Cloud]:
    """Start a local Cloud Run as a person does, and take it down."""
    shell = Shell(folder)
    up = shell("local", "up", "--speed", str(speed))
    assert up.returncode == 0, up.stderr
    try:
        state = LocalState(**json.loads((folder / "local" / "local.json").read_text()))
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(state.grpc_address, options=options) as channel:
            services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
            yield Cloud(folder, state, services)
    finally:
        down = shell("local", "down")
    assert down.returncode == 0, down.stderr
