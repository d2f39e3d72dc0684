"""Annotations as large as Cloud Run takes: a stranger's is kept as it is, and ours is told from rubbish."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from fuzz.targets import assert_plain
from world import World, a_world

from controller.core.record import ANNOTATION
from controller.core.rollout import Event, Phase
from controller.ports import CanaryError, RecordUnreadableError

KIB = 1024
STRANGERS = "example.com/notes"
NOTES = ("\x1b[2J\n\u202e{é🙂}\\ " * 30_000).encode()[: 240 * KIB].decode(errors="ignore")


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as world:
        world.pin()
        world.deploy()
        yield world


def test_a_strangers_240_kib_come_through_a_whole_rollout_byte_for_byte(world: World) -> None:
    world.replace_annotations({STRANGERS: NOTES})
    followed = world.roll_out()
    assert followed.rollout.phase is Phase.PROMOTED
    assert world.service().annotations[STRANGERS] == NOTES


def test_where_strangers_leave_no_room_a_rollout_is_refused_and_nothing_written(world: World) -> None:
    world.replace_annotations({STRANGERS: "x" * (255 * KIB + 900)})
    before = world.service()
    with pytest.raises(CanaryError) as caught:
        world.begin()
    assert_plain(str(caught.value))
    assert "annotation" in str(caught.value)
    assert world.service() == before


def test_a_record_of_250_kib_is_refused_by_every_command_and_not_overwritten(world: World) -> None:
    record = '{"format":1,"id":"' + "x" * (250 * KIB) + '"}'
    world.replace_annotations({ANNOTATION: record})
    before = world.service()
    acts: list[Callable[[], object]] = [world.begin]
    acts += [partial(world.command, event) for event in (Event.ROLLBACK, Event.PAUSE)]
    for act in acts:
        with pytest.raises(RecordUnreadableError, match="longer than") as caught:
            act()
        assert_plain(str(caught.value))
    assert world.service() == before
