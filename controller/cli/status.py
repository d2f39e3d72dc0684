"""The command that only looks: `status`."""

import json
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    checked_revision,
    checked_service,
    connected,
    parsed_duration,
    policy_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.core.opening import NothingToDo
    from controller.core.rollout import Phase, Rollout
    from controller.engine.health import ServiceHealth
    from controller.engine.loop import Followed
    from controller.engine.outside import Outside
    from controller.engine.reconcile import Pass

Wait = Annotated[bool, typer.Option("--wait", help="Wait until it ended or is held, and end as it did.")]
WaitFor = Annotated[
    str,
    typer.Option(
        "--wait-for",
        metavar="PHASE",
        help="Wait until it is in this phase, such as paused; 0 only if it is seen there.",
    ),
]
Candidate = Annotated[
    str,
    typer.Option(
        "--candidate",
        metavar="REVISION",
        help="Wait for the rollout of this revision, which may still be about to begin.",
    ),
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Wait no longer than this, such as 30m.")
]


def status(
    service: ServiceName,
    policy: PolicyFile = None,
    wait: Wait = False,
    wait_for: WaitFor = "",
    timeout: Timeout = "",
    candidate: Candidate = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Show where the rollout of a service stands, and what its evidence says now. Changes nothing."""
    if wait or wait_for or timeout or candidate:
        if policy:
            raise typer.BadParameter("it is compared where status does not wait", param_hint="--policy")
        outside = connected(project, region, emulator, local=local)
        phase, at_most = _phase(wait_for), parsed_duration("--timeout", timeout)
        awaited = Awaited(checked_service(service), phase, at_most, checked_revision(candidate))
        raise typer.Exit(_waited(outside, awaited, as_json=as_json))
    from controller.cli.report import health_report, report_of
    from controller.core.pause_ahead import read_pause_ahead
    from controller.engine.health import look_at_health
    from controller.engine.reconcile import look

    wanted = policy_of(policy) if policy else None
    outside = connected(project, region, emulator, local=local)
    seen = look(outside, checked_service(service))
    differs = wanted is not None and seen.rollout is not None and seen.rollout.policy != wanted
    health = look_at_health(outside, seen.service, seen.rollout) if seen.rollout else None
    if as_json:
        more: dict[str, Any] = {"policy_differs": differs} if wanted else {}
        more |= {"paused_ahead": True} if read_pause_ahead(seen.service) else {}
        more |= {"health": health_report(health)} if health else {}
        print(json.dumps(report_of(seen) | more))
    else:
        _show(seen, health, policy if differs else None)


def _show(seen: "Pass", health: "ServiceHealth | None", differing: Path | None) -> None:
    """Show what was seen; `differing` is the file of another policy than the rollout has."""
    from rich.console import Console

    from controller.cli.report import health_text, way_back
    from controller.cli.views import line_of, lines_of, panel_of
    from controller.core.pause_ahead import read_pause_ahead
    from controller.core.plain_text import plain

    ahead, service = read_pause_ahead(seen.service), seen.service.name
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if ahead:
        console.print(
            f"The next rollout begins paused, by {plain(ahead.by)}; if not: canary resume {service}"
        )
    if seen.decision is None:
        console.print(line_of(seen))
        return
    if console.is_terminal:
        console.print(panel_of(seen, seen.assessment))
    else:
        console.print("\n".join(lines_of(seen, seen.assessment)))
    rollout = seen.decision.rollout
    by = plain(rollout.by)
    console.print(f"{rollout.phase.value} since {rollout.since:%Y-%m-%d %H:%M:%S} UTC, by {by}")
    if health:
        console.print(f"{health.verdict.value.value}, by its metrics: {plain(health_text(health))}")
    if command := way_back(service, rollout, health):
        console.print(f"To send all users back: {command}")
    if rollout.at_gate:
        console.print(
            f"It waits at a gate for a person: canary resume {service}, or canary rollback {service}"
        )
    if differing:
        other = plain(str(differing))
        console.print(f"The rollout keeps the policy that it began with; {other} says something else.")


@dataclass(frozen=True)
class Awaited:
    """What is waited for."""

    service: str
    phase: "Phase | None"
    at_most: timedelta | None
    candidate: str


def _waited(outside: "Outside", awaited: Awaited, *, as_json: bool) -> ExitCode:
    """Wait, saying what changes; return the code of how it ended, or of a phase that was reached."""
    from controller.cli.following import ending_text, exit_code
    from controller.cli.report import rollout_report
    from controller.core.opening import NothingToDo
    from controller.core.plain_text import plain, plain_values

    def on_change(rollout: "Rollout") -> None:
        state = "in force" if rollout.observed_at else "waiting to be in force"
        line = f"{rollout.phase.value:<11} {rollout.percent:>3} %  {state}; {plain(rollout.reason)}"
        print(json.dumps(plain_values(rollout_report(rollout))) if as_json else line, flush=True)

    service, phase = awaited.service, awaited.phase
    followed = _followed(outside, awaited, on_change)
    if isinstance(followed, NothingToDo):
        why = plain(f"Nothing to do: {followed.why}.")
        print(json.dumps({"note": why}) if as_json else why)
        return ExitCode.DONE
    if followed is None:
        print(f"canary: the time to wait is over; go on with: canary status {service}", file=sys.stderr)
        return ExitCode.UNSURE
    if followed.rollout.phase is phase:
        return ExitCode.DONE
    ended = ending_text(followed)
    if as_json:
        print(json.dumps(plain_values({**rollout_report(followed.rollout), "ended": ended})))
    else:
        print(plain(ended))
    code = exit_code(followed)
    return ExitCode.UNSURE if phase and code is ExitCode.DONE else code


def _followed(
    outside: "Outside", awaited: Awaited, on_change: "Callable[[Rollout], None]"
) -> "Followed | NothingToDo | None":
    """Wait for the rollout to begin, where one is named by its candidate, and then to its end."""
    from controller.core.rollout import Rollout
    from controller.engine.watching import await_rollout, wait_until

    begun, left = outside.clock.now(), awaited.at_most
    if awaited.candidate:
        found = await_rollout(outside, awaited.service, awaited.candidate, left)
        if not isinstance(found, Rollout):
            return found
        left = None if left is None else max(timedelta(), left - (outside.clock.now() - begun))
    return wait_until(outside, awaited.service, awaited.phase, left, on_change)


def _phase(name: str) -> "Phase | None":
    from controller.core.rollout import Phase

    if name and name not in list(Phase):
        raise typer.BadParameter(f"{name!r} is none of {', '.join(Phase)}", param_hint="--wait-for")
    return Phase(name) if name else None
