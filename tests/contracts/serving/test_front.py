"""The HTTP front, over real sockets, with instances that behave and others that do not."""

import hashlib
import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.cloud import run_v2
from google.cloud.logging_v2.types import ListLogEntriesRequest, LogEntry
from google.protobuf import duration_pb2

from contracts.conftest import PARENT, SECONDS, Google, a_google, to
from controller.emulator.serving.urn import Urn
from controller.emulator.settings import Settings

pytestmark = pytest.mark.processes

SHORT = timedelta(milliseconds=100)
SETTINGS = Settings(speed=60, reconcile_delay=SHORT, propagation_delay=SHORT, pending_seconds=0.5)
ODD = [sys.executable, str(Path(__file__).with_name("odd_instance.py"))]
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def shared() -> Iterator[Google]:
    """Google with the service `web`, and `hasty`, which allows a request half a second."""
    for google in a_google(SETTINGS):
        deployed(google, "web", max_instance_request_concurrency=1000)
        deployed(google, "hasty", timeout=duration_pb2.Duration(seconds=1))
        yield google


@pytest.fixture
def google(shared: Google) -> Iterator[Google]:
    """The same; after each test every place has to be free again."""
    yield shared
    wait_until(lambda: in_flight(shared) == 0)


@pytest.fixture
def narrow(google: Google) -> Google:
    """The same with a service that takes one request at a time."""
    if "narrow" not in {one["name"] for one in status_of(google)["services"]}:
        scaling = run_v2.RevisionScaling(max_instance_count=1)
        deployed(google, "narrow", max_instance_request_concurrency=1, scaling=scaling)
    return google


def deployed(google: Google, name: str, **template: Any) -> None:
    container = run_v2.Container(image="odd", command=ODD)
    service = run_v2.Service(template=run_v2.RevisionTemplate(containers=[container], **template))
    created = google.services.create_service(parent=PARENT, service_id=name, service=service, timeout=SECONDS)
    assert not google.wait(created.operation.name).HasField("error")
    wait_until(lambda: ask(google, name)[0] == 200)


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.01)


def ask(
    google: Google, service: str = "web", path: str = "/", method: str = "GET", **wanted: Any
) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection(google.local.front_address, timeout=SECONDS)) as connection:
        headers = {"Host": f"{service}.localhost", **wanted.pop("headers", {})}
        connection.request(method, path, headers=headers, **wanted)
        answer = connection.getresponse()
        return answer.status, answer.read()


def echoed(google: Google, **wanted: Any) -> dict[str, Any]:
    status, body = ask(google, path="/echo", **wanted)
    assert status == 200
    said: dict[str, Any] = json.loads(body)
    return said


def status_of(google: Google) -> dict[str, Any]:
    with closing(http.client.HTTPConnection(google.local.admin_address, timeout=SECONDS)) as connection:
        connection.request("GET", "/")
        found: dict[str, Any] = json.load(connection.getresponse())
        return found


def in_flight(google: Google) -> int:
    return sum(one["in_flight"] for one in status_of(google)["instances"])


def counted(google: Google, service: str = "web") -> Counter[int]:
    """Return the requests that reached an instance, by status."""
    (found,) = (one for one in status_of(google)["services"] if one["name"] == service)
    totals: Counter[int] = Counter()
    for revision in found["revisions"].values():
        totals.update({int(code): number for code, number in revision["requests"].items()})
    return totals


def entries(google: Google, text: str) -> list[LogEntry]:
    request = ListLogEntriesRequest(resource_names=["projects/demo"], filter=text, page_size=1000)
    return list(google.logs.list_log_entries(request=request, timeout=SECONDS))


def requests_logged(google: Google, path: str, service: str = "web") -> list[LogEntry]:
    return entries(
        google,
        f'log_id("run.googleapis.com/requests") httpRequest.requestUrl="http://{service}.localhost{path}"',
    )


