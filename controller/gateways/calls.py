"""Calls to Google: each has a timeout, a read is tried again where its error lets hope, a write never is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from tenacity import RetryCallState, Retrying, wait_random_exponential

from controller.gateways.google_errors import asked_wait, translated
from controller.ports import TransientError

READ_SECONDS = 10.0
"""For one try of a read; the clients' own default is to wait for ever for some of them."""
WRITE_SECONDS = 15.0
BUDGET = 30.0
"""Seconds for all tries, waits and pages of one read, so that a pass over a service comes to an end."""
LEAST_SECONDS = 0.2
"""With less than this left, no try is worth its while."""
TRIES: Mapping[type[Exception], int] = {
    api.ServiceUnavailable: 5,  # it did not get through, or the server sheds load; it mostly passes at once
    api.InternalServerError: 3,
    api.Unknown: 3,
    api.Cancelled: 3,
    auth.TransportError: 3,
    TransientError: 3,  # what a gateway itself finds wrong with an answer
    api.GatewayTimeout: 2,  # each try of these may last for all of its seconds
}
"""How often a read is tried in all when this is how the last try failed.

All else is never tried again: it is permanent, somebody else wrote, or the calls of a whole minute are used
up (RESOURCE_EXHAUSTED), so that more of them do harm.
"""

_jittered = wait_random_exponential(multiplier=0.3, max=5)


class Budget:
    """The real seconds that a read has left, with all its tries, waits and pages."""

    def __init__(self, seconds: float = BUDGET) -> None:
        self._end = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; less than 0 when they are used up."""
        return self._end - monotonic()

    def next_timeout(self) -> float:
        """Return the seconds that the next try may take; raises DeadlineExceeded when there are none left."""
        if self.left < LEAST_SECONDS:
            raise api.DeadlineExceeded("all the time for this read is used up")
        return min(READ_SECONDS, self.left)


@dataclass(frozen=True)
class Caller:
    """Calls the methods of Google's clients; no gateway calls one past it.

    A method takes a request, a `timeout` in seconds, and a `retry`, which is always None: the clients' own
    retries know neither the budget nor the clock of the one who waits.
    """

    endpoint: str
    """What is called, as people know it."""
    sleep: Callable[[float], None]

    def read(
        self,
        method: Callable[..., Any],
        request: Any,
        *,
        doing: str,
        permission: str,
        budget: Budget | None = None,
    ) -> Any:
        """Return the answer to a read; raises the errors of `ports.py`."""
        budget = budget or Budget()

        def attempt() -> Any:
            return method(request, timeout=budget.next_timeout(), retry=None)

        trying = Retrying(
            retry=_lets_hope,
            wait=_wait,
            stop=lambda state: budget.left < state.upcoming_sleep + LEAST_SECONDS,
            sleep=self.sleep,
            reraise=True,
        )
        with translated(doing, self.endpoint, permission):
            return trying(attempt)

    def pages(
        self,
        method: Callable[..., Any],
        request: Any,
        *,
        doing: str,
        permission: str,
        budget: Budget | None = None,
    ) -> Iterator[Any]:
        """Yield the pages of a list, each with tries of its own, all within one budget.

        A page may be empty and not be the last.
        """
        budget = budget or Budget()
        request = type(request)(request)  # the caller keeps its own, without a page token

        def first_page(asked: Any, **options: Any) -> Any:
            return next(iter(method(asked, **options).pages))

        while True:
            page = self.read(first_page, request, doing=doing, permission=permission, budget=budget)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def write(self, method: Callable[..., Any], request: Any, *, doing: str, permission: str) -> Any:
        """Make a write, once: one whose answer is lost may have been carried out."""
        with translated(doing, self.endpoint, permission):
            return method(request, timeout=WRITE_SECONDS, retry=None)


def _lets_hope(state: RetryCallState) -> bool:
    """Say whether a try that has failed is worth another."""
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    most = next((tries for kind, tries in TRIES.items() if isinstance(error, kind)), 1)
    return state.attempt_number < most


def _wait(state: RetryCallState) -> float:
    """Return how long to wait before the next try: at random, so that many do not come back together."""
    error = state.outcome.exception() if state.outcome else None
    return max(_jittered(state), asked_wait(error) if error else 0.0)
