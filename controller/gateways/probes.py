"""Probes: requests of our own to a revision's own address."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from controller.core.plain_text import plain
from controller.core.policy_probes import Expectation, Probe
from controller.core.probe_evidence import Answer
from controller.core.units import duration_text
from controller.gateways.identity import IdTokens, NoToken
from controller.gateways.timed_http import NoAnswer, exchange
from controller.ports import Probes

USER_AGENT: Final = "cloud-run-canary-probe"
SIGN_IN_HEADER: Final = "X-Serverless-Authorization"
"""Read by Google's front end, and taken off; so the application may have an Authorization of its own."""
LONGEST_QUOTED: Final = 200
"""Characters of an answer that is none: it may be anything."""
_SIGN_IN: Final = frozenset({401, 403})
_IAP_MARK: Final = "X-Goog-IAP-Generated-Response"
"""Set by Identity-Aware Proxy on the answers that it gives in a service's place."""
_FROM_ENVIRONMENT: Final = "env:"
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


class HttpProbes(Probes):
    """Probes over HTTP, without following redirects and without any proxy for this machine.

    A service that asks for a sign-in gets an ID token of the controller's service account, and from then on
    with each request.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Measure by the clock `now`, which may run faster than this machine's."""
        self._now = now
        self._tokens = IdTokens(now)
        self._signed_in: set[str] = set()
        """The services that want a token."""

    def ask(self, address: str, probe: Probe) -> Answer:
        """Ask once."""
        url = address + probe.path
        if urlsplit(url).scheme not in {"http", "https"}:
            return Answer(False, 0, 0.0, f"{url!r} is no address of a revision")
        try:
            headers = _own_headers(probe)
        except _NoValue as missing:
            return Answer(False, 0, 0.0, f"{probe.method} {url} was not asked: {missing}")
        service = service_address(address)
        if service in self._signed_in:
            return self._ask_with_token(url, probe, headers, service)
        attempt = self._try(url, probe, headers)
        if attempt.wants_token:
            return self._ask_with_token(url, probe, headers, service, attempt.answer)
        return attempt.answer

    def lacking(self, probe: Probe) -> str:
        """Say which header's variable is not there, or cannot be a header."""
        try:
            _own_headers(probe)
        except _NoValue as missing:
            return str(missing)
        return ""

    def warm_up(self, address: str, probe: Probe, number: int) -> None:
        """Ask `number` times at once, and do not mind the answers."""
        with ThreadPoolExecutor(number) as pool:
            for _ in range(number):
                pool.submit(self.ask, address, probe)

    def _ask_with_token(
        self,
        url: str,
        probe: Probe,
        headers: Mapping[str, str],
        service: str,
        before: Answer | None = None,
    ) -> Answer:
        try:
            token = self._tokens.token_for(service)
        except NoToken as error:
            problem = before.problem if before else f"{probe.method} {url} was not asked"
            return Answer(
                False,
                before.status if before else 0,
                before.seconds if before else 0.0,
                f"{problem}; the service asks for a sign-in, and no ID token could be had ({error}): if the"
                " application itself wants a sign-in, give the probe the header that it wants; else run the"
                " controller with a service account that holds roles/run.invoker on the service",
                reached=before is not None,
            )
        attempt = self._try(url, probe, {**headers, SIGN_IN_HEADER: f"Bearer {token}"})
        if attempt.wants_token:
            problem = (
                f"{attempt.answer.problem}, and the controller's ID token did not help: if the application"
                " itself wants a sign-in, give the probe the header that it wants; if the service's IAM keeps"
                " the controller out, give its service account roles/run.invoker on the service"
            )
            return replace(attempt.answer, problem=problem)
        self._signed_in.add(service)
        return attempt.answer

    def _try(self, url: str, probe: Probe, headers: Mapping[str, str]) -> "_Try":
        asked, expect = f"{probe.method} {url}", probe.expect
        limit, wanted = expect.within.total_seconds(), expect.contains.encode()
        begun = self._now()
        try:
            status, answered, holds = exchange(probe.method, url, headers, seconds=limit, wanted=wanted)
        except NoAnswer as error:
            secrets = [value for name, value in headers.items() if value != probe.headers.get(name)]
            why = plain(_without(secrets, str(error)), LONGEST_QUOTED)
            problem = f"{asked} got no answer ({why})"
            return _Try(Answer(False, 0, self._since(begun), problem, reached=error.reached))
        seconds = self._since(begun)
        if _IAP_MARK in answered:
            return _Try(_kept_out(asked, status, seconds))
        problem = _problem(expect, status, seconds, holds=holds)
        wants_token = bool(problem) and status in _SIGN_IN and not _is_of_the_application(answered)
        if problem and status in _SIGN_IN and not wants_token:
            problem += "; the service itself asks for a sign-in: give the probe the header that it wants"
        answer = Answer(not problem, status, seconds, problem and f"{asked} {problem}", reached=True)
        return _Try(answer, wants_token)

    def _since(self, begun: datetime) -> float:
        return max(0.0, (self._now() - begun).total_seconds())  # a clock may be set back


