"""A pytest plugin: the fixture `local_cloud_run`, a local Cloud Run of a test's own.

    @pytest.mark.local_cloud_run(speed=60)              # optional: any of emulator/settings.py
    def test_my_pipeline(local_cloud_run, monkeypatch, tmp_path):
        local_cloud_run.image("gcr.io/demo/shop", ["python", "-m", "shop"])
        for name, value in local_cloud_run.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        subprocess.run(["./deploy.sh"], check=True)     # gcloud, canary, or the official clients

It is part of the extra `[emulator]`. Nothing is imported until a test asks for the fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from controller.emulator.server import LocalCloudRun

MARKER = "local_cloud_run"
SPEED = 60.0
"""Unless the marker says otherwise, a minute passes in a second."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{MARKER}(**settings): how the fixture {MARKER} is started")


@pytest.fixture
def local_cloud_run(request: pytest.FixtureRequest) -> Iterator["LocalCloudRun"]:
    """Give a local Cloud Run whose services are real processes; it ends with the test, and they with it."""
    from controller.emulator.server import LocalCloudRun  # noqa: PLC0415 - only who uses it pays for it
    from controller.emulator.settings import Settings  # noqa: PLC0415

    marker = request.node.get_closest_marker(MARKER)
    chosen = {"speed": SPEED, **(marker.kwargs if marker else {})}
    try:
        settings = Settings(**chosen)
    except TypeError as error:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: {error}") from None
    with LocalCloudRun.started(settings) as local:
        yield local
