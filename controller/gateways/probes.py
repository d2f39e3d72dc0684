"""Probes: requests of our own to a revision's own address, before any user is sent to it."""

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from threading import Event, Timer
from typing import Any
from urllib.parse import urlsplit

from tenacity import RetryError, Retrying, retry_if_result, wait_fixed

from controller.core.plain_text import plain
from controller.gateways.calls import Budget
from controller.ports import Probes

TIMEOUT = 30.0
"""Seconds for one answer: a candidate starts cold."""
BUDGET = 120.0
"""Seconds for all paths with all their attempts, so that a pass comes to an end."""
ATTEMPTS = 3
PAUSE = 2.0
LONGEST_QUOTED = 200
"""Characters of an answer that is none: it may be anything."""
USER_AGENT = "cloud-run-canary-probe"
GOOD = range(200, 400)


class HttpProbes(Probes):
    """GET requests, without following redirects and without any proxy for this machine."""

    def __init__(self, sleep: Callable[[float], None], seconds: float = BUDGET) -> None:
        self._sleep = sleep
        self._seconds = seconds

    def ask(self, address: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return one complaint for each path that is not answered with 2xx or 3xx in three attempts."""
        budget = Budget(self._seconds)
        return tuple(complaint for path in paths if (complaint := self._ask(address + path, budget)))

    def _ask(self, url: str, budget: Budget) -> str:
        retrying = Retrying(
            retry=retry_if_result(bool),
            stop=lambda state: state.attempt_number >= ATTEMPTS or budget.left <= PAUSE,
            wait=wait_fixed(PAUSE),
            sleep=self._sleep,
        )
        try:
            return str(retrying(_complaint, url, budget))
        except RetryError as last:
            return str(last.last_attempt.result())


def _complaint(url: str, budget: Budget) -> str:
    """Return what is wrong with the answer, or nothing."""
    if urlsplit(url).scheme not in {"http", "https"}:
        return f"{url!r} is no address of a revision"
    timeout = min(TIMEOUT, budget.left)
    if timeout <= 0:
        return f"GET {url} was not tried: the paths before it have taken all the time there is"
    try:
        with _opener(url).open(_request(url), timeout=timeout) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"GET {url} got no answer ({plain(str(error), LONGEST_QUOTED)})"
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
    return urllib.request.build_opener(_NoRedirects, _TimedHttp, _TimedHttps, *proxies)


class _Timed(http.client.HTTPConnection):
    """A connection whose timeout is for the whole head of an answer, not for each piece of it."""

    def getresponse(self) -> http.client.HTTPResponse:
        """Return the answer, or give up on one that trickles in."""
        over = Event()

        def give_up() -> None:
            over.set()
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # wakes up who reads from it

        timer = Timer(self.timeout or 0, give_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if over.is_set():  # whatever came of it: what was cut off may look like a whole head
                raise TimeoutError("timed out")


class _TimedTls(_Timed, http.client.HTTPSConnection):
    """The same over TLS."""


class _TimedHttp(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a timed connection."""
        return self.do_open(_Timed, req)


class _TimedHttps(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a timed connection."""
        return self.do_open(_TimedTls, req)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: a redirect is an answer."""
