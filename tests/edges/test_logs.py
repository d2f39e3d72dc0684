"""The logs: JSON for Cloud Logging where nobody watches, pretty on a terminal, never on standard output."""

import json
import os
import pty
import subprocess
from datetime import datetime

import pytest

from controller.emulator.deploy import DeployError

from .conftest import CANARY, SECONDS, Cloud, reports_in

pytestmark = pytest.mark.processes


def a_service_that_fails(cloud: Cloud) -> str:
    """Deploy a candidate that never starts: its rollout is over at once, with a log of every decision."""
    name = cloud.a_service()
    with pytest.raises(DeployError):
        cloud.deploy(name, "v2", {"CRASH": "1"}, no_traffic=True)
    return name


def test_away_from_a_terminal_each_line_is_an_entry_of_cloud_logging(cloud: Cloud) -> None:
    name = a_service_that_fails(cloud)
    done = cloud("rollout", name, *cloud.at, CANARY_LOG_LEVEL="info")
    assert done.returncode == 6
    entries = reports_in(done.stderr)
    assert {entry["message"] for entry in entries} >= {"opened", "decided"}
    for entry in entries:
        assert entry["severity"] in {"DEBUG", "INFO", "NOTICE", "WARNING", "ERROR"}
        assert datetime.fromisoformat(entry["time"]).tzinfo is not None
        assert entry["logging.googleapis.com/labels"]["service"] == name
        assert {"level", "event", "timestamp"}.isdisjoint(entry)
    decided = [entry for entry in entries if entry["message"] == "decided"]
    assert decided[-1]["logging.googleapis.com/labels"]["phase"] == "failed"
    assert decided[-1]["reason"]
    assert done.stdout.splitlines()[-1].startswith(f"Failed: {name}-v1 still serves all users of {name}.")
    assert "severity" not in done.stdout


def test_on_a_terminal_the_logs_are_for_people(cloud: Cloud) -> None:
    name = a_service_that_fails(cloud)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*CANARY, "rollout", name, *cloud.at, "--json"],
        env=cloud.environment | {"CANARY_LOG_LEVEL": "info", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    )
    os.close(slave)
    try:
        stdout, _ = process.communicate(timeout=SECONDS)
        shown = everything_from(master)
    finally:
        os.close(master)
        process.kill()
        process.wait(SECONDS)
    assert process.returncode == 6
    lines = shown.splitlines()
    assert any("opened" in line for line in lines)
    assert any("decided" in line for line in lines)
    assert not any(is_json(line) for line in lines)
    assert all("message" not in report for report in reports_in(stdout))


def everything_from(master: int) -> str:
    """Read what was written to the pseudo terminal until its other end is closed."""
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # how Linux says that it is closed
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode()


def is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
