"""Heads of requests and answers: what is read from them, and what of them is passed on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from controller.emulator.serving.affinity import COOKIE_NAME

Fields = list[tuple[bytes, bytes]]
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_TRACES = frozenset((b"traceparent", b"x-cloud-trace-context"))
_READ = (
    HOP_BY_HOP
    | _TRACES
    | {
        b"host",
        b"content-length",
        b"cookie",
        b"expect",
        b"user-agent",
        b"x-forwarded-for",
        b"x-forwarded-proto",
    }
)
_ANSWER_READ = HOP_BY_HOP | {b"content-length"}
_USUAL_OPTIONS = frozenset((b"keep-alive", b"close", b"upgrade", b""))
REPEATABLE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods that mean the same when they are sent twice (RFC 9110, section 9.2.2)."""
LARGEST_HEAD = 64 * 1024
_COOKIE = COOKIE_NAME.encode()
_AFFINITY_DAYS = 30
_TRACE_DIGITS = 32
_WITHOUT_BODY = frozenset((204, 304))


class HeadError(Exception):
    """A head that cannot be understood, though it is made of well-formed fields."""


@dataclass(slots=True)
class Request:
    """A request whose head has come; its body is perhaps still coming."""

    method: bytes
    target: bytes
    version: str
    keeps_alive: bool
    lines: list[bytes] = field(default_factory=list)
    """What is passed on of the head as it came, in pieces."""
    host: bytes = b""
    content_length: int = 0
    is_chunked: bool = False
    upgrade: bytes = b""
    expects_continue: bool = False
    affinity: str = ""
    """The value of the session affinity cookie."""
    user_agent: bytes = b""
    forwarded_for: bytes = b""
    trace: str = ""
    """The trace that the user is in; 32 hexadecimal digits, or ""."""
    has_traceparent: bool = False
    body: list[bytes] = field(default_factory=list)
    """What has come of the body and is not yet sent on."""
    body_bytes: int = 0
    """What has come of the body in all."""
    is_complete: bool = False

    @property
    def has_body(self) -> bool:
        """Whether the head announces a body."""
        return self.is_chunked or self.content_length > 0

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent a second time without anybody noticing."""
        return self.method in REPEATABLE and not self.has_body and not self.upgrade

    def read(self, fields: Fields, dropped: frozenset[bytes] = frozenset()) -> None:
        """Read the fields; raises HeadError. What `Connection` names goes no further than to us."""
        lines, options = self.lines, b""
        for name, value in fields:
            key = name.lower()
            if key not in _READ:
                if key not in dropped:
                    lines += (name, b": ", value, b"\r\n")
            elif key == b"connection":
                options += value + b","
            else:
                self._read_known(key, value)
        if options:
            named = frozenset(option.strip().lower() for option in options.split(b",")) - _USUAL_OPTIONS
            if named - dropped:
                lines.clear()
                self.host = self.forwarded_for = b""
                self.read(fields, named)

    def _read_known(self, key: bytes, value: bytes) -> None:
        if key == b"host":
            if self.host:
                raise HeadError("more than one Host")
            self.host = value
            self.lines += (b"Host: ", value, b"\r\n")
        elif key == b"user-agent":
            self.user_agent = value
            self.lines += (b"User-Agent: ", value, b"\r\n")
        elif key == b"cookie":
            self.affinity = self.affinity or _affinity(value)
            self.lines += (b"Cookie: ", value, b"\r\n")
        elif key == b"x-forwarded-for":
            self.forwarded_for = self.forwarded_for + b", " + value if self.forwarded_for else value
        elif key in _TRACES:
            self._read_trace(key, value)
        else:
            self._read_framing(key, value)

    def _read_trace(self, key: bytes, value: bytes) -> None:
        if key == b"traceparent":
            self.has_traceparent = True
            self.trace = self.trace or _trace(value[3:35])
            self.lines += (b"traceparent: ", value, b"\r\n")
        else:
            self.trace = _trace(value.partition(b"/")[0]) or self.trace

    def _read_framing(self, key: bytes, value: bytes) -> None:
        if key == b"content-length":
            self.content_length = int(value)
            self.lines += (b"Content-Length: ", value, b"\r\n")
        elif key == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise HeadError("a transfer encoding other than chunked")
            self.is_chunked = True
        elif key == b"upgrade":
            self.upgrade = b"" if value.lower() == b"h2c" else value
        elif key == b"expect":
            self.expects_continue = value.lower() == b"100-continue"

    def head(self, peer: bytes, span: int) -> bytes:
        """Return the head that the instance gets; `trace` must be known by now."""
        forwarded = self.forwarded_for + b", " + peer if self.forwarded_for else peer
        parts = [
            self.method,
            b" ",
            self.target,
            b" HTTP/1.1\r\n",
            *self.lines,
            b"X-Forwarded-For: ",
            forwarded,
            b"\r\nX-Forwarded-Proto: http\r\n",
            f"X-Cloud-Trace-Context: {self.trace}/{span};o=0\r\n".encode("latin-1"),
        ]
        if not self.has_traceparent:
            parts.append(f"traceparent: 00-{self.trace}-{span:016x}-00\r\n".encode("latin-1"))
        if self.is_chunked:
            parts.append(b"Transfer-Encoding: chunked\r\n")
        if self.upgrade:
            parts += (b"Connection: Upgrade\r\nUpgrade: ", self.upgrade, b"\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)


@dataclass(slots=True)
class Answer:
    """The head of an instance's answer."""

    status: int
    reason: bytes
    lines: list[bytes] = field(default_factory=list)
    content_length: bytes | None = None
    is_chunked: bool = False

    def read(self, fields: Fields) -> None:
        """Read the fields."""
        lines = self.lines
        for name, value in fields:
            key = name.lower()
            if key not in _ANSWER_READ:
                lines += (name, b": ", value, b"\r\n")
            elif key == b"content-length":
                self.content_length = value
                lines += (b"Content-Length: ", value, b"\r\n")
            elif key == b"transfer-encoding":
                self.is_chunked = True

    def has_body(self, method: bytes) -> bool:
        """Whether a body follows, when that was the request's method."""
        return self.status not in _WITHOUT_BODY and method != b"HEAD"

    def head(self, extra: bytes) -> bytes:
        """Return the head that the user gets; `extra` are whole lines."""
        return b"".join((b"HTTP/1.1 %d %s\r\n" % (self.status, self.reason), *self.lines, extra, b"\r\n"))


