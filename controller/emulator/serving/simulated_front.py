"""The front of simulated revisions: they answer when their latency is over on the emulated clock."""

import random
from datetime import datetime, timedelta

from controller.emulator.clock import Clock
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.answering import Answering
from controller.emulator.serving.client_connection import ClientConnection
from controller.emulator.serving.exchange import CLIENT_GONE, CLIENT_GONE_STATUS, TIMED_OUT, TIMED_OUT_STATUS
from controller.emulator.serving.front import Front, logged
from controller.emulator.serving.heads import Request
from controller.emulator.serving.simulated import Reply, SimulatedRuntime
from controller.emulator.serving.simulated_log import Start
from controller.emulator.settings import Settings


class SimulatedFront(Front):
    """Lets the runtime decide about each request, and measures and logs it."""

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        runtime: SimulatedRuntime,
        metrics: Metrics,
        logs: Logs,
        rng: random.Random,
    ) -> None:
        super().__init__(clock, settings, rng)
        self.runtime = runtime
        self._metrics = metrics
        self._logs = logs

    def exchange(self, client: ClientConnection, request: Request) -> "SimulatedExchange | None":
        """Return what answers a user; None = nobody answers to the request's host."""
        key = self.runtime.route(self.destination(request))
        return SimulatedExchange(self, client, request, key) if key is not None else None

    def services(self) -> list[tuple[str, str]]:
        """Return the services that can be reached."""
        return self.runtime.services()

    def record(self, exchange: "SimulatedExchange", status: int, failure: str, ended: datetime) -> None:
        """Count what reached an instance, and log everything."""
        request, latency = exchange.request, ended - exchange.arrived_at
        instance = exchange.instance
        waited = timedelta(milliseconds=instance.milliseconds if instance else 0.0)
        if latency < waited:  # the user has left before the instance listened
            instance = None
        if instance is not None:
            milliseconds = (latency - waited) / timedelta(milliseconds=1)
            self._metrics.record(exchange.key, status, milliseconds, ended, instance.milliseconds)
        self.runtime.keep_order(ended)
        self._logs.add_request(
            exchange.key,
            logged(request, status, latency, exchange.sent_bytes, exchange.peer),
            exchange.arrived_at,
            ended,
            instance=instance.identity if instance is not None else "",
            failure=failure,
            trace=request.trace or self.new_trace(),
        )


class SimulatedExchange(Answering):
    """One request over HTTP to a simulated revision."""

    __slots__ = (
        "_client",
        "_ended",
        "_front",
        "_is_asked",
        "arrived_at",
        "instance",
        "key",
        "peer",
        "request",
        "sent_bytes",
    )

    def __init__(
        self, front: SimulatedFront, client: ClientConnection, request: Request, key: RevisionKey
    ) -> None:
        self.request = request
        self.key = key
        self.peer = client.peer
        self.arrived_at: datetime = front.clock.now()
        self.instance: Start | None = None
        self.sent_bytes = 0
        self._front = front
        self._client = client
        self._is_asked = self._ended = False

    @property
    def is_full(self) -> bool:
        """Whether the user should send no more for now: never, as nothing is kept."""
        return False

    def begin(self) -> None:
        """Answer, once the body has come."""
        if self.request.expects_continue and not self.request.is_complete:
            self._client.tell_to_continue()
        self.body_came()

    def body_came(self) -> None:
        """Drop the body, and answer when it is complete."""
        self.request.body.clear()
        if self.request.is_complete and not self._is_asked and not self._ended:
            self._answer()

    def raw_came(self, data: bytes) -> None:
        """Drop it: no simulated revision switches protocols."""

    def client_is_full(self, is_full: bool) -> None:
        """Do nothing about it: an answer is small."""

    def client_gone(self) -> None:
        """Give up: nobody waits for the answer."""
        self._end(CLIENT_GONE_STATUS, CLIENT_GONE, self._front.clock.now())

    def timed_out(self) -> None:
        """Give up: no more time is allowed."""
        self.refuse(TIMED_OUT_STATUS, TIMED_OUT)

    def refuse(self, status: int, text: str) -> None:
        """Answer in the platform's name."""
        if self._end(status, text, self._front.clock.now()):
            self._client.answer_whole(self.request, status, f"{text}\n")

    def _answer(self) -> None:
        """Answer later. Nobody but the user would move a clock that is moved by hand, and the user waits."""
        clock = self._front.clock
        now = clock.now()
        self._is_asked = True
        reply = self._front.runtime.ask(self.key, self.request.user_agent, now)
        self.instance = reply.instance
        if reply.instance is None:
            self.refuse(reply.status, reply.text)
            return
        takes = timedelta(milliseconds=reply.instance.milliseconds + reply.milliseconds)
        clock.at(now + takes, lambda when: self._later(reply, when))
        if not clock.speed:
            clock.advance(takes)

    def _later(self, reply: Reply, when: datetime) -> None:
        """Answer outside of the clock's action: what follows may move the clock itself."""
        self._front.loop.call_soon(self._reply, reply, when)

    def _reply(self, reply: Reply, at: datetime) -> None:
        body = f"{reply.text}\n"
        self.sent_bytes = 0 if self.request.method == b"HEAD" else len(body.encode())
        if self._end(reply.status, "", at):
            lines = f"X-Revision: {self.key.revision}\r\n".encode()
            self._client.answer_whole(self.request, reply.status, body, lines)

    def _end(self, status: int, failure: str, at: datetime) -> bool:
        """Count and log, once; return whether it was this time."""
        if self._ended:
            return False
        self._ended = True
        self._front.record(self, status, failure, at)
        return True
