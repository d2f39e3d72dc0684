"""What all tests share: property tests that are the same on every machine, however slow it is."""

import pytest
from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what names a real project; the contract tests that are marked `live` run against it then."""
    live = parser.getgroup("live", "contract tests against a real project: pytest -m live --project P")
    live.addoption("--project", default="", help="id of the Google Cloud project")
    live.addoption("--region", default="us-central1", help="region of the services that are created")
    live.addoption(
        "--live-image",
        default="us-docker.pkg.dev/cloudrun/container/hello",
        help="image of every container; must listen on $PORT",
    )
