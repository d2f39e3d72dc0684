"""Requests that wait for room in an instance, in the order of their coming."""

import asyncio
from collections.abc import Callable

from controller.emulator.serving.instances import Instance

TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503
NO_INSTANCE = "The request was aborted because there was no available instance."


class NoInstanceError(Exception):
    """A request that no instance could take; the platform answers it with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(NO_INSTANCE)
        self.status = status


class Pending:
    """A queue whose requests may give up at any time. A place that is given is taken, or given back."""

    def __init__(self, give_back: Callable[[Instance], None]) -> None:
        self._give_back = give_back
        self._places: dict[asyncio.Future[Instance], None] = {}

    def __len__(self) -> int:
        return len(self._places)

    async def wait(self, seconds: float) -> Instance:
        """Wait for a place, so many real seconds; raises NoInstanceError."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Instance] = loop.create_future()
        self._places[place] = None
        timer = loop.call_later(seconds, self._refuse, place, TOO_MANY_REQUESTS)
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._give_back(place.result())
            raise
        finally:
            timer.cancel()
            self._places.pop(place, None)

    def serve(self, take: Callable[[], Instance | None]) -> None:
        """Give places to those who wait, the first one first, as long as there is room."""
        while self._places:
            place = next(iter(self._places))
            if not place.done():
                instance = take()
                if instance is None:
                    return
                place.set_result(instance)
            del self._places[place]

    def refuse_all(self, status: int) -> None:
        """Send everybody away."""
        for place in list(self._places):
            self._refuse(place, status)

    def _refuse(self, place: asyncio.Future[Instance], status: int) -> None:
        self._places.pop(place, None)
        if not place.done():
            place.set_exception(NoInstanceError(status))
