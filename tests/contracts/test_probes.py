"""What a probe says of an address that does not answer, or answers what it must not."""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from builders import NOW, a_service
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.core.policy_probes import Expectation, Probe
from controller.core.probe_evidence import Answer
from controller.engine.health import _is_of_the_revision
from controller.gateways.probes import USER_AGENT, HttpProbes

from .loopback import POLL, Asked, a_server, the_code_in_the_path

LONG = 5.0
"""Seconds that nothing here takes unless it hangs."""


def a_probe(path: str = "/", *, within: float = 30.0, **fields: Any) -> Probe:
    expect = {"within": f"{round(within * 1000)}ms", **fields.pop("expect", {})}
    return Probe(path=path, expect=Expectation(**expect), **fields)


def ask(address: str, path: str = "/", *, within: float = 30.0, **fields: Any) -> Answer:
    return HttpProbes(lambda: NOW).ask(address, a_probe(path, within=within, **fields))


@pytest.mark.parametrize("code", [200, 204, 302])
def test_good_answers_and_redirects_pass_and_no_redirect_is_followed(code: int) -> None:
    with a_server() as server:
        assert ask(server.address, f"/{code}") == Answer(True, code, 0.0, "")
        assert server.asked == [("GET", f"/{code}")]
        assert server.heads[0]["Host"] == server.address.removeprefix("http://")
        assert server.heads[0]["User-Agent"] == USER_AGENT


def test_a_bad_answer_is_named() -> None:
    with a_server() as server:
        answer = ask(server.address, "/503")
    problem = f"GET {server.address}/503 was answered with 503, not 2xx or 3xx"
    assert answer == Answer(False, 503, 0.0, problem)


@pytest.mark.parametrize(
    ("codes", "expected"), [(["2xx"], "2xx"), ([201], "201"), (["2xx", "3xx", 400], "2xx, 3xx or 400")]
)
def test_what_was_expected_instead_is_named(codes: list[Any], expected: str) -> None:
    with a_server() as server:
        assert ask(server.address, "/404", expect={"codes": codes}).problem.endswith(f"not {expected}")


def test_codes_are_expected_by_class_or_one_by_one() -> None:
    with a_server() as server:
        assert ask(server.address, "/404", expect={"codes": [404]}).ok
        assert ask(server.address, "/403", expect={"codes": ["4xx"]}).ok
        assert not ask(server.address, "/403", expect={"codes": [404]}).ok


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_a_probe_asks_by_its_method(method: str) -> None:
    with a_server() as server:
        assert ask(server.address, "/204", method=method, writes=True).ok
        assert server.asked == [(method, "/204")]


# --- headers ---


def test_headers_are_sent_and_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def demands(asked: Asked) -> None:
        known = asked.headers["Authorization"] == "Bearer opensesame"
        asked.say(200 if known else 401, headers={"WWW-Authenticate": "Basic"})

    headers = {"Authorization": "env:PROBE_KEY", "Accept": "text/html"}
    with a_server(demands) as server:
        monkeypatch.setenv("PROBE_KEY", "Bearer opensesame")
        assert ask(server.address, headers=headers).ok
        assert server.heads[0]["Accept"] == "text/html"
        monkeypatch.setenv("PROBE_KEY", "Bearer wrong")
        refused = ask(server.address, headers=headers)
    assert refused.problem.endswith(
        "the service itself asks for a sign-in: give the probe the header that it wants"
    )
    assert "wrong" not in refused.problem


def test_a_variable_that_is_not_set_is_named_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROBE_KEY", raising=False)
    with a_server() as server:
        answer = ask(server.address, "/200", headers={"X-Api-Key": "env:PROBE_KEY"})
        assert server.asked == []
    assert answer.status == 0
    assert "the environment variable PROBE_KEY, which is not set" in answer.problem


