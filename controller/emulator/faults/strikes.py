"""What each fault does to the call that it strikes."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, assert_never

import grpc
from google.cloud import run_v2

from controller.emulator.calls import Call, Dispatcher, GoOn
from controller.emulator.clock import Clock
from controller.emulator.errors import ApiError
from controller.emulator.faults.armed import Armed
from controller.emulator.faults.fault import (
    AnyCallFault,
    ClockJump,
    DelayFault,
    ErrorFault,
    ForeignWrite,
    LostAnswer,
    Partition,
    SlowOperation,
)
from controller.emulator.faults.values import text_of
from controller.emulator.names import SERVICE

LONGEST_SILENCE: Final = 600.0
"""Real seconds that a caller without a deadline waits for nothing."""
_GRACE: Final = 1.0
"""Real seconds after a caller's deadline: it should give up by itself."""


@dataclass(frozen=True)
class Reach:
    """What a fault can lay hands on."""

    clock: Clock
    direct: Dispatcher
    """The methods without any gates: the way of those who are not meant."""
    hold_up: Callable[[str, timedelta], None]
    """Lets an operation, by its name, end later."""


async def strike(
    armed: Armed, fault: AnyCallFault, call: Call, request: Any, go_on: GoOn, reach: Reach
) -> Any:
    """Return the answer of a call that is struck, or raise ApiError."""
    match fault:
        case ErrorFault():
            raise ApiError(fault.code, fault.message or text_of(fault.code))
        case DelayFault():
            await _wait(fault, reach.clock)
            return await go_on()
        case LostAnswer():
            with contextlib.suppress(ApiError):  # it would not have been heard either
                await go_on()
            await _say_nothing(call, fault)
            raise _refusal(grpc.StatusCode.DEADLINE_EXCEEDED)
        case Partition():
            await _say_nothing(call, fault)
            raise _refusal(grpc.StatusCode.UNAVAILABLE)
        case SlowOperation():
            operation = await go_on()
            reach.hold_up(operation.name, fault.by)
            return operation
        case ClockJump():
            reach.clock.jump(fault.by)
            return await go_on()
        case ForeignWrite():
            return await _beside(armed, fault, request, go_on, reach.direct)
        case _ as unreachable:
            assert_never(unreachable)


def _refusal(code: grpc.StatusCode) -> ApiError:
    return ApiError(code, text_of(code))


async def _wait(fault: DelayFault, clock: Clock) -> None:
    """Wait. Nobody but the caller would move a clock that is moved by hand, and the caller waits, too."""
    if fault.real:
        await asyncio.sleep(fault.by.total_seconds())
    elif not clock.speed:
        clock.jump(fault.by)
    else:
        reached = asyncio.Event()
        clock.at(clock.now() + fault.by, lambda _: reached.set())
        await reached.wait()


async def _say_nothing(call: Call, fault: LostAnswer | Partition) -> None:
    if fault.hang:
        left = LONGEST_SILENCE if call.seconds_left is None else call.seconds_left + _GRACE
        await asyncio.sleep(min(left, LONGEST_SILENCE))


async def _beside(armed: Armed, fault: ForeignWrite, request: Any, go_on: GoOn, direct: Dispatcher) -> Any:
    """Let somebody else write before or after the call; that the write fails is noted, and harms nobody."""
    if fault.when == "after":
        answer = await go_on()
        await _write(armed, fault, request, direct)
        return answer
    await _write(armed, fault, request, direct)
    return await go_on()


async def _write(armed: Armed, fault: ForeignWrite, request: Any, direct: Dispatcher) -> None:
    methods = "/google.cloud.run.v2.Services"
    try:
        name = _service_of(request, fault.service)
        present = await direct.call(f"{methods}/GetService", run_v2.GetServiceRequest(name=name))
        service = run_v2.Service(name=name, annotations={**present.annotations, **fault.annotations})
        service.traffic = [_target(revision, percent) for revision, percent in fault.traffic.items()]
        written = {"annotations": fault.annotations, "traffic": fault.traffic}
        update = run_v2.UpdateServiceRequest(
            service=service, update_mask={"paths": [path for path, values in written.items() if values]}
        )
        await direct.call(f"{methods}/UpdateService", update, fault.writer)
        armed.trouble = ""
    except ApiError as error:
        armed.trouble = error.message


def _service_of(request: Any, chosen: str) -> str:
    """Return the full name of the service that a request is about, or of the chosen one beside it."""
    texts = (getattr(request, field, "") for field in ("name", "parent", "resource", "service"))
    named = [text.name if isinstance(text, run_v2.Service) else text for text in texts]
    text = next((text for text in named if text), "")
    if chosen:
        place = "/".join(text.split("/")[:4])
        return f"{place}/services/{chosen}"
    match = SERVICE.match(text)
    return match[0] if match else ""


def _target(revision: str, percent: int) -> run_v2.TrafficTarget:
    kinds = run_v2.TrafficTargetAllocationType
    if revision == "LATEST":
        return run_v2.TrafficTarget(type_=kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent=percent)
    kind = kinds.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    return run_v2.TrafficTarget(type_=kind, revision=revision, percent=percent)
