"""What Google's clients raise, named by what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.rpc.error_details_pb2 import RetryInfo

from controller.core.plain_text import plain
from controller.ports import (
    CanaryError,
    ConflictError,
    DeniedError,
    NotFoundError,
    PermanentError,
    ThrottledError,
    TransientError,
)

LONGEST_ASKED_WAIT = 600.0
"""Seconds; a server that asks for more has said nothing of use."""
LONGEST_QUOTED = 500
SIGN_IN_FAILED = "Getting metadata from plugin failed"
"""How gRPC says, as UNAVAILABLE, that the call was never made because there is no token for it."""
TOO_LARGE = "message larger than max"
"""In how gRPC says, as RESOURCE_EXHAUSTED, that a message is too large, which has to do with no quota."""
SIGN_IN_REFUSED = ("invalid_grant", "Reauthentication is needed")


@contextmanager
def translated(doing: str, endpoint: str, permission: str) -> Iterator[None]:
    """Raise the errors of ports in place of Google's, saying what was being done and what it takes."""
    try:
        yield
    except api.GoogleAPICallError as error:
        raise _named(error, doing, endpoint, permission) from error
    except auth.TransportError as error:
        raise TransientError(f"{doing}: the sign-in service cannot be reached ({error})") from error
    except auth.GoogleAuthError as error:
        raise _not_signed_in(doing, error) from error


def _named(error: api.GoogleAPICallError, doing: str, endpoint: str, permission: str) -> CanaryError:
    text = _text(error)
    match error:
        case api.Forbidden() | api.Unauthorized():
            return DeniedError(f"{doing}: not allowed; it needs the permission {permission} ({text})")
        case api.NotFound():
            return NotFoundError(f"{doing}: {text}")
        case api.Aborted():
            return ConflictError(f"{doing}: somebody else wrote at the same time ({text})")
        case api.TooManyRequests() if TOO_LARGE not in text:
            return _throttled(doing, endpoint, asked_wait(error) or ThrottledError.wait, text)
        case api.ServiceUnavailable():
            return _unavailable(doing, endpoint, text)
        case api.GatewayTimeout():
            return TransientError(f"{doing}: {endpoint} did not answer in time")
        case api.InternalServerError() | api.Unknown() | api.Cancelled():
            return TransientError(f"{doing}: {text}")
        case _:
            return PermanentError(f"{doing}: {text}")


def asked_wait(error: BaseException) -> float:
    """Return how many seconds the server wants to be left alone, or 0 where it says nothing of it.

    It may say so in google.rpc.RetryInfo, or as HTTP does in `retry-after`.
    """
    if not isinstance(error, api.GoogleAPICallError):
        return 0.0
    delays = [detail.retry_delay for detail in error.details if isinstance(detail, RetryInfo)]
    waits = [delay.seconds + delay.nanos / 1e9 for delay in delays]
    waits += [float(value) for key, value in _trailers(error) if key == "retry-after" and value.isdecimal()]
    return min(max(0.0, *waits), LONGEST_ASKED_WAIT) if waits else 0.0


def _trailers(error: api.GoogleAPICallError) -> Any:
    read = getattr(error.response, "trailing_metadata", None)
    return (read() if read else None) or ()


def _throttled(doing: str, endpoint: str, wait: float, text: str) -> ThrottledError:
    return ThrottledError(
        f"{doing}: {endpoint} has had too many calls; it is left alone for {wait:g} seconds. If that happens"
        f" often, let fewer controllers run or ask for a higher quota ({text})",
        wait,
    )


def _unavailable(doing: str, endpoint: str, text: str) -> DeniedError | TransientError:
    if SIGN_IN_FAILED not in text:
        return TransientError(
            f"{doing}: {endpoint} cannot be reached; check the network, or whether it is up ({text})"
        )
    if any(words in text for words in SIGN_IN_REFUSED):
        return _not_signed_in(doing, text)
    return TransientError(f"{doing}: the sign-in service gave no token ({text})")


def _not_signed_in(doing: str, text: object) -> DeniedError:
    return DeniedError(f"{doing}: signing in failed ({text}); try: gcloud auth application-default login")


def _text(error: Exception) -> str:
    message = getattr(error, "message", None) or str(error)
    return plain(" ".join(str(message).split()), LONGEST_QUOTED)
