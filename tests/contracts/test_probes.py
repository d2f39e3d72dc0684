"""What a smoke test says of an address that does not answer, or answers what it must not."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

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


@contextmanager
def a_trickling_server() -> Iterator[str]:
    """Serve a head that never ends, a byte at a time, each long before a timeout."""
    over = Event()

    class Trickles(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nA: ")
            with suppress(OSError):
                while not over.wait(0.02):
                    self.wfile.write(b"a")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Trickles) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        over.set()
        server.shutdown()


def test_a_candidate_whose_answers_trickle_in_holds_up_nobody() -> None:
    with a_trickling_server() as address:
        begun = time.monotonic()
        first, second = HttpProbes(lambda _: None, seconds=0.5).ask(address, ["/a", "/b"])
        assert time.monotonic() - begun < 5
    assert first == f"GET {address}/a got no answer (timed out)"
    assert second == f"GET {address}/b was not tried: the paths before it have taken all the time there is"


def test_a_candidate_that_says_nothing_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        (complaint,) = HttpProbes(lambda _: None, seconds=0.3).ask(address, ["/a"])
        assert time.monotonic() - begun < 5
    assert complaint == f"GET {address}/a got no answer (timed out)"


@contextmanager
def a_tls_server(directory: Path) -> Iterator[tuple[str, Path]]:
    """Serve over TLS, with the certificate in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=3650))
        .not_valid_after(today + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, keys = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "cert").write_bytes(certificate.public_bytes(pem))
    (directory / "key").write_bytes(key.private_bytes(pem, keys, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert", directory / "key")
    handler = type("Handler", (Answers,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_port}", directory / "cert"
        server.shutdown()


def test_an_answer_over_tls_is_read_if_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_tls_server(tmp_path) as (address, certificate):
        (complaint,) = ask(address, "/200")
        assert "certificate verify failed" in complaint
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(address, "/200") == ()
