"""Clocks: the machine's, and that of a local Cloud Run, which may run faster."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import grpc
from google.api_core.exceptions import from_grpc_error
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct

from controller.gateways.calls import Caller
from controller.ports import Clock, TransientError


class SystemClock(Clock):
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds."""
        time.sleep(seconds)


class EmulatorClock(Clock):
    """The clock of a local Cloud Run, asked for at each use, so that it may jump or stand still."""

    def __init__(self, channel: grpc.Channel, sleep: Callable[[float], None] = time.sleep) -> None:
        """Ask over this channel; `sleep` waits, in real time, before a reading is tried again."""
        self._caller = Caller("the local Cloud Run", sleep)
        self._last: Any = None
        self._last_at = 0.0
        self._method: Any = channel.unary_unary(
            "/canary.emulator.v1.Clock/Now",
            request_serializer=Empty.SerializeToString,
            response_deserializer=Struct.FromString,
        )

    def now(self) -> datetime:
        """Return the emulator's time in UTC."""
        return datetime.fromtimestamp(self._read()["now"], UTC)

    def sleep(self, seconds: float) -> None:
        """Wait until the emulator's clock has gone so many seconds on."""
        state = self._read()
        until = state["now"] + seconds
        while state["now"] < until:
            speed = state["speed"] or 1000.0
            time.sleep(min(1.0, max(0.001, (until - state["now"]) / speed)))
            state = self._read()

    def _read(self) -> Any:
        """Return the clock's time and speed; one that cannot be asked for a while is taken to run on."""
        try:
            state = self._caller.read(
                self._now, Empty(), doing="reading the local Cloud Run's clock", permission="nothing"
            )
        except TransientError:
            if self._last is None or not self._last["speed"]:
                raise
            ahead = (time.monotonic() - self._last_at) * self._last["speed"]
            return {"now": self._last["now"] + ahead, "speed": self._last["speed"]}
        self._last, self._last_at = state, time.monotonic()
        return state

    def _now(self, request: Empty, *, timeout: float, retry: None) -> Any:
        """Ask as Google's clients do: they alone know of `retry`, and name gRPC's errors."""
        del retry
        try:
            return self._method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise from_grpc_error(error) from error
