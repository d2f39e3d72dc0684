"""What a smoke test says of an address that does not answer, or answers what it must not."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from controller.gateways.probes import ATTEMPTS, USER_AGENT, HttpProbes


class Answers(BaseHTTPRequestHandler):
    """Answers with the code that stands in the path, and remembers who asked for what."""

    asked: list[tuple[str, str | None, str | None]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"], self.headers["User-Agent"]))
        code = int(self.path.strip("/"))
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("Location", "/500")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def a_server() -> Iterator[tuple[str, list[tuple[str, str | None, str | None]]]]:
    asked: list[tuple[str, str | None, str | None]] = []
    handler = type("Handler", (Answers,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://tag---web.localhost:{server.server_port}", asked
        server.shutdown()


def ask(address: str, *paths: str) -> tuple[str, ...]:
    return HttpProbes(lambda _: None).ask(address, paths)


def test_good_answers_and_redirects_pass_and_no_redirect_is_followed() -> None:
    with a_server() as (address, asked):
        assert ask(address, "/200", "/204", "/302") == ()
        host = address.removeprefix("http://")
        assert asked == [(path, host, USER_AGENT) for path in ("/200", "/204", "/302")]


def test_a_bad_answer_is_asked_for_again_and_then_named() -> None:
    with a_server() as (address, asked):
        (complaint,) = ask(address, "/200", "/503")
        assert complaint == f"GET {address}/503 was answered with 503, not 2xx or 3xx"
        assert [path for path, _, _ in asked].count("/503") == ATTEMPTS


@pytest.mark.parametrize("code", [401, 403])
def test_a_service_that_asks_for_a_sign_in_is_explained(code: int) -> None:
    with a_server() as (address, _):
        assert "asks for a sign-in" in ask(address, f"/{code}")[0]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://tag---web.localhost:1"])
def test_nobody_there_is_named(address: str) -> None:
    assert ask(address, "/")[0].startswith(f"GET {address}/ got no answer")


def test_only_http_is_spoken() -> None:
    assert ask("file:///etc", "/hostname") == ("'file:///etc/hostname' is no address of a revision",)
