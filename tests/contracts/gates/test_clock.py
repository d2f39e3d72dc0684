"""The emulator's clock."""

import asyncio
from datetime import datetime, timedelta

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2

from contracts.conftest import SECONDS, Google, percents, to
from controller.emulator.clock import Clock


def test_what_is_due_happens_in_order_and_at_its_time() -> None:
    clock, seen = Clock(speed=0), []
    begun = clock.now()

    def note(name: str) -> None:
        seen.append((name, (clock.now() - begun).total_seconds()))

    clock.at(begun + timedelta(seconds=20), lambda _: note("late"))
    clock.at(
        begun + timedelta(seconds=10),
        lambda at: clock.at(at + timedelta(seconds=5), lambda _: note("nested")),
    )
    clock.at(begun + timedelta(seconds=10), lambda _: note("early"))
    clock.advance(timedelta(seconds=60))
    assert seen == [("early", 10), ("nested", 15), ("late", 20)]
    assert clock.now() - begun == timedelta(seconds=60)


def test_a_clock_that_runs_by_itself_is_not_moved_by_hand() -> None:
    with pytest.raises(ValueError, match="runs by itself"):
        Clock(speed=60).advance(timedelta(seconds=1))


def test_a_clock_cannot_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        Clock(speed=0).advance(timedelta(seconds=-1))


def test_the_controller_can_read_the_clock(google: Google) -> None:
    ask = google.channel.unary_unary(
        "/canary.emulator.v1.Clock/Now",
        request_serializer=empty_pb2.Empty.SerializeToString,
        response_deserializer=struct_pb2.Struct.FromString,
    )
    google.local.advance(timedelta(seconds=30))
    answer = ask(empty_pb2.Empty(), timeout=SECONDS)
    assert datetime.fromtimestamp(answer["now"], google.local.now().tzinfo) == google.local.now()
    assert answer["speed"] == 0


def test_an_unknown_method_is_unimplemented(google: Google) -> None:
    ask = google.channel.unary_unary("/canary.emulator.v1.Clock/Stop")
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        ask(b"", timeout=SECONDS)


def test_a_jump_forward_runs_what_was_due_in_order() -> None:
    clock = Clock(speed=0)
    seen: list[datetime] = []
    begun = clock.now()
    for second in (30, 10, 20):
        clock.at(begun + timedelta(seconds=second), seen.append)
    clock.jump(timedelta(seconds=25))
    assert seen == [begun + timedelta(seconds=10), begun + timedelta(seconds=20)]
    assert clock.now() == begun + timedelta(seconds=25)


def test_after_a_jump_back_nothing_happens_twice_and_the_rest_when_it_is_due() -> None:
    clock = Clock(speed=0)
    seen: list[datetime] = []
    begun = clock.now()
    for second in (10, 30):
        clock.at(begun + timedelta(seconds=second), seen.append)
    clock.advance(timedelta(seconds=20))
    clock.jump(timedelta(seconds=-15))
    assert clock.now() == begun + timedelta(seconds=5)
    clock.advance(timedelta(seconds=24))
    assert seen == [begun + timedelta(seconds=10)]
    clock.advance(timedelta(seconds=1))
    assert seen == [begun + timedelta(seconds=10), begun + timedelta(seconds=30)]


def test_a_clock_that_runs_by_itself_jumps_and_runs_on() -> None:
    async def jump() -> list[float]:
        clock, reached = Clock(speed=1.0), asyncio.Event()
        begun = clock.now()
        clock.at(begun + timedelta(hours=1), lambda _: reached.set())
        clock.jump(timedelta(minutes=-5))
        back = (clock.now() - begun).total_seconds()
        clock.jump(timedelta(hours=1, minutes=5) - timedelta(milliseconds=20))
        assert not reached.is_set()
        await asyncio.wait_for(reached.wait(), SECONDS)  # the timer was set anew
        return [back, (clock.now() - begun).total_seconds()]

    back, after = asyncio.run(jump())
    assert -300 <= back < -290
    assert 3600 <= after < 3600 + SECONDS


def test_a_clock_does_not_jump_out_of_sight() -> None:
    with pytest.raises(ValueError, match="31 days at most"):
        Clock(speed=0).jump(timedelta(days=-32))


def test_after_a_jump_back_what_was_written_later_stays(google: Google) -> None:
    google.two_revisions()
    google.local.jump_clock(timedelta(minutes=-10))
    before = google.get()
    google.update(traffic=[to("web-two", 100)])
    assert google.get().generation == before.generation + 1
    google.settle()
    assert not google.get().reconciling
    assert percents(google.get()) == {"web-two": 100}
