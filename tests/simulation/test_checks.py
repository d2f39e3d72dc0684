"""The checks of a candidate on its own address: it is warmed up and asked before it meets a user."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from builders import a_policy, a_rollout, a_service
from google.cloud import run_v2
from world import SERVICE, World, a_world

from controller.core.observation import ServiceState
from controller.core.opening import OpeningRefused
from controller.core.request_log import LoggedRequest
from controller.core.rollout import Phase, Rollout
from controller.emulator.settings import SimulatedLogs
from controller.engine.checks import ATTEMPTS, check_candidate
from controller.engine.reconcile import Memory, look, reconcile

COLD = 12.0
"""Seconds that a cold candidate takes until it listens."""
LONG = 5.0
"""Seconds that nothing here takes unless it hangs."""


@contextmanager
def a_world_that_answers(**settings: Any) -> Iterator[World]:
    """A world in which revisions answer over HTTP, and everything is logged."""
    with a_world(rps=1, simulated_front=True, simulated_logs=SimulatedLogs.ALL, **settings) as world:
        world.pin()
        yield world


@pytest.fixture
def world() -> Iterator[World]:
    with a_world_that_answers() as world:
        yield world


FIRST = 1
"""The request that finds out whether the address is known."""


def release(world: World, **knobs: Any) -> str:
    """Deploy a candidate, and wait until it has no instance left."""
    name = world.deploy(**knobs)
    world.wait(20 * 60)
    return name


def checked(world: World, **policy: Any) -> Rollout:
    """Follow a rollout until the candidate was checked."""
    world.begin(a_policy(steps=["50%"], **policy))
    memory = Memory()
    while True:
        seen = reconcile(world.outside, SERVICE, memory)
        world.saw(seen)
        assert seen.rollout is not None
        if seen.rollout.phase not in {Phase.WAITING, Phase.CHECKING}:
            return seen.rollout
        world.wait(3)


def requests_of(world: World, revision: str) -> list[LoggedRequest]:
    """What the revision was asked, by whomever."""
    now = world.local.now()
    logged = world.outside.request_logs.read_requests(
        SERVICE, [revision], now - timedelta(hours=1), now + timedelta(seconds=1)
    )
    return sorted(logged.requests, key=lambda request: request.started_at)


def update(world: World, field: str, value: Any) -> None:
    world._update({field}, **{field: value})


# --- what is asked ---


@pytest.mark.parametrize("policy", [{"smoke": "/healthz"}, {"probes": "/healthz"}], ids=["smoke", "probes"])
def test_a_candidate_that_fails_what_it_is_asked_meets_no_user(world: World, policy: dict[str, Any]) -> None:
    stable = world.serving()
    candidate = release(world, PROBE_ERROR_SHARE="1")
    rollout = checked(world, **policy)
    assert rollout.phase is Phase.ROLLED_BACK
    what = "the smoke test" if "smoke" in policy else "its probes"
    assert rollout.reason.startswith(f"{what} failed: GET http://canary-")
    assert rollout.reason.endswith("/healthz was answered with 500, not 2xx or 3xx")
    world.wait(60)
    assert world.serving() == stable
    assert all(request.is_probe for request in requests_of(world, candidate))


def test_what_is_answered_badly_is_asked_three_times() -> None:
    with a_world_that_answers(propagation_delay=timedelta()) as world:
        candidate = release(world, PROBE_ERROR_SHARE="1")
        checked(world, smoke=["/healthz"])
        assert [request.status for request in requests_of(world, candidate)] == [500] * ATTEMPTS


def test_an_address_that_is_not_known_yet_is_no_failure_of_the_candidate() -> None:
    with a_world_that_answers(propagation_delay=timedelta(seconds=15)) as world:
        candidate = release(world)
        assert checked(world, probes=[{"path": "/", "warm_up": 2}]).phase is Phase.STEPPING
        assert len(requests_of(world, candidate)) == FIRST + 2 + 1


def test_a_candidate_that_answers_well_gets_its_first_users(world: World) -> None:
    candidate = release(world)
    rollout = checked(world, smoke=["/healthz"], probes=[{"path": "/", "warm_up": 0}])
    assert (rollout.phase, rollout.percent) == (Phase.STEPPING, 50)
    assert [request.status for request in requests_of(world, candidate)] == [200, 200]


def test_a_cold_candidate_is_warmed_up_before_its_answers_matter(world: World) -> None:
    candidate = release(world, START_SECONDS=f"{COLD}")
    rollout = checked(world, probes=[{"path": "/", "expect": {"within": "5s"}}])
    assert rollout.phase is Phase.STEPPING
    first, *others = (request.latency / 1000 for request in requests_of(world, candidate))
    assert first > COLD
    assert max(others) < 1


def test_a_cold_candidate_that_is_not_warmed_up_is_too_slow_at_first(world: World) -> None:
    candidate = release(world, START_SECONDS=f"{COLD}")
    rollout = checked(world, probes=[{"path": "/", "warm_up": 0, "expect": {"within": "5s"}}])
    assert rollout.phase is Phase.STEPPING
    assert [request.latency / 1000 > COLD for request in requests_of(world, candidate)] == [True, False]


def test_a_candidate_is_warmed_up_by_as_many_requests_as_the_policy_says(world: World) -> None:
    candidate = release(world)
    checked(world, probes=[{"path": "/", "warm_up": 3}])
    assert len(requests_of(world, candidate)) == FIRST + 3 + 1


def test_who_only_looks_asks_nothing(world: World) -> None:
    candidate = release(world)
    world.begin(a_policy(steps=["50%"], smoke="/healthz", probes="/"))
    memory = Memory()
    while (seen := reconcile(world.outside, SERVICE, memory)).rollout:
        if seen.rollout.phase is Phase.CHECKING:
            break
        world.wait(3)
    world.wait(10)
    looked = look(world.outside, SERVICE)
    assert looked.rollout is not None
    assert looked.rollout.phase is Phase.CHECKING
    assert requests_of(world, candidate) == []


# --- a candidate that cannot be reached ---


@pytest.mark.parametrize("policy", [{"smoke": "/healthz"}, {"probes": "/healthz"}], ids=["smoke", "probes"])
def test_a_service_without_a_default_url_is_refused(world: World, policy: dict[str, Any]) -> None:
    release(world)
    update(world, "default_uri_disabled", value=True)
    with pytest.raises(OpeningRefused, match="the default URL of web is disabled"):
        world.begin(a_policy(**policy))
    assert world.tags() == set()


def test_a_default_url_that_is_disabled_during_the_rollout_fails_the_checks(world: World) -> None:
    release(world)
    world.begin(a_policy(steps=["50%"], probes="/"))
    update(world, "default_uri_disabled", value=True)
    memory = Memory()
    while (rollout := reconcile(world.outside, SERVICE, memory).rollout) and not rollout.phase.is_terminal:
        world.wait(3)
    assert rollout is not None
    assert rollout.phase is Phase.ROLLED_BACK
    assert rollout.reason.endswith("no address (the service's default URL is disabled)")


HINT = (
    "; the service takes internal traffic only (ingress: internal); run the controller inside its VPC,"
    " or leave probes out of the policy"
)


def test_where_nobody_is_let_in_from_outside_it_is_said_what_to_do() -> None:
    with a_world(rps=1) as world:  # nothing listens at its addresses
        world.pin()
        release(world)
        update(world, "ingress", run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY)
        assert checked(world, probes="/").reason.endswith(HINT)


def test_an_application_that_fails_is_not_explained_by_who_is_let_in(world: World) -> None:
    release(world, PROBE_ERROR_SHARE="1")
    update(world, "ingress", run_v2.IngressTraffic.INGRESS_TRAFFIC_INTERNAL_ONLY)
    assert "internal" not in checked(world, probes="/").reason


@pytest.mark.parametrize(
    ("ingress", "words"),
    [
        ("INGRESS_TRAFFIC_ALL", "all"),
        ("INGRESS_TRAFFIC_INTERNAL_ONLY", "internal"),
        ("INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "internal-and-cloud-load-balancing"),
    ],
)
def test_who_is_let_in_is_read_in_the_words_of_gcloud(world: World, ingress: str, words: str) -> None:
    update(world, "ingress", getattr(run_v2.IngressTraffic, ingress))
    service = world.outside.cloud_run.read_service(SERVICE)
    assert (service.ingress, service.has_default_url) == (words, True)


# --- a candidate that takes its time ---


def at(address: str, rollout: Rollout) -> ServiceState:
    return a_service(addresses={rollout.candidate_tag: address})


def test_a_candidate_that_says_nothing_holds_up_a_pass_no_longer_than_is_allowed(world: World) -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1, policy=a_policy(smoke=["/a", "/b"]))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        first, second = check_candidate(world.outside, rollout, at(address, rollout), seconds=0.3)
        assert time.monotonic() - begun < LONG
    assert first == f"GET {address}/a got no answer (timed out)"
    assert second == f"GET {address}/b was not tried: the paths before it have taken all the time there is"


def test_the_waits_between_attempts_are_on_the_clock_of_the_service(world: World) -> None:
    rollout = a_rollout(Phase.CHECKING, step=-1, policy=a_policy(smoke="/"))
    before = world.local.now()
    check_candidate(world.outside, rollout, at("http://127.0.0.1:1", rollout))
    assert world.local.now() - before == timedelta(seconds=4)


def test_a_probe_that_the_controller_cannot_ask_begins_nothing(world: World) -> None:
    """A secret that is missing here must not reject a candidate."""
    release(world)
    before = world.service().generation
    probe = {"path": "/", "headers": {"Cookie": "env:CANARY_TEST_NOT_THERE"}}
    with pytest.raises(OpeningRefused, match="CANARY_TEST_NOT_THERE, which is not set"):
        world.begin(a_policy(probes=[probe]))
    assert world.service().generation == before
