"""A connection from the front to an instance: requests are written, answers parsed as they arrive."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from controller.emulator.serving.heads import LARGEST_HEAD, Answer, Fields
from controller.emulator.serving.instances import Instance

_CONTINUE, _SWITCHING = 100, 101
_FINAL = 200


class Asker(Protocol):
    """Who waits for the answer that comes over a connection."""

    def connected(self, connection: "InstanceConnection") -> None:
        """Send the request: the connection is there."""

    def answered(self, connection: "InstanceConnection") -> None:
        """Take what has come of the answer."""

    def broke(self, connection: "InstanceConnection | None") -> None:
        """Give up or ask anew: the connection failed, or what came over it is no HTTP."""

    def tunnelled(self, data: bytes) -> None:
        """Take bytes that came after the protocol was switched."""

    def instance_is_full(self, is_full: bool) -> None:
        """Send no more for now, or go on."""


class InstanceConnection(asyncio.BufferedProtocol):
    """One connection; it answers one request after the other."""

    def __init__(self, instance: Instance, asker: Asker, buffer: bytearray) -> None:
        self.instance = instance
        self.was_used = False
        self.idle_since = 0.0
        self.answer: Answer | None = None
        self.is_complete = False
        self.body: list[bytes] = []
        """What has come of the answer's body and is not yet taken."""
        self.on_idle_lost: Callable[[InstanceConnection], None] | None = None
        self._asker: Asker | None = asker
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._fields: Fields = []
        self._reason = b""
        self._status = 0
        self._keeps_alive = False
        self._ends_with_connection = False
        self._is_head_only = False
        self._is_tunnel = False
        self._has_received = self._is_paused = False
        self._silent = 0
        """Bytes since something of the answer was understood."""

    # What the exchange does with it.

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has come back for the present request."""
        return not self._has_received

    @property
    def is_reusable(self) -> bool:
        """Whether another request may follow the one that is answered."""
        return self._keeps_alive and self.is_complete and self._transport is not None

    def ask(self, asker: Asker, head: bytes, *, is_head_only: bool) -> None:
        """Send a request's head, and whatever of its body goes with it."""
        self._asker, self._is_head_only = asker, is_head_only
        self.answer, self.is_complete, self._has_received = None, False, False
        self.write(head)

    def write(self, data: bytes) -> None:
        """Send some more of the request."""
        if self._transport is not None and data:
            self._transport.write(data)

    def let_go(self) -> None:
        """Belong to nobody from now on."""
        self._asker = None
        self.was_used = True
        if self._is_paused:
            self.set_reading(True)

    def drop(self) -> None:
        """Break the connection off."""
        self._asker = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self._asker = None
        if self._transport is not None:
            self._transport.close()

    def set_reading(self, is_reading: bool) -> None:
        """Stop taking the answer, or go on."""
        if self._transport is None or self._transport.is_closing():
            return
        self._is_paused = not is_reading
        if is_reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # What the event loop does with it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the connection."""
        self._transport = cast("asyncio.Transport", transport)  # a TCP connection's always is
        if self._asker is None:
            self._transport.abort()
        else:
            self._asker.connected(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        asker = self._asker
        if asker is None:
            self.drop()
        elif self._is_tunnel:
            asker.tunnelled(bytes(self._view[:nbytes]))
        else:
            self._has_received = True
            self._silent += nbytes
            try:
                self._parser.feed_data(self._view[:nbytes])
            except httptools.HttpParserUpgrade as upgrade:
                self._switch(asker, bytes(self._view[upgrade.args[0] : nbytes]))
            except httptools.HttpParserCallbackError:
                raise
            except httptools.HttpParserError:
                self._break(asker)
            else:
                if self._silent > LARGEST_HEAD:
                    self._break(asker)
                elif self.answer is not None:
                    asker.answered(self)

    def eof_received(self) -> None:
        """Take the end of what the other side sends."""
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take leave of the connection."""
        self._end(exc)
        self._transport = None
        del self._parser  # the two refer to one another

    def pause_writing(self) -> None:
        """Hear that the other side does not read as fast as we write."""
        if self._asker is not None:
            self._asker.instance_is_full(True)

    def resume_writing(self) -> None:
        """Hear that the other side has caught up."""
        if self._asker is not None:
            self._asker.instance_is_full(False)

    def _end(self, exc: Exception | None) -> None:
        """Take the end of the connection: the end of the answer, or a failure."""
        asker = self._asker
        if asker is None:
            if self.on_idle_lost is not None:
                self.on_idle_lost(self)
        elif self._is_tunnel:
            self._break(asker)
        elif self._ends_with_connection and exc is None and not self.is_complete:
            self.is_complete, self._keeps_alive = True, False
            asker.answered(self)
        elif not self.is_complete:
            self._break(asker)

    def _break(self, asker: Asker) -> None:
        self._asker, self._keeps_alive = None, False
        asker.broke(self)

    def _switch(self, asker: Asker, rest: bytes) -> None:
        self._is_tunnel, self._keeps_alive = True, False
        if self.answer is None:
            self._break(asker)
            return
        asker.answered(self)
        if rest and self._asker is not None:
            asker.tunnelled(rest)

    # What the parser finds.

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._fields = []
        self._reason = b""
        if self.is_complete or self._asker is None:
            self._keeps_alive = False  # more than was asked for

    def on_status(self, status: bytes) -> None:
        """Take the reason phrase."""
        self._reason = status

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Read the head."""
        if self.is_complete:
            return
        self._status = status = self._parser.get_status_code()
        if _CONTINUE <= status < _FINAL and status != _SWITCHING:
            return
        self._silent = 0
        self._keeps_alive = self._parser.should_keep_alive()
        self.answer = answer = Answer(status, self._reason)
        answer.read(self._fields)
        self._ends_with_connection = not answer.is_chunked and answer.content_length is None
        if self._is_head_only:
            self.is_complete = True
            self._parser = httptools.HttpResponseParser(self)  # which expects no body to come

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._silent = 0
        if self.is_complete:
            self._keeps_alive = False
        else:
            self.body.append(body)

    def on_message_complete(self) -> None:
        """End the answer."""
        self._silent = 0
        if self.answer is not None:
            self.is_complete = True
