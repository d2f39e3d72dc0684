"""The least role of a controller: a rollout works with it, and without any one permission it says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from world import CONTROLLER, OWNER, SERVICE, World, a_world

from controller.core.rollout import Event, Phase
from controller.engine.audit import unlogged_of
from controller.ports import DeniedError

AUDIT = "logging.logEntries.create"
LEAST = (
    "run.services.get",
    "run.services.update",
    "run.revisions.get",
    "run.revisions.list",
    "monitoring.timeSeries.list",
    AUDIT,
)
ACT_AS = "iam.serviceAccounts.actAs"


@contextmanager
def a_world_with(permissions: set[str], folder: Path, act_as: str = "template") -> Iterator[World]:
    """Give a world where the controller holds these permissions, and nothing else."""
    file = folder / "iam.yaml"
    file.write_text(
        f"act_as: {act_as}\n"
        f"roles:\n  canaryController: [{', '.join(sorted(permissions))}]\n"
        f"bindings:\n- role: roles/owner\n  members: ['user:{OWNER}']\n"
        f"- role: canaryController\n  members: ['serviceAccount:{CONTROLLER}']\n",
        encoding="utf-8",
    )
    with a_world(iam=str(file)) as world:
        world.pin()
        yield world


def test_the_least_role_takes_a_rollout_to_its_end(tmp_path: Path) -> None:
    with a_world_with(set(LEAST), tmp_path) as world:
        candidate = world.deploy()
        world.roll_out()
        assert world.phases[-1][0] is Phase.PROMOTED
        assert world.serving() == {candidate: 100}


def test_it_takes_a_bad_candidate_back_too(tmp_path: Path) -> None:
    with a_world_with(set(LEAST), tmp_path) as world:
        stable = world.newest()
        world.deploy(ERROR_SHARE="0.5")
        world.roll_out()
        assert world.phases[-1][0] is Phase.ROLLED_BACK
        assert world.serving() == {stable: 100}


def test_it_lets_people_pause_and_roll_back(tmp_path: Path) -> None:
    with a_world_with(set(LEAST), tmp_path) as world:
        stable = world.newest()
        world.deploy()
        world.begin()
        assert world.commanded(Event.PAUSE).phase is Phase.PAUSED
        assert world.commanded(Event.ROLLBACK).phase is Phase.ROLLED_BACK
        assert world.serving() == {stable: 100}


def test_where_every_write_acts_as_the_services_account_that_is_one_more(tmp_path: Path) -> None:
    with a_world_with({*LEAST, ACT_AS}, tmp_path, act_as="always") as world:
        candidate = world.deploy()
        world.roll_out()
        assert world.serving() == {candidate: 100}


def test_without_the_audit_log_it_goes_on_and_keeps_what_is_to_be_logged(tmp_path: Path) -> None:
    with a_world_with(set(LEAST) - {AUDIT}, tmp_path) as world:
        candidate = world.deploy()
        assert world.roll_out().rollout.phase is Phase.PROMOTED
        assert world.serving() == {candidate: 100}
        assert len(unlogged_of(world.outside.cloud_run.read_service(SERVICE))) >= 5


@pytest.mark.parametrize("missing", [permission for permission in LEAST if permission != AUDIT])
def test_without_any_one_the_command_ends_and_names_it(tmp_path: Path, missing: str) -> None:
    with a_world_with(set(LEAST) - {missing}, tmp_path) as world:
        stable = world.newest()
        world.deploy()
        with pytest.raises(DeniedError, match=missing):
            world.roll_out()
        assert world.serving().keys() >= {stable}


def test_without_the_account_the_command_ends_and_names_it(tmp_path: Path) -> None:
    with a_world_with(set(LEAST), tmp_path, act_as="always") as world:
        stable = world.newest()
        world.deploy()
        with pytest.raises(DeniedError, match=r"iam\.serviceaccounts\.actAs"):
            world.roll_out()
        assert world.serving() == {stable: 100}
