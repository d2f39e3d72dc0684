"""The version that a v1 request was made from: what was written since must not be overwritten."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from controller.emulator.calls import Call, Gate, GoOn
from controller.emulator.errors import aborted
from controller.emulator.names import short
from controller.emulator.run.etags import version_of
from controller.emulator.run.services import Services

_expected: ContextVar[str] = ContextVar("expected_version", default="")


@contextmanager
def expecting(version: str) -> Iterator[None]:
    """Let the call that is made in this block change that version of a service only; "" = any."""
    token = _expected.set(version)
    try:
        yield
    finally:
        _expected.reset(token)


class VersionGate(Gate):
    """The innermost gate, so that nothing can be written between its check and the method.

    v1 refuses a stale `metadata.resourceVersion` whatever v2 makes of etags.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def let_through(self, call: Call, request: Any, go_on: GoOn) -> Any:
        """Answer, or raise ABORTED in Google's words."""
        version = _expected.get()
        if version and call.method.endswith("/UpdateService"):
            current = version_of(self._services.get(request.service.name).proto.etag)
            if version != current:
                raise aborted(
                    f"Conflict for resource '{short(request.service.name)}': version '{version}' was "
                    f"specified but current version is '{current}'."
                )
        return await go_on()
