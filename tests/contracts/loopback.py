"""A server on this machine that remembers what it was asked, and answers as a test says."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

POLL = 0.01
"""Seconds within which a server ends."""


class Asked(BaseHTTPRequestHandler):
    """Remembers what it is asked, and answers as `reply` does."""

    reply: Callable[["Asked"], None]
    asked: list[tuple[str, str]]
    heads: list[dict[str, str]]

    def __getattr__(self, name: str) -> Any:
        """Answer every method alike."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        self.asked.append((self.command, self.path))
        self.heads.append(dict(self.headers))
        with suppress(OSError):  # whoever asked may have left
            type(self).reply(self)

    def say(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def the_code_in_the_path(asked: Asked) -> None:
    asked.say(int(asked.path.strip("/")), headers={"Location": "/500"})


@dataclass
class Listening:
    address: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def a_server(reply: Callable[[Asked], None] = the_code_in_the_path) -> Iterator[Listening]:
    """Serve on this machine, at an address as a tag has one."""
    listening = Listening("")
    fields = {"reply": reply, "asked": listening.asked, "heads": listening.heads}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Asked,), fields)) as server:
        listening.address = f"http://tag---web.localhost:{server.server_port}"
        Thread(target=server.serve_forever, args=[POLL], daemon=True).start()
        yield listening
        server.shutdown()
