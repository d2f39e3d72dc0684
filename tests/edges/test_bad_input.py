"""What bad input gets: the place, the cause, the next step and an exit code; and nothing is written."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from .conftest import PLACE, QUICK, Cloud, Shell, as_read, in_force

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def ready(cloud: Cloud) -> str:
    """A service with a candidate to roll out, which no test ever begins with."""
    return cloud.two_revisions()


@pytest.fixture
def name(cloud: Cloud, ready: str) -> Iterator[str]:
    """The same service, left as it was found."""
    before = cloud.service(ready)
    yield ready
    assert cloud.service(ready) == before


# --- policies ---


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("version: 1\nsteps: [5%\nbake: 10m\n", ["{file}:3: this is not YAML: "]),
        (f"{QUICK}stpes: [5%]\n", ["{file}:9: stpes: unknown field 'stpes'; did you mean 'steps'?"]),
        (
            "version: 1\nsteps: [20%, 5%]\nhold: {at_least: 10}\nguards:\n  erors: off\n",
            [
                "{file}:2: steps",
                "{file}:3: hold.at_least: 10 has no unit; write 10m or 10s",
                "{file}:5: guards.erors: unknown field 'erors'; did you mean 'errors'?",
            ],
        ),
    ],
)
def test_a_bad_policy_is_refused_with_every_mistake_and_its_line(
    cloud: Cloud, name: str, text: str, mistakes: list[str]
) -> None:
    file = cloud.file("bad.yaml", text)
    refused = cloud.canary("rollout", name, "--policy", file)
    assert (refused.returncode, refused.stdout) == (2, "")
    for mistake in mistakes:
        assert mistake.format(file=file) in refused.stderr
    assert refused.stderr.count(f"{file}:") == len(mistakes)


def test_a_policy_file_that_is_not_there_is_named(cloud: Cloud, name: str) -> None:
    refused = cloud.canary("rollout", name, "--policy", "nowhere.yaml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "nowhere.yaml: there is no such file; check the path" in refused.stderr


# --- places and names ---


def test_an_unknown_service_is_named_with_its_place(cloud: Cloud) -> None:
    refused = cloud.canary("rollout", "wob")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no service 'wob' in projects/demo/locations/local-1" in refused.stderr


def test_an_unknown_revision_is_refused_with_the_nearest_name(cloud: Cloud, name: str) -> None:
    refused = cloud.canary("rollout", name, "--candidate", f"{name}-v22")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"service {name} has no revision '{name}-v22'; did you mean {name}-v2?" in refused.stderr


@pytest.mark.parametrize("bad", ["Web", "web_1", "1web", "web-", "w" * 50])
def test_what_cannot_be_the_name_of_a_service_is_refused(shell: Shell, bad: str) -> None:
    refused = shell("rollout", bad, *PLACE)
    assert (refused.returncode, refused.stdout) == (2, "")
    said = as_read(refused.stderr)
    assert "is not the name of a service: lower-case letters, digits and hyphens, at most 49" in said


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ((), "missing --project and --region"),
        (("--region", "local-1"), "missing --project"),
        (("--project", "demo"), "missing --region"),
    ],
)
def test_a_place_that_is_not_given_is_asked_for(shell: Shell, given: tuple[str, ...], missing: str) -> None:
    refused = shell("rollout", "web", *given)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{missing} (or --local for a local Cloud Run)" in as_read(refused.stderr)


def test_local_without_a_local_cloud_run_says_how_to_start_one(shell: Shell) -> None:
    refused = shell("rollout", "web", "--local")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no local Cloud Run is up; start one with: canary local up" in as_read(refused.stderr)


def test_an_address_that_is_none_is_refused(shell: Shell) -> None:
    refused = shell("rollout", "web", *PLACE, "--emulator", "localhost")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'localhost' is not HOST:PORT" in as_read(refused.stderr)


def test_an_api_that_cannot_be_reached_is_named(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = shell("rollout", "web", *PLACE, "--emulator", address)
    assert (failed.returncode, failed.stdout) == (7, "")
    assert "cannot be reached" in failed.stderr
    assert address in failed.stderr


# --- services that no rollout may begin with ---


def test_a_third_revision_that_serves_is_refused_with_the_way_out(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    cloud.set_traffic(name, v1=60, v2=40)
    cloud.deploy(name, "v3", no_traffic=True)
    before = cloud.service(name)
    refused = cloud.canary("rollout", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"more than two revisions serve {name} ({name}-v1 60 %, {name}-v2 40 %)" in refused.stderr
    assert f"gcloud run services update-traffic {name} --to-revisions={name}-v1=100" in refused.stderr
    assert cloud.service(name) == before


def test_a_revision_deployed_without_no_traffic_is_refused_with_the_way_out(cloud: Cloud) -> None:
    name = cloud.a_service()
    cloud.deploy(name, "v2")
    before = cloud.service(name)
    assert cloud.serving(name) == {"v2": 100}
    refused = cloud.canary("rollout", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"{name}-v2 serves all users already: it was deployed without --no-traffic" in refused.stderr
    assert f"gcloud run services update-traffic {name} --to-revisions={name}-v1=100" in refused.stderr
    assert f"canary rollout {name} --candidate {name}-v2" in refused.stderr
    assert cloud.service(name) == before


def test_session_affinity_is_warned_of_and_the_rollout_goes_on(cloud: Cloud) -> None:
    name = cloud.a_service()
    cloud.deploy(name, "v2", no_traffic=True, session_affinity=True)
    with cloud.rollout(name, cloud.patient) as running:
        warning = running.until(lambda report: "note" in report)["note"]
        assert f"Warning: session affinity is on for {name}-v2" in warning
        running.until(in_force(20))
    assert cloud.serving(name) == {"v1": 80, "v2": 20}


# --- records ---


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ('{"format":1,"id":"1f2e', "it is not JSON"),
        ('{"format":2,"state":{}}', "it has format 2, and this version of canary reads format 1"),
    ],
)
def test_a_record_that_cannot_be_read_is_left_byte_for_byte(cloud: Cloud, record: str, why: str) -> None:
    name = cloud.two_revisions()
    cloud.set_record(name, record)
    before = cloud.service(name)
    for refused in cloud.commands(name, "rollout", "status", "rollback", "promote"):
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"the record of {name} (annotation cloud-run-canary/rollout) cannot be read: {why}" in (
            refused.stderr
        )
        assert "Nothing was changed." in refused.stderr
        assert "remove the annotation" in refused.stderr
    assert cloud.record(name) == record
    assert cloud.service(name) == before


def test_a_command_without_a_rollout_says_how_to_begin_one(cloud: Cloud, name: str) -> None:
    refusals = cloud.commands(name, "promote", "promote --full", "retry")
    for refused in refusals:
        assert f"canary rollout {name}" in refused.stderr
        assert "on record" in refused.stderr
    assert [(refused.returncode, refused.stdout) for refused in refusals] == [(2, "")] * len(refusals)


def test_a_rollback_without_a_rollout_is_nothing_to_do(cloud: Cloud, name: str) -> None:
    nothing = cloud.canary("rollback", name)
    assert nothing.stdout.startswith(f"Nothing to do: no rollout of {name} is on record")
    assert nothing.returncode == 0


# --- permissions ---


class Denying(grpc.GenericRpcHandler):
    """Passes every call on as it came, but for one method that the caller may not use."""

    def __init__(self, channel: grpc.Channel, denied: str) -> None:
        self._channel = channel
        self._denied = denied

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        answer = self._refuse if method.endswith(f"/{self._denied}") else self._passing_on(method)
        return grpc.unary_unary_rpc_method_handler(answer)

    def _refuse(self, _: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "The caller does not have permission.")

    def _passing_on(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        call = self._channel.unary_unary(method)

        def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                return bytes(call(request, timeout=20))
            except grpc.RpcError as error:
                failure: Any = error
                context.abort(failure.code(), failure.details())
                raise

        return pass_on


@contextmanager
def denying(cloud: Cloud, method: str) -> Iterator[str]:
    """Give the address of the same Cloud Run for somebody who may not use one method."""
    options = [("grpc.enable_http_proxy", 0)]
    server = grpc.server(ThreadPoolExecutor(4))
    port = server.add_insecure_port("127.0.0.1:0")
    with grpc.insecure_channel(cloud.state.grpc_address, options=options) as channel:
        server.add_generic_rpc_handlers((Denying(channel, method),))
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize(
    ("method", "permission"),
    [
        ("GetService", "run.services.get"),
        ("ListRevisions", "run.revisions.list"),
        ("GetRevision", "run.revisions.get"),
        ("UpdateService", "run.services.update"),
        ("ListTimeSeries", "monitoring.timeSeries.list"),
    ],
)
def test_a_permission_that_is_missing_is_named_before_anything_is_written(
    cloud: Cloud, method: str, permission: str
) -> None:
    name = cloud.two_revisions()
    before = cloud.service(name)
    with denying(cloud, method) as address:
        refused = cloud("rollout", name, *PLACE, "--emulator", address)
    assert (refused.returncode, refused.stdout) == (7, "")
    assert f"not allowed; it needs the permission {permission}" in refused.stderr
    assert cloud.service(name) == before
