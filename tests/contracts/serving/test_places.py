"""Services of the same name in several regions: each has a host, instances and requests of its own."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud import run_v2

from contracts.conftest import SECONDS, Google, a_google, a_template, to

from .pools import FAST
from .served import all_instances, ask, wait_until

ELSEWHERE = "projects/demo/locations/eu"
SHORT = timedelta(milliseconds=100)


@pytest.fixture
def serving() -> Iterator[Google]:
    """Google with real processes and a clock that runs a minute a second."""
    yield from a_google(replace(FAST, reconcile_delay=SHORT, propagation_delay=SHORT))


def created_in(google: Google, parent: str, **env: str) -> None:
    service = run_v2.Service(
        template=a_template(revision="web-one", **env), traffic=[to("web-one", 100, "green")]
    )
    created = google.services.create_service(
        parent=parent, service_id="web", service=service, timeout=SECONDS
    ).operation
    if google.local.settings.speed:
        assert not google.wait(created.name).HasField("error")
    else:
        google.settle()


@pytest.mark.processes
def test_a_service_of_another_region_has_a_host_of_its_own(serving: Google) -> None:
    created_in(serving, serving.parent, TEXT="here", LATENCY_MS="0")
    created_in(serving, ELSEWHERE, TEXT="there", LATENCY_MS="0")
    there = serving.services.get_service(name=f"{ELSEWHERE}/services/web", timeout=SECONDS)
    port = serving.local.front_address.rpartition(":")[2]
    assert serving.get().uri == f"http://web.localhost:{port}"
    assert there.uri == f"http://web.eu.localhost:{port}"
    assert there.traffic_statuses[0].uri == f"http://green---web.eu.localhost:{port}"
    wait_until(lambda: ask(serving, host="web.eu.localhost") == (200, "there", ""))
    assert ask(serving, host="green---web.eu.localhost") == (200, "there", "")
    wait_until(lambda: ask(serving) == (200, "here", ""))
    assert "http://web.eu.localhost:" in ask(serving, host="nobody")[1]
    serving.services.delete_service(name=there.name, timeout=SECONDS)
    wait_until(lambda: ask(serving, host="web.eu.localhost")[0] == 404)
    assert ask(serving) == (200, "here", "")
    wait_until(lambda: len(all_instances(serving)) == 1)


@pytest.mark.processes
def test_hosts_are_compared_without_case_and_may_end_with_a_dot(serving: Google) -> None:
    created_in(serving, serving.parent, TEXT="here", LATENCY_MS="0")
    wait_until(lambda: ask(serving)[0] == 200)
    for host in ("WEB.localhost", "web.LOCALHOST:8080", "Web.Localhost.", "GREEN---web.localhost", "web"):
        assert ask(serving, host=host) == (200, "here", ""), host


def answered(google: Google) -> Counter[int]:
    """Return the requests of all revisions named web-one, by status."""
    seen: Counter[int] = Counter()
    google.local.measure(lambda metrics: [seen.update(codes) for codes in metrics.totals().values()])
    return seen


def test_simulated_revisions_of_two_regions_do_not_share_their_behaviour(google: Google) -> None:
    created_in(google, google.parent)
    created_in(google, ELSEWHERE, ERROR_SHARE="1")
    google.local.users("web", 10)
    google.local.advance(timedelta(minutes=5))
    assert set(answered(google)) == {200}
    google.local.behave("web-one", error_share=1.0)
    google.local.advance(timedelta(minutes=5))
    assert answered(google)[500] > 2000


def test_a_simulated_service_that_is_created_again_serves_nothing_before_it_is_ready(google: Google) -> None:
    google.create(revision="web-one")
    google.settle()
    google.local.users("web", 10)
    google.local.advance(timedelta(minutes=1))
    google.delete()
    google.settle()
    before = answered(google)
    assert before[200] > 0
    google.create(revision="web-one", START_SECONDS="200")
    google.local.advance(timedelta(seconds=190))
    assert answered(google) == before
    google.local.advance(timedelta(seconds=60))
    assert answered(google)[200] > before[200]
