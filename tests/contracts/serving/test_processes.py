"""Revisions as real processes behind the HTTP front."""

import asyncio
import http.client
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud import run_v2
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry

from contracts.conftest import PARENT, SECONDS, Google, a_google, to
from controller.emulator.deploy import Deployed, DeployError, Deployment, deploy
from controller.emulator.load import Load, ServerGoneError, run
from controller.emulator.settings import Settings

pytestmark = pytest.mark.processes

SAMPLE = [sys.executable, "-m", "controller.emulator.sample"]
SHORT = timedelta(milliseconds=100)
FAST_SETTINGS = Settings(speed=60, reconcile_delay=SHORT, propagation_delay=SHORT, startup_least_seconds=0.5)


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with real processes and a clock that runs a minute a second."""
    yield from a_google(FAST_SETTINGS)


def released(
    google: Google, *, no_traffic: bool = False, tag: str = "", revision: str = "", **env: str
) -> Deployed:
    wanted = Deployment(
        "web",
        SAMPLE,
        env={"LATENCY_MS": "1", **env},
        no_traffic=no_traffic,
        tag=tag,
        revision=revision,
        concurrency=int(env.pop("CONCURRENCY", "0")),
    )
    return deploy(google.local.grpc_address, "demo", "local-1", wanted)


def ask(
    google: Google, host: str = "web", path: str = "/", method: str = "GET", body: bytes = b""
) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(google.local.front_address, timeout=SECONDS)) as connection:
        connection.request(method, path, body=body, headers={"Host": f"{host}.localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.01)


def entries(google: Google, text: str) -> list[LogEntry]:
    request = ListLogEntriesRequest(resource_names=["projects/demo"], filter=text, page_size=1000)
    return list(google.logs.list_log_entries(request=request, timeout=SECONDS))


def test_requests_follow_the_split_and_are_counted(google: Google) -> None:
    released(google, revision="web-one", TEXT="one")
    released(google, revision="web-two", TEXT="two", no_traffic=True)
    google.wait(google.update(traffic=[to("web-one", 70), to("web-two", 30)]).name)
    wait_until(lambda: ask(google) == (200, "two"))
    start = google.local.now() - timedelta(minutes=10)
    answers = Counter(ask(google) for _ in range(300))

    assert set(answers) == {(200, "one"), (200, "two")}
    assert 50 < answers[200, "two"] < 130

    def counted() -> int:
        series = google.series("request_count", start, google.local.now())
        return sum(point.value.int64_value for one in series for point in one.points)

    wait_until(lambda: counted() >= 300)
    logged = entries(google, 'log_id("run.googleapis.com/requests")')
    assert counted() == len(logged)
    assert {entry.labels["instanceId"] for entry in logged}
    assert all(entry.http_request.request_url.startswith("http://web.localhost/") for entry in logged)


def test_a_tag_host_goes_to_its_revision(google: Google) -> None:
    released(google, TEXT="one")
    deployed = released(google, TEXT="two", no_traffic=True, tag="green")
    assert deployed.tag_uri.startswith("http://green---web.localhost:")
    wait_until(lambda: ask(google, "green---web") == (200, "two"))
    assert {ask(google)[1] for _ in range(20)} == {"one"}


def test_no_traffic_pins_what_went_to_the_latest(google: Google) -> None:
    first = released(google)
    released(google, no_traffic=True)
    assert [(target.revision, target.percent) for target in google.get().traffic] == [(first.revision, 100)]


def test_no_traffic_is_refused_for_a_new_service(google: Google) -> None:
    with pytest.raises(DeployError, match="--no-traffic not supported when creating a new service"):
        released(google, no_traffic=True)


def test_a_plain_deployment_takes_the_traffic_of_latest(google: Google) -> None:
    released(google, TEXT="one")
    released(google, TEXT="two")
    wait_until(lambda: ask(google) == (200, "two"))


def test_a_process_that_ends_at_the_start_fails_at_once_with_its_code(google: Google) -> None:
    with pytest.raises(
        DeployError, match=r"(?s)failed to start and listen.*exited with code 3.*CRASH is set"
    ):
        released(google, CRASH="1")


def test_a_process_that_never_listens_fails_when_its_time_is_over() -> None:
    for google in a_google(replace(FAST_SETTINGS, startup_timeout=timedelta(seconds=30))):
        with pytest.raises(DeployError, match="failed to start and listen"):
            released(google, START_SECONDS="inf")


def test_a_command_that_does_not_exist_is_named(google: Google) -> None:
    with pytest.raises(DeployError, match="'/no/such/program' could not be started"):
        deploy(google.local.grpc_address, "demo", "local-1", Deployment("web", ["/no/such/program"]))


def test_a_revision_without_a_command_says_so(google: Google) -> None:
    template = run_v2.RevisionTemplate(containers=[run_v2.Container(image="gcr.io/x/y")])
    created = google.services.create_service(
        parent=PARENT, service_id="web", service=run_v2.Service(template=template), timeout=SECONDS
    )
    assert "has no command" in google.wait(created.operation.name).error.message


def test_the_port_is_put_into_the_arguments_and_names_into_the_environment(google: Google) -> None:
    program = "import os, sys; print('port', sys.argv[1] == os.environ['PORT'], os.environ['K_REVISION'])"
    wanted = Deployment("web", [sys.executable, "-c", program, "$PORT"], revision="web-one")
    with pytest.raises(DeployError, match=r"exited with code 0.*port True web-one"):
        deploy(google.local.grpc_address, "demo", "local-1", wanted)


def test_any_method_body_and_path_pass_through(google: Google) -> None:
    echo = (
        "import http.server, os\n"
        "class Echo(http.server.BaseHTTPRequestHandler):\n"
        "    def do_PUT(self):\n"
        "        size = int(self.headers['Content-Length'])\n"
        "        body = self.rfile.read(size)\n"
        "        head = self.headers\n"
        '        said = f\'{self.path} {len(body)} {head["X-Forwarded-Proto"]} {head["Host"]}\'\n'
        "        self.send_response(207)\n"
        "        self.end_headers()\n"
        "        self.wfile.write(said.encode())\n"
        "http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Echo).serve_forever()\n"
    )
    deploy(google.local.grpc_address, "demo", "local-1", Deployment("web", [sys.executable, "-c", echo]))
    wait_until(lambda: ask(google)[0] != 404)
    status, text = ask(google, path="/a%2Fb?c=d%20e", method="PUT", body=b"x" * 500_000)
    assert (status, text) == (207, "/a%2Fb?c=d%20e 500000 http web.localhost")


def test_an_unknown_host_gets_an_explanation(google: Google) -> None:
    status, text = ask(google, "nobody")
    assert status == 404
    assert "SERVICE.localhost" in text


def test_a_killed_instance_is_replaced_on_demand(google: Google) -> None:
    released(google)
    wait_until(lambda: ask(google)[0] == 200)
    (before,) = instances(google)
    os.kill(before, 9)
    wait_until(lambda: before not in instances(google))
    assert ask(google)[0] == 200
    assert instances(google) != [before]
    assert entries(google, 'log_id("run.googleapis.com/varlog/system") textPayload:"AUTOSCALING"')


def test_an_idle_instance_is_stopped_and_started_again_by_a_request() -> None:
    for google in a_google(replace(FAST_SETTINGS, idle_timeout=timedelta(seconds=20))):
        released(google, START_SECONDS="0.2")
        wait_until(lambda google=google: not instances(google))  # type: ignore[misc]
        wait_until(lambda google=google: entries(google, 'textPayload:"asked to end"'))  # type: ignore[misc]
        assert ask(google)[0] == 200
        (request,) = entries(google, 'log_id("run.googleapis.com/requests") httpRequest.status=200')
        assert LogEntry.pb(request).http_request.latency.ToTimedelta() >= timedelta(seconds=0.2)


def test_a_second_instance_starts_when_the_first_is_full(google: Google) -> None:
    released(google, LATENCY_MS="500", LATENCY_SPREAD="0", CONCURRENCY="1")
    wait_until(lambda: ask(google)[0] == 200)

    async def both() -> None:
        await asyncio.gather(*(asyncio.to_thread(ask, google) for _ in range(2)))

    asyncio.run(both())
    assert len(instances(google)) == 2


def test_what_an_instance_prints_is_logged_by_line_and_cut(google: Google) -> None:
    program = "import sys; print('first'); print('x' * 100_000); print('last', file=sys.stderr)"
    with pytest.raises(DeployError):
        deploy(
            google.local.grpc_address, "demo", "local-1", Deployment("web", [sys.executable, "-c", program])
        )
    lines = [entry.text_payload for entry in entries(google, 'log_id("run.googleapis.com/stdout")')]
    assert lines[0] == "first"
    assert max(map(len, lines)) <= 32 * 1024
    assert entries(google, 'log_id("run.googleapis.com/stderr") textPayload="last"')


def test_nothing_is_left_when_it_stops() -> None:
    pids = []
    for google in a_google(FAST_SETTINGS):
        released(google)
        pids += instances(google)
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_load_is_open_loop_and_says_what_came_back(google: Google) -> None:
    released(google, LATENCY_MS="20", ERROR_SHARE="0.5")
    wait_until(lambda: ask(google)[0] != 404)
    summary = run_load(Load(google.local.front_address, "web", rps=100, seconds=1.5))
    assert summary["sent"] == pytest.approx(150, abs=60)
    assert summary["2xx"] + summary["5xx"] == summary["sent"]


def test_the_load_says_when_nobody_answers() -> None:
    with pytest.raises(ServerGoneError, match="Nobody answers"):
        run(Load("127.0.0.1:9", "web", rps=1000))


def run_load(load: Load) -> Counter[str]:
    summary = run(load)
    return Counter({**summary.answers, "sent": summary.sent})


def instances(google: Google) -> list[int]:
    with closing(http.client.HTTPConnection(google.local.admin_address, timeout=SECONDS)) as connection:
        connection.request("GET", "/")
        return [one["pid"] for one in json.load(connection.getresponse())["instances"]]
