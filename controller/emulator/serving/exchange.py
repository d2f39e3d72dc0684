"""One request on its way: to an instance and back, measured and logged, its place given back once."""

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from controller.emulator.serving.answering import Answering
from controller.emulator.serving.heads import LAST_CHUNK, Answer, Request, affinity_line, chunk
from controller.emulator.serving.instance_connection import InstanceConnection
from controller.emulator.serving.instances import Instance
from controller.emulator.serving.pending import NoInstanceError
from controller.emulator.serving.pool import Pool

if TYPE_CHECKING:
    from controller.emulator.serving.client_connection import ClientConnection
    from controller.emulator.serving.process_front import ProcessFront

CONNECTION_FAILED = (
    "The request failed because either the HTTP response was malformed or connection to the instance "
    "had an error."
)
TIMED_OUT = "The request has been terminated because it has reached the maximum request timeout."
TOO_LARGE = "The request was refused because its body is larger than 32 MiB, the limit of HTTP/1."
CLIENT_GONE = "The client closed the connection before the response was complete."
BAD_REQUEST, TOO_LARGE_STATUS, CLIENT_GONE_STATUS = 400, 413, 499
UNAVAILABLE, TIMED_OUT_STATUS = 503, 504
"""499 is nginx's: what Google notes of a client that goes away is not known."""
_SWITCHING = 101
_LARGEST_KEPT = 64 * 1024
"""Bytes of a request's body that wait here for an instance before the user has to wait."""


