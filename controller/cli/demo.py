"""The command that shows the whole job: four rollouts on a local Cloud Run of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controller.cli.exit_codes import ExitCode
from controller.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console

    from controller.cli.views import View
    from controller.engine.reconcile import Outside, Pass

SERVICE = "shop"
REQUESTS_A_SECOND = 150
SPEED = 30
STABLE_KNOBS = {"LATENCY_MS": "30", "ERROR_SHARE": "0.002"}

POLICY: dict[str, Any] = {
    "version": 1,
    "steps": ["20%", "50%"],
    "hold": {"at_least": "3m", "at_most": "20m", "requests": 100},
    "bake": {"at_least": "3m", "at_most": "20m", "requests": 100},
    "guards": {
        "errors": {"tolerance": {"factor": 1.25, "points": "0.2%"}, "ceiling": "5%"},
        "latency": {"tolerance": 1.21},
    },
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
        "errors",
        "a release that answers 500 to 8 % of requests",
        {"ERROR_SHARE": "0.08"},
        ExitCode.ROLLED_BACK,
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
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Run only this scenario; may be repeated."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Save the last live view as an SVG picture."),
    ] = None,
) -> None:
    """Run four rollouts on a local Cloud Run: a good one, one with errors, a slow one, and a broken one.

    Ends with 1 if a rollout does not end as it should.
    """
    names = [scenario.name for scenario in SCENARIOS]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise typer.BadParameter(
            f"no scenario {unknown[0]!r}; there are {', '.join(names)}", param_hint="--only"
        )
    chosen = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    results = _run(chosen, as_json=as_json, picture=picture)
    wrong = [
        result.scenario
        for scenario, result in zip(chosen, results, strict=True)
        if result.exit_code != scenario.expected
    ]
    if not as_json:
        _summarise(chosen, results)
    if wrong:
        print(f"canary: not as expected: {', '.join(wrong)}", file=sys.stderr)
        raise typer.Exit(ExitCode.UNEXPECTED)


def _run(chosen: list[Scenario], *, as_json: bool, picture: Path | None) -> list[Result]:
    from rich.console import Console

    console = Console(stderr=as_json, record=picture is not None)
    say: Callable[[str], None] = (lambda _: None) if as_json else console.print
    say(f"Starting a local Cloud Run; its clock runs {SPEED} times faster than yours ...")
    results = []
    with _local_cloud_run() as local:
        local.deploy({**STABLE_KNOBS, "TEXT": "stable"}, no_traffic=False)
        with local.users():
            for number, scenario in enumerate(chosen, 1):
                say(f"\n({number} of {len(chosen)}) {scenario.words}")
                results.append(_roll_out(local, scenario, console, as_json=as_json, picture=picture))
                if as_json:
                    print(json.dumps(asdict(results[-1])), flush=True)
    return results


def _roll_out(
    local: "_Local", scenario: Scenario, console: "Console", *, as_json: bool, picture: Path | None
) -> Result:
    from controller.cli.rollout import followed_to_the_end
    from controller.cli.views import LiveView, PlainView, view_for
    from controller.core.policy import parse_policy
    from controller.engine.begin import Request

    begun = time.monotonic()
    before = local.served()
    revision = local.deploy({**STABLE_KNOBS, **scenario.knobs, "TEXT": scenario.name}, no_traffic=True)
    request = Request(SERVICE, parse_policy(POLICY), "demo", revision)
    with ExitStack() as stack:
        shown: View = (
            PlainView(lambda _: None) if as_json else stack.enter_context(view_for(console, as_json=False))
        )
        view = _Watching(shown)
        code = followed_to_the_end(local.outside, request, view)
    if picture and isinstance(shown, LiveView):
        _save(shown, picture)
    requests, failed = local.counted(revision, before)
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
