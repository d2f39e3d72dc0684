"""Requests of one connection, parsed as their bytes arrive."""

from collections import deque

import httptools

from controller.emulator.serving.heads import LARGEST_HEAD, Fields, HeadError, Request

BAD_REQUEST, _NOT_ALLOWED, _HEAD_TOO_LARGE, _NOT_IMPLEMENTED = 400, 405, 431, 501
_TOO_LARGE = "The head of the request is larger than 64 KiB."


class Refusal(Exception):
    """What cannot be taken as a request; the connection is closed after the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class RequestParser:
    """Finds requests in bytes. A request is there as soon as its head is; its body grows afterwards."""

    def __init__(self) -> None:
        self.found: deque[Request | Refusal] = deque()
        """Requests that nobody has taken up yet."""
        self.incoming: Request | None = None
        """The request whose body is coming."""
        self._silent = 0
        """Bytes since something of a request was understood."""
        self._target = b""
        self._fields: Fields = []
        self._parser = httptools.HttpRequestParser(self)

    @property
    def is_between(self) -> bool:
        """Whether what came ends with a whole request."""
        return not self._silent and self.incoming is None

    def feed(self, data: memoryview) -> bytes | None:
        """Parse some bytes; raises Refusal. Return what follows a request to switch protocols, else None."""
        self._silent += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return bytes(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise Refusal(BAD_REQUEST, f"This is not HTTP: {error}.") from None
        if self._silent > LARGEST_HEAD:
            raise Refusal(_HEAD_TOO_LARGE, _TOO_LARGE)
        return None

    def begin_anew(self) -> None:
        """Parse HTTP again, after a switch of protocols that did not come about."""
        self._parser = httptools.HttpRequestParser(self)

    def close(self) -> None:
        """Let go of the library's parser, which refers back to this one."""
        del self._parser

    # What the library calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._fields = []
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Read the head; raises Refusal."""
        parser = self._parser
        if self._silent > LARGEST_HEAD and self._head_bytes() > LARGEST_HEAD:
            raise Refusal(_HEAD_TOO_LARGE, _TOO_LARGE)
        self._silent = 0
        method = parser.get_method()
        if method == b"CONNECT":
            raise Refusal(_NOT_ALLOWED, "The method CONNECT is not allowed.")
        target = _in_origin_form(self._target)
        request = Request(method, target, parser.get_http_version(), parser.should_keep_alive())
        try:
            request.read(self._fields)
        except HeadError as error:
            raise Refusal(BAD_REQUEST, f"This is not HTTP: {error}.") from None
        if not parser.should_upgrade():
            request.upgrade = b""
        elif request.has_body:
            raise Refusal(_NOT_IMPLEMENTED, "A request with a body cannot switch protocols.")
        self.incoming = request
        self.found.append(request)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._silent = 0
        if self.incoming is not None:
            self.incoming.body_bytes += len(body)
            self.incoming.body.append(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self._silent = 0
        if self.incoming is not None:
            self.incoming.is_complete = True
            self.incoming = None

    def _head_bytes(self) -> int:
        return len(self._target) + sum(len(name) + len(value) for name, value in self._fields)


def _in_origin_form(target: bytes) -> bytes:
    """Return path and query as they came in, without the scheme and host that a proxy is given."""
    if target.startswith(b"/") or target == b"*":
        return target
    _, _, rest = target.partition(b"://")
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"
