"""The command for schedules: `check`, one pass over all services that have a rollout on record."""

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
    Where none is under way, the health of the revision that serves is checked if the policy asks for it. The
    exit code is that of the worst service.
    """
    from controller.cli.check_views import code_of, json_of_checked, line_of_checked, worst
    from controller.engine.sweep import sweep

    codes: list[ExitCode] = []

    def on_checked(checked: "Checked") -> None:
        print(json_of_checked(checked) if as_json else line_of_checked(checked), flush=True)
        codes.append(code_of(checked))

    sweep(connected(project, region, emulator, local=local), on_checked)
    if not codes and not as_json:
        print("No service has a rollout on record; begin one with: canary rollout SERVICE")
    raise typer.Exit(worst(codes))
