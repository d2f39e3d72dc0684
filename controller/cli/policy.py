"""The policy commands: check, explain, and print the schema or the reference of policies."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from controller.cli.options import Emulator, Local, Project, Region, checked_service, connected

if TYPE_CHECKING:
    from controller.core.policy import Policy
    from controller.core.reach import Traffic
    from controller.core.step_plan import Fitted
    from controller.engine.outside import Outside

BAD_POLICY: Final = 2

app = typer.Typer(
    help="Check and explain policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Policy files, YAML or JSON.")],
    as_json: AsJson = False,
) -> None:
    """Say whether policy files are sound, or every mistake with its line; exit 2 if any is not."""
    from controller.cli.policy_results import is_sound, read_result, result_as_plain, result_lines

    results = [(file, read_result(file)) for file in files]
    if as_json:
        print(json.dumps({"files": [result_as_plain(file, result) for file, result in results]}))
    else:
        for file, result in results:
            for line in result_lines(file, result):
                print(line)
    if not all(is_sound(result) for _, result in results):
        raise typer.Exit(BAD_POLICY)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file, YAML or JSON.")],
    service: Annotated[
        str, typer.Option(metavar="SERVICE", help="A service, to explain the policy at its traffic.")
    ] = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: AsJson = False,
) -> None:
    """Say in plain English what a policy will do, with times.

    With a service, at what its users did in the last hour: the steps of `auto`, how long each step takes,
    and what is out of reach.
    """
    from controller.cli.policy_results import (
        fitted_as_plain,
        fitted_lines,
        is_sound,
        read_result,
        result_as_plain,
        result_lines,
    )
    from controller.core.explanation import explain_policy, explanation_lines
    from controller.core.units import duration_text

    policy = read_result(file)
    if not is_sound(policy):
        if as_json:
            print(json.dumps(result_as_plain(file, policy)))
        else:
            typer.echo("\n".join(result_lines(file, policy)), err=True)
        raise typer.Exit(BAD_POLICY)
    traffic, fitted = None, None
    if service:
        outside = connected(project, region, emulator, local=local)
        traffic, fitted = _at_service(policy, checked_service(service), outside)
    explanation = explain_policy(fitted.policy if fitted else policy)
    if as_json:
        times = {"least": duration_text(explanation.least), "most": duration_text(explanation.most)}
        at = {"at_service": fitted_as_plain(fitted, traffic)} if fitted else {}
        print(json.dumps(result_as_plain(file, policy) | asdict(explanation) | times | at))
        return
    for line in explanation_lines(explanation):
        print(line)
    if fitted:
        print("", *fitted_lines(fitted, traffic), sep="\n")
    print(f"\nHow it would decide on your traffic: {_simulation(file, traffic)}")


def _simulation(file: Path, traffic: "Traffic | None") -> str:
    """Return the command that foresees what the policy does at this traffic, or at some."""
    from controller.core.plain_text import plain
    from controller.core.units import share_text

    rps, errors = "10", "0.5%"
    if traffic:
        rps = f"{float(f'{traffic.a_minute / 60:.3g}'):g}"
        errors = share_text(float(f"{traffic.errors:.2g}"))
    return plain(f"canary simulate {shlex.quote(str(file))} --rps {rps} --errors {errors}")


def _at_service(policy: "Policy", service: str, outside: "Outside") -> tuple["Traffic | None", "Fitted"]:
    from controller.core.step_plan import fit_steps
    from controller.engine.begin import measure_traffic

    traffic = measure_traffic(outside, service, policy)
    return traffic, fit_steps(policy, traffic)


@app.command()
def schema() -> None:
    """Print the JSON Schema of policies, as it is in policies/policy.schema.json."""
    from controller.core.policy_schema import policy_schema

    print(json.dumps(policy_schema(), indent=2))


@app.command()
def reference() -> None:
    """Print the policy reference, as it is in docs/policy.md."""
    from controller.core.policy_schema import policy_reference

    print(policy_reference(), end="")
