"""The smoke test, over real HTTP against the local Cloud Run."""

import pytest

from .conftest import Cloud, splits_in

pytestmark = pytest.mark.processes

SMOKE = "version: 1\nsteps: [50%]\nsmoke: /healthz\n"


def test_a_candidate_that_fails_its_smoke_test_never_meets_a_user(cloud: Cloud) -> None:
    name = cloud.two_revisions(ERROR_SHARE="1")
    policy = cloud.file("smoke.yaml", SMOKE)
    with cloud.users(name), cloud.rollout(name, policy) as running:
        code = running.end()
    assert code == 3
    end = running.reports[-1]
    assert end["phase"] == "rolled_back"
    assert "the smoke test failed: GET http://canary-" in end["reason"]
    assert "was answered with 500, not 2xx or 3xx" in end["reason"]
    assert splits_in(running.reports, f"{name}-v2") == [0]
    assert cloud.serving(name) == {"v1": 100}
    assert cloud.tags(name) == set()


def test_a_candidate_that_passes_its_smoke_test_gets_its_first_users(cloud: Cloud) -> None:
    name = cloud.two_revisions()
    policy = cloud.file("smoke.yaml", SMOKE)
    with cloud.rollout(name, policy) as running:
        first = running.until(lambda report: report.get("phase") == "stepping")
    assert first["candidate_percent"] == 50
