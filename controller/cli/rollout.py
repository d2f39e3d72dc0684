"""The commands that follow a rollout to its end: `rollout` and `retry`."""

from typing import TYPE_CHECKING, Annotated

import typer

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

if TYPE_CHECKING:
    from controller.engine.begin import Request
    from controller.engine.outside import Outside

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

    name, chosen = checked_service(service), policy_of(policy)
    outside = connected(project, region, emulator, local=local)
    again = rejected(outside, name)
    request = Request(name, chosen, who(), candidate or again.candidate, retry=True)
    run(outside, request, as_json=as_json)


def run(outside: "Outside", request: "Request", *, as_json: bool) -> None:
    """Begin what is requested and follow it; ends the command with its exit code."""
    from rich.console import Console

    from controller.cli.following import followed_to_the_end
    from controller.cli.views import view_for

    with view_for(Console(), as_json=as_json) as view:
        code = followed_to_the_end(outside, request, view)
    raise typer.Exit(code)
