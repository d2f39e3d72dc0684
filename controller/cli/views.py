"""Views: a rollout as it goes, for a terminal, for a log of plain lines, and as JSON."""

import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from rich import box
from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from controller.cli.report import report_of, rollout_report
from controller.core.assessment import Assessment
from controller.core.evidence import Sample
from controller.core.findings import VerdictValue
from controller.core.plain_text import plain, plain_values
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import written
from controller.engine.reconcile import Pass

JOURNAL = 8
ERROR_CLASSES = ("5xx",)
SELDOM = timedelta(minutes=5)
"""Between two plain lines that differ in numbers alone, which move all the time with a request log."""

_COLOURS = {
    VerdictValue.PASS: "green",
    VerdictValue.FAIL: "red",
    VerdictValue.UNSURE: "yellow",
    VerdictValue.UNMEASURED: "magenta",
}
_PHASE_COLOURS = {
    Phase.PROMOTED: "bold green",
    Phase.ROLLED_BACK: "bold red",
    Phase.FAILED: "bold red",
    Phase.SUPERSEDED: "bold magenta",
    Phase.PAUSED: "bold yellow",
}


class View(Protocol):
    """Shows passes as they come."""

    def saw(self, seen: Pass) -> None:
        """Show what a pass saw and did."""
        ...

    def said(self, text: str) -> None:
        """Show a remark."""
        ...

    def ended(self, rollout: Rollout, text: str) -> None:
        """Show how it ended."""
        ...


class JsonView(View):
    """One JSON object a line: each change, and the end."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write
        self._last: object = None

    def saw(self, seen: Pass) -> None:
        """Print the pass if it differs from the one before in more than its time."""
        report = report_of(seen)
        shown = {key: value for key, value in report.items() if key != "time"}
        if shown != self._last:
            self._last = shown
            self._write(json.dumps(report))

    def said(self, text: str) -> None:
        """Print a remark."""
        self._write(json.dumps({"note": plain(text)}))

    def ended(self, rollout: Rollout, text: str) -> None:
        """Print the end."""
        self._write(json.dumps(plain_values({**rollout_report(rollout), "ended": text})))


class PlainView(View):
    """A line for each change, and every five minutes one with the numbers of the evidence."""

    def __init__(self, write: Callable[[str], None] = print) -> None:
        self._write = write
        self._line = ""
        self._state: object = None
        self._at: datetime | None = None

    def saw(self, seen: Pass) -> None:
        """Print a change at once, and other numbers when the last line is old."""
        if seen.observation is None:
            return
        line, state, now = line_of(seen), _state_of(seen), seen.observation.now
        old = self._at is None or now - self._at >= SELDOM
        if line != self._line and (old or state != self._state):
            self._line, self._state, self._at = line, state, now
            self._write(f"{_clock(now)}  {line}")

    def said(self, text: str) -> None:
        """Print a remark."""
        self._write(plain(text))

    def ended(self, rollout: Rollout, text: str) -> None:  # noqa: ARG002 -- other views colour it
        """Print the end."""
        self._write(plain(text))


class LiveView(View):
    """One panel that is drawn anew: the split, both revisions' numbers, the verdict, and what happened."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="visible")
        self._journal: deque[tuple[datetime, str]] = deque(maxlen=JOURNAL)
        self._last: tuple[Phase, int, str] | None = None
        self._weighed: Assessment | None = None
        self._end = Text()
        self.panel: RenderableType = Text()

    @contextmanager
    def shown(self) -> Iterator["LiveView"]:
        """Draw for as long as the context lasts."""
        with self._live:
            yield self
        if self._end:
            self._live.console.print(self._end)

    def saw(self, seen: Pass) -> None:
        """Draw the pass."""
        if seen.rollout is None or seen.observation is None:
            return
        state = (seen.rollout.phase, seen.rollout.step, seen.rollout.reason)
        if state != self._last:
            self._last = state
            self._journal.append((seen.observation.now, f"{_share(seen.rollout)}  {seen.rollout.reason}"))
        if seen.assessment or not seen.rollout.phase.is_terminal:
            self._weighed = seen.assessment
        self.panel = panel_of(seen, self._weighed, list(self._journal))
        self._live.update(self.panel, refresh=True)

    def said(self, text: str) -> None:
        """Print a remark above the panel."""
        self._live.console.print(Text(plain(text), style="yellow"))

    def ended(self, rollout: Rollout, text: str) -> None:
        """Keep the end, to stand below the panel."""
        self._end = Text(plain(text), style=_PHASE_COLOURS.get(rollout.phase, "bold"))


@contextmanager
def view_for(console: Console, *, as_json: bool) -> Iterator[View]:
    """Give the view that fits where the output goes."""
    if as_json:
        yield JsonView(_printed)
    elif console.is_terminal:
        with LiveView(console).shown() as live:
            yield live
    else:
        yield PlainView(_printed)


def _printed(line: str) -> None:
    print(line, flush=True)


def line_of(seen: Pass) -> str:
    """Return a pass in one line of plain text."""
    return plain(_line(seen))


def _state_of(seen: Pass) -> object:
    """Return what a person wants to know of at once: all that a line says but the numbers of a verdict."""
    if seen.decision is None:
        return None
    rollout, verdict, event = seen.decision.rollout, seen.decision.verdict, seen.decision.event
    told = verdict.value if verdict else _line(seen)
    return rollout.id, rollout.phase, rollout.percent, rollout.observed_at is not None, event, told


