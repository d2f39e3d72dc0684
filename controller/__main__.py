"""The process: hears signals before it loads anything else, and always leaves an exit code."""

import io
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from controller.cli.exit_codes import ExitCode

STOPPING = {
    signal.SIGINT: ("interrupted", ExitCode.INTERRUPTED),
    signal.SIGTERM: ("terminated", ExitCode.TERMINATED),
}
LAST_SECONDS = 4
"""Real seconds in which a process that was asked to end may put things in order and say so."""

A_MOMENT = 0.01
"""Seconds."""

QUIET = {
    # What matters arrives as an exception; gRPC's own notes would stand between our lines.
    "GRPC_VERBOSITY": "NONE",
    # Looking for plug-ins reads the metadata of every installed package, at each start.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}


class Stopped(BaseException):
    """The process was asked to end; not an Exception, so that nothing on the way takes it for an error."""


def main() -> int:
    """Run the command line and return its exit code."""
    for number in STOPPING:
        signal.signal(number, _stop)
    sys.unraisablehook = _leave_again
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what an encoding lacks must not end a rollout
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    try:
        if sys.stdout:  # None where it was closed before the start
            sys.stdout.flush()
    except BrokenPipeError:  # the reader is gone; what is left is for nobody
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run() -> int:
    try:
        from controller.cli.main import run  # noqa: PLC0415 -- a signal may come while this loads

        code = run()
        _end_quietly()
    except Stopped as stopped:
        words, code = STOPPING[stopped.args[0]]
        goes_on = "a rollout stays as it is, and the same command goes on with it"
        print(f"canary: {words}; {goes_on}", file=sys.stderr)  # noqa: T201
        # The interpreter would take its time to end, and forget on the way what an alarm does.
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):  # the reader is gone
                stream.flush()
        os._exit(code)
    return code


def _end_quietly() -> None:
    """Ignore signals from here on: it ends already."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _: FrameType | None) -> None:
    """Leave by an exception, which frees the terminal; by force where that takes long.

    Who reads the output may have stopped reading: then even the last words would wait for ever.
    """
    for each in STOPPING:  # once is enough; to ignore one that is on its way would be complained about
        signal.signal(each, lambda *_: None)
    _leave(signal.Signals(number))


def _leave(asked: signal.Signals) -> NoReturn:
    signal.signal(signal.SIGALRM, lambda *_: os._exit(STOPPING[asked][1]))
    signal.alarm(LAST_SECONDS)
    raise Stopped(asked)


def _leave_again(ignored: "sys.UnraisableHookArgs") -> None:
    """Leave a moment later where a destructor was running, which lets no exception out."""
    if not isinstance(ignored.exc_value, Stopped):
        sys.__unraisablehook__(ignored)
        return
    (asked,) = ignored.exc_value.args
    signal.signal(signal.SIGALRM, lambda *_: _leave(asked))
    signal.setitimer(signal.ITIMER_REAL, A_MOMENT)


if __name__ == "__main__":
    sys.exit(main())
