"""Looks now and then whether a user is still there to whom nobody listens for the moment."""

import asyncio
import socket

WATCH_SECONDS = 1.0
_ESTABLISHED = 1
"""TCP_ESTABLISHED of netinet/tcp.h."""


class Lookout:
    """Breaks off a connection that is not being read when the other side has closed it."""

    __slots__ = ("_loop", "_timer", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def watch(self, transport: asyncio.Transport) -> None:
        """Look at a connection until told to stop."""
        self._transport = transport
        if self._timer is None:
            self._timer = self._loop.call_later(WATCH_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more. The timer stays for the next time: reading stops and goes on often."""
        self._transport = None

    def _look(self) -> None:
        self._timer = None
        transport = self._transport
        if transport is None:
            return
        if _has_left(transport.get_extra_info("socket")):
            transport.abort()
        else:
            self.watch(transport)


def _has_left(connection: socket.socket) -> bool:
    """Return whether the other side has closed a connection; only Linux tells of one that is not read."""
    if not hasattr(socket, "TCP_INFO"):
        return False
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _ESTABLISHED
