"""A real program that nobody here wrote: two releases of datasette, rolled out and promoted."""

import json
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import SECONDS, Cloud, Shell, a_cloud, splits_in

pytestmark = pytest.mark.processes

PAGE = "/plants/plants.json?_shape=array"

POLICY = """\
version: 1
steps: [50%]
hold: {at_least: 1m, at_most: 1d, requests: 20}
bake: {at_least: 1m, at_most: 1d, requests: 20}
settle: 0s
guards:
  errors: {ceiling: 10%}
  latency: {tolerance: 3, observe: true}
"""


def a_database(folder: Path, *plants: str) -> Path:
    folder.mkdir()
    connection = sqlite3.connect(folder / "plants.db")
    with connection:
        connection.execute("create table plants (name text)")
        connection.executemany("insert into plants values (?)", [(plant,) for plant in plants])
    connection.close()
    return folder / "plants.db"


def deployed(shell: Shell, database: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m datasette '{database}' --host 127.0.0.1 --port $PORT"
    return shell("local", "deploy", "garden", "--command", command, *more)


def fetched(cloud: Cloud) -> Any:
    """Ask for the page as a user does: the service's host name, at the address where services answer."""
    request = urllib.request.Request(
        f"http://{cloud.state.front_address}{PAGE}", headers={"Host": "garden.localhost"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as answer:
        return json.load(answer)


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """A local Cloud Run that leaves a real program the time that it takes."""
    with a_cloud(tmp_path, speed=90) as cloud:
        yield cloud


def test_the_second_release_is_promoted_and_its_data_is_what_users_get(cloud: Cloud, tmp_path: Path) -> None:
    first = a_database(tmp_path / "first", "oak")
    second = a_database(tmp_path / "second", "oak", "elm")
    assert "is ready" in deployed(cloud, first, "--revision", "garden-v1").stdout
    assert "is ready" in deployed(cloud, second, "--revision", "garden-v2", "--no-traffic").stdout
    assert fetched(cloud) == [{"rowid": 1, "name": "oak"}]

    with (
        cloud.users("garden", rps=20, path=PAGE),
        cloud.rollout("garden", cloud.file("p", POLICY)) as running,
    ):
        assert running.end() == 0
    assert running.reports[-1]["ended"].startswith("Promoted: garden-v2 serves all users of garden.")
    assert splits_in(running.reports, "garden-v2") == [0, 50, 100]
    assert cloud.serving("garden") == {"v2": 100}
    assert fetched(cloud) == [{"rowid": 1, "name": "oak"}, {"rowid": 2, "name": "elm"}]
