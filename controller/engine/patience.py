"""Patience: trying again over lost races and outages, as long as it makes sense."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from controller.engine.outside import Outside
from controller.ports import ConflictError, ThrottledError, TransientError

log = structlog.get_logger()

RACE_PAUSE = 1.0
"""Seconds until a decision that somebody else made void is made again."""
OUTAGE_PAUSE = 3.0
"""Seconds until a call that failed, after all the tries of its gateway, is made again."""
AT_FIRST = timedelta(minutes=1)
"""How long an API may be out of reach when a command begins: a wrong address does not mend itself."""

T = TypeVar("T")


def until_it_works(outside: Outside, patience: timedelta, attempt: Callable[[], T]) -> T:
    """Return what the attempt returns; raises its last error when patience is over."""
    failing_since: datetime | None = None
    while True:
        try:
            return attempt()
        except (ConflictError, TransientError) as error:
            now = outside.clock.now()
            failing_since = failing_since or now
            if now - failing_since >= patience:
                raise
            tell = log.info if isinstance(error, ConflictError) else log.warning  # races are daily life
            tell("trying again", error=str(error))
            outside.clock.sleep(_wait_after(error))


def _wait_after(error: ConflictError | TransientError) -> float:
    match error:
        case ConflictError():
            return RACE_PAUSE
        case ThrottledError():
            return error.wait
        case _:
            return OUTAGE_PAUSE