def _affinity(cookies: bytes) -> str:
    """Return the value of the session affinity cookie, or ""."""
    if _COOKIE not in cookies:
        return ""
    pairs = (pair.strip().partition(b"=") for pair in cookies.split(b";"))
    return next((value.decode("latin-1") for name, _, value in pairs if name == _COOKIE), "")


def affinity_line(value: str) -> bytes:
    """Return the line that lets a user come back to the same instance."""
    seconds = _AFFINITY_DAYS * 86400
    return f"Set-Cookie: {COOKIE_NAME}={value}; Max-Age={seconds}; Path=/; HttpOnly\r\n".encode()


def own_answer(
    status: int, text: str, lines: bytes = b"", *, keeps_alive: bool, has_body: bool = True
) -> bytes:
    """Return a whole answer that comes from no process; `lines` are further lines of its head."""
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
    ).encode()
    closing = b"" if keeps_alive else b"Connection: close\r\n"
    return head + lines + closing + b"\r\n" + (body if has_body else b"")


def chunk(pieces: Sequence[bytes]) -> bytes:
    """Return the pieces as one chunk of a chunked body."""
    data = b"".join(pieces)
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


LAST_CHUNK = b"0\r\n\r\n"


def _trace(value: bytes) -> str:
    """Return a trace id as text, or "" if it is none."""
    text = value.decode("latin-1").lower()
    is_one = len(text) == _TRACE_DIGITS and not text.strip("0123456789abcdef")
    return text if is_one else ""