class Wire:
    """A bare connection to the front."""

    def __init__(self, google: Google) -> None:
        host, _, port = google.local.front_address.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=SECONDS)
        self.received = b""

    def get(self, path: str, *lines: str, service: str = "web", method: str = "GET") -> None:
        head = "".join(f"{line}\r\n" for line in (f"Host: {service}.localhost", *lines))
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, marker: bytes) -> bytes:
        """Return what comes up to the marker and with it."""
        while marker not in self.received:
            data = self.socket.recv(65536)
            assert data, f"closed after {self.received!r}"
            self.received += data
        head, _, self.received = self.received.partition(marker)
        return head + marker

    def rest(self) -> bytes:
        """Return everything until the front closes the connection."""
        with suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                self.received += data
        rest, self.received = self.received, b""
        return rest

    def is_closed(self) -> bool:
        try:
            return not self.socket.recv(65536)
        except ConnectionError:
            return True


@contextmanager
def wire(google: Google) -> Iterator[Wire]:
    one = Wire(google)
    with closing(one.socket):
        yield one


def answers(google: Google, data: bytes) -> bytes:
    """Send bytes as they are; return everything that comes until the front closes the connection."""
    with wire(google) as user:
        user.send(data)
        return user.rest()


# Framing.


def test_a_body_of_known_length_passes(google: Google) -> None:
    body = random.Random(1).randbytes(3 * MEBIBYTE)
    said = echoed(google, method="POST", body=body)
    assert (said["size"], said["sha"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert f"Content-Length: {len(body)}" in said["lines"]


def test_a_chunked_body_passes_in_chunks(google: Google) -> None:
    pieces = [random.Random(size).randbytes(size) for size in (1, 70_000, 3, 500_000)]
    said = echoed(google, method="PUT", body=iter(pieces), encode_chunked=True)
    assert (said["size"], said["sha"]) == (500_000 + 70_004, hashlib.sha256(b"".join(pieces)).hexdigest())
    assert "Transfer-Encoding: chunked" in said["lines"]


def test_a_chunked_answer_stays_chunked(google: Google) -> None:
    with wire(google) as user:
        user.get("/chunked")
        head = user.until(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert user.until(b"0\r\n\r\n") == b"6\r\nonetwo\r\n0\r\n\r\n"


def test_an_answer_that_ends_with_its_connection_is_chunked_for_the_user(google: Google) -> None:
    assert ask(google, path="/until-close") == (200, b"until the end")


def test_a_client_of_http_1_0_gets_neither_chunks_nor_a_kept_connection(google: Google) -> None:
    answer = answers(google, b"GET /chunked HTTP/1.0\r\nHost: web.localhost\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b"onetwo"
    assert b"Transfer-Encoding" not in head
    assert b"Connection: close" in head


def test_a_client_of_http_1_0_may_ask_to_keep_its_connection(google: Google) -> None:
    with wire(google) as user:
        for _ in range(2):
            user.send(b"GET / HTTP/1.0\r\nHost: web.localhost\r\nConnection: keep-alive\r\n\r\n")
            assert b"Connection: keep-alive" in user.until(b"\r\n\r\nok")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("HEAD", "/", b"200"), ("GET", "/no-content", b"204"), ("GET", "/not-modified", b"304")],
)
def test_an_answer_without_a_body_leaves_the_connection_usable(
    google: Google, method: str, path: str, status: bytes
) -> None:
    with wire(google) as user:
        for _ in range(3):
            user.get(path, method=method)
            assert user.until(b"\r\n\r\n").split()[1] == status
            user.get("/")
            assert user.until(b"\r\n\r\nok").startswith(b"HTTP/1.1 200 OK")


def test_informational_answers_do_not_stand_for_the_answer(google: Google) -> None:
    assert ask(google, path="/informed") == (200, b"ok")


def test_a_user_who_asks_before_sending_is_told_to_continue(google: Google) -> None:
    with wire(google) as user:
        user.get("/echo", "Content-Length: 5", "Expect: 100-continue", method="POST")
        assert user.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        user.send(b"hello")
        assert b"200 OK" in user.until(b"\r\n\r\n")
        assert b'"size": 5' in user.until(b"}")


def test_pipelined_requests_are_answered_in_their_order(google: Google) -> None:
    with wire(google) as user, wire(google) as other:
        paths = ["/waits", "/", "/revision", "/nowhere", "/echo?last"]
        hosts = ["web", "web", "web", "nobody", "web"]
        user.send(
            b"".join(
                f"GET {path} HTTP/1.1\r\nHost: {host}.localhost\r\n\r\n".encode()
                for path, host in zip(paths, hosts, strict=True)
            )
        )
        user.until(b"first")
        other.get("/go")
        user.until(b"last\r\n0\r\n\r\n")
        assert user.until(b"\r\n\r\nok").startswith(b"HTTP/1.1 200 OK")
        assert b"web-00001" in user.until(b"HTTP/1.1 404")
        assert b'"target": "/echo?last"' in user.until(b"}")


def test_an_answer_streams_while_it_is_made(google: Google) -> None:
    with wire(google) as user:
        user.get("/waits")
        user.until(b"5\r\nfirst\r\n")
        assert ask(google, path="/go")[0] == 200
        user.until(b"4\r\nlast\r\n0\r\n\r\n")


def test_a_request_streams_while_it_is_sent(google: Google) -> None:
    with wire(google) as user:
        user.get("/early", "Content-Length: 1000000", method="POST")
        user.send(b"a beginning")
        assert user.until(b"enough").startswith(b"HTTP/1.1 200 OK")
        user.send(b"x" * (1_000_000 - len(b"a beginning")))  # which is dropped
        user.get("/")
        user.until(b"\r\n\r\nok")


# Connections.


def test_connections_to_users_and_instances_are_used_again(google: Google) -> None:
    with wire(google) as user:
        numbers = set()
        for _ in range(5):
            user.get("/echo")
            numbers.add(json.loads(user.until(b"}").partition(b"\r\n\r\n")[2])["connection"])
    assert len(numbers) == 1


def test_a_request_is_repeated_when_its_used_connection_was_closed(google: Google) -> None:
    assert ask(google, path="/closes-next")[0] == 200
    assert ask(google, path="/")[0] == 200


def test_a_request_that_changes_something_is_not_repeated(google: Google) -> None:
    assert ask(google, path="/closes-next")[0] == 200
    status, text = ask(google, path="/echo", method="POST", body=b"buy")
    assert status == 503
    assert b"connection to the instance had an error" in text


def test_an_idle_connection_is_closed_and_a_slow_head_too() -> None:
    for google in a_google(replace(SETTINGS, front_head_seconds=0.3, front_idle_seconds=0.3)):
        with wire(google) as idle, wire(google) as slow, wire(google) as silent:
            idle.get("/")
            idle.until(b"404")
            slow.send(b"GET / HTTP/1.1\r\nHost: we")
            dripping = threading.Thread(target=drip, args=(slow,))
            dripping.start()
            for user in (idle, slow, silent):
                wait_until(user.is_closed)
            dripping.join()


def drip(user: Wire) -> None:
    """Send one letter after the other, for as long as somebody listens."""
    pause = threading.Event()
    with suppress(OSError):
        for _ in range(500):
            user.send(b"b")
            pause.wait(0.02)


def test_a_thousand_connections_stay_open_and_all_are_answered(google: Google) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(wire(google)) for _ in range(1000)]
        assert ask(google) == (200, b"ok")
        for user in users:
            user.get("/")
        for user in users:
            user.until(b"\r\n\r\nok")


# Heads.


def test_what_concerns_one_connection_goes_no_further(google: Google) -> None:
    said = echoed(
        google,
        headers={
            "Connection": "keep-alive, X-Secret",
            "X-Secret": "1",
            "Keep-Alive": "5",
            "TE": "trailers",
            "Proxy-Authorization": "Basic x",
            "X-Kept": "yes",
        },
    )
    names = {line.partition(":")[0].lower() for line in said["lines"]}
    assert "x-kept" in names
    assert not names & {"connection", "x-secret", "keep-alive", "te", "proxy-authorization"}

    with wire(google) as user:
        user.get("/hops")
        head = user.until(b"\r\n\r\n").lower()
        assert b"x-stays: yes" in head
        assert not any(name in head for name in (b"keep-alive", b"upgrade", b"connection"))


def test_the_instance_learns_who_asked_and_in_which_trace(google: Google) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    said = echoed(google, headers={"X-Forwarded-For": "10.0.0.1", "X-Cloud-Trace-Context": f"{trace}/7;o=1"})
    lines = said["lines"]
    assert "X-Forwarded-For: 10.0.0.1, 127.0.0.1" in lines
    assert "X-Forwarded-Proto: http" in lines
    assert any(line.startswith(f"X-Cloud-Trace-Context: {trace}/") for line in lines)
    assert entries(google, f'trace="projects/demo/traces/{trace}"')


def test_a_trace_in_the_words_of_w3c_is_followed_too(google: Google) -> None:
    trace = "1af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace}-b7ad6b7169203331-01"
    lines = echoed(google, headers={"traceparent": traceparent})["lines"]
    assert f"traceparent: {traceparent}" in lines
    assert any(line.startswith(f"X-Cloud-Trace-Context: {trace}/") for line in lines)
    assert entries(google, f'trace="projects/demo/traces/{trace}"')


def test_a_user_without_a_trace_gets_one(google: Google) -> None:
    fields = dict(line.split(": ", 1) for line in echoed(google)["lines"])
    trace = fields["X-Cloud-Trace-Context"].partition("/")[0]
    assert fields["traceparent"].split("-")[1] == trace
    assert len(trace) == 32


def test_the_target_passes_as_it_came(google: Google) -> None:
    with wire(google) as user:
        user.get("/echo/?a=%2Fb&c=d%20e;f")
        assert user.until(b"\r\n\r\n")
    said = echoed(google)
    assert said["target"] == "/echo"
    answer = answers(
        google,
        b"GET http://web.localhost/echo?x HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n",
    )
    assert b'"target": "/echo?x"' in answer


def test_an_unknown_host_is_told_whom_there_is(google: Google) -> None:
    status, text = ask(google, "nobody")
    assert status == 404
    assert b"http://web.localhost:" in text
    assert b"Host: hasty.localhost" in text


# What cannot be taken.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"garbage\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: web.localhost\r\nHost: other.localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: web.localhost\r\nBroken\x00: x\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: web.localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nHost: web.localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"CONNECT web.localhost:80 HTTP/1.1\r\nHost: web.localhost\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nHost: web.localhost\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: web.localhost\r\nX: " + b"x" * 2_000_000, b"431"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: web.localhost\r\n\r\n", b"431"),
    ],
)
def test_what_is_no_request_is_refused_and_its_connection_closed(
    google: Google, sent: bytes, status: bytes
) -> None:
    answer = answers(google, sent)
    assert answer.split()[1] == status
    assert b"Connection: close" in answer
    assert ask(google) == (200, b"ok")


