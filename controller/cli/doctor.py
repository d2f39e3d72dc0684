"""The command that looks for what endangers a canary, before there is one: `doctor`."""

import json
from typing import TYPE_CHECKING

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
    policy_of,
)

if TYPE_CHECKING:
    from controller.core.preflight import CheckResult


def doctor(
    service: ServiceName,
    policy: PolicyFile = None,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Check permissions, settings, metrics, logs and probes, as a rollout needs them. Changes nothing.

    Each rollout makes the same checks before its first step, and asks the candidate in place of the service.
    """
    from controller.core.preflight import Gravity
    from controller.core.wording import counted
    from controller.engine.preflight import preflight

    wanted, name = policy_of(policy), checked_service(service)
    outside = connected(project, region, emulator, local=local)
    found = []
    for finding in preflight(outside, name, wanted):
        found.append(finding)
        _print(finding, as_json=as_json)
    errors = [finding for finding in found if finding.gravity is Gravity.ERROR]
    if not as_json:
        warnings = sum(finding.gravity is Gravity.WARNING for finding in found)
        numbers = counted(len(errors), "error"), counted(warnings, "warning"), counted(len(found), "check")
        print(f"\n{name}: {', '.join(numbers)}")
    if errors:
        is_unavailable = all(finding.unavailable for finding in errors)
        raise typer.Exit(ExitCode.UNAVAILABLE if is_unavailable else ExitCode.USAGE)


def _print(finding: "CheckResult", *, as_json: bool) -> None:
    from controller.core.plain_text import plain, plain_values

    if as_json:
        told = {
            "check": finding.check,
            "gravity": finding.gravity.value,
            "what": finding.what,
            "todo": finding.todo or None,
        }
        print(json.dumps(plain_values(told)), flush=True)
        return
    print(plain(f"{finding.gravity.value:<8} {finding.check}: {finding.what}"), flush=True)
    if finding.todo:
        print(plain(f"{'':<8} -> {finding.todo}"), flush=True)
