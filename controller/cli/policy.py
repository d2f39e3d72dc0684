"""The policy commands: check, explain, and print the schema or the reference of policies."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

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
    as_json: AsJson = False,
) -> None:
    """Say in plain English what a policy will do, with times."""
    from controller.cli.policy_results import is_sound, read_result, result_as_plain, result_lines
    from controller.core.explanation import explain_policy, explanation_lines
    from controller.core.units import duration_text

    policy = read_result(file)
    if not is_sound(policy):
        if as_json:
            print(json.dumps(result_as_plain(file, policy)))
        else:
            typer.echo("\n".join(result_lines(file, policy)), err=True)
        raise typer.Exit(BAD_POLICY)
    explanation = explain_policy(policy)
    if as_json:
        times = {"least": duration_text(explanation.least), "most": duration_text(explanation.most)}
        print(json.dumps(result_as_plain(file, policy) | asdict(explanation) | times))
        return
    for line in explanation_lines(explanation):
        print(line)
    print(f"\nHow it would decide on your traffic: canary simulate {file} --rps 10 --errors 0.5%")


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
