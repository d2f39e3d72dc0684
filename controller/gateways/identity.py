"""Identity: ID tokens of the controller's service account, by which a service knows who asks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any, Final

from google.auth import exceptions, jwt
from google.auth.transport.requests import Request
from google.oauth2.id_token import fetch_id_token

from controller.core.plain_text import plain

EARLY: Final = timedelta(minutes=5)
"""So long before a token ends, another is had."""
SECONDS: Final = 10.0
"""For one answer of whoever gives tokens; the client's own default is two minutes."""
LONGEST_QUOTED: Final = 200
UNREADABLE: Final = "what was given is not an ID token"


class NoToken(Exception):
    """No ID token could be had, and why, without anything secret."""


class IdTokens:
    """The ID tokens of this machine's service account, each kept almost until it ends."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._kept: dict[str, tuple[str, datetime]] = {}
        self._lock = Lock()

    def token_for(self, audience: str) -> str:
        """Return a token that is good for at least five minutes; raises NoToken."""
        with self._lock:  # many ask at once, and one answer will do
            token, until = self._kept.get(audience, ("", None))
            if until is None or self._now() >= until - EARLY:
                token, until = _fetch(audience)
                self._kept[audience] = token, until
            return token


def _fetch(audience: str) -> tuple[str, datetime]:
    try:
        token = str(fetch_id_token(partial(Request(), timeout=SECONDS), audience))
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