@pytest.mark.parametrize("value", ["opensesame\n", "open\r\nX: sesame", "öffne dich"])
def test_a_value_that_no_header_can_hold_is_named_but_not_shown(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBE_KEY", value)
    with a_server() as server:
        answer = ask(server.address, "/200", headers={"X-Api-Key": "env:PROBE_KEY"})
        assert server.asked == []
    assert "PROBE_KEY, which holds more than printable ASCII" in answer.problem
    assert "sesame" not in answer.problem


def test_an_answer_that_repeats_a_secret_is_quoted_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def repeats(asked: Asked) -> None:
        asked.wfile.write(f"no, {asked.headers['Authorization']}\r\n\r\n".encode())

    monkeypatch.setenv("PROBE_KEY", "Bearer opensesame")
    with a_server(repeats) as server:
        answer = ask(server.address, headers={"Authorization": "env:PROBE_KEY"})
    assert answer.problem.startswith(f"GET {server.address}/ got no answer (no, ...")
    assert "opensesame" not in answer.problem


# --- the body ---


def megabytes(asked: Asked) -> None:
    asked.say(200, b"x" * 1000 + b"healthy" + b"x" * 10_000_000)


def test_a_text_is_looked_for_in_the_first_of_the_body() -> None:
    with a_server(megabytes) as server:
        assert ask(server.address, expect={"contains": "healthy"}).ok
        missing = ask(server.address, expect={"contains": "ready"})
    assert missing.problem == f"GET {server.address}/ was answered with 200, but without the text 'ready'"


def test_a_text_after_the_first_64_kib_is_not_found() -> None:
    def late(asked: Asked) -> None:
        asked.say(200, b"x" * 65_530 + b"healthy")

    with a_server(late) as server:
        assert not ask(server.address, expect={"contains": "healthy"}).ok


def test_a_text_that_comes_in_pieces_is_found() -> None:
    def in_pieces(asked: Asked) -> None:
        asked.say(200, headers={"Transfer-Encoding": "chunked"})
        for piece in (b"hea", b"lthy"):
            asked.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        asked.wfile.write(b"0\r\n\r\n")

    with a_server(in_pieces) as server:
        assert ask(server.address, expect={"contains": "healthy"}).ok


# --- no answer, or not in time ---


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://tag---web.localhost:1"])
def test_nobody_there_is_named(address: str) -> None:
    answer = ask(address)
    assert (answer.status, answer.reached) == (0, False)
    assert answer.problem.startswith(f"GET {address}/ got no answer")


def test_only_http_is_spoken() -> None:
    assert ask("file:///etc", "/hostname").problem == "'file:///etc/hostname' is no address of a revision"


@contextmanager
def a_trickling_server(begin: bytes) -> Iterator[str]:
    """Serve what never ends, a byte at a time, each long before a timeout."""
    over = Event()

    def trickle(asked: Asked) -> None:
        asked.wfile.write(begin)
        while not over.wait(0.02):
            asked.wfile.write(b"a")

    with a_server(trickle) as server:
        yield server.address
        over.set()


@pytest.mark.parametrize(
    "begin", [b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"]
)
def test_a_candidate_whose_answers_trickle_in_holds_up_nobody(begin: bytes) -> None:
    with a_trickling_server(begin) as address:
        begun = time.monotonic()
        answer = ask(address, within=0.3, expect={"contains": "healthy"})
        assert time.monotonic() - begun < LONG
    assert answer.problem == f"GET {address}/ got no answer (timed out)"


def test_a_candidate_that_says_nothing_holds_up_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        answer = ask(address, within=0.3)
        assert time.monotonic() - begun < LONG
    assert answer.problem == f"GET {address}/ got no answer (timed out)"


@contextmanager
def a_hanging_address() -> Iterator[tuple[str, int]]:
    """Give an address to which nobody can connect in time: the queue of who waits there is full."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = ("127.0.0.1", full.getsockname()[1])
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(place)
        yield place


def test_a_name_with_many_addresses_gets_no_more_time_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_hanging_address() as place:
        known = socket.getaddrinfo
        four = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place)] * 4
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: four if host == "many.example" else known(host, *rest, **more),
        )
        begun = time.monotonic()
        answer = ask(f"http://many.example:{place[1]}", within=0.5)
        assert time.monotonic() - begun < 1.5
    assert (answer.status, answer.reached) == (0, False)
    assert "timed out" in answer.problem


def test_an_address_that_refuses_leaves_the_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server() as server:
        port = int(server.address.rpartition(":")[2])
        known = socket.getaddrinfo
        two = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", each)) for each in (1, port)]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: two if host == "two.example" else known(host, *rest, **more),
        )
        assert ask(f"http://two.example:{port}", "/200").ok


# --- whose fault it is ---


def blames_the_revision(answer: Answer) -> bool:
    return _is_of_the_revision(answer, a_service())


def hangs_up(asked: Asked) -> None:
    asked.connection.shutdown(socket.SHUT_RDWR)


def breaks_off(asked: Asked) -> None:
    asked.say(200, b"heal", headers={"Content-Length": "7"})


@pytest.mark.parametrize("reply", [hangs_up, breaks_off])
def test_a_service_that_breaks_its_answer_off_is_to_blame(reply: Callable[[Asked], None]) -> None:
    with a_server(reply) as server:
        answer = ask(server.address, expect={"contains": "healthy"})
    assert not answer.ok
    assert answer.reached
    assert blames_the_revision(answer)


def test_a_service_that_hangs_is_to_blame() -> None:
    with a_trickling_server(b"") as address:
        answer = ask(address, within=0.2)
    assert (answer.status, answer.reached) == (0, True)
    assert blames_the_revision(answer)


def test_an_address_that_cannot_be_reached_blames_nobody() -> None:
    answer = ask("http://127.0.0.1:1")
    assert not blames_the_revision(answer)


@pytest.mark.parametrize(("code", "blames"), [(500, True), (404, True), (401, False), (429, False)])
def test_an_answer_blames_the_revision_by_its_code(code: int, *, blames: bool) -> None:
    def reply(asked: Asked) -> None:
        asked.say(code, headers={"WWW-Authenticate": "Basic"})

    with a_server(reply) as server:
        answer = ask(server.address)
    assert answer.reached
    assert blames_the_revision(answer) == blames


@pytest.mark.parametrize("codes", [["2xx", "3xx"], [302]])
def test_identity_aware_proxy_in_front_of_a_service_is_no_answer_of_the_service(codes: list[Any]) -> None:
    sign_in = {"Location": "https://accounts.google.com/o/oauth2", "X-Goog-IAP-Generated-Response": "true"}
    with a_server(lambda asked: asked.say(302, headers=sign_in)) as server:
        answer = ask(server.address, expect={"codes": codes})
    assert (answer.ok, answer.status) == (False, 302)
    assert answer.problem.startswith(
        f"GET {server.address}/ was answered with 302 by Identity-Aware Proxy, which did not let the probe in"
    )
    assert not blames_the_revision(answer)


def test_an_answer_is_timed_by_the_clock_that_its_users_live_by() -> None:
    now = NOW

    def takes_twelve_seconds(asked: Asked) -> None:
        nonlocal now
        now += timedelta(seconds=12)
        asked.say(200)

    with a_server(takes_twelve_seconds) as server:
        probes = HttpProbes(lambda: now)
        assert probes.ask(server.address, a_probe(within=30)) == Answer(True, 200, 12.0, "")
        slow = probes.ask(server.address, a_probe(within=5))
    assert (slow.ok, slow.status, slow.seconds) == (False, 200, 12.0)
    assert slow.problem == f"GET {server.address}/ was answered after 12.0 s, not within 5s"


# --- warming up ---


def test_warming_up_asks_all_at_once_whatever_is_answered() -> None:
    together = Barrier(5, timeout=LONG)

    def when_all_are_there(asked: Asked) -> None:
        together.wait()
        asked.say(500)

    with a_server(when_all_are_there) as server:
        HttpProbes(lambda: NOW).warm_up(server.address, a_probe("/warm"), 5)
        assert server.asked == [("GET", "/warm")] * 5
    assert not together.broken


def test_warming_up_an_address_at_which_nobody_listens_is_no_error() -> None:
    HttpProbes(lambda: NOW).warm_up("http://127.0.0.1:1", a_probe(), 3)


# --- TLS ---


@contextmanager
def a_tls_server(
    directory: Path, reply: Callable[[Asked], None] = the_code_in_the_path
) -> Iterator[tuple[str, Path]]:
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
    handler = type("Handler", (Asked,), {"reply": reply, "asked": [], "heads": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, args=[POLL], daemon=True).start()
        yield f"https://localhost:{server.server_port}", directory / "cert"
        server.shutdown()


def test_a_handshake_gets_only_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def slow(host: str, *rest: Any, **more: Any) -> Any:
        Event().wait(0.8 if host == "slow.localdomain" else 0)
        return known("127.0.0.1", *rest, **more)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://slow.localdomain:{silent.getsockname()[1]}"
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", slow)
            begun = time.monotonic()
            answer = ask(address, within=1)
            took = time.monotonic() - begun
    assert took < 1.6
    assert (answer.status, answer.reached) == (0, False)
    assert answer.problem.endswith("got no answer (timed out)")


def test_an_answer_over_tls_that_trickles_in_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = Event()

    def trickle(asked: Asked) -> None:
        while not over.wait(0.02):
            asked.wfile.write(b"a")

    with a_tls_server(tmp_path, trickle) as (address, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        begun = time.monotonic()
        answer = ask(address, within=0.3)
        took = time.monotonic() - begun
        over.set()
    assert took < LONG
    assert (answer.status, answer.reached) == (0, True)


def test_an_answer_over_tls_is_read_if_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_tls_server(tmp_path) as (address, certificate):
        distrusted = ask(address, "/200")
        assert "certificate verify failed" in distrusted.problem
        assert not distrusted.reached
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask(address, "/200").ok
