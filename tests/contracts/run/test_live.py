"""How contract tests run against a real project, tried on a local Cloud Run whose clock runs by itself."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcTransport

from contracts.cloud import SECONDS
from contracts.live import PREFIX, Place, RealCloud, a_real_cloud, reach
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings


@pytest.fixture
def place() -> Iterator[Place]:
    settings = Settings(runtime=RuntimeKind.SIMULATED, speed=60)
    with LocalCloudRun.started(settings) as local:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            services = run_v2.ServicesClient(transport=ServicesGrpcTransport(channel=channel))
            revisions = run_v2.RevisionsClient(transport=RevisionsGrpcTransport(channel=channel))
            yield Place(settings.project, settings.region, "an/image", services, revisions)


def deleted(place: Place, parent: str) -> list[bool]:
    found = place.services.list_services(parent=parent, timeout=SECONDS)
    return ["delete_time" in service for service in found]


def test_settling_waits_for_all_that_was_created(place: Place) -> None:
    with a_real_cloud(place) as real:
        real.create()
        real.create(real.named("other"))
        real.settle()
        assert real.web.startswith(PREFIX)
        assert not real.get().reconciling
        assert not real.get(real.named("other")).reconciling


def test_everything_is_deleted_in_the_end_though_the_test_fails(place: Place) -> None:
    used: list[RealCloud] = []

    def fail() -> None:
        with a_real_cloud(place) as real:
            used.append(real)
            real.create()
            second = run_v2.Service(name=real.full("second"), template=real.template())
            real.write(second, allow_missing=True)
            raise AssertionError("a failing test")

    with pytest.raises(AssertionError, match="a failing test"):
        fail()
    (real,) = used
    assert all(deleted(place, real.parent))
    real.settle()
    assert not deleted(place, real.parent)


def test_names_are_new_in_each_test(place: Place) -> None:
    with a_real_cloud(place) as one, a_real_cloud(place) as other:
        assert one.web != other.web


def test_without_credentials_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "credentials.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(missing))
    reason = reach("nosuch", "us-central1", "an/image")
    assert isinstance(reason, str)
    assert reason.startswith("the project 'nosuch' cannot be reached in us-central1: ")
    assert str(missing) in reason
    with pytest.raises(pytest.skip.Exception, match="cannot be reached"), a_real_cloud(reason):
        raise AssertionError("a test without a project must not run")


def test_a_hundred_contract_tests_can_run_against_a_real_project(pytestconfig: pytest.Config) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "live"]
    folder = str(pytestconfig.rootpath / "tests" / "contracts" / "run")
    found = subprocess.run([*command, folder], capture_output=True, text=True, check=True, timeout=60)
    assert len([line for line in found.stdout.splitlines() if "::test_" in line]) >= 100
