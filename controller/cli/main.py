"""The command line: all commands, and what every failure looks like to a person."""

import sys
from typing import Annotated

import typer

from controller.cli import policy
from controller.cli.check import check
from controller.cli.commands import pause, promote, release, resume, rollback
from controller.cli.demo import demo
from controller.cli.doctor import doctor
from controller.cli.exit_codes import MEANINGS, ExitCode
from controller.cli.history import history, replay
from controller.cli.init import init
from controller.cli.local import commands as local
from controller.cli.probe import probe
from controller.cli.rollout import retry, rollout
from controller.cli.run import run as run_forever
from controller.cli.simulate import simulate
from controller.cli.status import status

app = typer.Typer(
    name="canary",
    help="Canary rollouts for Google Cloud Run: in steps, on evidence, and back by themselves.",
    epilog="Exit codes: " + "; ".join(f"{code.value} {words}" for code, words in MEANINGS.items()),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    init,
    rollout,
    status,
    promote,
    pause,
    resume,
    rollback,
    retry,
    release,
    probe,
    check,
    run_forever,
    history,
    replay,
    simulate,
    doctor,
    demo,
):
    app.command()(command)
app.add_typer(policy.app, name="policy")
app.add_typer(local.app, name="local")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"canary {version('cloud-run-canary')}")
        raise typer.Exit


@app.callback()
def canary(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def run() -> int:
    """Run the command that the arguments name and return its exit code."""
    try:
        app(prog_name="canary")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.UNEXPECTED
    except BrokenPipeError:
        return ExitCode.UNEXPECTED
    except Exception as error:  # noqa: BLE001 -- no traceback reaches a person
        return _failed(error)
    return ExitCode.DONE


def _failed(error: Exception) -> ExitCode:
    import structlog

    from controller.cli.logs import configure_logs
    from controller.core.opening import OpeningRefused
    from controller.gateways.policy_files import PolicyFileInvalid
    from controller.ports import (
        CanaryError,
        NoRolloutError,
        NotFoundError,
        NotServingError,
        RecordUnreadableError,
    )

    if isinstance(error, ModuleNotFoundError):
        extra = "the local Cloud Run is an extra: pip install 'cloud-run-canary[emulator]'"
        return _said(f"{error.name} is not installed; {extra}", ExitCode.UNEXPECTED)
    if isinstance(error, OpeningRefused | PolicyFileInvalid):
        return _said(str(error), ExitCode.USAGE)
    if isinstance(error, NotFoundError | NotServingError | NoRolloutError | RecordUnreadableError):
        return _said(str(error), ExitCode.USAGE)
    if isinstance(error, CanaryError):
        return _said(str(error), ExitCode.UNAVAILABLE)

    configure_logs()  # which may not have been reached
    structlog.get_logger().debug("unexpected", exc_info=error)
    return _said(
        f"unexpected {type(error).__name__}: {error}. The rollout stays as it is. Please report this, with"
        " what CANARY_LOG_LEVEL=debug prints",
        ExitCode.UNEXPECTED,
    )


def _said(text: str, code: ExitCode) -> ExitCode:
    from controller.core.plain_text import plain_lines

    print(f"canary: {plain_lines(text)}", file=sys.stderr)
    return code
