"""`canary local`, as a person types it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .shell import Shell

pytestmark = pytest.mark.processes


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path, "local")
    yield shell
    shell("down")


def test_up_deploy_load_status_down(local: Shell) -> None:
    up = local("up", "--speed", "60")
    sample = f"{sys.executable} -m controller.emulator.sample"
    deployed = local("deploy", "web", "--command", sample, "--env", "LATENCY_MS=1", "--tag", "blue")
    load = local("load", "web", "--rps", "50", "--for", "1s")
    status = local("status")
    down = local("down")

    assert (up.returncode, up.stderr) == (0, "")
    assert "CLOUD_RUN_EMULATOR_HOST=127.0.0.1:" in up.stdout
    assert (deployed.returncode, deployed.stderr) == (0, "")
    assert "is ready" in deployed.stdout
    assert (load.returncode, load.stderr) == (0, "")
    assert "2xx" in load.stdout
    assert "100 %  web-00001-" in status.stdout
    assert (down.returncode, down.stderr) == (0, "")
    assert local("status").returncode == 1


def test_a_second_one_is_refused(local: Shell) -> None:
    local("up")
    again = local("up")
    assert again.returncode == 1
    assert "already up" in again.stderr
    assert "canary local down" in again.stderr


def test_a_failed_deployment_says_why(local: Shell) -> None:
    local("up")
    failed = local("deploy", "web", "--command", f"{sys.executable} -c 'raise SystemExit(5)'")
    assert failed.returncode == 1
    assert "exited with code 5" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("up", "--speed", "0"), "--speed"),
        (("up", "--etag", "maybe"), "--etag"),
        (("up", "--speed", "nan"), "--speed"),
        (("up", "--port", "70000"), "--port"),
        (("up", "--front-port", "-3"), "--front-port"),
        (("up", "--project", "Bad Project/x"), "--project"),
        (("up", "--region", ""), "--region"),
        (("deploy", "web", "--command", "a", "--env", "NOVALUE"), "KEY=VALUE"),
        (("deploy", "web", "--command", "'"), "--command"),
        (("load", "web", "--rps", "0"), "--rps"),
        (("load", "web", "--rps", "1", "--for", "soon"), "--for"),
    ],
)
def test_bad_usage_ends_with_2(local: Shell, arguments: tuple[str, ...], message: str) -> None:
    refused = local(*arguments)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_nothing_up_is_said(local: Shell) -> None:
    assert "canary local up" in local("status").stderr
    assert local("down").returncode == 0


def test_a_port_that_is_taken_is_named(local: Shell, tmp_path: Path) -> None:
    other = Shell(tmp_path / "other", "local")
    other("up", "--port", "0")
    taken = next(
        line.rpartition(":")[2] for line in other("status").stdout.splitlines() if line.startswith("grpc:")
    )
    refused = local("up", "--port", taken)
    other("down")
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in refused.stderr
