"""What a policy would do, in tables, as a curve, and as plain data."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from controller.core.policy import Policy
from controller.core.wording import counted, percent_text
from controller.simulation.power import Power, Times, simulate_many
from controller.simulation.users import Behaviour, Users

HEIGHT = 10
COLUMN = 9


@dataclass(frozen=True)
class Point:
    """One kind of candidate to try; in a sweep with a name, and what it is in words."""

    users: Users
    name: str = ""
    words: str = ""


def show(
    policy: Policy,
    points: Sequence[Point],
    runs: int,
    seed: int,
    *,
    notes: Sequence[str],
    sweep: bool,
    as_json: bool,
) -> None:
    """Simulate every point and print what came of it."""
    results = _results(policy, points, runs, seed, quiet=as_json)
    if as_json:
        found = [_plain(point, power) for point, power in zip(points, results, strict=True)]
        print(json.dumps({"seed": seed, "notes": list(notes), **({"sweep": found} if sweep else found[0])}))
        return
    console = Console(highlight=False)
    users = points[0].users
    rollouts = counted(runs, "rollout")
    console.print(f"{rollouts} at {users.rps:g} requests a second; stable: {_behaviour(users.stable)}")
    for note in notes:
        console.print(f"Note: {note}.", style="yellow")
    if sweep:
        console.print(_sweep_table(points, results))
        names, shares = [point.name for point in points], [power.rolled_back.share for power in results]
        print(curve(names, shares, plain=not console.encoding.startswith("utf")))
    else:
        console.print(f"candidate: {_behaviour(users.candidate)}")
        console.print(_table(results[0]))
        console.print(f"Example: {results[0].reason}")


def _results(policy: Policy, points: Sequence[Point], runs: int, seed: int, *, quiet: bool) -> list[Power]:
    """Simulate the points one after the other, with a bar on a terminal to watch."""
    console = Console(stderr=True)
    progress = Progress(console=console, transient=True) if console.is_terminal and not quiet else None
    with progress or nullcontext():
        task = progress.add_task("Rolling out", total=runs * len(points)) if progress else None

        def done() -> None:
            if progress and task is not None:
                progress.advance(task)

        return [simulate_many(policy, point.users, runs, seed, done) for point in points]


def _behaviour(behaviour: Behaviour) -> str:
    latency = behaviour.latency
    return f"{percent_text(behaviour.errors)} errors, p50 {latency.median:g} ms, p95 {latency.p95:g} ms"


def _table(power: Power) -> Table:
    table = Table("", "share", "median", "p90")
    for name, times in (
        ("rolled back", power.rolled_back),
        ("promoted", power.promoted),
        ("unsure, a person is asked", power.unsure),
    ):
        table.add_row(name, percent_text(times.share), _minutes(times.median), _minutes(times.p90))
    table.add_section()
    table.add_row("requests to the candidate", "", f"{power.requests:,.0f} (mean)", "")
    table.add_row("  of them failed", "", f"{power.failed:,.0f} (mean)", "")
    if power.requests_before_rollback is not None:
        table.add_row("requests before a rollback", "", f"{power.requests_before_rollback:,.0f}", "")
        table.add_row("  of them failed", "", f"{power.failed_before_rollback:,.0f}", "")
    return table


def _sweep_table(points: Sequence[Point], results: Sequence[Power]) -> Table:
    table = Table("", "candidate", "rolled back", "promoted", "unsure", "failed")
    for point, power in zip(points, results, strict=True):
        table.add_row(
            point.name,
            point.words,
            _share_and_time(power.rolled_back),
            _share_and_time(power.promoted),
            percent_text(power.unsure.share),
            f"{power.failed:,.0f}",
        )
    table.caption = "minutes are medians, failed requests to the candidate means"
    return table


def curve(names: Sequence[str], shares: Sequence[float], *, plain: bool = False) -> str:
    """Return the share that is rolled back, 0 to 1, as a curve of text over the names; `plain`: in ASCII."""
    point, line, axis, corner, base = "o||+-" if plain else "●│┤└─"
    lines = ["rolled back"]
    for level in range(HEIGHT, -1, -1):
        cells = []
        for share in shares:
            top = round(share * HEIGHT)
            mark = point if level == top else line if level < top else " "
            cells.append(mark.center(COLUMN))
        label = f"{level * 100 // HEIGHT:>4} %" if level % 2 == 0 else " " * 6
        lines.append(f"{label} {axis}{''.join(cells)}".rstrip())
    lines.append(f"       {corner}{base * COLUMN * len(names)}")
    lines.append("        " + "".join(name.center(COLUMN) for name in names).rstrip())
    return "\n".join(lines)


def _share_and_time(times: Times) -> str:
    after = "" if times.median is None else f" ({times.median:.0f} min)"
    return percent_text(times.share) + after


def _minutes(minutes: float | None) -> str:
    return "-" if minutes is None else f"{minutes:.0f} min"


def _plain(point: Point, power: Power) -> dict[str, Any]:
    """Return what came of a point as JSON-able values: shares 0 to 1, times in minutes."""

    def times(found: Times) -> dict[str, Any]:
        return {"share": found.share, "median_minutes": found.median, "p90_minutes": found.p90}

    users = asdict(point.users)
    return {
        **({"candidate": point.name} if point.name else {}),
        "users": users,
        "runs": power.runs,
        "rolled_back": times(power.rolled_back),
        "promoted": times(power.promoted),
        "unsure": times(power.unsure),
        "requests_to_candidate": power.requests,
        "failed_requests": power.failed,
        "requests_before_rollback": power.requests_before_rollback,
        "failed_before_rollback": power.failed_before_rollback,
        "example": power.reason,
    }
