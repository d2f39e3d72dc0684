"""Identity: ID tokens of the controller's service account, by which a service knows who asks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from time import monotonic
from typing import Any, Final

from google.auth import exceptions, jwt
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token

from controller.core.plain_text import plain

EARLY: Final = timedelta(minutes=5)
"""So long before a token ends, another is had."""
SECONDS: Final = 5.0
"""Real seconds for all requests that a token takes, and for the client's own retries of them: others wait."""
KEPT: Final = timedelta(minutes=1)
"""So long a failure is taken for the answer."""
LONGEST_QUOTED: Final = 200
UNREADABLE: Final = "what was given is not an ID token"


class NoToken(Exception):
    """No ID token could be had, and why, without anything secret."""


class IdTokens:
    """The ID tokens of this machine's service account, each kept almost until it ends.

    A failure is kept too, for all services: it is this machine that has no token.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept: dict[str, tuple[str, datetime]] = {}
        self._failure: tuple[str, datetime] | None = None
        self._lock = Lock()

    def token_for(self, audience: str) -> str:
        """Return a token that is good for at least five minutes; raises NoToken."""
        with self._lock:  # many ask at once, and one answer will do
            token, until = self._kept.get(audience, ("", None))
            if until is None or self._now() >= until - EARLY:
                token, until = self._fetched(audience)
                self._kept[audience] = token, until
            return token

    def _fetched(self, audience: str) -> tuple[str, datetime]:
        if self._failure:
            why, failed_at = self._failure
            if timedelta() <= self._now() - failed_at < KEPT:  # a clock may be set back
                raise NoToken(why)
        try:
            fetched = _fetch(audience)
        except NoToken as error:
            self._failure = str(error), self._now()
            raise
        self._failure = None
        return fetched


def _fetch(audience: str) -> tuple[str, datetime]:
    try:
        token = str(fetch_id_token(request_within(SECONDS), audience))
        claims: Any = jwt.decode(token, verify=False)
        return token, datetime.fromtimestamp(claims["exp"], UTC)
    except exceptions.MalformedError:  # its own text quotes the token
        why = UNREADABLE
    except (exceptions.DefaultCredentialsError, exceptions.RefreshError, exceptions.TransportError) as error:
        why = str(error.args[0]) if error.args else type(error).__name__  # what follows holds whole answers
    except (exceptions.GoogleAuthError, ValueError, KeyError, TypeError):
        why = UNREADABLE
    except OSError as error:
        why = str(error)
    raise NoToken(plain(why, LONGEST_QUOTED))


def request_within(seconds: float) -> Callable[..., Any]:
    """Return what the client makes its requests by, which together take so long at most."""
    request, end = Request(), monotonic() + seconds

    def in_time(url: str, *, timeout: float | None = None, **options: Any) -> Any:
        left = end - monotonic()
        try:
            if left > 0:
                return request(url, timeout=min(timeout or left, left), **options)
        except exceptions.TransportError:
            if monotonic() < end:
                raise
        # No error of the client's own, which it would try again after.
        raise TimeoutError(f"whoever gives them did not answer within {seconds:g} s")

    return in_time
