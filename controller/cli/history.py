"""The commands that read the audit trail: `history`, and `replay`, which decides it again."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import (
    Emulator,
    Json,
    Local,
    Project,
    Region,
    ServiceName,
    checked_service,
    connected,
    parsed_duration,
)

if TYPE_CHECKING:
    from controller.core.trail import Transition
    from controller.engine.harm_trail import HarmSeen
    from controller.engine.outside import Outside
    from controller.engine.replay import Replayed
    from controller.ports import AuditEntry

RolloutId = Annotated[
    str, typer.Option("--rollout", metavar="ID", help="Only this rollout, by the id that status shows.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The newest so many transitions.")]
Since = Annotated[
    str,
    typer.Option("--since", metavar="DURATION", help="Only what happened in this time, such as 12h or 7d."),
]


def history(
    service: ServiceName,
    rollout: RolloutId = "",
    limit: Limit = 100,
    since: Since = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Show what happened to a service's rollouts, from the audit trail in Cloud Logging.

    With --json each transition is whole: the policy, the record before and after, what was seen, the verdict.
    """
    from controller.core.trail import Transition, transition_as_plain

    name = checked_service(service)
    outside = connected(project, region, emulator, local=local)
    happened = _happened(_entries(outside, name, rollout, limit, since))
    if not happened:
        _raise_if_unknown(outside, name)
    if as_json:
        _print_json(
            transition_as_plain(each) if isinstance(each, Transition) else _harm_as_plain(each)
            for each in happened
        )
    else:
        _print_table(
            name,
            [_row(each) if isinstance(each, Transition) else _harm_row(each) for each in happened],
            _HAPPENED,
        )


def replay(
    service: ServiceName,
    rollout: RolloutId = "",
    limit: Limit = 100,
    since: Since = "",
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Decide each transition of the audit trail again, and show where today's code would differ.

    The records and what was seen come from the trail, the evidence from Cloud Monitoring. Ends with exit
    code 4 where a decision differs.
    """
    from controller.engine.audit import transitions_of
    from controller.engine.replay import replay as replayed_of

    name, outside = checked_service(service), connected(project, region, emulator, local=local)
    replayed = list(replayed_of(outside, transitions_of(_entries(outside, name, rollout, limit, since))))
    if not replayed:
        _raise_if_unknown(outside, name)
    if as_json:
        _print_json(_replayed_as_plain(each) for each in replayed)
    else:
        _print_table(name, [_replayed_row(each) for each in replayed], _REPLAYED)
    if any(each.differs for each in replayed):
        raise typer.Exit(ExitCode.UNSURE)


_HAPPENED = ("time", "rollout", "event", "phase", "users", "by", "reason")
_REPLAYED = ("time", "rollout", "then", "today", "why")


def _entries(
    outside: "Outside", service: str, rollout: str, limit: int, since: str
) -> "Sequence[AuditEntry]":
    ago = parsed_duration("--since", since)
    begin = outside.clock.now() - ago if ago else None
    return outside.audit_log.read_entries(service, rollout, begin, limit)


def _happened(entries: "Sequence[AuditEntry]") -> "list[Transition | HarmSeen]":
    """Return the transitions in their order, and after those of a rollout the harm that followed it."""
    from controller.engine.audit import transitions_of
    from controller.engine.harm_trail import harm_of

    transitions, harm = transitions_of(entries), harm_of(entries)
    places = {each.after.id: place for place, each in enumerate(transitions)}
    placed: list[tuple[int, Transition | HarmSeen]] = [*enumerate(transitions)]
    placed += [(places.get(each.rollout, -1), each) for each in harm]
    return [each for _, each in sorted(placed, key=lambda pair: pair[0])]


def _harm_row(harm: "HarmSeen") -> tuple[str, ...]:
    time = f"{harm.time:%Y-%m-%d %H:%M:%S}"
    return (time, harm.rollout, "harm", "", "", "health check", f"{harm.revision}: {harm.reason}")


def _harm_as_plain(harm: "HarmSeen") -> dict[str, Any]:
    return asdict(harm) | {"event": "harm", "time": harm.time.isoformat()}


def _row(transition: "Transition") -> tuple[str, ...]:
    after = transition.after
    return (
        f"{transition.time:%Y-%m-%d %H:%M:%S}",
        after.id,
        _event(transition),
        after.phase.value,
        f"{after.percent} %",
        after.by,
        after.reason,
    )


def _replayed_row(replayed: "Replayed") -> tuple[str, ...]:
    transition, decision = replayed.transition, replayed.decision
    then = f"{transition.after.phase.value} {transition.after.percent} %"
    place = (f"{transition.time:%Y-%m-%d %H:%M:%S}", transition.after.id, then)
    if decision is None:
        return (*place, "-", "opened; not decided on evidence")
    if replayed.problem:
        return (*place, "cannot tell", replayed.problem)
    today = f"{decision.rollout.phase.value} {decision.rollout.percent} %"
    why = decision.reason if replayed.differs else transition.after.reason
    if replayed.other_evidence:
        why = f"{why} (the metrics of that time read differently today)"
    return (*place, f"{today}, DIFFERS" if replayed.differs else "the same", why)


def _replayed_as_plain(replayed: "Replayed") -> dict[str, Any]:
    transition, decision = replayed.transition, replayed.decision
    plain: dict[str, Any] = {
        "time": transition.time.isoformat(),
        "rollout": transition.after.id,
        "event": _event(transition),
        "phase": transition.after.phase.value,
        "candidate_percent": transition.after.percent,
        "reason": transition.after.reason,
        "differs": replayed.differs,
        "other_evidence": replayed.other_evidence,
        "problem": replayed.problem,
    }
    if decision:
        plain["today"] = {
            "event": decision.event.name.lower() if decision.event else None,
            "phase": decision.rollout.phase.value,
            "candidate_percent": decision.rollout.percent,
            "reason": decision.reason,
        }
    return plain


def _event(transition: "Transition") -> str:
    return transition.event.name.lower() if transition.event else "opened"


def _print_json(values: Iterable[dict[str, Any]]) -> None:
    from controller.core.plain_text import plain_values

    for value in values:
        print(json.dumps(plain_values(value)))


def _raise_if_unknown(outside: "Outside", service: str) -> None:
    """Raise NotFoundError for a service that is not there; whoever may not look at it learns nothing."""
    from controller.ports import CanaryError, NotFoundError

    try:
        outside.cloud_run.read_service(service)
    except NotFoundError:
        raise
    except CanaryError:
        return


def _print_table(service: str, rows: list[tuple[str, ...]], headings: tuple[str, ...]) -> None:
    if not rows:
        print(f"No such transition of {service} is in the audit log; entries can take a minute to be seen.")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from controller.core.plain_text import plain

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading in {"time", "rollout", "users"})
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a pipe has no width
        console.width = 200
    console.print(table)
