"""The command for schedules: `check`, one pass over all services that have a rollout on record."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import Emulator, Json, Local, Project, Region, connected

if TYPE_CHECKING:
    from controller.engine.sweep import Checked


def check(
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Pass once over every service with a rollout on record, and go on where a controller died.

    To be run on a schedule: a rollout moves by one step a pass, on the same evidence as if it was followed.
    The exit code is that of the worst service.
    """
    from controller.engine.sweep import sweep

    codes: list[ExitCode] = []

    def on_checked(checked: "Checked") -> None:
        print(_json(checked) if as_json else _line(checked), flush=True)
        codes.append(_code(checked))

    sweep(connected(project, region, emulator, local=local), on_checked)
    if not codes and not as_json:
        print("No service has a rollout on record; begin one with: canary rollout SERVICE")
    raise typer.Exit(max(codes, key=_WORSE.index, default=ExitCode.DONE))


_WORSE = [
    ExitCode.DONE,
    ExitCode.SUPERSEDED,
    ExitCode.UNSURE,
    ExitCode.FAILED,
    ExitCode.ROLLED_BACK,
    ExitCode.USAGE,
    ExitCode.UNAVAILABLE,
    ExitCode.UNEXPECTED,
]
"""From good to bad."""
LATE = timedelta(minutes=5)
"""An end that is not in force after this time needs somebody to look."""


def _code(checked: "Checked") -> ExitCode:
    """Return what this pass saw happen: an end that was reached before, and is in force, is no news."""
    from controller.core.rollout import Phase
    from controller.ports import CanaryError, RecordUnreadableError

    if checked.error:
        if isinstance(checked.error, RecordUnreadableError):
            return ExitCode.USAGE
        return ExitCode.UNAVAILABLE if isinstance(checked.error, CanaryError) else ExitCode.UNEXPECTED
    seen = checked.seen
    rollout = seen.rollout if seen else None
    if seen is None or seen.observation is None or rollout is None:
        return ExitCode.DONE
    if rollout.held:
        return ExitCode.UNSURE
    if not rollout.is_over and rollout.phase.is_terminal and seen.observation.now - rollout.since > LATE:
        return ExitCode.UNAVAILABLE
    ends = {
        Phase.ROLLED_BACK: ExitCode.ROLLED_BACK,
        Phase.FAILED: ExitCode.FAILED,
        Phase.SUPERSEDED: ExitCode.SUPERSEDED,
    }
    return ExitCode.DONE if seen.was_over else ends.get(rollout.phase, ExitCode.DONE)


def _line(checked: "Checked") -> str:
    from controller.cli.views import line_of
    from controller.core.plain_text import plain

    if checked.seen:
        told = line_of(checked.seen)
    else:
        told = f"{'error':<11} {_error_text(checked)}" if checked.error else "was deleted"
    return f"{checked.service:<20} {plain(told)}"


def _json(checked: "Checked") -> str:
    from controller.cli.report import report_of
    from controller.core.plain_text import plain_values

    if checked.seen:
        return json.dumps(report_of(checked.seen))
    what = {"error": _error_text(checked)} if checked.error else {"deleted": True}
    return json.dumps(plain_values({"service": checked.service, **what}))


def _error_text(checked: "Checked") -> str:
    from controller.ports import CanaryError

    if isinstance(checked.error, CanaryError):
        return str(checked.error)
    return f"unexpected {type(checked.error).__name__}: {checked.error}"
