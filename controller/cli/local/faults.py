"""`canary local fault`: lets things go wrong in the local Cloud Run."""

from typing import Annotated, Any

import typer

from controller.cli.local.arguments import pairs_of
from controller.cli.local.errors import explained, fail, local_state, usage

app = typer.Typer(no_args_is_help=True, help="Let things go wrong: errors, delays, lost answers, and more.")
KINDS = (
    "error, delay, lost-answer, partition, slow-operation, clock-jump, foreign-write, missing-metrics, "
    "late-metrics, incomplete-metrics"
)


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help=f"What goes wrong: {KINDS}.")],
    method: Annotated[
        str | None, typer.Option(help="Which calls: a method such as UpdateService, or a pattern.")
    ] = None,
    principal: Annotated[str | None, typer.Option(help="Whose calls: a name or a pattern.")] = None,
    first: Annotated[
        int | None, typer.Option("--next", help="Only so many of these calls, from the first.")
    ] = None,
    every: Annotated[int | None, typer.Option(help="Only each n-th of these calls.")] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="How long on the emulated clock, such as 5m.")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Of an error: UNAVAILABLE, INTERNAL, ...")] = None,
    message: Annotated[str | None, typer.Option(help="Of an error; by default Google's text.")] = None,
    by: Annotated[
        str | None, typer.Option(help="How much: of a delay, a slow operation, late metrics, a jump.")
    ] = None,
    real: Annotated[bool, typer.Option("--real", help="A delay in real time, not on the clock.")] = False,
    hang: Annotated[
        bool, typer.Option("--hang", help="No answer at all, until the caller's own deadline.")
    ] = False,
    service: Annotated[str | None, typer.Option(help="Of a foreign write: the service.")] = None,
    when: Annotated[str | None, typer.Option(help="Of a foreign write: before or after the call.")] = None,
    writer: Annotated[str | None, typer.Option(help="Of a foreign write: who writes.")] = None,
    traffic: Annotated[
        list[str] | None,
        typer.Option(metavar="REVISION=PERCENT", help="What a foreign write sets; may be repeated."),
    ] = None,
    annotation: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="The same; may be repeated.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Of metrics: which, or a pattern.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of metrics: whose, or a pattern.")] = None,
) -> None:
    """Let something go wrong from now on."""
    fields: dict[str, Any] = {
        "kind": kind, "method": method, "principal": principal, "next": first, "every": every, "for": lasts,
        "code": code, "message": message, "by": by, "real": real or None, "hang": hang or None,
        "service": service, "when": when, "writer": writer,
        "traffic": _percents(traffic) or None,
        "annotations": pairs_of("--annotation", annotation) or None,
        "metric": metric, "revision": revision,
    }  # fmt: skip
    _show(_ask("POST", "/faults", {name: value for name, value in fields.items() if value is not None}))


@app.command(name="list")
def list_() -> None:
    """Say what goes wrong, and how often it has."""
    faults = _ask("GET", "/faults")["faults"]
    for fault in faults:
        _show(fault)
    if not faults:
        print("Nothing goes wrong.")


@app.command()
def clear(
    number: Annotated[int | None, typer.Argument(min=1, help="Of one fault; without it, all.")] = None,
) -> None:
    """Let something, or anything, go wrong no more."""
    cleared = _ask("DELETE", "/faults" if number is None else f"/faults/{number}")["cleared"]
    print(f"{cleared} cleared.")


@app.command()
def jump(
    by: Annotated[str, typer.Option(help="How far: 10m, or --by=-10m for back.")],
) -> None:
    """Set the clock forward or back at once."""
    print(f"clock: {_ask('POST', '/clock/jump', {'by': by})['now']}")


def _ask(method: str, path: str, body: Any = None) -> Any:
    local = local_state()
    with explained():
        from controller.emulator.background import RefusedError, ask

        try:
            return ask(local, method, path, body)
        except RefusedError as refused:
            if body is None:
                fail(str(refused), "canary local fault list")
            usage(f"{refused}\n  next: canary local fault --help")


def _show(fault: dict[str, Any]) -> None:
    description = dict(fault["fault"])
    kind = description.pop("kind")
    fields = "".join(f"  {name}: {_text(value)}" for name, value in description.items())
    counts = "" if kind.endswith("-metrics") else f"  struck {fault['struck']} of {fault['seen']}"
    over = "  over" if fault["over"] else ""
    trouble = f"  in vain: {fault['trouble']}" if "trouble" in fault else ""
    print(f"{fault['number']:3d}  {kind}{fields}{counts}{over}{trouble}")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    return str(value)


def _percents(texts: list[str] | None) -> dict[str, int]:
    wanted = pairs_of("--traffic", texts, "NAME=VALUE")
    for revision, percent in wanted.items():
        if not percent.isdecimal():
            usage(f"--traffic must be REVISION=PERCENT, not {revision}={percent}")
    return {revision: int(percent) for revision, percent in wanted.items()}
