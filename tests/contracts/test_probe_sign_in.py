"""Probes of a service that lets only those in who show an ID token; Google's library gets the tokens."""

import json
import logging
import socket
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from builders import NOW
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.gateways import identity
from controller.gateways.probes import HttpProbes

from .loopback import Asked, Listening, a_server

FRONT = {"Server": "Google Frontend"}
DEMAND = "the service asks for a sign-in, and no ID token could be had ("
PROBE = Probe(path="/")


def a_token(**claims: Any) -> str:
    parts = ({"alg": "RS256"}, claims, "signature")
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


@dataclass
class Google:
    """Who gives tokens to a service account, and the time until which they last."""

    now: datetime = NOW
    lasts: timedelta = timedelta(hours=1)
    mint: Callable[..., str] = a_token
    given: int = 0

    def reply(self, asked: Asked) -> None:
        form = parse_qs(asked.rfile.read(int(asked.headers["Content-Length"])).decode())
        audience = claims_of(form["assertion"][0])["target_audience"]
        self.given += 1
        token = self.mint(aud=audience, exp=(self.now + self.lasts).timestamp(), number=self.given)
        asked.say(200, json.dumps({"id_token": token}).encode())


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def google(private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Google]:
    """Google, and a controller that runs with a service account."""
    google = Google()
    with a_server(google.reply) as tokens:
        account = {
            "type": "service_account",
            "client_email": "canary@demo.iam.gserviceaccount.com",
            "private_key": private_key,
            "private_key_id": "1",
            "token_uri": tokens.address.replace("tag---web.localhost", "127.0.0.1"),
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield google


@contextmanager
def a_closed_service(
    opens: Callable[[str], bool] = bool, marks: Mapping[str, str] = FRONT
) -> Iterator[Listening]:
    """A service whose front lets in who has a token that opens it, made out for its own address."""

    def reply(asked: Asked) -> None:
        token = (asked.headers["X-Serverless-Authorization"] or "").removeprefix("Bearer ")
        own = f"http://{asked.headers['Host'].removeprefix('tag---')}"
        lets_in = token and claims_of(token)["aud"] == own and opens(token)
        asked.say(200 if lets_in else 403, headers=marks)

    with a_server(reply) as service:
        yield service


def ask(service: Listening) -> Answer:
    return HttpProbes(lambda: NOW).ask(service.address, PROBE)


def tokens_shown(service: Listening) -> list[str]:
    return [head.get("X-Serverless-Authorization", "").removeprefix("Bearer ") for head in service.heads]


@pytest.mark.usefixtures("google")
def test_a_service_that_asks_for_a_sign_in_gets_a_token_for_its_own_address() -> None:
    with a_closed_service() as service:
        assert ask(service) == Answer(True, 200, 0.0, "")
        assert [bool(token) for token in tokens_shown(service)] == [False, True]


@pytest.mark.usefixtures("google")
def test_a_challenge_is_enough_to_know_the_front_by() -> None:
    with a_closed_service(marks={"WWW-Authenticate": 'Bearer error="insufficient_scope"'}) as service:
        assert ask(service).ok


@pytest.mark.usefixtures("google")
def test_a_service_that_needed_a_token_is_shown_the_same_one_from_then_on() -> None:
    probes = HttpProbes(lambda: NOW)
    with a_closed_service() as service:
        assert all(probes.ask(service.address, PROBE).ok for _ in range(3))
        first, *rest = tokens_shown(service)
    assert first == ""
    assert len(rest) == 3
    assert len(set(rest)) == 1


def test_a_token_is_renewed_five_minutes_before_it_ends(google: Google) -> None:
    now = NOW
    probes = HttpProbes(lambda: now)
    with a_closed_service() as service:
        for minutes in (0, 54, 56, 57):
            now = NOW + timedelta(minutes=minutes)
            google.now = now
            assert probes.ask(service.address, PROBE).ok
        shown = [claims_of(token)["number"] for token in tokens_shown(service) if token]
    assert shown == [1, 1, 2, 2]


def test_many_that_warm_up_a_closed_service_share_one_token(google: Google) -> None:
    with a_closed_service() as service:
        HttpProbes(lambda: NOW).warm_up(service.address, PROBE, 8)
        assert len({token for token in tokens_shown(service) if token}) == 1
    assert google.given == 1


def test_without_a_service_account_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/account.json")
    with a_closed_service() as service:
        answer = ask(service)
    assert answer == Answer(False, 403, 0.0, answer.problem)
    assert answer.problem.startswith(
        f"GET {service.address}/ was answered with 403, not 2xx or 3xx; {DEMAND}"
    )
    assert answer.problem.endswith(
        "): if the application itself wants a sign-in, give the probe the header that it wants; else run the"
        " controller with a service account that holds roles/run.invoker on the service"
    )
    assert answer.reached


@pytest.mark.usefixtures("google")
def test_a_token_that_is_turned_down_is_a_missing_role_and_is_not_taken_for_a_way_in() -> None:
    probes = HttpProbes(lambda: NOW)
    with a_closed_service(lambda _: False) as service:
        answer = probes.ask(service.address, PROBE)
        probes.ask(service.address, PROBE)
        assert [bool(token) for token in tokens_shown(service)] == [False, True] * 2
    assert answer.status == 403
    assert answer.problem.endswith("give its service account roles/run.invoker on the service")
    assert (
        "if the application itself wants a sign-in, give the probe the header that it wants" in answer.problem
    )


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("server", ["Google Frontend", "nginx", ""])
def test_who_turned_a_probe_down_is_not_told_by_the_name_of_the_server(server: str) -> None:
    with a_closed_service(marks={"Server": server} if server else {}) as service:
        assert ask(service).ok


@pytest.mark.usefixtures("google")
@pytest.mark.parametrize("marks", [{}, FRONT], ids=["own-name", "name-of-the-front"])
def test_an_application_that_turns_a_probe_down_itself_is_shown_no_token(marks: Mapping[str, str]) -> None:
    with a_closed_service(marks={**marks, "WWW-Authenticate": 'Basic realm="shop"'}) as service:
        answer = ask(service)
        assert tokens_shown(service) == [""]
    assert answer.problem.endswith(
        "the service itself asks for a sign-in: give the probe the header that it wants"
    )


@pytest.mark.usefixtures("google")
def test_an_answer_that_was_expected_is_no_demand_for_a_token() -> None:
    with a_closed_service() as service:
        assert HttpProbes(lambda: NOW).ask(service.address, Probe(path="/", expect=[403])).ok
        assert tokens_shown(service) == [""]


@pytest.mark.parametrize(
    "mint",
    [lambda **_: "opensesame", lambda **claims: a_token(aud=claims["aud"])],
    ids=["rubbish", "endless"],
)
def test_what_is_no_token_is_neither_used_nor_shown(google: Google, mint: Callable[..., str]) -> None:
    google.mint = mint
    with a_closed_service() as service:
        problem = ask(service).problem
        assert tokens_shown(service) == [""]
    assert DEMAND in problem
    assert "opensesame" not in problem
    assert a_token().split(".")[0] not in problem


@pytest.mark.usefixtures("google")
def test_a_token_appears_in_no_text_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    def repeats(asked: Asked) -> None:
        token = asked.headers["X-Serverless-Authorization"]
        seen.append(token or "")
        if token:
            asked.wfile.write(f"{token}\r\n\r\n".encode())
        else:
            asked.say(401, headers=FRONT)

    with caplog.at_level(logging.DEBUG), a_server(repeats) as service:
        answer = ask(service)
    token = seen[-1].removeprefix("Bearer ")
    assert claims_of(token)["number"] == 1
    assert answer.problem.startswith(f"GET {service.address}/ got no answer (...")
    for part in token.split("."):
        assert part not in answer.problem
        assert part not in caplog.text


# --- tokens that cannot be had ---


def test_a_failure_to_get_a_token_is_kept_for_a_minute(google: Google) -> None:
    now = NOW
    google.mint = lambda **_: "rubbish"
    probes = HttpProbes(lambda: now)
    with a_closed_service() as service, a_closed_service() as another:
        problems = {probes.ask(service.address, PROBE).problem for _ in range(3)}
        assert len(problems) == 1
        assert DEMAND in probes.ask(another.address, PROBE).problem
        assert google.given == 1
        google.mint = a_token
        now += timedelta(seconds=59)
        assert not probes.ask(service.address, PROBE).ok
        now += timedelta(seconds=2)
        assert probes.ask(service.address, PROBE).ok
    assert google.given == 2


def test_a_failure_is_not_kept_when_the_clock_is_set_back(google: Google) -> None:
    now = NOW
    google.mint = lambda **_: "rubbish"
    probes = HttpProbes(lambda: now)
    with a_closed_service() as service:
        assert not probes.ask(service.address, PROBE).ok
        google.mint = a_token
        now -= timedelta(hours=1)
        assert probes.ask(service.address, PROBE).ok


def test_a_metadata_server_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(identity, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, a_closed_service() as service:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        answer = ask(service)
        assert time.monotonic() - begun < 2
    assert answer.status == 403
    assert f"{DEMAND}whoever gives them did not answer within 0.3 s)" in answer.problem
