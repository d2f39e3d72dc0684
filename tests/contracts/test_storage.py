"""A local Cloud Run that is started again with the same directory goes on where it was."""

import http.client
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.cloud.logging_v2.types import ListLogEntriesRequest

from controller.emulator import background, state
from controller.emulator.deploy import Deployment, deploy
from controller.emulator.images import Image
from controller.emulator.server import LocalCloudRun
from controller.emulator.settings import RuntimeKind, Settings
from controller.emulator.storage.database import FILE, StorageError

from .conftest import SECONDS, Google, a_template, percents, to

MINUTE = timedelta(minutes=1)
SAMPLE = [sys.executable, "-m", "controller.emulator.sample"]


@contextmanager
def a_run(directory: Path, **chosen: object) -> Iterator[Google]:
    settings = Settings(runtime=RuntimeKind.SIMULATED, speed=0, state=str(directory))
    with LocalCloudRun.started(replace(settings, **chosen)) as local:  # type: ignore[arg-type]
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(local.grpc_address, options=options) as channel:
            yield Google(local, channel)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline


def test_services_revisions_and_operations_are_there_again(tmp_path: Path) -> None:
    with a_run(tmp_path) as before:
        before.two_revisions(CRASH="1")
        name = before.update(traffic=[to("web-one", 50), to("web-two", 50)]).name
        before.settle()
        service, revisions, operation = before.get(), before.revision_names(), before.operation(name)
        now = before.local.now()
    with a_run(tmp_path) as after:
        assert after.get() == service
        assert after.revision_names() == revisions
        assert after.operation(name) == operation
        assert after.local.now() >= now
        after.update(template=a_template(revision="web-three"))
        after.settle()
        assert after.get().generation == service.generation + 1


def test_what_was_under_way_is_brought_to_its_end(tmp_path: Path) -> None:
    with a_run(tmp_path) as before:
        before.create(revision="web-one")
        before.settle()
        name = before.update(template=a_template(revision="web-two", START_SECONDS="30")).name
        deleted = before.create("other").name
        before.settle()
        before.services.delete_service(name=before.get("other").name, timeout=SECONDS)
        assert not before.operation(name).done
        assert before.operation(deleted).done
    with a_run(tmp_path) as after:
        after.local.advance(timedelta(seconds=60))
        assert after.operation(name).done
        assert after.get().latest_ready_revision.endswith("/web-two")
        assert percents(after.get()) == {"": 100}
        assert [one.name.rpartition("/")[2] for one in after.services.list_services(parent=after.parent)] == [
            "web"
        ]


def test_users_metrics_and_logs_go_on(tmp_path: Path) -> None:
    def requests(google: Google) -> list[int]:
        end = google.local.now()
        series = google.series("request_count", end - 30 * MINUTE, end - 3 * MINUTE)
        return sorted(point.value.int64_value for one in series for point in one.points)

    def entries(google: Google) -> list[str]:
        request = ListLogEntriesRequest(resource_names=["projects/demo"], page_size=1000)
        return [entry.insert_id for entry in google.logs.list_log_entries(request=request, timeout=SECONDS)]

    with a_run(tmp_path) as before:
        before.create(revision="web-one", ERROR_SHARE="0.1")
        before.settle()
        before.local.users("web", rps=5)
        before.local.advance(10 * MINUTE)
        counted, logged = requests(before), entries(before)
    with a_run(tmp_path) as after:
        assert requests(after) == counted
        assert entries(after) == logged
        after.local.users("web", rps=5)
        after.local.advance(5 * MINUTE)
        assert len(requests(after)) > len(counted)
        assert set(logged) < set(entries(after))
    assert len(logged) > 100


def test_images_are_known_again(tmp_path: Path) -> None:
    image = Image("gcr.io/shop/web", ("python", "-m", "shop"), str(tmp_path), {"A": "1"})
    with a_run(tmp_path) as before:
        before.local._emulator.images.put(image)
    with a_run(tmp_path) as after:
        assert after.local._emulator.images.all() == [image]


@pytest.mark.processes
def test_a_service_answers_at_the_same_address_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_LOCAL_DIR", str(tmp_path / "run"))
    first = up(tmp_path / "kept")
    deploy(first.grpc_address, "demo", "local-1", Deployment("web", SAMPLE, env={"TEXT": "kept"}))
    wait_until(lambda: saved(tmp_path / "kept" / FILE, "revision") == 1 and answer(first) == "kept\n")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not state.is_alive(first))
    second = up(tmp_path / "kept")
    try:
        assert second.front_address == first.front_address
        assert answer(second) == "kept\n"
    finally:
        background.end(second)


def up(kept: Path) -> state.LocalState:
    command = [sys.executable, "-m", "controller", "local", "up", "--state", str(kept)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    found = state.read_state()
    assert found is not None
    return found


def saved(file: Path, kind: str) -> int:
    """Count the resources of a kind in a file that another process has locked."""
    copy = file.with_suffix(".copy")
    for suffix in ("", "-wal"):
        source = Path(f"{file}{suffix}")
        Path(f"{copy}{suffix}").write_bytes(source.read_bytes() if source.exists() else b"")
    try:
        with closing(sqlite3.connect(copy)) as connection:
            found = connection.execute("SELECT count(*) FROM resources WHERE kind = ?", (kind,)).fetchone()
    except sqlite3.DatabaseError:
        return 0  # copied in the middle of a write
    return int(found[0])


def answer(local: state.LocalState) -> str:
    with closing(http.client.HTTPConnection(local.front_address, timeout=SECONDS)) as connection:
        connection.request("GET", "/", headers={"Host": "web.localhost"})
        return connection.getresponse().read().decode()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (
        a_run(tmp_path),
        pytest.raises(StorageError, match="is in use by another local Cloud Run"),
        a_run(tmp_path),
    ):
        pass


def test_another_project_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    with a_run(tmp_path) as before:
        before.create()
        before.settle()
    with pytest.raises(StorageError, match="holds the state of the project 'demo', not of 'shop'"):
        a_run(tmp_path, project="shop").__enter__()
    with a_run(tmp_path) as after:
        assert after.get().name.endswith("/services/web")


@pytest.mark.parametrize("damage", ["no database", "another version", "a row of another kind"])
def test_a_file_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    with a_run(tmp_path) as before:
        before.create()
    file = tmp_path / FILE
    if damage == "no database":
        file.write_bytes(b"this is no database" * 100)
    else:
        with closing(sqlite3.connect(file)) as connection, connection:
            if damage == "another version":
                connection.execute("UPDATE about SET value = '0' WHERE name = 'version'")
            else:
                connection.execute("UPDATE resources SET kind = 'galaxy' WHERE kind = 'service'")
    content = file.read_bytes()
    with pytest.raises(StorageError, match="move it away to begin anew"):
        a_run(tmp_path).__enter__()
    assert file.read_bytes() == content


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"the state cannot be kept in .*/file/below"):
        a_run(tmp_path / "file" / "below").__enter__()
