"""The command that only looks: `status`."""

import json

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


def status(
    service: ServiceName,
    policy: PolicyFile = None,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Show where the rollout of a service stands, and what its evidence says now. Changes nothing."""
    from rich.console import Console

    from controller.cli.report import report_of
    from controller.cli.views import line_of, panel_of
    from controller.engine.reconcile import look

    wanted = policy_of(policy) if policy else None
    seen = look(connected(project, region, emulator, local=local), checked_service(service))
    differs = wanted is not None and seen.rollout is not None and seen.rollout.policy != wanted
    if as_json:
        print(json.dumps(report_of(seen) | ({"policy_differs": differs} if wanted else {})))
        return
    console = Console(highlight=False, markup=False)
    if seen.decision is None:
        console.print(line_of(seen))
        return
    console.print(panel_of(seen, seen.assessment))
    rollout = seen.decision.rollout
    console.print(f"{rollout.phase.value} since {rollout.since:%Y-%m-%d %H:%M:%S} UTC, by {rollout.by}")
    if differs:
        console.print(f"The rollout keeps the policy that it began with; {policy} says something else.")
