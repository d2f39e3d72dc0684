"""Requests that find no instance: one is started for them, or they are refused."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2
from google.cloud.logging_v2.types import LogEntry

from contracts.conftest import Google, a_google

from .served import all_instances, ask, entries, wait_until
from .test_traffic_shifts import SETTINGS, released

pytestmark = pytest.mark.processes

IDLE = timedelta(minutes=16)
REQUESTS = 'log_id("run.googleapis.com/requests")'


@pytest.fixture
def google() -> Iterator[Google]:
    """Google with real processes and a clock that only the test moves."""
    yield from a_google(SETTINGS)


def scaled_to_zero(google: Google) -> None:
    google.local.advance(IDLE)
    wait_until(lambda: not all_instances(google))


def series_of(google: Google, metric: str) -> list[Any]:
    """Return what Monitoring has of the last hour, a while later."""
    google.local.advance(timedelta(minutes=5))
    end = google.local.now()
    return google.series(metric, end - timedelta(hours=1), end)


def test_a_cold_start_is_in_the_latency_of_the_log_and_not_in_that_of_the_metric(google: Google) -> None:
    """Fact: "httpRequest.latency INCLUDES cold start/pending ..., request_latencies metric EXCLUDES it"."""
    released(google, "web-one", [], START_SECONDS="0.7", LATENCY_MS="1", LATENCY_SPREAD="0")
    scaled_to_zero(google)
    assert ask(google)[0] == 200
    (logged,) = entries(google, REQUESTS)
    assert LogEntry.pb(logged).http_request.latency.ToTimedelta() >= timedelta(seconds=0.7)
    (inside,) = series_of(google, "request_latencies")
    assert inside.points[0].value.distribution_value.count == 1
    assert 0 < inside.points[0].value.distribution_value.mean < 700
    (whole,) = series_of(google, "request_latency/e2e_latencies")
    assert whole.points[0].value.distribution_value.mean >= 700


def test_a_request_for_which_no_instance_can_be_started_is_logged_and_not_counted(
    google: Google, tmp_path: Path
) -> None:
    """Fact: "500 (ERROR) / 503 "The request was aborted because there was no available instance."."""
    flag = tmp_path / "breaks"
    program = f"if os.path.exists({str(flag)!r}): sys.exit(1)"
    deployed_as(google, f"import os, sys\n{program}")
    assert ask(google)[0] == 200
    scaled_to_zero(google)
    flag.touch()
    assert ask(google)[0] == 503
    (refused,) = entries(google, f"{REQUESTS} httpRequest.status=503")
    assert refused.text_payload == "The request was aborted because there was no available instance."
    counted = series_of(google, "request_count")
    assert {one.metric.labels["response_code"] for one in counted} == {"200"}


def test_an_instance_finds_its_names_and_its_port_in_the_environment(google: Google) -> None:
    """Fact 5 [D]: "services: PORT, K_SERVICE, K_REVISION, K_CONFIGURATION"."""
    names = ["K_SERVICE", "K_REVISION", "K_CONFIGURATION", "PORT"]
    deployed_as(google, f"import os\nprint('said', *[os.environ[name] for name in {names}], flush=True)")
    (instance,) = all_instances(google)
    wait_until(lambda: entries(google, f'textPayload="said web web-one web {instance["port"]}"'))


def deployed_as(google: Google, first: str) -> None:
    """Deploy the sample service with something to do before it starts."""
    code = f"{first}\nfrom controller.emulator.sample import main\nmain()"
    container = run_v2.Container(command=[sys.executable, "-c", code])
    template = run_v2.RevisionTemplate(revision="web-one", containers=[container])
    google.create_as(run_v2.Service(template=template))
    wait_until(lambda: not google.revision("web-one").reconciling)
    google.settle()
