"""Calls a local Cloud Run as somebody: the name of the principal is its own token."""

import re
from collections.abc import Callable
from typing import Any

import grpc

VARIABLE = "CANARY_EMULATOR_PRINCIPAL"
"""Of the environment: as whom the commands call a local Cloud Run."""


_EMAIL = re.compile(r"[!-?A-~]+@[!-?A-~]+")


class _Details(grpc.ClientCallDetails):
    """The details of a call with one more header."""

    def __init__(self, details: Any, header: tuple[str, str]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = [*(details.metadata or ()), header]
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


class _Bearer(grpc.UnaryUnaryClientInterceptor):
    """Puts the token into each call."""

    def __init__(self, principal: str) -> None:
        self._header = ("authorization", f"Bearer {principal}")

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, Any], Any],
        details: grpc.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Go on with the header."""
        return continuation(_Details(details, self._header), request)


def is_principal(text: str) -> bool:
    """Return whether a text can be the name of a principal: an e-mail address."""
    return _EMAIL.fullmatch(text) is not None


def calling_as(channel: grpc.Channel, principal: str) -> grpc.Channel:
    """Return the channel as a principal uses it; as nobody in particular if that is ""."""
    return grpc.intercept_channel(channel, _Bearer(principal)) if principal else channel
