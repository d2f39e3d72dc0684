"""The production image holds no emulator: every command works without it, but `local` and `demo`."""

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from .conftest import CANARY, PLACE, ROOT, SECONDS, Cloud

pytestmark = pytest.mark.processes

Canary = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Canary:
    """Return what runs a command of a copy of the package without the emulator."""
    folder = tmp_path_factory.mktemp("image")
    left_out = shutil.ignore_patterns("emulator", "__pycache__")
    shutil.copytree(ROOT / "controller", folder / "controller", ignore=left_out)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CANARY, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder)} | environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    return run


def test_every_command_but_those_of_the_local_cloud_run_loads_without_it(canary: Canary) -> None:
    done = canary("--help")
    assert (done.returncode, done.stderr) == (0, "")
    checked = canary("policy", "check", str(ROOT / "policies" / "standard.yaml"))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_local_cloud_run_elsewhere_is_used_as_somebody(cloud: Cloud, canary: Canary) -> None:
    name = cloud.two_revisions()
    where = ("--emulator", cloud.state.grpc_address, *PLACE)
    done = canary("pause", name, *where, CANARY_EMULATOR_PRINCIPAL="ada@example.com")
    assert (done.returncode, done.stderr) == (0, "")
    assert cloud.service(name).last_modifier == "ada@example.com"
    status = canary("status", name, *where)
    assert (status.returncode, status.stderr) == (0, "")
    assert name in status.stdout


def test_what_needs_the_emulator_names_the_extra(canary: Canary) -> None:
    for arguments in (("local", "up"), ("demo",), ("status", "web", "--local")):
        done = canary(*arguments)
        assert done.returncode == 1, arguments
        assert "pip install 'cloud-run-canary[emulator]'" in done.stderr
        assert "Traceback" not in done.stderr
