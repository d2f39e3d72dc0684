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
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from controller.emulator.server import LocalCloudRun
    from controller.emulator.settings import Settings

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

    marker = request.node.get_closest_marker(MARKER)
    try:
        settings = _settings(*marker.args if marker else (), **(marker.kwargs if marker else {}))
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"@pytest.mark.{MARKER}: {error}") from None
    with LocalCloudRun.started(settings) as local:
        yield local


def _settings(*nameless: object, **chosen: Any) -> "Settings":
    from controller.emulator.settings import Settings  # noqa: PLC0415 - the same

    if nameless:
        raise TypeError("every setting has to be named, as in speed=60")
    settings = Settings(**{"speed": SPEED, **chosen})
    if not 0 <= settings.speed < inf:
        raise ValueError(f"speed must be 0 (moved by hand) or more, not {settings.speed}")
    return settings