def test_garbage_after_a_request_does_not_disturb_its_answer(google: Google) -> None:
    answer = answers(google, b"GET / HTTP/1.1\r\nHost: web.localhost\r\n\r\ngarbage\r\n\r\n")
    assert [part.split()[0] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]


def test_a_chunk_that_is_none_ends_the_request(google: Google) -> None:
    with wire(google) as user:
        user.get("/echo", "Transfer-Encoding: chunked", method="POST")
        user.send(b"3\r\nabc\r\nnot a size\r\n")
        assert user.rest().split()[1] == b"400"


def test_a_body_over_32_mib_is_refused_by_its_length(google: Google) -> None:
    with wire(google) as user:
        user.get("/echo?large", f"Content-Length: {32 * MEBIBYTE + 1}", method="POST")
        assert user.rest().split()[1] == b"413"
    assert [entry.http_request.status for entry in requests_logged(google, "/echo?large")] == [413]


def test_a_body_of_32_mib_passes(google: Google) -> None:
    assert echoed(google, method="POST", body=bytes(32 * MEBIBYTE))["size"] == 32 * MEBIBYTE


def test_a_streamed_body_over_32_mib_is_refused_on_its_way(google: Google) -> None:
    before = counted(google)[413]
    with wire(google) as user:
        user.get("/echo?streamed", "Transfer-Encoding: chunked", method="POST")
        chunk = b"100000\r\n" + bytes(MEBIBYTE) + b"\r\n"
        with suppress(ConnectionError):
            for _ in range(33):
                user.send(chunk)
        assert user.rest().split()[1] == b"413"
    assert counted(google)[413] == before + 1


