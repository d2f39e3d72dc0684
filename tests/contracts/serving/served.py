"""The service `web` with real processes: how a test deploys it, asks it, and sees what runs."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from google.cloud import run_v2
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry

from contracts.conftest import PARENT, SECONDS, Google

from .pools import SAMPLE


def deploy(
    google: Google, revision: str, traffic: list[run_v2.TrafficTarget] | None = None, **more: Any
) -> None:
    """Deploy a revision of the service `web`, and wait until it is ready."""
    scaling, env = more.pop("scaling", run_v2.RevisionScaling()), more.pop("env", {})
    container = run_v2.Container(
        command=SAMPLE, env=[run_v2.EnvVar(name=name, value=value) for name, value in env.items()]
    )
    template = run_v2.RevisionTemplate(revision=revision, containers=[container], scaling=scaling, **more)
    if traffic is None:
        created = google.services.create_service(
            parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
        ).operation
    else:
        created = google.update(template=template, traffic=traffic)
    assert not google.wait(created.name).HasField("error")


def ask(google: Google, cookie: str = "", host: str = "web.localhost") -> tuple[int, str, str]:
    """Return the status, the text and the session affinity cookie that is set, "" if none is."""
    with closing(http.client.HTTPConnection(google.local.front_address, timeout=SECONDS)) as connection:
        sent = {"Cookie": f"a=b; GAESA={cookie}"} if cookie else {}
        connection.request("GET", "/", headers={"Host": host, **sent})
        answer = connection.getresponse()
        set_cookie = answer.getheader("Set-Cookie", "")
        value = set_cookie.partition("GAESA=")[2].partition(";")[0]
        return answer.status, answer.read().decode().strip(), value


def all_instances(google: Google) -> list[dict[str, Any]]:
    with closing(http.client.HTTPConnection(google.local.admin_address, timeout=SECONDS)) as connection:
        connection.request("GET", "/")
        found: list[dict[str, Any]] = json.load(connection.getresponse())["instances"]
        return found


def instances(google: Google, revision: str) -> list[int]:
    return [one["pid"] for one in all_instances(google) if one["revision"] == revision]


def in_flight(google: Google) -> int:
    return sum(one["in_flight"] for one in all_instances(google))


def entries(google: Google, text: str) -> list[LogEntry]:
    request = ListLogEntriesRequest(resource_names=["projects/demo"], filter=text, page_size=1000)
    return list(google.logs.list_log_entries(request=request, timeout=SECONDS))


def wait_until(condition: Callable[[], object]) -> None:
    deadline, pause = time.monotonic() + SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.01)
