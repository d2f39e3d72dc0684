"""What `canary doctor` tells people to type is known to gcloud."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import NOW, a_policy, a_service

from controller.core.observation import RevisionState, ServiceState
from controller.core.preflight import check_service
from controller.core.traffic import Target

from .gcloud_help import help_of, needs_gcloud

POLICY = a_policy(steps=["5%"], smoke=["/health"])


def troubled() -> list[tuple[ServiceState, list[RevisionState]]]:
    """Return services with all that can endanger a canary, as far as it goes together."""
    service = a_service()
    newest = service.latest_created
    bad = RevisionState(newest, NOW, session_affinity=True, least_instances=1, most_instances=1)
    three = tuple(Target(name, share) for name, share in (("a", 50), ("b", 30), ("c", 20)))
    return [
        (replace(service, manual_instances=3, has_default_url=False, checks_deployments=False), [bad]),
        (replace(service, most_instances=3, traffic=(Target("", 40), Target(newest, 60))), [bad]),
        (replace(service, traffic=three, served=three), []),
    ]


@needs_gcloud
@pytest.mark.processes
def test_each_command_and_option_is_known_to_gcloud(tmp_path: Path) -> None:
    todo = [found.todo for each in troubled() for found in check_service(*each, POLICY)]
    used: dict[str, set[str]] = {}
    typed = r"gcloud ((?:beta )?run services update(?:-traffic)?) ([^;,]*)"
    for command, rest in re.findall(typed, " ; ".join(todo)):
        used.setdefault(command, set()).update(re.findall(r"--[a-z-]+", rest))
    assert {"beta run services update", "run services update", "run services update-traffic"} <= used.keys()
    for command, options in used.items():
        known = set(re.findall(r"--(?:\[no-\])?([a-z-]+)", help_of(tmp_path, command)))
        assert {each.removeprefix("--").removeprefix("no-") for each in options} <= known, command