# Instances that fail.


@pytest.mark.parametrize("path", ["/garbage", "/nothing", "/large-head", "/unasked-switch", "/bad-chunk"])
def test_an_answer_that_is_none_gives_googles_503(google: Google, path: str) -> None:
    before = counted(google)[503]
    status, text = ask(google, path=path)
    assert status == 503
    assert text.startswith(b"The request failed because either the HTTP response was malformed or connection")
    assert counted(google)[503] == before + 1
    logged = requests_logged(google, path)
    assert {entry.http_request.status for entry in logged} == {503}
    assert all("malformed" in entry.text_payload for entry in logged)


def test_an_answer_that_breaks_off_is_cut_off(google: Google) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(google, path="/short")
    assert {entry.http_request.status for entry in requests_logged(google, "/short")} == {503}


def test_an_instance_that_dies_in_the_middle_of_an_answer_is_replaced(google: Google) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(google, path="/dies")
    wait_until(lambda: entries(google, 'textPayload:"exit(7)"'))
    assert ask(google) == (200, b"ok")


def test_a_request_that_takes_too_long_gives_googles_504(google: Google) -> None:
    status, text = ask(google, "hasty", "/hangs")
    assert status == 504
    assert text.startswith(b"The request has been terminated because it has reached the maximum request time")
    assert counted(google, "hasty")[504]
    (logged,) = requests_logged(google, "/hangs", "hasty")
    assert logged.http_request.status == 504
    wait_until(lambda: entries(google, 'textPayload="left alone" resource.labels.service_name="hasty"'))


