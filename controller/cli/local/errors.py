"""What the commands of the local Cloud Run have in common: where it is, and what failures look like."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from controller.core.plain_text import plain_lines

if TYPE_CHECKING:
    from controller.emulator.state import LocalState

FAILED, USAGE = 1, 2


def local_state() -> "LocalState":
    """Return where the local Cloud Run is; ends the command if none is up."""
    from controller.emulator import state

    known = state.read_state()
    if known is None:
        fail("no local Cloud Run is up", "canary local up")
    return known


@contextmanager
def explained() -> Iterator[None]:
    """Turn what goes wrong into a sentence on stderr."""
    from controller.emulator.background import BackgroundError

    try:
        yield
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed", "pip install 'cloud-run-canary[emulator]'")
    except BackgroundError as error:
        fail(str(error), "read why above, or in the log")
    except BrokenPipeError:  # whoever read our output has seen enough
        raise
    except OSError as error:
        fail(str(error), "canary local status")
    except Exception as error:
        if type(error).__name__ not in {"DeployError", "ServerGoneError"}:
            raise
        fail(str(error), "canary local status")


def fail(cause: str, next_step: str) -> NoReturn:
    """End the command because something did not work."""
    print(f"canary: {plain_lines(cause)}\n  next: {next_step}", file=sys.stderr)
    raise typer.Exit(FAILED)


def usage(cause: str) -> NoReturn:
    """End the command because it was given something wrong."""
    print(f"canary: {plain_lines(cause)}", file=sys.stderr)
    raise typer.Exit(USAGE)
