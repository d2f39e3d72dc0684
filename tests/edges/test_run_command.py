"""`canary run` as a real process: it drives what is on record, survives, answers /healthz, and ends."""

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from controller.principal import VARIABLE

from .conftest import Running, until
from .simulated import SimulatedCloud, a_simulated_cloud

pytestmark = pytest.mark.processes

SOON = 5.0
"""Real seconds in which a command that was asked to end has ended."""
CONTROLLER = "canary@demo.iam.gserviceaccount.com"
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedCloud]:
    with a_simulated_cloud(tmp_path_factory.mktemp("simulated"), speed=120) as cloud:
        yield cloud


@pytest.fixture
def cloud(clouds: SimulatedCloud) -> Iterator[SimulatedCloud]:
    yield clouds
    clouds.local.clear_faults()


@contextmanager
def running(cloud: SimulatedCloud, *options: str) -> Iterator[Running]:
    words = ("run", *cloud.at, "--json", "--every", "15s", *options)
    with cloud.start(*words, **{VARIABLE: CONTROLLER}) as process:
        yield process


def left_alone(cloud: SimulatedCloud, policy: str) -> str:
    """Begin a rollout whose controller is killed as soon as it is under way."""
    name = cloud.candidate()
    with cloud.rollout(name, policy) as dying:
        dying.until(lambda report: report.get("phase") == "stepping")
    return name


def asked(port: int, path: str = "/healthz") -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SOON) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def port_of(process: Running) -> int:
    note = process.until(lambda report: "healthz" in report.get("note", ""))["note"]
    found = re.search(r"port (\d+)", note)
    assert found
    return int(found[1])


def is_about(name: str, phase: str) -> Any:
    return lambda report: (report.get("service"), report.get("phase")) == (name, phase)


def test_it_takes_a_rollout_that_was_left_alone_to_its_end_and_says_each_change_once(
    cloud: SimulatedCloud,
) -> None:
    name = left_alone(cloud, cloud.quick)
    with running(cloud) as process:
        process.until(is_about(name, "promoted"))
        assert until(lambda: cloud.serving(name) == {"v2": 100})
        process.send(signal.SIGTERM)
        assert process.end(SOON) == 143
        assert "Traceback" not in process.stderr
    told = [report for report in process.reports if report.get("service") == name]
    states = [(each["phase"], each["candidate_percent"], each["in_force"], each["reason"]) for each in told]
    assert len(states) == len(set(states))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hangs", [False, True])
def test_it_ends_soon_when_it_is_asked_to_and_leaves_all_as_it_is(
    cloud: SimulatedCloud, number: signal.Signals, hangs: bool
) -> None:
    name = left_alone(cloud, cloud.patient)
    with running(cloud, "--health-port", "0") as process:
        port_of(process)
        process.until(lambda report: report.get("service") == name and bool(report.get("in_force")))
        record = cloud.record(name)
        if hangs:
            fault = {"kind": "delay", "method": "ListServices", "by": "10m", "real": True}
            cloud.local.fault_of({"principal": CONTROLLER, **fault})
            assert until(lambda: cloud.local.faults()[-1]["struck"] >= 1)
        process.send(number)
        assert process.end(SOON) == CODES[number]
        assert "Traceback" not in process.stderr
    assert cloud.record(name) == record


def test_healthz_is_well_while_it_passes_and_not_when_it_cannot(cloud: SimulatedCloud) -> None:
    with running(cloud, "--every", "3m", "--health-port", "0") as process:
        port = port_of(process)
        assert until(lambda: asked(port)[1].get("last_pass") is not None)
        assert until(lambda: asked(port)[0] == 200)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", asked(port)[1]["last_pass"])
        assert asked(port, "/")[0] == 404
        cloud.local.fault_of({"principal": CONTROLLER, "kind": "partition", "method": "ListServices"})
        assert until(lambda: asked(port)[0] == 503)
        cloud.local.clear_faults()
        assert until(lambda: asked(port)[0] == 200), "it goes on when the outage is over"
        assert process.process.poll() is None


def test_a_port_that_is_taken_is_said_at_once(cloud: SimulatedCloud) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        done = cloud("run", *cloud.at, "--health-port", str(port))
    assert done.returncode == 2
    assert f"port {port} cannot be had" in " ".join(done.stderr.split())


def test_a_period_too_short_is_refused(cloud: SimulatedCloud) -> None:
    done = cloud("run", *cloud.at, "--every", "0s")
    assert done.returncode == 2
    assert "1s or more" in done.stderr


def test_it_begins_nothing(cloud: SimulatedCloud) -> None:
    name = cloud.candidate()
    other = left_alone(cloud, cloud.patient)
    with running(cloud) as process:
        process.until(lambda report: report.get("service") == other)
        process.send(signal.SIGTERM)
        process.end(SOON)
    assert cloud.record(name) == ""