def test_an_answer_that_takes_too_long_is_cut_off(google: Google) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(google, "hasty", "/begins-and-hangs")
    (logged,) = requests_logged(google, "/begins-and-hangs", "hasty")
    assert logged.http_request.status == 504


# Users who leave.


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [("/hangs", "left alone", 499), ("/begins-and-hangs", "left alone in the middle", 200)],
)
def test_a_user_who_leaves_leaves_no_request_behind(
    google: Google, path: str, said: str, status: int
) -> None:
    with wire(google) as user:
        user.get(f"{path}?leaving")
        wait_until(lambda: in_flight(google) == 1)
        if status == 200:
            user.until(b"begun")
    wait_until(lambda: in_flight(google) == 0)
    wait_until(lambda: entries(google, f'textPayload="{said}" resource.labels.service_name="web"'))
    (logged,) = requests_logged(google, f"{path}?leaving")
    assert logged.http_request.status == status
    assert logged.text_payload.startswith("The client closed the connection")


def test_a_user_who_leaves_while_waiting_takes_no_place(narrow: Google) -> None:
    with wire(narrow) as first:
        first.get("/waits", service="narrow")
        first.until(b"first")
        for _ in range(5):
            with wire(narrow) as waiting:
                waiting.get("/?waiting", service="narrow")
        wait_until(lambda: len(requests_logged(narrow, "/?waiting", "narrow")) == 5)
        assert counted(narrow, "narrow")[499] == 0
    wait_until(lambda: in_flight(narrow) == 0)
    assert ask(narrow, "narrow") == (200, b"ok")