class Exchange(Answering):
    """Asks an instance and answers the user. Ends once, in one of many ways; then the place is free again."""

    __slots__ = (
        "_acquiring",
        "_begun",
        "_client",
        "_connection",
        "_ended",
        "_front",
        "_instance_is_full",
        "_is_tunnel",
        "_last_chunk_sent",
        "_recoded",
        "arrived",
        "arrived_at",
        "failure",
        "instance",
        "peer",
        "pending_seconds",
        "pool",
        "reached_instance",
        "request",
        "sent_bytes",
        "status",
    )

    def __init__(
        self, front: "ProcessFront", client: "ClientConnection", request: Request, pool: Pool
    ) -> None:
        self.pool = pool
        self.request = request
        self.peer = client.peer
        self.arrived: float = front.loop.time()
        self.arrived_at: datetime = front.clock.now()
        self.instance: Instance | None = None
        self.reached_instance = self.arrived
        self.pending_seconds = 0.0
        self.status = 0
        self.failure = ""
        self.sent_bytes = 0
        self._front = front
        self._client = client
        self._connection: InstanceConnection | None = None
        self._acquiring: asyncio.Task[Instance] | None = None
        self._begun = self._ended = self._is_tunnel = self._last_chunk_sent = False
        self._recoded = False
        """The answer is passed on in chunks of our own."""
        self._instance_is_full = False

    # From the user's side.

    def begin(self) -> None:
        """Take a place in an instance, or wait for one."""
        self.request.trace = self.request.trace or self._front.new_trace()
        affinity = self.request.affinity
        if (instance := self.pool.try_acquire(affinity)) is not None:
            self._reach(instance)
            return
        self._acquiring = self._front.loop.create_task(self.pool.acquire(affinity))
        self._acquiring.add_done_callback(self._acquired)

    @property
    def is_full(self) -> bool:
        """Whether the user should send no more for now."""
        return self._instance_is_full or (
            self._connection is None and sum(map(len, self.request.body)) > _LARGEST_KEPT
        )

    def body_came(self) -> None:
        """Send on what has come of the request's body."""
        if self._connection is not None and not self._is_tunnel:
            self._connection.write(self._taken_body())

    def raw_came(self, data: bytes) -> None:
        """Send on what came after the protocol was switched."""
        if self._connection is not None:
            self._connection.write(data)

    def client_is_full(self, is_full: bool) -> None:
        """Stop taking the answer, or go on."""
        if self._connection is not None:
            self._connection.set_reading(not is_full)

    def client_gone(self) -> None:
        """Give up: nobody waits for the answer."""
        if self._is_tunnel:
            self._end(_SWITCHING)
        else:
            self._end(self.status if self._begun else CLIENT_GONE_STATUS, CLIENT_GONE)

    def timed_out(self) -> None:
        """Give up: the revision allows no more time."""
        if self._is_tunnel:
            self._end(_SWITCHING, TIMED_OUT)
            self._client.hang_up()
        else:
            self.refuse(TIMED_OUT_STATUS, TIMED_OUT)

    def refuse(self, status: int, text: str) -> None:
        """Answer in the platform's name. An answer that has begun can only be broken off."""
        begun = self._begun
        if self._end(status, text):
            if begun:
                self._client.hang_up()
            else:
                self._client.answer_whole(self.request, status, f"{text}\n")

    # From the instance's side.

    def connected(self, connection: InstanceConnection) -> None:
        """Send the request over a new connection."""
        if self._ended:
            connection.drop()
        else:
            self._ask(connection)

    def answered(self, connection: InstanceConnection) -> None:
        """Pass on what has come of the answer."""
        answer, request, instance = connection.answer, self.request, self.instance
        if self._ended or answer is None or instance is None:
            return
        data = b""
        if not self._begun:
            if answer.status == _SWITCHING and not request.upgrade:
                self.broke(connection)
                return
            data = self._begin_answer(answer, instance)
        if connection.body:
            body = chunk(connection.body) if self._recoded else b"".join(connection.body)
            self.sent_bytes += sum(map(len, connection.body))
            connection.body.clear()
            data += body
        if connection.is_complete and not self._is_tunnel:
            self._client.write(data + LAST_CHUNK if self._recoded else data)
            self._end(self.status)
            self._client.answered(self.request)
        else:
            self._client.write(data)

    def broke(self, connection: InstanceConnection | None) -> None:
        """Ask once more where a used connection had been closed meanwhile; else give up."""
        if self._ended:
            return
        if self._is_tunnel:
            self._end(_SWITCHING)
            self._client.hang_up(at_once=False)
        elif (
            connection is not None
            and connection.was_used
            and connection.is_untouched
            and self.request.is_repeatable
            and self.instance is not None
        ):
            self._connection = None
            connection.drop()
            self._front.connections.open(self.instance, self)
        else:
            self.refuse(UNAVAILABLE, CONNECTION_FAILED)

    def tunnelled(self, data: bytes) -> None:
        """Pass on what came after the protocol was switched."""
        self.sent_bytes += len(data)
        self._client.write(data)

    def instance_is_full(self, is_full: bool) -> None:
        """Let the user send no more for now, or go on."""
        self._instance_is_full = is_full
        self._client.regulate()

    # In between.

    def _acquired(self, task: asyncio.Task[Instance]) -> None:
        """Take the place that was waited for; give it back if nobody waits any longer."""
        self._acquiring = None
        if task.cancelled():
            return
        error = task.exception()
        if self._ended:
            if error is None:
                self.pool.release(task.result())
        elif isinstance(error, NoInstanceError):
            self.refuse(error.status, str(error))
        elif error is not None:
            self.refuse(UNAVAILABLE, CONNECTION_FAILED)
            raise error
        else:
            self.reached_instance = self._front.loop.time()
            self.pending_seconds = self.reached_instance - self.arrived
            self._reach(task.result())

    def _reach(self, instance: Instance) -> None:
        self.instance = instance
        self._client.limit_time(self.reached_instance + self.pool.timeout_seconds)
        if self.request.expects_continue and not self.request.body_bytes:
            self._client.tell_to_continue()
        connections = self._front.connections
        connection = connections.idle(instance, is_repeatable=self.request.is_repeatable)
        if connection is None:
            connections.open(instance, self)
        else:
            self._ask(connection)

    def _ask(self, connection: InstanceConnection) -> None:
        self._connection = connection
        head = self._front.head_for_instance(self.request, self.peer)
        body = self._taken_body()
        connection.ask(self, head + body if body else head, is_head_only=self.request.method == b"HEAD")
        self._client.regulate()

    def _taken_body(self) -> bytes:
        """Return what has come of the request's body, framed for the instance."""
        request = self.request
        if not request.is_chunked:
            data = b"".join(request.body)
        else:
            data = chunk(request.body)
            if request.is_complete and not self._last_chunk_sent:
                self._last_chunk_sent = True
                data += LAST_CHUNK
        request.body.clear()
        return data

    def _begin_answer(self, answer: Answer, instance: Instance) -> bytes:
        """Return the head of the answer."""
        request = self.request
        self._begun = True
        self.status = answer.status
        extra = b""
        if cookie := self.pool.affinity_cookie(instance, request.affinity):
            extra = affinity_line(cookie)
        if answer.status == _SWITCHING:
            self._is_tunnel = True
            self._client.become_tunnel()
            return answer.head(extra + b"Connection: Upgrade\r\nUpgrade: " + request.upgrade + b"\r\n")
        if answer.content_length is None and answer.has_body(request.method):
            if request.version == "1.1":
                self._recoded = True
                extra += b"Transfer-Encoding: chunked\r\n"
            else:
                request.keeps_alive = False
        return answer.head(extra + self._client.connection_line(request))

    def _end(self, status: int, failure: str = "") -> bool:
        """Give back what was taken, count and log, once; return whether it was this time."""
        if self._ended:
            return False
        self._ended = True
        self.status, self.failure = status, failure
        if self._acquiring is not None:
            self._acquiring.cancel()
        if self._connection is not None:
            if self._is_tunnel:
                self._connection.close()
            elif failure or not self.request.is_complete:
                self._connection.drop()
            else:
                self._front.connections.give_back(self._connection)
            self._connection = None
        if self.instance is not None:
            self.pool.release(self.instance)
        self._front.record(self)
        return True
