"""The command that begins: `init`, the files and the gcloud commands that a service's canary needs."""

import json
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.options import Project, Region, checked_service
from controller.core.traffic import LONGEST_TAG_AND_SERVICE

if TYPE_CHECKING:
    from controller.core.setup import Command, Setup

_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION = re.compile(r"[a-z]+(-[a-z]+)+[0-9]+")
_JOB = re.compile(r"[a-z][a-z0-9-]{4,22}[a-z0-9]")
_REPOSITORY = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")

Services = Annotated[
    list[str] | None, typer.Option("--service", metavar="SERVICE", help="A service; may be given many times.")
]
Staging = Annotated[
    str, typer.Option("--staging-service", metavar="SERVICE", help="A service that takes each change first.")
]
Job = Annotated[str, typer.Option("--job", metavar="NAME", help="The job; its account gets the same name.")]
Repository = Annotated[
    str,
    typer.Option("--repository", metavar="NAME", help="The Artifact Registry repository of canary's image."),
]
Directory = Annotated[
    Path, typer.Option("--dir", metavar="DIR", exists=True, file_okay=False, help="Where to write the files.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
CommandsOnly = Annotated[
    bool, typer.Option("--commands-only", help="Write no files; print the commands alone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


LONGEST_SERVICE = LONGEST_TAG_AND_SERVICE - len("candidate")
"""Characters; the tag is that of the deployments."""


def init(
    project: Project = "",
    region: Region = "",
    services: Services = None,
    staging: Staging = "",
    job: Job = "canary",
    repository: Repository = "tools",
    directory: Directory = Path(),
    force: Force = False,
    commands_only: CommandsOnly = False,
    as_json: AsJson = False,
) -> None:
    """Write a policy and the steps of a build, and print the gcloud commands that set a project up.

    The commands create accounts with the least permissions, the job and its schedule; nothing is run. On a
    terminal, what is missing is asked for.
    """
    from controller.core.setup_files import files_of

    setup = _setup(*_asked(project, region, services or []), staging, job, repository)
    standard = files("controller.cli").joinpath("standard.yaml").read_text(encoding="utf-8")
    written = [] if commands_only else _write(directory, files_of(setup, standard), force=force)
    _print(setup, written, as_json=as_json)


def _asked(project: str, region: str, services: list[str]) -> tuple[str, str, list[str]]:
    """Ask for what is missing where somebody can answer; raises a usage error elsewhere."""
    given = {"--project": project, "--region": region, "--service": ",".join(services)}
    missing = [option for option, value in given.items() if not value]
    if missing and not (sys.stdin and sys.stdin.isatty()):
        raise typer.BadParameter(f"missing {' and '.join(missing)}; on a terminal they are asked for")
    for option in missing:
        words = {"--project": "Project", "--region": "Region", "--service": "Services, by commas"}[option]
        given[option] = typer.prompt(words, err=True)  # standard output is for the commands
    asked = [each.strip() for each in given["--service"].split(",") if each.strip()]
    return given["--project"].strip(), given["--region"].strip(), asked


def _setup(
    project: str, region: str, services: list[str], staging: str, job: str, repository: str
) -> "Setup":
    from controller.core.setup import Setup

    letters = "lower-case letters, digits and hyphens"
    _check("--project", project, _PROJECT, f"the id of a project: 6 to 30 {letters}")
    _check("--region", region, _REGION, "a region, such as europe-west1")
    _check("--job", job, _JOB, f"6 to 24 {letters}, as accounts get its name")
    _check("--repository", repository, _REPOSITORY, f"the name of a repository: {letters}")
    if not services:
        raise typer.BadParameter("names no service", param_hint="--service")
    for each in (*services, *([staging] if staging else [])):
        checked_service(each)
    for each in services:
        if len(each) > LONGEST_SERVICE:
            raise typer.BadParameter(
                f"{each!r} is too long: the tag of its deployments leaves {LONGEST_SERVICE} characters",
                param_hint="--service",
            )
    if staging in services:
        raise typer.BadParameter(
            "is in production, too; give another service", param_hint="--staging-service"
        )
    return Setup(project, region, tuple(dict.fromkeys(services)), staging, job, repository)


def _check(option: str, value: str, pattern: re.Pattern[str], words: str) -> None:
    if not pattern.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is not {words}", param_hint=option)


def _write(directory: Path, texts: dict[str, str], *, force: bool) -> list[Path]:
    """Write the files, or none of them where one is there."""
    paths = [directory / name for name in texts]
    there = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if there and not force:
        raise typer.BadParameter(
            f"{' and '.join(there)}: there already; give --force to overwrite, --dir, or --commands-only"
        )
    try:
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
    except OSError as cause:
        reason = f"{cause.filename} cannot be written: {cause.strerror}"
        raise typer.BadParameter(reason, param_hint="--dir") from None
    return paths


def _print(setup: "Setup", written: list[Path], *, as_json: bool) -> None:
    from controller.core.setup import commands_of, commands_where_needed

    always, sometimes = commands_of(setup), commands_where_needed(setup)
    if as_json:
        plan = {
            "files": list(map(str, written)),
            "commands": _plain(always),
            "where_needed": _plain(sometimes),
        }
        print(json.dumps(plan))
        return
    for path in written:
        print(f"# Wrote {path}.")
    print("# The project needs this once, in this order:")
    _print_commands(always)
    print("\n# And only where it says:")
    _print_commands(sometimes)


def _print_commands(commands: "tuple[Command, ...]") -> None:
    for command in commands:
        print(f"\n# {command.why}\n{command.text}")


def _plain(commands: "tuple[Command, ...]") -> list[dict[str, str]]:
    return [{"why": command.why, "command": command.line} for command in commands]
