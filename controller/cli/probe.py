"""The command that asks: `probe`, a policy's smoke paths and probes at a service's own address."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.exit_codes import ExitCode
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
    parsed_duration,
    policy_of,
)

if TYPE_CHECKING:
    from controller.core.policy import Policy
    from controller.engine.checks import Outcome
    from controller.engine.outside import Outside

Tag = Annotated[str, typer.Option("--tag", metavar="TAG", help="Ask at the address of this traffic tag.")]

Settle = Annotated[
    str,
    typer.Option(
        "--settle",
        metavar="DURATION",
        help="Wait so long first, such as 30s: a deployment takes time to reach the address.",
    ),
]


def probe(
    service: ServiceName,
    policy: PolicyFile = None,
    tag: Tag = "",
    settle: Settle = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Ask a service what its policy's smoke paths and probes ask, such as staging before a rollout.

    Each is asked up to three times until it is answered well. Changes nothing; needs no rollout.
    """
    from controller.engine.checks import check_service

    name, chosen = checked_service(service), policy_of(policy)
    outside = connected(project, region, emulator, local=local)
    _raise_if_unasked(outside, chosen)
    if time := parsed_duration("--settle", settle):
        outside.clock.sleep(time.total_seconds())
    good = True
    for asked in check_service(outside, name, chosen, tag):
        print(_json_of(name, asked) if as_json else _line_of(asked), flush=True)
        good = good and asked.answer.ok
    raise typer.Exit(ExitCode.DONE if good else ExitCode.FAILED)


def _raise_if_unasked(outside: "Outside", policy: "Policy") -> None:
    """Raise a usage error for a policy that asks nothing, or that lacks what it takes to ask."""
    from controller.engine.checks import probes_asked

    probes = probes_asked(policy)
    if not probes:
        raise typer.BadParameter(
            "the policy asks nothing; give it smoke: [/health], or probes", param_hint="--policy"
        )
    for each in probes:
        if lacking := outside.probes.lacking(each):
            raise typer.BadParameter(
                f"the probe {each.name} cannot be asked: {lacking}", param_hint="--policy"
            )


def _line_of(asked: "Outcome") -> str:
    from controller.core.plain_text import plain

    answer = asked.answer
    if not answer.ok:
        return f"{'failed':<6} {plain(answer.problem + asked.hint)}"
    request = f"{asked.probe.method} {asked.address}{asked.probe.path}"
    return f"{'good':<6} {plain(request)} was answered with {answer.status} in {answer.seconds:.2f} s"


def _json_of(service: str, asked: "Outcome") -> str:
    from controller.core.plain_text import plain_values

    answer = asked.answer
    report = {
        "service": service,
        "probe": asked.probe.name,
        "address": asked.address,
        "ok": answer.ok,
        "status": answer.status,
        "seconds": round(answer.seconds, 4),
        "problem": "" if answer.ok else answer.problem + asked.hint,
    }
    return json.dumps(plain_values(report))