def test_a_request_that_no_instance_can_take_is_logged_and_not_counted(narrow: Google) -> None:
    with wire(narrow) as first:
        first.get("/waits", service="narrow")
        first.until(b"first")
        status, text = ask(narrow, "narrow", "/?refused")
    assert (status, text) == (429, b"The request was aborted because there was no available instance.\n")
    (logged,) = requests_logged(narrow, "/?refused", "narrow")
    assert logged.http_request.status == 429
    assert counted(narrow, "narrow")[429] == 0


def test_a_user_who_reads_slowly_slows_the_instance_down(google: Google) -> None:
    with wire(google) as user:
        user.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        user.get("/endless")
        user.until(b"x")
        sent = sizes_until_still(lambda: int(json.loads(ask(google, path="/counts")[1])["sent"]))
        assert sent < 32 * MEBIBYTE


def test_an_instance_that_reads_slowly_slows_the_user_down(google: Google) -> None:
    with wire(google) as user:
        user.get("/reads-nothing", f"Content-Length: {32 * MEBIBYTE}", method="POST")
        user.socket.setblocking(False)
        sent = 0

        def more() -> int:
            nonlocal sent
            with suppress(BlockingIOError):
                sent += user.socket.send(bytes(65536))
            return sent

        assert sizes_until_still(more) < 24 * MEBIBYTE
        assert ask(google, path="/go")[0] == 200


def sizes_until_still(size: Callable[[], int]) -> int:
    """Return a size once it has not grown for a fifth of a second."""
    pause, last, still = threading.Event(), -1, 0
    while still < 20:
        now = size()
        still = still + 1 if now == last else 0
        last = now
        if still:
            pause.wait(0.01)
    return last


# Switched protocols.


