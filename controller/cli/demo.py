"""The command that shows the whole job: four rollouts on a local Cloud Run of its own."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    from controller.core.rollout import Rollout
    from controller.engine.reconcile import Pass

SERVICE = "shop"
REQUESTS_A_SECOND = 150
SPEED = 30
KNOBS = {"LATENCY_MS": "30", "ERROR_SHARE": "0.002"}

POLICY: dict[str, Any] = {
    "version": 1,
    "steps": ["20%", "50%"],
    "hold": {"at_least": "3m", "at_most": "20m", "requests": 100},
    "bake": {"at_least": "3m", "at_most": "20m", "requests": 100},
    "guards": {"errors": {"ceiling": "5%"}, "latency": {"tolerance": 1.21}},
}


@dataclass(frozen=True)
class Scenario:
    """A release, by what is changed about the sample service, and how its rollout must end."""

    name: str
    words: str
    knobs: dict[str, str]
    expected: ExitCode


SCENARIOS = (
    Scenario("good", "a release as good as the one before", {}, ExitCode.DONE),
    Scenario(
        "errors", "a release that fails 8 % of its requests", {"ERROR_SHARE": "0.08"}, ExitCode.ROLLED_BACK
    ),
    Scenario("slow", "a release that is 60 % slower", {"LATENCY_MS": "48"}, ExitCode.ROLLED_BACK),
    Scenario("broken", "a release that never starts", {"CRASH": "1"}, ExitCode.FAILED),
)

OUTCOMES = {
    ExitCode.DONE: "promoted",
    ExitCode.ROLLED_BACK: "rolled_back",
    ExitCode.UNSURE: "held",
    ExitCode.SUPERSEDED: "superseded",
    ExitCode.FAILED: "failed",
}


@dataclass(frozen=True)
class Result:
    """What came of a scenario; requests are counted where they were served, not where they are reported."""

    scenario: str
    outcome: str
    exit_code: int
    splits: list[int]
    requests_to_candidate: int
    failed_requests: int
    seconds: float
    reason: str


def demo(
    as_json: Json = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Run this scenario only; repeatable.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Save the last live view as SVG.")
    ] = None,
) -> None:
    """Run four rollouts on a local Cloud Run: a good one, one with errors, a slow one, a broken one.

    Ends with 1 if a rollout does not end as it should.
    """
    names = [scenario.name for scenario in SCENARIOS]
    if unknown := sorted(set(only or ()) - set(names)):
        raise typer.BadParameter(f"no scenario {unknown[0]!r}; there are {', '.join(names)}")
    chosen = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    results = _run(chosen, as_json=as_json, picture=picture)
    wrong = [r.scenario for s, r in zip(chosen, results, strict=True) if r.exit_code != s.expected]
    if wrong:
        print(f"canary: these rollouts did not end as expected: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(ExitCode.UNEXPECTED)


def _run(chosen: list[Scenario], *, as_json: bool, picture: Path | None) -> list[Result]:
    from rich.console import Console

    from controller.cli.demo_stage import a_stage
    from controller.cli.logs import configure_logs

    configure_logs()
    console = Console(quiet=as_json, highlight=False)
    console.print(f"Starting a local Cloud Run; its clock runs {SPEED} times faster than yours.")
    results = []
    with a_stage(SERVICE, SPEED) as stage:
        stage.deploy("stable", KNOBS, no_traffic=False)
        with stage.users(REQUESTS_A_SECOND):
            for number, scenario in enumerate(chosen, 1):
                console.print(f"\n({number} of {len(chosen)}) {scenario.words}", style="bold")
                results.append(_roll_out(stage, scenario, console, as_json=as_json, picture=picture))
                if as_json:
                    print(json.dumps(asdict(results[-1])), flush=True)
    console.print()
    console.print(_table(results))
    return results


def _roll_out(
    stage: "Stage", scenario: Scenario, console: "Console", *, as_json: bool, picture: Path | None
) -> Result:
    from controller.cli.following import followed_to_the_end
    from controller.core.policy import parse_policy
    from controller.engine.begin import Request

    begun = time.monotonic()
    revision = stage.deploy(scenario.name, KNOBS | scenario.knobs, no_traffic=True)
    request = Request(SERVICE, parse_policy(POLICY), "the demo", revision)
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
