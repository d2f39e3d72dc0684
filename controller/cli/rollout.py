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
    is_policy_given,
    place_of,
    policy_of,
    who,
)

if TYPE_CHECKING:
    from controller.engine.begin import Request
    from controller.engine.outside import Outside

JOB = "canary"
"""The job that rolls out, unless another is named."""

Detach = Annotated[bool, typer.Option("--detach", help="Start a Cloud Run job that rolls it out, and end.")]
Job = Annotated[
    str, typer.Option("--job", metavar="NAME", help="The job that --detach starts; canary if not given.")
]
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
    detach: Detach = False,
    job: Job = "",
) -> None:
    """Roll the newest revision out in steps and follow it to its end.

    Started again after a crash, it goes on where the rollout stands.
    """
    from controller.engine.begin import Request

    request = Request(checked_service(service), policy_of(policy), who(), candidate)
    if detach:
        from controller.cli.detach import hand_over

        place = place_of(project, region, emulator, local=local)
        hand_over(place, job or JOB, request, with_policy=is_policy_given(policy), as_json=as_json)
        return
    if job:
        raise typer.BadParameter("says which job --detach starts; give --detach, too", param_hint="--job")
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
