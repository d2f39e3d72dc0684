"""What Google's clients raise, named by what to do next."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from controller.ports import (
    ConflictError,
    DeniedError,
    NotFoundError,
    PermanentError,
    TransientError,
)

READ_TIMEOUT = 10.0
"""Seconds for one read; the clients' own default is to wait for ever for some of them."""
WRITE_TIMEOUT = 15.0
ATTEMPTS = 4

T = TypeVar("T")


@contextmanager
def translated(doing: str, endpoint: str, permission: str) -> Iterator[None]:
    """Raise the errors of ports in place of Google's, saying what was being done and what it takes."""
    try:
        yield
    except (api.Forbidden, api.Unauthorized) as error:
        raise DeniedError(
            f"{doing}: not allowed; it needs the permission {permission} ({_text(error)})"
        ) from error
    except api.NotFound as error:
        raise NotFoundError(f"{doing}: {_text(error)}") from error
    except api.Aborted as error:
        raise ConflictError(f"{doing}: somebody else wrote at the same time ({_text(error)})") from error
    except (api.ServiceUnavailable, api.RetryError) as error:
        raise TransientError(
            f"{doing}: {endpoint} cannot be reached; check the network, or whether it is up ({_text(error)})"
        ) from error
    except (api.DeadlineExceeded, api.GatewayTimeout) as error:
        raise TransientError(f"{doing}: {endpoint} did not answer in time") from error
    except (api.TooManyRequests, api.InternalServerError, api.Unknown, api.Cancelled) as error:
        raise TransientError(f"{doing}: {_text(error)}") from error
    except api.GoogleAPICallError as error:
        raise PermanentError(f"{doing}: {_text(error)}") from error
    except auth.TransportError as error:
        raise TransientError(f"{doing}: the sign-in service cannot be reached ({error})") from error
    except auth.GoogleAuthError as error:
        raise DeniedError(
            f"{doing}: signing in failed ({error}); try: gcloud auth application-default login"
        ) from error


def retried(call: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Return the call's result, trying a read again after a TransientError; never to be used for a write."""
    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.3, max=5),
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)


def _text(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return " ".join(str(message).split())[:500]
