"""The policy commands: check, explain, and print the schema or the reference of policies."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controller.core.mistakes import path_text
from controller.core.policy import Policy, policy_as_plain, policy_digest
from controller.core.units import duration_text
from controller.gateways.policy_files import PolicyFileInvalid, read_policy

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
    results = [(file, _read(file)) for file in files]
    if as_json:
        print(json.dumps({"files": [_result_as_plain(file, result) for file, result in results]}))
    else:
        for file, result in results:
            for line in _result_lines(file, result):
                print(line)
    if any(isinstance(result, PolicyFileInvalid) for _, result in results):
        raise typer.Exit(BAD_POLICY)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file, YAML or JSON.")],
    as_json: AsJson = False,
) -> None:
    """Say in plain English what a policy will do, with times."""
    from controller.core.explanation import explain_policy, explanation_lines

    policy = _read(file)
    if isinstance(policy, PolicyFileInvalid):
        raise _refusal(file, policy, as_json)
    explanation = explain_policy(policy)
    if as_json:
        times = {"least": duration_text(explanation.least), "most": duration_text(explanation.most)}
        print(json.dumps(_result_as_plain(file, policy) | asdict(explanation) | times))
        return
    for line in explanation_lines(explanation):
        print(line)


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


def _read(file: Path) -> Policy | PolicyFileInvalid:
    try:
        return read_policy(file)
    except PolicyFileInvalid as error:
        return error


def _refusal(file: Path, error: PolicyFileInvalid, as_json: bool) -> typer.Exit:
    if as_json:
        print(json.dumps(_result_as_plain(file, error)))
    else:
        typer.echo("\n".join(error.lines), err=True)
    return typer.Exit(BAD_POLICY)


def _result_lines(file: Path, result: Policy | PolicyFileInvalid) -> Iterable[str]:
    return result.lines if isinstance(result, PolicyFileInvalid) else (f"{file}: ok",)


def _result_as_plain(file: Path, result: Policy | PolicyFileInvalid) -> dict[str, Any]:
    if isinstance(result, PolicyFileInvalid):
        mistakes = [asdict(each) | {"path": path_text(each.path)} for each in result.mistakes]
        return {"file": str(file), "ok": False, "mistakes": mistakes}
    return {"file": str(file), "ok": True, "digest": policy_digest(result), "policy": policy_as_plain(result)}
