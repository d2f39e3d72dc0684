"""HTTP with a deadline: one request, and of its answer no more than is wanted, however it trickles in."""

import http.client
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from threading import Timer
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

MOST_READ: Final = 64 * 1024
"""Bytes of an answer's body: it may be endless."""


class NoAnswer(Exception):
    """Nothing came of a request; the text says why.

    `reached` tells whether the connection stood, TLS included, so that the other side could have answered.
    """

    def __init__(self, why: str, *, reached: bool) -> None:
        super().__init__(why)
        self.reached = reached


def exchange(
    method: str, url: str, headers: Mapping[str, str], *, seconds: float, wanted: bytes = b""
) -> tuple[int, Mapping[str, str], bool]:
    """Return status and headers of the answer, and whether the first of its body holds what is wanted.

    Nothing is followed and nothing is read past what is wanted. Raises NoAnswer.
    """
    with _answered(method, url, headers, None, seconds) as answer:
        return int(answer.status), answer.headers, _holds(answer.read1, wanted)


def fetched(
    method: str, url: str, headers: Mapping[str, str], *, seconds: float, body: bytes | None = None
) -> tuple[int, bytes]:
    """Return status and body of the answer, as much as is read of one; raises NoAnswer."""
    with _answered(method, url, headers, body, seconds) as answer:
        return int(answer.status), _first(answer.read1)


@contextmanager
def _answered(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
) -> Iterator[Any]:
    deadline = _Deadline(seconds)
    try:
        request = _request(method, url, headers, body)
        with deadline, _opener(url, deadline).open(request, timeout=seconds) as answer:
            yield answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(str(error), reached=deadline.is_connected) from error


def _request(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
) -> urllib.request.Request:
    """Return the request; names below .localhost are this machine (RFC 6761), whatever the system knows."""
    parts = urlsplit(url)
    if _is_local(url):
        url = parts._replace(netloc=f"127.0.0.1:{parts.port or 80}").geturl()
    request = urllib.request.Request(url, body, method=method)  # noqa: S310 -- the opener speaks nothing but HTTP
    for name, value in {**headers, "Host": parts.netloc}.items():
        request.add_header(name, value)
    return request


def _is_local(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith(".localhost")


def _holds(read: Callable[[int], bytes], wanted: bytes) -> bool:
    body = b""
    while wanted not in body and len(body) < MOST_READ:
        piece = read(MOST_READ - len(body))
        if not piece:
            return False
        body += piece
    return wanted in body


def _first(read: Callable[[int], bytes]) -> bytes:
    body = b""
    while len(body) < MOST_READ and (piece := read(MOST_READ - len(body))):
        body += piece
    return body


class _Deadline:
    """Cuts a connection off when all its time is over: a timeout is only for each piece of an answer."""

    def __init__(self, seconds: float) -> None:
        self.is_connected = False
        self._end = monotonic() + seconds
        self._timer: Timer | None = None
        self._watched: socket.socket | None = None
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        if self._watched:
            self._watched.close()
        if self._is_over:  # whatever came of it: what was cut off may look like a whole answer
            raise TimeoutError("timed out")

    def left(self) -> float:
        """Return the seconds that are left; raises TimeoutError where there are none."""
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def watch(self, connected: socket.socket) -> None:
        """Cut this connection off in time."""
        self._watched = connected.dup()  # TLS takes the socket itself away from who has it
        self._timer = Timer(max(0.0, self._end - monotonic()), self._cut_off, [self._watched])
        self._timer.daemon = True
        self._timer.start()

    def _cut_off(self, watched: socket.socket) -> None:
        self._is_over = True
        with suppress(OSError):
            watched.shutdown(socket.SHUT_RDWR)  # wakes up who reads from it


def _opener(url: str, deadline: _Deadline) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    if not _is_local(url):
        opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Http(deadline))
    opener.add_handler(_Https(deadline))
    return opener


class _Watched(http.client.HTTPConnection):
    """A connection with a deadline."""

    def __init__(self, deadline: _Deadline, *place: Any, **options: Any) -> None:
        super().__init__(*place, **options)
        self._deadline = deadline
        self._create_connection = self._connection_in_time

    def connect(self) -> None:
        """Connect, with TLS where it is wanted, and remember that it was done."""
        super().connect()
        self._deadline.is_connected = True

    def _connection_in_time(self, place: tuple[str, int], *_: object) -> socket.socket:
        """Return a connection that is watched from its first moment, before TLS."""
        connected = _connect(place, self._deadline)
        self._deadline.watch(connected)
        return connected


class _WatchedTls(_Watched, http.client.HTTPSConnection):
    """The same over TLS."""


def _connect(place: tuple[str, int], deadline: _Deadline) -> socket.socket:
    """Connect to the first address of a name that lets us; all together have the time that is left."""
    failure = OSError("its name has no address")
    for *_, address in socket.getaddrinfo(*place, type=socket.SOCK_STREAM):
        left = deadline.left()
        try:
            return socket.create_connection((str(address[0]), int(address[1])), left)
        except OSError as error:
            failure = error
    raise failure


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a watched connection."""
        return self.do_open(partial(_Watched, self._deadline), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a watched connection."""
        return self.do_open(partial(_WatchedTls, self._deadline), req)
