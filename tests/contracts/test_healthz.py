"""What is left behind by a client of /healthz that hangs up before it has its answer."""

import socket
import struct
import time
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.gateways.healthz import PATH, serving_healthz

LONG = 5.0
"""Seconds that nothing here takes unless it hangs."""
RESET = struct.pack("ii", 1, 0)
"""Has a connection end with a reset, not in good order."""


def awaited(logs: list[Any]) -> list[Any]:
    """Return the entries, once there is one: it is written by the server's own thread."""
    begun, pause = time.monotonic(), Event()
    while not logs and time.monotonic() - begun < LONG:
        pause.wait(0.01)
    return logs


def test_a_client_that_hangs_up_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    gone = Event()

    def vitals() -> tuple[bool, dict[str, Any]]:
        gone.wait(LONG)
        return True, {"told": "x" * 10_000_000}

    with capture_logs() as logs, serving_healthz(0, vitals) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        gone.set()
        (entry,) = awaited(logs)
    assert (entry["log_level"], entry["event"]) == ("debug", "a health request broke off")
    assert "Error" in entry["error"]
    assert capfd.readouterr().err == ""