def _line(seen: Pass) -> str:
    if seen.decision is None:
        return f"{seen.service.name} serves {written(seen.service.shares_served)}; no rollout is on record"
    rollout, verdict = seen.decision.rollout, seen.decision.verdict
    place = f"{rollout.phase.value:<11} {_share(rollout)}"
    if seen.decision.event:
        return f"{place}  {seen.decision.reason}"
    if verdict and rollout.at_gate:
        return f"{place}  waits for a person to let it go on; {verdict.value.value}: {verdict.reason}"
    if verdict and rollout.held:
        return f"{place}  {rollout.reason}; meanwhile {verdict.value.value}: {verdict.reason}"
    if verdict:
        return f"{place}  {verdict.value.value}: {verdict.reason}"
    if rollout.observed_at:
        return f"{place}  in force"
    why = f": {seen.service.message}" if seen.service.failed else ""
    return f"{place}  waiting to be in force{why}"


def panel_of(
    seen: Pass, weighed: Assessment | None, journal: Sequence[tuple[datetime, str]] = ()
) -> RenderableType:
    """Return the whole picture of a rollout, with the numbers that were weighed."""
    if seen.decision is None or seen.observation is None:
        return Panel(Text(line_of(seen)))
    rollout = seen.decision.rollout
    parts: list[RenderableType] = [
        _progress(rollout),
        Text(),
        _revisions(seen, rollout, weighed),
        Text(),
        _verdict(seen),
    ]
    if journal:
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim", no_wrap=True)
        rows.add_column(overflow="fold")
        for moment, words in journal:
            rows.add_row(_clock(moment), Text(words))
        parts += [Text(), rows]
    title = Text.assemble("canary rollout ", (rollout.service, "bold"))
    subtitle = Text(f"rollout {rollout.id}")
    return _Plain(Panel(Group(*parts), title=title, subtitle=subtitle, title_align="left", box=box.ROUNDED))


def lines_of(seen: Pass, weighed: Assessment | None) -> Iterator[str]:
    """Yield the same picture as lines of plain text, which are as long as they need to be."""
    if seen.decision is None:
        yield line_of(seen)
        return
    rollout = seen.decision.rollout
    yield plain(f"canary rollout {rollout.service}, rollout {rollout.id}")
    yield plain(_progress(rollout).plain)
    for role, revision, _, sample in _rows(rollout, weighed):
        requests, errors, p50, p95 = _numbers(sample)
        share = seen.service.shares_served.get(revision, 0)
        line = f"{role:<10} {revision or '-'}  {share:>3} % of users"
        if sample.requests:
            line += f", {requests} requests, {errors} errors, p50 {p50}, p95 {p95}"
        yield plain(line)
    yield plain(_verdict(seen).plain)


class _Plain:
    """A picture in which every text is plain, whatever was put into it."""

    def __init__(self, picture: RenderableType) -> None:
        self._picture = picture

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._picture, options):
            framing = segment.control or segment == Segment.line()
            yield segment if framing else segment._replace(text=plain(segment.text))


def _progress(rollout: Rollout) -> Text:
    """Draw the steps, with the one that it stands at marked."""
    text = Text.assemble(
        (f"{rollout.phase.value.replace('_', ' '):<12}", _PHASE_COLOURS.get(rollout.phase, "bold cyan"))
    )
    names = [f"{step.traffic} %" for step in rollout.policy.steps] + ["bake 100 %"]
    for position, name in enumerate(names):
        here = position == rollout.step and not rollout.phase.is_terminal
        done = position < rollout.step or rollout.phase is Phase.PROMOTED
        text.append(" -> " if position else "", style="dim")
        text.append(f"[{name}]" if here else name, style="bold" if here else "green" if done else "dim")
    return text


def _revisions(seen: Pass, rollout: Rollout, weighed: Assessment | None) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("revision", no_wrap=True, min_width=12)
    table.add_column("users", ratio=1, min_width=6)
    table.add_column("", no_wrap=True)
    for heading in ("requests", "errors", "p50", "p95"):
        table.add_column(heading, justify="right", no_wrap=True)
    for role, revision, colour, sample in _rows(rollout, weighed):
        share = seen.service.shares_served.get(revision, 0)
        bar = Bar(100, 0, share, color=colour, bgcolor="grey23")
        table.add_row(role, Text(revision), bar, f"{share:>3} %", *_numbers(sample))
    return table


def _rows(rollout: Rollout, weighed: Assessment | None) -> tuple[tuple[str, str, str, Sample], ...]:
    return (
        ("stable", rollout.stable, "blue", weighed.stable if weighed else Sample()),
        ("candidate", rollout.candidate, "yellow", weighed.candidate if weighed else Sample()),
    )


def _numbers(sample: Sample) -> tuple[str, str, str, str]:
    if not sample.requests:
        return ("-",) * 4
    errors = f"{sample.having(ERROR_CLASSES) / sample.requests * 100:.1f} %"
    if sample.latencies is None or not sample.latencies.total:
        return f"{sample.requests:,}", errors, "-", "-"
    p50, p95 = (f"{sample.latencies.percentile(part):.0f} ms" for part in (0.5, 0.95))
    return f"{sample.requests:,}", errors, p50, p95


def _verdict(seen: Pass) -> Text:
    decision = seen.decision
    if decision is None or decision.verdict is None:
        return Text(decision.reason if decision else "", style="italic")
    value = decision.verdict.value
    return Text.assemble((f"{value.value}: ", f"bold {_COLOURS[value]}"), decision.verdict.reason)


def _share(rollout: Rollout) -> str:
    return f"{rollout.percent:>3} %"


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S}"


def save_picture(panel: RenderableType, file: Path) -> None:
    """Save a panel as an SVG picture, 110 characters wide, that loads no font from anywhere."""
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    console.print(panel)
    picture = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="canary"), flags=re.DOTALL)
    file.write_text(picture.replace("Fira Code", "ui-monospace"), encoding="utf-8")
