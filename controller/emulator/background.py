"""The local Cloud Run in the background: started, asked for its status, and ended."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from controller.emulator import state
from controller.emulator.settings import Settings

READY_SECONDS = 20.0
END_SECONDS = 20.0
_PASSED_ON = (
    "project",
    "region",
    "speed",
    "etag",
    "seed",
    "state",
    "iam",
    "grpc_port",
    "front_port",
    "admin_port",
)


class BackgroundError(Exception):
    """A local Cloud Run that could not be started or ended; the text says why and what to do."""


class RefusedError(Exception):
    """Something asked of a local Cloud Run that it refused; the text says why."""


def start(settings: Settings) -> state.LocalState:
    """Start it in a session of its own; return when it is ready.

    Raises BackgroundError, and ModuleNotFoundError where the extra is not installed.
    """
    _check_extra()
    state.directory().mkdir(parents=True, exist_ok=True)
    chosen = json.dumps({name: getattr(settings, name) for name in _PASSED_ON})
    with state.log_file().open("ab") as log:
        begun = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "controller.emulator", chosen],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    _wait(lambda: process.poll() is not None or _is_ready(process.pid), READY_SECONDS)
    found = state.read_state()
    if process.poll() is not None or found is None or found.pid != process.pid:
        process.kill()
        process.wait()
        raise BackgroundError(
            f"The local Cloud Run did not start.\n{_lines_since(begun)}Its log: {state.log_file()}"
        )
    return found


def end(known: state.LocalState) -> None:
    """End the process that the state names, and nothing else; return when it is gone."""
    os.kill(known.pid, signal.SIGTERM)
    if not _wait(lambda: not state.is_alive(known), END_SECONDS):
        raise BackgroundError(f"Process {known.pid} does not end; its log: {state.log_file()}")
    state.remove_state()


def status(known: state.LocalState) -> dict[str, Any]:
    """Return what the admin port tells."""
    found: dict[str, Any] = ask(known, "GET", "/")
    return found


def ask(known: state.LocalState, method: str, path: str, body: Any = None) -> Any:
    """Return the answer of the admin port; raises RefusedError if it would not."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{known.admin_address}{path}", content, method=method)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise RefusedError(error.read().decode(errors="replace").strip()) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise BackgroundError(
            f"The local Cloud Run does not answer at {known.admin_address}: {error}"
        ) from error


def _is_ready(pid: int) -> bool:
    found = state.read_state()
    return found is not None and found.pid == pid


def _wait(is_done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_done():
            return True
        time.sleep(0.02)
    return is_done()


def _lines_since(begun: int) -> str:
    """Return the last lines that this start has put into the log."""
    try:
        said = state.log_file().read_bytes()[begun:].decode(errors="replace")
    except OSError:
        return ""
    return "".join(f"  {line}\n" for line in said.splitlines()[-3:])


def _check_extra() -> None:
    """Say here what is missing, where it can be explained, and not in the process in the background."""
    for name in ("aiohttp", "httptools", "psutil", "re2"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
