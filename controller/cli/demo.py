"""The command that shows the whole job: rollouts on a local Cloud Run of its own."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from controller.cli.demo_stage import Stage
    from controller.cli.views import View
    from controller.core.policy import Policy
    from controller.core.rollout import Rollout
    from controller.engine.reconcile import Pass


@dataclass(frozen=True)
class Scenario:
    """A release, by what is changed about the sample service, and how its rollout must end."""

    name: str
    words: str
    knobs: dict[str, str]
    expected: ExitCode


@dataclass(frozen=True)
class Show:
    """A service with its users and its policy, and the releases that are shown on it."""

    service: str
    words: str
    speed: int
    requests_a_second: float
    knobs: dict[str, str]
    policy: "Callable[[], Policy]"
    stage: "Callable[[Show], AbstractContextManager[Stage]]"
    scenarios: tuple[Scenario, ...]


def _shop_policy() -> "Policy":
    from controller.core.policy import parse_policy

    hold = {"at_least": "3m", "at_most": "20m", "requests": 100}
    guards = {"errors": {"ceiling": "5%"}, "latency": {"tolerance": 1.21}}
    return parse_policy({"version": 1, "steps": ["20%", "50%"], "hold": hold, "bake": hold, "guards": guards})


def _shop_stage(show: Show) -> "AbstractContextManager[Stage]":
    from controller.cli.demo_stage import a_busy_stage

    return a_busy_stage(show.service, show.speed, show.requests_a_second)


SHOP = Show(
    service="shop",
    words="a shop with 150 requests a second",
    speed=30,
    requests_a_second=150,
    knobs={"LATENCY_MS": "30", "ERROR_SHARE": "0.002"},
    policy=_shop_policy,
    stage=_shop_stage,
    scenarios=(
        Scenario("good", "a release as good as the one before", {}, ExitCode.DONE),
        Scenario(
            "errors",
            "a release that fails 8 % of its requests",
            {"ERROR_SHARE": "0.08"},
            ExitCode.ROLLED_BACK,
        ),
        Scenario("slow", "a release that is 60 % slower", {"LATENCY_MS": "48"}, ExitCode.ROLLED_BACK),
        Scenario("broken", "a release that never starts", {"CRASH": "1"}, ExitCode.FAILED),
    ),
)


def _portal_policy() -> "Policy":
    from controller.core.policy import parse_policy

    probes = [{"path": "/healthcheck", "every": "30s", "warm_up": 2}, {"path": "/", "every": "1m"}]
    return parse_policy(
        {
            "version": 1,
            "steps": ["25%", "50%"],
            "hold": {"at_least": "10m", "at_most": "4h", "requests": 20},
            "bake": {"at_least": "1h", "at_most": "6h", "requests": 60},
            "guards": {"latency": {"ceilings": {"p95": "3s"}}, "startup": {"ceilings": {"p95": "30s"}}},
            "probes": probes,
            "request_logs": "on",
            "health": {"errors": "10%", "latency": {"p95": "5s"}, "on_harm": "rollback"},
        }
    )


def _portal_stage(show: Show) -> "AbstractContextManager[Stage]":
    from controller.cli.demo_stage import a_quiet_stage

    return a_quiet_stage(show.service, show.speed, show.requests_a_second)


PORTAL = Show(
    service="portal",
    words="a portal with ten requests an hour and a cold start of 10 s",
    speed=120,
    requests_a_second=10 / 3600,
    knobs={"LATENCY_MS": "80", "START_SECONDS": "10"},
    policy=_portal_policy,
    stage=_portal_stage,
    scenarios=(
        Scenario("good", "a release as good as the one before", {}, ExitCode.DONE),
        Scenario("broken", "a release that fails each request", {"ERROR_SHARE": "1"}, ExitCode.ROLLED_BACK),
        Scenario(
            "users",
            "a release that fails each request of a user, and no probe",
            {"ERROR_SHARE": "1", "PROBE_ERROR_SHARE": "0"},
            ExitCode.ROLLED_BACK,
        ),
    ),
)

OUTCOMES = {code: code.name.lower() for code in ExitCode} | {
    ExitCode.DONE: "promoted",
    ExitCode.UNSURE: "held",
}


@dataclass(frozen=True)
class Result:
    """What came of a scenario; requests of users are counted where they were served, not where reported."""

    scenario: str
    outcome: str
    exit_code: int
    splits: list[int]
    requests_to_candidate: int
    failed_requests: int
    seconds: float
    reason: str


def demo(
    portal: Annotated[
        bool,
        typer.Option("--portal", help="A service with hardly any users and slow cold starts instead."),
    ] = False,
    as_json: Json = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Run this scenario only; repeatable.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Save the last live view as SVG.")
    ] = None,
) -> None:
    """Run rollouts on a local Cloud Run: a good one, one with errors, a slow one, a broken one.

    Ends with 1 if a rollout does not end as it should.
    """
    show = PORTAL if portal else SHOP
    names = [scenario.name for scenario in show.scenarios]
    if unknown := sorted(set(only or ()) - set(names)):
        raise typer.BadParameter(f"no scenario {unknown[0]!r}; there are {', '.join(names)}")
    chosen = [scenario for scenario in show.scenarios if not only or scenario.name in only]
    results = _run(show, chosen, as_json=as_json, picture=picture)
    wrong = [r.scenario for s, r in zip(chosen, results, strict=True) if r.exit_code != s.expected]
    if wrong:
        print(f"canary: these rollouts did not end as expected: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(ExitCode.UNEXPECTED)


def _run(show: Show, chosen: list[Scenario], *, as_json: bool, picture: Path | None) -> list[Result]:
    from rich.console import Console

    from controller.cli.logs import configure_logs

    configure_logs()
    console = Console(quiet=as_json, highlight=False)
    console.print(
        f"Starting a local Cloud Run with {show.words}; its clock runs {show.speed} times faster than yours."
    )
    results = []
    with show.stage(show) as stage:
        stage.deploy("stable", show.knobs, no_traffic=False)
        with stage.users():
            for number, scenario in enumerate(chosen, 1):
                console.print(f"\n({number} of {len(chosen)}) {scenario.words}", style="bold")
                results.append(_roll_out(show, stage, scenario, console, as_json=as_json, picture=picture))
                if as_json:
                    print(json.dumps(asdict(results[-1])), flush=True)
    console.print()
    console.print(_table(results))
    return results


def _roll_out(
    show: Show,
    stage: "Stage",
    scenario: Scenario,
    console: "Console",
    *,
    as_json: bool,
    picture: Path | None,
) -> Result:
    from controller.cli.following import followed_to_the_end
    from controller.engine.begin import Request

    begun = time.monotonic()
    revision = stage.deploy(scenario.name, show.knobs | scenario.knobs, no_traffic=True)
    request = Request(show.service, show.policy(), "the demo", revision)
    with _watched(console, as_json=as_json, picture=picture) as view:
        code = followed_to_the_end(stage.outside, request, view)
    requests, failed = stage.requests(revision)
    return Result(
        scenario=scenario.name,
        outcome=OUTCOMES[code],
        exit_code=int(code),
        splits=view.splits,
        requests_to_candidate=requests,
        failed_requests=failed,
        seconds=round(time.monotonic() - begun, 1),
        reason=view.reason,
    )


class _Watched:
    """A view that also keeps what the result is to say: the candidate's percents as served, the reason."""

    def __init__(self, view: "View") -> None:
        self._view = view
        self.splits: list[int] = []
        self.reason = ""

    def saw(self, seen: "Pass") -> None:
        if seen.rollout:
            percent = seen.service.shares_served.get(seen.rollout.candidate, 0)
            if not self.splits or self.splits[-1] != percent:
                self.splits.append(percent)
        self._view.saw(seen)

    def said(self, text: str) -> None:
        self._view.said(text)

    def ended(self, rollout: "Rollout", text: str) -> None:
        self.reason = rollout.reason
        self._view.ended(rollout, text)


@contextmanager
def _watched(console: "Console", *, as_json: bool, picture: Path | None) -> Iterator[_Watched]:
    from controller.cli.views import LiveView, PlainView, save_picture, view_for

    if as_json:
        yield _Watched(PlainView(lambda _: None))
        return
    with view_for(console, as_json=False) as view:
        yield _Watched(view)
    if picture and isinstance(view, LiveView):
        save_picture(view.panel, picture)


def _table(results: list[Result]) -> Any:
    from rich.table import Table

    table = Table("scenario", "outcome", "exit", "splits", "requests", "failed", "seconds")
    for result in results:
        splits = " ".join(f"{percent}%" for percent in result.splits)
        numbers = (result.requests_to_candidate, result.failed_requests, result.seconds)
        table.add_row(
            result.scenario, result.outcome, str(result.exit_code), splits, *(f"{n:,}" for n in numbers)
        )
    return table
