"""An answer to GET /healthz for as long as a job runs, as Cloud Run wants it of a service."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import structlog

log = structlog.get_logger()

PATH = "/healthz"
SECONDS = 10.0
"""Real seconds that a client may take to say what it wants."""

Vitals = Callable[[], tuple[bool, Mapping[str, Any]]]
"""Says whether all is well, and what there is to tell, as plain data."""


@contextmanager
def serving_healthz(port: int, vitals: Vitals) -> Iterator[int]:
    """Answer on all addresses of this machine; gives the port, which is any free one for 0.

    Raises OSError where the port is taken.
    """
    server = _Server(("", port), _answering(vitals))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client that hangs must not keep the process from ending
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Leave no traceback behind: whoever asks may hang up at any time."""
        del request
        log.debug("a health request broke off", client=client_address, error=repr(sys.exception()))


def _answering(vitals: Vitals) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        timeout = SECONDS

        def do_GET(self) -> None:
            """Answer with 200 where all is well, else with 503."""
            if self.path != PATH:
                self._answer(HTTPStatus.NOT_FOUND, {"error": f"only {PATH} is answered"})
                return
            well, told = vitals()
            self._answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, told)

        def _answer(self, status: HTTPStatus, told: Mapping[str, Any]) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: probes come all the time."""

    return Answer
