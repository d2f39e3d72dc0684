"""Probes: requests of our own to a revision's own address, before any user is sent to it."""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_fixed

from controller.ports import Probes

TIMEOUT = 30.0
"""Seconds for one answer: a candidate starts cold."""
ATTEMPTS = 3
PAUSE = 2.0
USER_AGENT = "cloud-run-canary-probe"
GOOD = range(200, 400)


class HttpProbes(Probes):
    """GET requests, without following redirects and without any proxy for this machine."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self._sleep = sleep

    def ask(self, address: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return one complaint for each path that is not answered with 2xx or 3xx in three attempts."""
        return tuple(complaint for path in paths if (complaint := self._ask(address + path)))

    def _ask(self, url: str) -> str:
        retrying = Retrying(
            retry=retry_if_result(bool),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(PAUSE),
            sleep=self._sleep,
        )
        try:
            return str(retrying(_complaint, url))
        except RetryError as last:
            return str(last.last_attempt.result())


def _complaint(url: str) -> str:
    """Return what is wrong with the answer, or nothing."""
    if urlsplit(url).scheme not in {"http", "https"}:
        return f"{url!r} is no address of a revision"
    try:
        with _opener(url).open(_request(url), timeout=TIMEOUT) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"GET {url} got no answer ({error})"
    if status in GOOD:
        return ""
    hint = "; the service asks for a sign-in, which a smoke test cannot give" if status in {401, 403} else ""
    return f"GET {url} was answered with {status}, not 2xx or 3xx{hint}"


def _request(url: str) -> urllib.request.Request:
    """Return the request; names below .localhost are this machine (RFC 6761), whatever the system knows."""
    parts = urlsplit(url)
    headers = {"User-Agent": USER_AGENT, "Host": parts.netloc}
    if (parts.hostname or "").endswith(".localhost"):
        url = parts._replace(netloc=f"127.0.0.1:{parts.port or 80}").geturl()
    return urllib.request.Request(url, headers=headers)  # noqa: S310 -- the scheme was checked


def _opener(url: str) -> urllib.request.OpenerDirector:
    local = (urlsplit(url).hostname or "").endswith(".localhost")
    proxies = [urllib.request.ProxyHandler({})] if local else []
    return urllib.request.build_opener(_NoRedirects, *proxies)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: a redirect is an answer."""
