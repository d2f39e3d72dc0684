"""The commands of people: promote, pause, resume, rollback, release."""

from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import (
    Emulator,
    Json,
    Local,
    Project,
    Region,
    ServiceName,
    checked_revision,
    checked_service,
    connected,
    who,
)

if TYPE_CHECKING:
    from controller.cli.views import View
    from controller.engine.commands import Obeyed

To = Annotated[
    str,
    typer.Option("--to", metavar="REVISION", help="The revision to go back to; stable if not given."),
]
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
    """Keep the split as it is until somebody resumes, promotes or rolls back.

    Before a deployment, with no rollout under way: the next rollout begins paused.
    """
    _obey("pause", service, project, region, emulator, local=local, as_json=as_json)


def resume(
    service: ServiceName,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Go on with a paused rollout, or let it through a gate; the time of its step begins anew."""
    _obey("resume", service, project, region, emulator, local=local, as_json=as_json)


def rollback(
    service: ServiceName,
    to: To = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Send all users back to stable, from any step, in one write.

    With --to, to any revision that is ready, also when no rollout is under way.
    """
    _obey("rollback", service, project, region, emulator, local=local, as_json=as_json, to=to)


def release(
    service: ServiceName,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Let go of a service: take the record and tags of canary away, and set its traffic as it was."""
    from controller.engine.commands import release_service

    outside, name = connected(project, region, emulator, local=local), checked_service(service)
    _report(release_service(outside, name), _view(as_json=as_json), name)


def _obey(
    name: str,
    service: str,
    project: str,
    region: str,
    emulator: str,
    *,
    local: bool,
    as_json: bool,
    to: str = "",
) -> None:
    """Write the command and see it through; ends the command with its exit code."""
    from controller.core.rollout import Event
    from controller.engine.commands import obey
    from controller.ports import NoRolloutError

    event = Event(name)
    outside = connected(project, region, emulator, local=local)
    view = _view(as_json=as_json)
    try:
        obeyed = obey(outside, checked_service(service), event, who(), view.saw, checked_revision(to))
    except NoRolloutError as nothing:
        if event is not Event.ROLLBACK:
            raise
        view.said(f"Nothing to do: {nothing}. {_further_back(service)}")
        raise typer.Exit(ExitCode.DONE) from None
    hint = _further_back(service, obeyed) if event is Event.ROLLBACK and not to else ""
    _report(obeyed, view, service, hint)
    if obeyed.rollout and not obeyed.rollout.phase.is_terminal and event is not Event.PAUSE:
        view.said(f"If no controller is following it, go on with: canary rollout {service}")


def _view(*, as_json: bool) -> "View":
    from rich.console import Console

    from controller.cli.views import JsonView, PlainView

    return JsonView() if as_json else PlainView(Console(highlight=False, markup=False, soft_wrap=True).print)


def _further_back(service: str, obeyed: "Obeyed | None" = None) -> str:
    rollout = obeyed.rollout if obeyed else None
    if rollout and rollout.stable and rollout.percent:
        return f"To bring {rollout.stable} back: canary rollback {service} --to {rollout.stable}"
    return f"To bring an earlier revision back: canary rollback {service} --to REVISION"


def _report(obeyed: "Obeyed", view: "View", service: str, hint: str = "") -> None:
    """Say what became of a command, with a hint where there is nothing to do.

    Ends the command with its exit code unless it is done.
    """
    from controller.core.rollout import Phase, Refuse

    if isinstance(obeyed.answer, Refuse):
        view.said(f"Nothing done: {obeyed.answer.why}.")
        raise typer.Exit(ExitCode.USAGE)
    if obeyed.answer:
        view.said(f"Nothing to do: {obeyed.answer.why}. {hint}".rstrip())
        raise typer.Exit(ExitCode.DONE)
    if not obeyed.in_force:
        view.said(f"Written, but not seen in force yet; look again with: canary status {service}")
        raise typer.Exit(ExitCode.UNAVAILABLE)
    rollout = obeyed.rollout
    if rollout is None:
        view.said(f"Done: {service}: {obeyed.done}.")
        return
    state = f"{rollout.phase.value} with the candidate at {rollout.percent} %"
    if rollout.phase is Phase.ROLLED_BACK:
        state += f"; {rollout.stable} serves all users"
    view.said(f"Done: {rollout.service} is {state}.")