@dataclass(frozen=True)
class _Try:
    answer: Answer
    wants_token: bool = False
    """Whether it may be Cloud Run that turned the request down, for want of a token."""


class _NoValue(Exception):
    """A header's value is not in the environment; the text names the variable."""


def service_address(address: str) -> str:
    """Return the service's own address, for which ID tokens are made out: without the tag."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('---')[2]}"


def _own_headers(probe: Probe) -> dict[str, str]:
    return {"User-Agent": USER_AGENT} | {name: _value(name, text) for name, text in probe.headers.items()}


def _value(name: str, text: str) -> str:
    """Return a header's value, which may stand in the environment; never say what it is."""
    if not text.startswith(_FROM_ENVIRONMENT):
        return text
    variable = text.removeprefix(_FROM_ENVIRONMENT)
    value = os.environ.get(variable)
    if value is None:
        raise _NoValue(f"its header {name} is the environment variable {variable}, which is not set; set it")
    if not _HEADER_VALUE.fullmatch(value):
        raise _NoValue(
            f"its header {name} is the environment variable {variable}, which holds more than printable"
            " ASCII, such as a line break; take that out"
        )
    return value


def _without(secrets: Iterable[str], text: str) -> str:
    """Return a text that may quote the answer, and with it what the answer quotes of the request."""
    for secret in secrets:
        for part in (secret, secret.rpartition(" ")[2]):
            text = text.replace(part, "...") if part else text
    return text


def _problem(expect: Expectation, status: int, seconds: float, *, holds: bool) -> str:
    """Return what is wrong with an answer, or nothing."""
    if not _is_expected(status, expect.codes):
        return f"was answered with {status}, not {_one_of(expect.codes)}"
    if not holds:
        return f"was answered with {status}, but without the text {expect.contains!r}"
    if seconds > expect.within.total_seconds():
        return f"was answered after {seconds:.1f} s, not within {duration_text(expect.within)}"
    return ""


def _is_expected(status: int, codes: tuple[str, ...]) -> bool:
    return str(status).startswith(tuple(code.removesuffix("xx") for code in codes))


def _one_of(codes: tuple[str, ...]) -> str:
    *others, last = codes
    return f"{', '.join(others)} or {last}" if others else last


def _is_of_the_application(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer surely is not Cloud Run's; its other headers stand on all answers alike."""
    challenge = headers.get("WWW-Authenticate", "")
    return bool(challenge) and not challenge.lower().startswith("bearer")


def _kept_out(asked: str, status: int, seconds: float) -> Answer:
    """Return an answer of Identity-Aware Proxy, which is none of the service, whatever was expected."""
    problem = (
        f"{asked} was answered with {status} by Identity-Aware Proxy, which did not let the probe in:"
        " give the probe a Proxy-Authorization header that it takes, or leave probes and smoke out of the"
        " policy"
    )
    return Answer(False, status, seconds, problem, reached=True, kept_out=True)
