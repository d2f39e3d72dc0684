"""A user's connection to the front: requests parsed as they arrive, and answered in their order."""

import asyncio
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, cast

from controller.emulator.serving.answering import Answering
from controller.emulator.serving.deadline import Deadline
from controller.emulator.serving.exchange import TOO_LARGE, TOO_LARGE_STATUS
from controller.emulator.serving.heads import LARGEST_HEAD, Request, own_answer
from controller.emulator.serving.lookout import Lookout
from controller.emulator.serving.request_parser import Refusal, RequestParser

if TYPE_CHECKING:
    from controller.emulator.serving.front import Front

LARGEST_BODY = 32 * 1024 * 1024
"""Of a request over HTTP/1 (cloud.google.com/run/quotas)."""
LINGER_SECONDS = 2.0
"""How long a user who is still sending is listened to after a refusal, so that it can be read."""
_NOT_FOUND = 404
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Mode(Enum):
    """What is done with what the user sends."""

    PARSED = auto()
    HELD = auto()
    """A switch of protocols is asked for, and the instance has not answered yet."""
    TUNNELLED = auto()
    DROPPED = auto()


class ClientConnection(asyncio.BufferedProtocol):
    """One connection of a user."""

    def __init__(self, front: "Front") -> None:
        self.peer = b""
        self._front = front
        self._buffer = front.buffer
        self._view = memoryview(front.buffer)
        self._transport: asyncio.Transport | None = None
        self._mode = Mode.PARSED
        self._parser = RequestParser()
        self._waiting = self._parser.found
        self._deadline = Deadline(front.loop, self._late)
        self._exchange: Answering | None = None
        self._held = b""
        self._lookout = Lookout(front.loop)
        self._is_full = self._is_paused = self._is_closing = False
        self._is_hurried = False
        """The limit for a head is running."""

    # What the exchange does with it.

    def write(self, data: bytes) -> None:
        """Send something to the user."""
        if self._transport is not None and data:
            self._transport.write(data)

    def answered(self, request: Request) -> None:
        """Go on to the next request: this one's answer is written to its end."""
        self._exchange = None
        if not request.keeps_alive or self._is_closing:
            self._close()
            return
        if self._mode is Mode.HELD and not self._waiting:
            self._resume_parsing()
        self._advance()

    def answer_whole(self, request: Request, status: int, text: str, lines: bytes = b"") -> None:
        """Write a whole answer, with these lines in its head, and go on to the next request."""
        request.keeps_alive = request.keeps_alive and request.is_complete
        self._write_own(request, status, text, lines)
        self.answered(request)

    def hang_up(self, *, at_once: bool = True) -> None:
        """Break the connection off, or close it once everything is sent."""
        self._exchange = None
        self._mode = Mode.DROPPED
        if self._transport is not None:
            if at_once:
                self._transport.abort()
            else:
                self._transport.close()

    def tell_to_continue(self) -> None:
        """Let a user send the body who asked before."""
        if self._exchange is not None and self._exchange.request.version == "1.1":
            self.write(_CONTINUE)

    def become_tunnel(self) -> None:
        """Parse no more: from now on bytes go to the instance as they are."""
        self._mode = Mode.TUNNELLED
        held, self._held = self._held, b""
        if held and self._exchange is not None:
            self._exchange.raw_came(held)
        self.regulate()

    def connection_line(self, request: Request) -> bytes:
        """Return what the head of an answer says of this connection."""
        if not request.keeps_alive or self._is_closing:
            return b"Connection: close\r\n"
        return b"" if request.version == "1.1" else b"Connection: keep-alive\r\n"

    def limit_time(self, at: float) -> None:
        """Let the request under way take no longer than until then."""
        self._deadline.set(at)

    def regulate(self) -> None:
        """Listen to the user only as long as there is room for what comes."""
        is_paused = bool(self._waiting) or len(self._held) > LARGEST_HEAD
        is_paused = is_paused or (self._exchange is not None and self._exchange.is_full)
        if is_paused is self._is_paused or self._transport is None or self._transport.is_closing():
            return
        self._is_paused = is_paused
        if is_paused:
            self._transport.pause_reading()
            self._lookout.watch(self._transport)
        else:
            self._lookout.stop()
            self._transport.resume_reading()

    def shut(self) -> None:
        """Close for good, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop does with it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the connection."""
        self._transport = cast("asyncio.Transport", transport)  # a TCP connection's always is
        self._front.clients.add(self)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0].encode() if peer else b""
        self._deadline.set(self._front.loop.time() + self._front.head_seconds)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._mode is Mode.PARSED:
            self._parse(self._view[:nbytes])
        elif self._mode is Mode.TUNNELLED and self._exchange is not None:
            self._exchange.raw_came(bytes(self._view[:nbytes]))
        elif self._mode is Mode.HELD:
            self._held += bytes(self._view[:nbytes])

    def eof_received(self) -> None:
        """Take the end of what the other side sends."""
        self._give_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Take leave of the connection."""
        self._give_up()
        self._deadline.clear()
        self._lookout.stop()
        self._transport = None
        self._mode = Mode.DROPPED
        self._front.clients.discard(self)
        self._parser.close()

    def pause_writing(self) -> None:
        """Hear that the other side does not read as fast as we write."""
        self._is_full = True
        if self._exchange is not None:
            self._exchange.client_is_full(True)

    def resume_writing(self) -> None:
        """Hear that the other side has caught up."""
        self._is_full = False
        if self._exchange is not None:
            self._exchange.client_is_full(False)
        else:
            self._advance()

    # In between.

    def _parse(self, data: memoryview) -> None:
        incoming = self._parser.incoming
        try:
            rest = self._parser.feed(data)
        except Refusal as refusal:
            self._stop_parsing(refusal)
        else:
            if rest is not None:
                self._mode, self._held = Mode.HELD, rest
        self._body_came(incoming)
        self._advance()

    def _stop_parsing(self, refusal: Refusal) -> None:
        """Refuse once everything that came before is answered, and understand nothing more."""
        self._mode = Mode.DROPPED
        broken = self._parser.incoming
        if broken is None:
            self._waiting.append(refusal)
        elif self._exchange is not None and self._exchange.request is broken:
            self._exchange.refuse(refusal.status, str(refusal))
        elif self._waiting and self._waiting[-1] is broken:
            self._waiting[-1] = refusal
        else:  # it is answered already
            self._close()

    def _body_came(self, request: Request | None) -> None:
        """Hand on what came of the body of a request that had begun before."""
        exchange = self._exchange
        if request is None or exchange is None or exchange.request is not request:
            if request is not None:
                self._drop_body(request)
            return
        if request.body_bytes > LARGEST_BODY:
            exchange.refuse(TOO_LARGE_STATUS, TOO_LARGE)
        else:
            exchange.body_came()

    def _drop_body(self, request: Request) -> None:
        """Let the rest of a body pass whose request is answered already."""
        request.body.clear()
        if request.body_bytes > LARGEST_BODY:
            self._close()

    def _advance(self) -> None:
        """Begin with the next request, unless one is under way or the user does not read the answers."""
        while self._waiting and self._exchange is None and not self._is_full and not self._is_closing:
            self._begin(self._waiting.popleft())
        self.regulate()
        if self._exchange is None and not self._is_closing:
            self._set_patience()

    def _begin(self, request: Request | Refusal) -> None:
        if isinstance(request, Refusal):
            self.write(own_answer(request.status, f"{request}\n", keeps_alive=False))
            self._close()
            return
        exchange = self._front.exchange(self, request)
        if exchange is None:
            request.keeps_alive = request.keeps_alive and request.is_complete and self._mode is Mode.PARSED
            self._write_own(request, _NOT_FOUND, self._front.explanation(request.host))
            if not request.keeps_alive:
                self._close()
            return
        self._deadline.suspend()
        self._is_hurried = False
        self._exchange = exchange
        if request.content_length > LARGEST_BODY or request.body_bytes > LARGEST_BODY:
            exchange.refuse(TOO_LARGE_STATUS, TOO_LARGE)
        else:
            exchange.begin()

    def _write_own(self, request: Request, status: int, text: str, lines: bytes = b"") -> None:
        has_body, keeps_alive = request.method != b"HEAD", request.keeps_alive
        self.write(own_answer(status, text, lines, keeps_alive=keeps_alive, has_body=has_body))

    def _set_patience(self) -> None:
        """Limit how long a head may take, or how long an idle connection stays."""
        if self._parser.is_between:
            self._is_hurried = False
            self._deadline.set(self._front.loop.time() + self._front.idle_seconds)
        elif not self._is_hurried:
            self._is_hurried = True
            self._deadline.set(self._front.loop.time() + self._front.head_seconds)

    def _late(self) -> None:
        if self._exchange is not None:
            self._exchange.timed_out()
        elif self._transport is not None:
            self._transport.abort()

    def _give_up(self) -> None:
        """Take the end of the connection: nobody reads answers any more."""
        self._waiting.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def _close(self) -> None:
        """Close once everything is sent, listening a while to a user who is still sending."""
        self._is_closing = True
        self._waiting.clear()
        transport = self._transport
        if transport is None:
            return
        is_flushed = not transport.get_write_buffer_size()
        patience = LINGER_SECONDS if is_flushed else self._front.idle_seconds
        self._deadline.set(self._front.loop.time() + patience)
        is_sending = self._parser.incoming is not None or self._mode is Mode.DROPPED
        self._mode = Mode.DROPPED
        if is_sending and transport.can_write_eof() and not transport.is_closing():
            with suppress(OSError):  # the user is gone, which we are told next
                transport.write_eof()
            self.regulate()
        else:
            transport.close()

    def _resume_parsing(self) -> None:
        """Take what follows as HTTP: the instance did not switch."""
        self._mode = Mode.PARSED
        self._parser.begin_anew()
        held, self._held = self._held, b""
        if held:
            self._parse(memoryview(held))