def test_a_web_socket_passes_bytes_both_ways_and_counts_once(google: Google) -> None:
    before = counted(google)[101]
    with wire(google) as user:
        user.get("/socket", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: a")
        head = user.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols")
        assert b"Upgrade: websocket" in head
        assert b"Sec-WebSocket-Accept: yes" in head
        user.until(b"welcome")
        for message in (b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", random.Random(2).randbytes(300_000)):
            user.send(message)
            user.until(message)
        assert in_flight(google) == 1
        assert counted(google)[101] == before
    wait_until(lambda: counted(google)[101] == before + 1)
    wait_until(lambda: entries(google, 'textPayload="the tunnel is closed"'))


def test_a_web_socket_ends_with_the_time_of_its_request(google: Google) -> None:
    with wire(google) as user:
        user.get("/socket", "Connection: Upgrade", "Upgrade: websocket", service="hasty")
        user.until(b"welcome")
        assert user.rest() == b""
    (logged,) = requests_logged(google, "/socket", "hasty")
    assert logged.http_request.status == 101


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_instance_that_does_not_switch_answers_as_ever(google: Google, protocol: str) -> None:
    with wire(google) as user:
        for _ in range(2):
            user.get("/", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: x")
            assert user.until(b"\r\n\r\nok").startswith(b"HTTP/1.1 200 OK")


# All at once.


def test_places_are_given_back_whatever_users_do(google: Google) -> None:
    """Two hundred users at a time leave at any moment, in the middle of anything."""
    paths = [
        "/",
        "/chunked",
        "/echo",
        "/hangs",
        "/begins-and-hangs",
        "/short",
        "/nothing",
        "/socket",
        "/early",
    ]

    def misbehave(seed: int) -> None:
        rng = random.Random(seed)
        path, body = rng.choice(paths), rng.randbytes(rng.choice([0, 10, 100_000]))
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n" if path == "/socket" else ""
        size = f"Content-Length: {len(body)}\r\n" if body and not upgrade else ""
        head = f"POST {path} HTTP/1.1\r\nHost: web.localhost\r\n{upgrade}{size}\r\n".encode()
        sent = (head + body) * (rng.choice([1, 1, 3]) if len(body) < 100 else 1)
        with wire(google) as user, suppress(OSError, AssertionError):
            user.socket.settimeout(rng.choice([0.001, 0.01, 0.1]))
            user.send(sent[: rng.choice([len(sent), rng.randrange(len(sent))])])
            user.rest()

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(misbehave, range(400)))
    wait_until(lambda: in_flight(google) == 0)
    assert ask(google) == (200, b"ok")


# Session affinity.


def test_a_user_comes_back_to_the_same_revision_by_a_cookie(google: Google) -> None:
    """Fact 2.7 [D]: "cookie TTL 30 days, best effort"."""
    deployed(google, "faithful", session_affinity=True)
    first = google.get("faithful").latest_ready_revision.rsplit("/", 1)[-1]
    template = run_v2.RevisionTemplate(
        revision="faithful-other",
        containers=[run_v2.Container(image="odd", command=ODD)],
        session_affinity=True,
    )
    half = [to(first, 50), to("faithful-other", 50)]
    assert not google.wait(google.update("faithful", template=template, traffic=half).name).HasField("error")
    # The new split has reached the front: before, it gives out cookies of the old one.
    wait_until(lambda: ask(google, "faithful", "/revision")[1] == b"faithful-other")
    seen = set()
    for _ in range(20):
        with wire(google) as user:
            user.get("/revision", service="faithful")
            head = user.until(b"\r\n\r\n").decode()
            (cookie,) = (line for line in head.split("\r\n") if line.startswith("Set-Cookie: GAESA="))
            assert "Path=/" in cookie
            assert "HttpOnly" in cookie
            assert "Max-Age=2592000" in cookie
        value = cookie.partition(": ")[2].partition(";")[0]
        answered = {
            ask(google, "faithful", "/revision", headers={"Cookie": f"a=b; {value}"})[1] for _ in range(10)
        }
        assert answered == {head.partition("X-Revision: ")[2].split("\r\n")[0].encode()}
        seen |= answered
    assert seen == {first.encode(), b"faithful-other"}


# The split.


@pytest.mark.parametrize("percents", [{"a": 90, "b": 10}, {"a": 1, "b": 99}, {"a": 33, "b": 33, "c": 34}])
def test_an_urn_gives_each_revision_its_share_exactly(percents: dict[str, int]) -> None:
    urn, rng = Urn(percents), random.Random(3)
    drawn = Counter(urn.draw(rng) for _ in range(100_000))
    assert drawn == {name: percent * 1000 for name, percent in percents.items()}


def test_an_urn_cannot_be_foreseen() -> None:
    """Runs of the rarer revision come as often as if each request were drawn by itself."""
    urn, rng = Urn({"a": 90, "b": 10}), random.Random(4)
    drawn = [urn.draw(rng) for _ in range(100_000)]
    twice = sum(one == other == "b" for one, other in pairwise(drawn))
    assert 900 < twice < 1100
    hundreds = Counter(drawn[at : at + 100].count("b") for at in range(0, 100_000, 100))
    assert len(hundreds) > 10


def test_an_urn_of_nobody_gives_nobody() -> None:
    assert Urn().draw(random.Random(5)) is None


def test_requests_follow_the_split_to_the_point(google: Google) -> None:
    first = google.get().latest_ready_revision.rsplit("/", 1)[-1]
    template = run_v2.RevisionTemplate(
        revision="web-other", containers=[run_v2.Container(image="odd", command=ODD)]
    )
    updated = google.update(template=template, traffic=[to(first, 100)])
    assert not google.wait(updated.name).HasField("error")
    with wire(google) as user:
        google.wait(google.update(traffic=[to(first, 90), to("web-other", 10)]).name)
        while b"web-other" not in ask(google, path="/revision")[1]:
            pass
        request = b"GET /revision HTTP/1.1\r\nHost: web.localhost\r\n\r\n"
        drawn: Counter[bytes] = Counter()
        for _ in range(30):
            user.send(request * 100)
            for _ in range(100):
                user.until(b"\r\n\r\nweb-")
                drawn[user.until(b"r")[:1] if user.received[:1] == b"o" else user.until(b"0")[:1]] += 1
    assert drawn[b"o"] == pytest.approx(300, abs=25)
    google.wait(google.update(traffic=[to(first, 100)]).name)
