"""The command that stays: `run`, the pass of `check` again and again."""

import json
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.options import Emulator, Json, Local, Project, Region, connected, parsed_duration

if TYPE_CHECKING:
    from controller.engine.outside import Outside
    from controller.engine.sweep import Checked
    from controller.engine.watch import Pulse

EVERY = timedelta(seconds=15)
SHORTEST = timedelta(seconds=1)
LARGEST_PORT = 65_535

Every = Annotated[
    str, typer.Option("--every", metavar="DURATION", help="Time from one pass to the next; 15s if not given.")
]
HealthPort = Annotated[
    int | None,
    typer.Option(
        "--health-port",
        metavar="PORT",
        min=0,
        max=LARGEST_PORT,
        help="Answer GET /healthz there: 200, or 503 when passes fail. 0 for any free port.",
    ),
]


def run(
    every: Every = "",
    health_port: HealthPort = None,
    project: Project = "",
    region: Region = "",
    emulator: Emulator = "",
    local: Local = False,
    as_json: Json = False,
) -> None:
    """Pass over every service with a rollout on record, again and again, until it is asked to end.

    It drives the rollouts that are on record and checks the health of services at rest; it begins none. What
    has changed is printed, the first pass as a whole.
    """
    from controller.engine.watch import Pulse, watch

    given = parsed_duration("--every", every)
    period = EVERY if given is None else given
    if period < SHORTEST:
        raise typer.BadParameter("must be 1s or more", param_hint="--every")
    outside = connected(project, region, emulator, local=local)
    pulse, news = Pulse(period, outside.clock.now()), _News(as_json=as_json)
    with ExitStack() as stack:
        if health_port is not None:
            _answer(stack, health_port, outside, pulse, news)
        watch(outside, pulse, news.tell, news.forget_others)


class _News:
    """Tells what has changed since the pass before."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._before: dict[str, tuple[object, ...]] = {}
        self._now: dict[str, tuple[object, ...]] = {}

    def say(self, text: str) -> None:
        """Print a remark."""
        print(json.dumps({"note": text}) if self._as_json else text, flush=True)

    def tell(self, checked: "Checked") -> None:
        """Print a service that is not as it was."""
        from controller.cli.check_views import json_of_checked, line_of_checked, state_of

        state = self._now[checked.service] = state_of(checked)
        if self._before.get(checked.service) != state:
            print(json_of_checked(checked) if self._as_json else line_of_checked(checked), flush=True)

    def forget_others(self) -> None:
        """End a pass: services that it did not see are gone."""
        self._before, self._now = self._now, {}


def _answer(stack: ExitStack, port: int, outside: "Outside", pulse: "Pulse", news: _News) -> None:
    """Answer /healthz until the stack is left."""
    from controller.gateways.healthz import serving_healthz
    from controller.ports import CanaryError

    def vitals() -> tuple[bool, dict[str, Any]]:
        last = pulse.last.isoformat(timespec="seconds") if pulse.last else None
        try:
            well = pulse.is_well(outside.clock.now())
        except CanaryError as error:
            return False, {"last_pass": last, "error": str(error)}
        return well, {"last_pass": last}

    try:
        taken = stack.enter_context(serving_healthz(port, vitals))
    except OSError as error:
        raise typer.BadParameter(f"port {port} cannot be had: {error}", param_hint="--health-port") from None
    news.say(f"GET /healthz is answered on port {taken}.")
