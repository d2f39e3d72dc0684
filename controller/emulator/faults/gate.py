"""The gate at which faults strike."""

from collections.abc import Collection
from functools import partial
from itertools import count
from typing import Any

from controller.emulator.calls import Call, Gate, GoOn
from controller.emulator.faults.armed import Armed
from controller.emulator.faults.fault import CallFault, parse_fault
from controller.emulator.faults.metrics import show
from controller.emulator.faults.strikes import Reach, strike
from controller.emulator.monitoring.visibility import Visibility


class FaultGate(Gate):
    """Holds the faults that were asked for, and lets each call meet those that match it, oldest first."""

    def __init__(self, methods: Collection[str], reach: Reach, visibility: Visibility) -> None:
        self._methods = methods
        self._reach = reach
        self._visibility = visibility
        self._armed: dict[int, Armed] = {}
        self._numbers = count(1)

    def add(self, description: Any) -> Armed:
        """Ask for a fault; raises FaultInvalid."""
        fault = parse_fault(description, self._methods)
        clock = self._reach.clock
        armed = Armed(next(self._numbers), fault, clock.now())
        self._armed[armed.number] = armed
        if not isinstance(fault, CallFault):
            self._show_metrics()
            if fault.lasts is not None:
                clock.at(armed.since + fault.lasts, lambda _: self._show_metrics())
        return armed

    def all(self) -> list[dict[str, Any]]:
        """Return every fault with its count, those that are over too."""
        now = self._reach.clock.now()
        return [armed.shown(now) for armed in self._armed.values()]

    def clear(self, number: int | None = None) -> int:
        """Forget one fault, or all; return how many were forgotten."""
        before = len(self._armed)
        for gone in [number] if number is not None else list(self._armed):
            self._armed.pop(gone, None)
        self._show_metrics()
        return before - len(self._armed)

    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Answer as the faults let it."""
        for armed in reversed([armed for armed in self._armed.values() if armed.takes(call)]):
            if isinstance(armed.fault, CallFault):
                go_on = partial(strike, armed, armed.fault, call, request, go_on, self._reach)
        return await go_on()

    def _show_metrics(self) -> None:
        now = self._reach.clock.now()
        show(self._visibility, [one.fault for one in self._armed.values() if not one.is_over(now)])
