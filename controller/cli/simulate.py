"""The command that foresees: `simulate`, what a policy would do on traffic that you describe."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from controller.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.cli.power_views import Point
    from controller.core.policy import Policy
    from controller.simulation.users import Latency, Users

ERROR_FACTORS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
LATENCY_FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
MOST_RUNS = 100_000
MOST_RPS = 100_000.0
LEAST_MS, MOST_MS = 0.1, 3_600_000.0

_FACTOR = re.compile(r"x([0-9]{1,6}(?:\.[0-9]{1,6})?)|([0-9]{1,6}(?:\.[0-9]{1,6})?)x")


def simulate(
    policy: Annotated[Path, typer.Argument(metavar="POLICY", help="A policy file, YAML or JSON.")],
    rps: Annotated[float, typer.Option(help="Requests a second to the whole service.")] = 10.0,
    errors: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of stable's requests that fail.")
    ] = "0.5%",
    candidate_errors: Annotated[
        str,
        typer.Option(metavar="SHARE|FACTOR", help="The candidate's: 2%, or x2. Without it, as stable's."),
    ] = "",
    latency: Annotated[
        str,
        typer.Option(metavar="MEDIAN[:P95]", help="Stable's latency, such as 100ms or 100ms:300ms."),
    ] = "100ms",
    candidate_latency: Annotated[
        str,
        typer.Option(
            metavar="MEDIAN[:P95]|FACTOR", help="The candidate's: 150ms, or x1.5. Without it, as stable's."
        ),
    ] = "",
    runs: Annotated[int, typer.Option(min=1, max=MOST_RUNS, help="How many rollouts.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rollouts.")] = 1,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Worse and worse candidates: slower ones with --candidate-latency, else failing ones.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Foresee what a policy does: how often, how soon, and what it costs the users.

    Rolls out many times on drawn traffic, by the real judge and the real steps. Touches nothing.
    """
    from controller.cli.logs import configure_logs
    from controller.cli.power_views import Point, show
    from controller.gateways.policy_files import read_policy

    configure_logs()
    wanted, notes = _drawable(read_policy(policy))
    users = _users(rps, errors, candidate_errors, latency, candidate_latency)
    if sweep and candidate_errors:
        raise typer.BadParameter(
            "a sweep tries errors of its own; take it away", param_hint="--candidate-errors"
        )
    points = [Point(users)]
    if sweep and candidate_latency:
        points = list(_slower_and_slower(users))
    elif sweep:
        points = list(_more_and_more_errors(users))
    show(wanted, points, runs, seed, notes=notes, sweep=sweep, as_json=as_json)


def _slower_and_slower(users: "Users") -> "Iterator[Point]":
    from controller.cli.power_views import Point

    for factor in LATENCY_FACTORS:
        latency = users.stable.latency.times(factor)
        slower = replace(users, candidate=replace(users.candidate, latency=latency))
        yield Point(slower, f"x{factor:g}", f"p50 {latency.median:g} ms")


def _more_and_more_errors(users: "Users") -> "Iterator[Point]":
    from controller.cli.power_views import Point
    from controller.core.wording import percent_text

    if not users.stable.errors:
        raise typer.BadParameter("a sweep multiplies stable's errors; give some", param_hint="--errors")
    for factor in ERROR_FACTORS:
        errors = factor * users.stable.errors
        if errors > 1:
            return
        failing = replace(users, candidate=replace(users.candidate, errors=errors))
        yield Point(failing, f"x{factor:g}", f"{percent_text(errors)} errors")


def _drawable(policy: "Policy") -> tuple["Policy", list[str]]:
    """Leave out what rests on what nobody can draw."""
    from controller.core.mistakes import PolicyInvalid
    from controller.core.policy import parse_policy, policy_as_plain

    plain = policy_as_plain(policy.model_copy(update={"auto": None}))
    left_out = [name for name in ("probes", "request_logs") if getattr(policy, name)]
    left_out += [f"guards.{name}" for name in ("startup", "capacity") if getattr(policy.guards, name)]
    notes = [f"without {', '.join(left_out)}: that cannot be drawn"] if left_out else []
    plain |= {"probes": [], "request_logs": "off"}
    plain["guards"] = {name: plain["guards"][name] for name in ("errors", "latency")}
    names = ", ".join(policy.guards.custom)
    if names:
        notes.append(f"without the custom guards ({names}): their metrics cannot be drawn")
    if policy.auto:
        notes.append("with the default steps: those that fit are chosen by a service's own rate")
    try:
        return parse_policy(plain), notes
    except PolicyInvalid:
        raise typer.BadParameter(
            f"only custom guards decide in this policy ({names}), and their metrics cannot be drawn",
            param_hint="POLICY",
        ) from None


def _users(rps: float, errors: str, candidate_errors: str, latency: str, candidate_latency: str) -> "Users":
    from controller.simulation.users import Behaviour, Users

    if not 0 < rps <= MOST_RPS:
        raise typer.BadParameter(f"{rps:g} is not above 0 and up to {MOST_RPS:,.0f}", param_hint="--rps")
    share = _share("--errors", errors)
    stable = Behaviour(share, _latency("--latency", latency))
    factor = _factor(candidate_errors)
    share = factor * share if factor else _share("--candidate-errors", candidate_errors or errors)
    if share > 1:
        raise typer.BadParameter("more than all requests would fail", param_hint="--candidate-errors")
    factor = _factor(candidate_latency)
    slower = (
        stable.latency.times(factor)
        if factor
        else _latency("--candidate-latency", candidate_latency or latency)
    )
    return Users(rps, stable, Behaviour(share, slower))


def _factor(text: str) -> float | None:
    """Return the number of `x1.5` or `1.5x`, or None for what is no factor."""
    found = _FACTOR.fullmatch(text.strip())
    return float(found[1] or found[2]) or None if found else None


def _share(option: str, text: str) -> float:
    from controller.core.units import UnitInvalid, parse_share

    try:
        return parse_share("0%" if text.strip() == "0" else text.strip())
    except UnitInvalid as invalid:
        raise typer.BadParameter(f"{invalid}", param_hint=option) from None


def _latency(option: str, text: str) -> "Latency":
    from controller.core.units import UnitInvalid, parse_duration
    from controller.simulation.users import DEFAULT_P95, Latency

    median_text, _, p95_text = text.strip().partition(":")
    try:
        median = parse_duration(median_text).total_seconds() * 1000
        p95 = parse_duration(p95_text).total_seconds() * 1000 if p95_text else median * DEFAULT_P95
    except UnitInvalid as invalid:
        raise typer.BadParameter(f"{invalid}", param_hint=option) from None
    if not LEAST_MS <= median <= p95 <= MOST_MS:
        raise typer.BadParameter(
            f"{text} is not a median and a 95th percentile at or above it, up to an hour", param_hint=option
        )
    return Latency(median, p95)
