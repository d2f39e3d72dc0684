"""The commands that follow a rollout to its end: `rollout` and `retry`."""

from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.exit_codes import ExitCode, exit_code_of
from controller.cli.options import (
    Emulator,
    Json,
    Local,
    PolicyFile,
    Project,
    Region,
    ServiceName,
    checked_service,
    connected,
    policy_of,
    who,
)
from controller.core.rollout import Phase, Rollout

if TYPE_CHECKING:
    from controller.cli.views import View
    from controller.engine.begin import Request
    from controller.engine.loop import Followed
    from controller.engine.reconcile import Outside

Candidate = Annotated[
    str,
    typer.Option(
        "--candidate", metavar="REVISION", help="The revision to roll out; the newest if not given."
    ),
]


def rollout(
    service: ServiceName,
    policy: PolicyFile = None,
    candidate: Candidate = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Roll the newest revision out in steps and follow it to its end.

    Started again after a crash, it goes on where the rollout stands.
    """
    from controller.engine.begin import Request

    request = Request(checked_service(service), policy_of(policy), who(), candidate)
    run(connected(project, region, emulator, local=local), request, as_json=as_json)


def retry(
    service: ServiceName,
    policy: PolicyFile = None,
    candidate: Candidate = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Try a rejected revision again, from the first step, and follow it to its end."""
    from controller.engine.begin import Request, rejected

    outside = connected(project, region, emulator, local=local)
    request = Request(checked_service(service), policy_of(policy), who(), candidate, retry=True)
    again = rejected(outside, request)
    request = Request(request.service, request.policy, request.by, candidate or again.candidate, retry=True)
    run(outside, request, as_json=as_json)


def run(outside: "Outside", request: "Request", *, as_json: bool) -> None:
    """Begin what is requested and follow it; ends the command with its exit code."""
    from rich.console import Console

    from controller.cli.views import view_for

    with view_for(Console(), as_json=as_json) as view:
        code = followed_to_the_end(outside, request, view)
    raise typer.Exit(code)


def followed_to_the_end(outside: "Outside", request: "Request", view: "View") -> ExitCode:
    """Begin, follow, and wait for a rollout that is in the way if the policy says so."""
    from controller.core.opening import NothingToDo
    from controller.engine.begin import begin
    from controller.engine.loop import follow

    while True:
        begun = begin(outside, request)
        if isinstance(begun, NothingToDo):
            view.said(f"Nothing to do: {begun.why}.")
            return ExitCode.DONE
        for warning in begun.warnings:
            view.said(f"Warning: {warning}.")
        if begun.queued:
            view.said(f"Waiting for the rollout of {begun.rollout.candidate} to end first.")
        elif not begun.opened:
            view.said(_found(begun.rollout, request))
        followed = follow(outside, begun.rollout, view.saw)
        if not begun.queued or not followed.rollout.phase.is_terminal:
            view.ended(followed.rollout, ending_text(followed))
            return exit_code(followed)


def _found(rollout: Rollout, request: "Request") -> str:
    if rollout.phase.is_terminal:
        return f"{rollout.candidate} was rolled out before; to try it again: canary retry {rollout.service}"
    text = f"Going on with the rollout of {rollout.candidate}, {rollout.phase.value} at {rollout.percent} %."
    if rollout.policy != request.policy:
        text += " It keeps the policy that it began with, which is not the one given now."
    return text


def exit_code(followed: "Followed") -> ExitCode:
    """Return what the command ends with."""
    from controller.engine.loop import Ending

    if followed.ending is Ending.REPLACED:
        return ExitCode.SUPERSEDED
    return exit_code_of(followed.rollout)


def ending_text(followed: "Followed") -> str:
    """Say how it ended, and what to do next where something is to be done."""
    from controller.engine.loop import Ending

    rollout = followed.rollout
    if followed.ending is Ending.REPLACED:
        return f"Superseded: another rollout of {rollout.service} took the place of this one."
    reason, everybody = _sentence(rollout.reason), f"serves all users of {rollout.service}"
    match rollout.phase:
        case Phase.PROMOTED:
            return f"Promoted: {rollout.candidate} {everybody}. {reason}"
        case Phase.ROLLED_BACK if rollout.follows_latest:
            pinned = "Traffic stays pinned, because LATEST would be the rejected revision."
            return f"Rolled back: {rollout.stable} {everybody}. {reason} {pinned}"
        case Phase.ROLLED_BACK:
            return f"Rolled back: {rollout.stable} {everybody}. {reason}"
        case Phase.FAILED:
            return f"Failed: {rollout.stable} still {everybody}. {reason}"
        case Phase.SUPERSEDED:
            return f"Superseded: {reason}"
        case _:
            commands = f"canary resume, promote or rollback {rollout.service}"
            return f"Held at {rollout.percent} %: {reason} A person decides: {commands}."


def _sentence(reason: str) -> str:
    text = reason[:1].upper() + reason[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."
