"""`canary local fault` and `canary local up --iam`, as a person types them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.shell import Shell
from controller.principal import VARIABLE

pytestmark = pytest.mark.processes

SAMPLE = f"{sys.executable} -m controller.emulator.sample"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell("local", "down")


def test_faults_are_added_listed_and_cleared(canary: Shell) -> None:
    canary.said("local", "up")
    added = canary.said("local", "fault", "add", "error", "--method", "GetService", "--next", "2")
    assert added == "  1  error  method: GetService  next: 2  struck 0 of 0\n"
    canary.said(
        "local",
        "fault",
        "add",
        "foreign-write",
        "--traffic",
        "web-one=100",
        "--annotation",
        "a=b",
        "--for",
        "5m",
    )
    listed = canary.said("local", "fault", "list").splitlines()
    assert listed[0] == added.rstrip("\n")
    assert listed[1] == (
        "  2  foreign-write  for: 300s  traffic: web-one=100  annotations: a=b  struck 0 of 0"
    )
    assert canary.said("local", "fault", "clear", "1") == "1 cleared.\n"
    assert canary.said("local", "fault", "clear") == "1 cleared.\n"
    assert canary.said("local", "fault", "list") == "Nothing goes wrong.\n"
    before = canary.said("local", "fault", "jump", "--by", "10m")
    after = canary.said("local", "fault", "jump", "--by=-1d")
    assert before.startswith("clock: 2")
    assert after < before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "flood"), "kind: 'flood' is not known; write one of error"),
        (("add", "delay"), "by: is missing; add it"),
        (("add", "error", "--method", "UpdateServce"), "did you mean UpdateService?"),
        (("add", "foreign-write", "--traffic", "web-one"), "--traffic must be NAME=VALUE"),
        (("add", "foreign-write", "--traffic", "web-one=all"), "--traffic must be REVISION=PERCENT"),
        (("jump", "--by", "never"), "'never' is no duration"),
    ],
)
def test_what_cannot_be_ends_with_2_and_says_what_to_write(
    canary: Shell, arguments: tuple[str, ...], message: str
) -> None:
    canary.said("local", "up")
    refused = canary("local", "fault", *arguments)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_a_local_cloud_run_or_the_fault_the_next_step_is_told(canary: Shell) -> None:
    assert "canary local up" in canary("local", "fault", "list").stderr
    canary.said("local", "up")
    unknown = canary("local", "fault", "clear", "7")
    assert unknown.returncode == 1
    assert "there is no fault 7" in unknown.stderr
    assert "canary local fault list" in unknown.stderr


def test_behind_a_partition_the_status_says_what_to_look_at(canary: Shell) -> None:
    canary.said("local", "up")
    canary.said("local", "deploy", "web", "--command", SAMPLE)
    canary.said("local", "fault", "add", "partition")
    away = canary("status", "web", "--local")
    assert away.returncode == 7
    assert "the local Cloud Run cannot be reached; check the network, or whether it is up" in away.stderr
    assert "Traceback" not in away.stderr


POLICY = """\
roles:
  canaryController:
  - run.services.get
  - run.revisions.list
bindings:
- role: roles/owner
  members: ["user:owner@example.com"]
- role: canaryController
  members: ["serviceAccount:canary@demo.iam.gserviceaccount.com"]
"""


def test_a_policy_holds_for_the_commands_of_a_principal(canary: Shell, tmp_path: Path) -> None:
    file = tmp_path / "iam.yaml"
    file.write_text(POLICY, encoding="utf-8")
    canary.said("local", "up", "--iam", str(file))
    deploying = ("local", "deploy", "web", "--command", SAMPLE)
    anonymous = canary(*deploying)
    deployed = canary(*deploying, **{VARIABLE: "owner@example.com"})
    as_nobody = canary("status", "web", "--local")
    as_controller = canary("status", "web", "--local", **{VARIABLE: "canary@demo.iam.gserviceaccount.com"})
    as_a_stranger = canary("status", "web", "--local", **{VARIABLE: "stranger@example.com"})
    malformed = canary("status", "web", "--local", **{VARIABLE: "not an address"})

    assert anonymous.returncode == 1
    assert "missing required authentication credential" in anonymous.stderr
    assert (deployed.returncode, deployed.stderr) == (0, "")
    assert as_nobody.returncode == 7
    assert (as_controller.returncode, as_controller.stderr) == (0, "")
    assert "no rollout" in as_controller.stdout
    assert as_a_stranger.returncode == 7
    assert "it needs the permission run.services.get" in as_a_stranger.stderr
    assert malformed.returncode == 2
    assert VARIABLE in malformed.stderr


def test_a_policy_with_mistakes_is_not_started_with(canary: Shell, tmp_path: Path) -> None:
    file = tmp_path / "iam.yaml"
    file.write_text("bindings:\n- role: roles/run.viewr\n  members: [ada]\n", encoding="utf-8")
    refused = canary("local", "up", "--iam", str(file))
    assert refused.returncode == 2
    assert f"{file}:2: there is no role 'roles/run.viewr'" in refused.stderr
    assert f"{file}:3: 'ada' is no member" in refused.stderr
    assert canary("local", "status").returncode == 1
