"""The commands of people in the middle of a rollout: promote, pause, resume, rollback."""

from typing import Annotated

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import (
    Emulator,
    Json,
    Local,
    Project,
    Region,
    ServiceName,
    checked_service,
    connected,
    who,
)

Full = Annotated[bool, typer.Option("--full", help="Send all users to the candidate now, then bake.")]


def promote(
    service: ServiceName,
    full: Full = False,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Go on to the next step without waiting for evidence; from the bake, to the end."""
    _obey(
        "promote --full" if full else "promote",
        service,
        project,
        region,
        emulator,
        local=local,
        as_json=as_json,
    )


def pause(
    service: ServiceName,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Keep the split as it is until somebody resumes, promotes or rolls back."""
    _obey("pause", service, project, region, emulator, local=local, as_json=as_json)


def resume(
    service: ServiceName,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Go on with a paused rollout; the time of its step begins anew."""
    _obey("resume", service, project, region, emulator, local=local, as_json=as_json)


def rollback(
    service: ServiceName,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Send all users back to stable, from any step, in one write."""
    _obey("rollback", service, project, region, emulator, local=local, as_json=as_json)


def _obey(
    name: str, service: str, project: str, region: str, emulator: str, *, local: bool, as_json: bool
) -> None:
    """Write the command and see it through; ends the command with its exit code."""
    from rich.console import Console

    from controller.cli.views import JsonView, PlainView
    from controller.core.rollout import Event, Refuse
    from controller.engine.loop import obey
    from controller.ports import NoRolloutError

    event = Event(name)
    outside = connected(project, region, emulator, local=local)
    view = JsonView() if as_json else PlainView(Console(highlight=False, markup=False, soft_wrap=True).print)
    try:
        obeyed = obey(outside, checked_service(service), event, who(), view.saw)
    except NoRolloutError as nothing:
        if event is not Event.ROLLBACK:
            raise
        view.said(f"Nothing to do: {nothing}.")
        raise typer.Exit(ExitCode.DONE) from None
    if isinstance(obeyed.answer, Refuse):
        view.said(f"Nothing done: {obeyed.answer.why}.")
        raise typer.Exit(ExitCode.USAGE)
    if obeyed.answer:
        view.said(f"Nothing to do: {obeyed.answer.why}.")
        raise typer.Exit(ExitCode.DONE)
    rollout = obeyed.rollout
    if not obeyed.in_force:
        view.said(f"Written, but not seen in force yet; look again with: canary status {service}")
        raise typer.Exit(ExitCode.UNAVAILABLE)
    view.said(f"Done: {rollout.service} is {rollout.phase.value} with the candidate at {rollout.percent} %.")
    if not rollout.phase.is_terminal and event is not Event.PAUSE:
        view.said(f"If no controller is following it, go on with: canary rollout {service}")
