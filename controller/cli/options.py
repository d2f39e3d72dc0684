"""The options that commands share, and the place that they name."""

import getpass
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from controller.core.policy import Policy
    from controller.engine.outside import Outside
    from controller.wiring import Place

ServiceName = Annotated[str, typer.Argument(metavar="SERVICE", help="The Cloud Run service.")]
Project = Annotated[
    str,
    typer.Option("--project", envvar=["GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"], help="The project."),
]
Region = Annotated[
    str, typer.Option("--region", envvar=["CLOUD_RUN_REGION", "CLOUDSDK_RUN_REGION"], help="The region.")
]
Local = Annotated[bool, typer.Option("--local", help="Use the local Cloud Run started by `canary local up`.")]
Emulator = Annotated[
    str,
    typer.Option(
        "--emulator",
        envvar="CLOUD_RUN_EMULATOR_HOST",
        metavar="HOST:PORT",
        help="Use the local Cloud Run there.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="The policy; without it, what CANARY_POLICY holds, else that of policies/standard.yaml.",
    ),
]

POLICY = "CANARY_POLICY"
"""The variable that holds a whole policy as JSON or YAML, for where there is no file."""
ASKED_BY = "CANARY_BY"
"""The variable that says for whom a job rolls out, for the record."""

_WHO = ((ASKED_BY, "{}"), ("CLOUD_RUN_EXECUTION", "job execution {}"), ("BUILD_ID", "build {}"))
_SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?")
_REVISION = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"[A-Za-z0-9_.\-\[\]:]+:[0-9]{1,5}")


def place_of(project: str, region: str, emulator: str, *, local: bool) -> "Place":
    """Return the project and region to work in; raises a usage error that says what is missing."""
    from controller.wiring import Place

    if local and emulator and emulator != os.environ.get("CLOUD_RUN_EMULATOR_HOST"):
        raise typer.BadParameter("--local and --emulator are two places; give one of them")
    if local:
        from controller.emulator.state import read_state

        state = read_state()
        if state:
            address = emulator or state.grpc_address
            return Place(project or state.project, region or state.region, address, principal())
        if not emulator:
            raise typer.BadParameter("no local Cloud Run is up; start one with: canary local up")
    if emulator and not _ADDRESS.fullmatch(emulator):
        raise typer.BadParameter(f"{emulator!r} is not HOST:PORT", param_hint="--emulator")
    missing = [name for name, value in (("--project", project), ("--region", region)) if not value]
    if missing:
        raise typer.BadParameter(f"missing {' and '.join(missing)} (or --local for a local Cloud Run)")
    return Place(project, region, emulator, principal() if emulator else "")


def principal() -> str:
    """Return as whom to call a local Cloud Run, by the environment; "" = nobody in particular."""
    from controller.principal import VARIABLE, is_principal

    name = os.environ.get(VARIABLE, "")
    if name and not is_principal(name):
        raise typer.BadParameter(f"{VARIABLE} must be an e-mail address, not {name!r}")
    return name


def connected(project: str, region: str, emulator: str, *, local: bool) -> "Outside":
    """Return the gateways to the place that the options name."""
    from controller.cli.logs import configure_logs
    from controller.wiring import connect

    configure_logs()
    return connect(place_of(project, region, emulator, local=local))


def checked_service(service: str) -> str:
    """Return the name of a service; raises a usage error for what cannot be one."""
    if not _SERVICE.fullmatch(service):
        raise typer.BadParameter(
            f"{service!r} is not the name of a service: lower-case letters, digits and hyphens, at most 49",
            param_hint="SERVICE",
        )
    return service


def checked_job(job: str) -> str:
    """Return the name of a job; raises a usage error for what cannot be one."""
    if not _SERVICE.fullmatch(job):
        raise typer.BadParameter(
            f"{job!r} is not the name of a job: lower-case letters, digits and hyphens, at most 49",
            param_hint="--job",
        )
    return job


def checked_revision(revision: str) -> str:
    """Return the name of a revision, or none; raises a usage error for what cannot be one."""
    if revision and not _REVISION.fullmatch(revision):
        raise typer.BadParameter(
            f"{revision!r} is not the name of a revision: lower-case letters, digits and hyphens, at most 63"
        )
    return revision


def parsed_duration(option: str, text: str) -> timedelta | None:
    """Return a duration, or None where none is given; raises a usage error for what is none."""
    from controller.core.units import UnitInvalid, parse_duration

    try:
        return parse_duration(text) if text else None
    except UnitInvalid as invalid:
        raise typer.BadParameter(str(invalid), param_hint=option) from None


def policy_of(file: Path | None) -> "Policy":
    """Return the policy in the file, that in the environment, or the standard one."""
    from controller.core.policy import parse_policy
    from controller.gateways.policy_files import read_policy, read_policy_text

    if file:
        return read_policy(file)
    if text := os.environ.get(POLICY):
        return read_policy_text(text, Path(f"${POLICY}"))
    return parse_policy({"version": 1})


def is_policy_given(file: Path | None) -> bool:
    """Return whether there is a policy but the standard one."""
    return file is not None or bool(os.environ.get(POLICY))


def who() -> str:
    """Return who is asking, for the record: for whom a job was started, the job, the build; or the user."""
    from controller.core.plain_text import LONGEST_NAME, plain

    found = [words.format(name) for variable, words in _WHO if (name := os.environ.get(variable))]
    if found:
        return plain(", ".join(found), LONGEST_NAME)
    try:
        return plain(getpass.getuser(), LONGEST_NAME)
    except (KeyError, OSError):
        return "somebody"
