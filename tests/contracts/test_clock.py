"""The emulator's clock."""

from datetime import datetime, timedelta

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2

from controller.emulator.clock import Clock

from .conftest import SECONDS, Google


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
