"""The watch: sweeps over all services, one after the other, without an end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from controller.engine.outside import Outside
from controller.engine.sweep import Checked, Memories, sweep
from controller.ports import CanaryError

log = structlog.get_logger()

MISSED = 3
"""So many periods without a sweep that works are a sign that something is wrong."""


@dataclass
class Pulse:
    """When the last sweep worked, or the watch began."""

    every: timedelta
    begun: datetime
    last: datetime | None = None

    def is_well(self, now: datetime) -> bool:
        """Tell whether sweeps come as they should."""
        return now - (self.last or self.begun) <= MISSED * self.every


def watch(
    outside: Outside,
    pulse: Pulse,
    on_checked: Callable[[Checked], None],
    on_swept: Callable[[], None],
) -> None:
    """Sweep again and again; what fails is logged, and tried again at the next turn."""
    memories = Memories()

    def beating(checked: Checked) -> None:
        pulse.last = outside.clock.now()  # one service may take minutes, and that is no sign of trouble
        on_checked(checked)

    while True:
        begun = outside.clock.now()
        try:
            sweep(outside, beating, memories)
            pulse.last = outside.clock.now()
            on_swept()
        except CanaryError as error:
            log.warning("a sweep failed; the next will be made all the same", error=str(error))
        taken = outside.clock.now() - begun
        outside.clock.sleep(max(0.0, (pulse.every - taken).total_seconds()))
