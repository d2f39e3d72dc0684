"""The benchmark's findings as a page with tables, and as a picture."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from results import DEFAULT, UNCAPPED, Cell, Promise, Result, false_alarms, ratio

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

NAME = "decisions-benchmark"
FEW = 0.1
"""Shares below this are written with digits."""
COLOURS = {
    DEFAULT: "#1a73e8",
    UNCAPPED: "#8ab4f8",
    "Kayenta, 5 min": "#e8710a",
    "Kayenta, 1 min": "#f9ab00",
    "Flagger": "#9334e6",
    "release manager": "#d01884",
    "SPRT oracle": "#80868b",
}


def write(docs: Path, found: dict[str, Any], kept: Sequence[Promise], runs: int, seed: int) -> None:
    """Write the page and the picture into a folder."""
    text = "\n".join(_page(found, kept, runs, seed)) + "\n"
    (docs / f"{NAME}.md").write_text(text, encoding="utf-8")
    _draw(found["errors"], docs / f"{NAME}.svg")


def promise_line(promise: Promise) -> str:
    """Return a promise, what was measured, and whether it is kept."""
    mark = "kept" if promise.kept else "NOT KEPT"
    return f"{mark:>8}  {promise.words}: {_figure(promise.measured, promise.unit)} (limit {_limit(promise)})"


def _limit(promise: Promise) -> str:
    return _figure(promise.limit, promise.unit)


def _figure(value: float, unit: str) -> str:
    match unit:
        case "%":
            return f"{value * 100:.2f} %"
        case "x":
            return f"{value:.2f}x"
        case "ms":
            return f"{value:.3f} ms"
        case _:
            return f"{value:g}"


def _page(found: dict[str, Any], kept: Sequence[Promise], runs: int, seed: int) -> Iterable[str]:
    errors, latency = found["errors"], found["latency"]
    yield "# How soon and how rightly it decides"
    yield ""
    yield (
        f"Written by `make bench-decisions` ({runs:,} runs a cell, seed {seed}). Sixty minutes, one look a"
        " minute, 1 % of healthy releases rolled back at most, no tolerance. Every judge sees the same"
        " traffic. [decisions.md](decisions.md) says how the decisions are made, and what was tried."
    )
    yield ""
    yield f"![Requests until harm is found, and healthy releases rolled back]({NAME}.svg)"
    yield ""
    yield from _table(
        ("promise", "measured", "limit", ""),
        [
            (p.words, _figure(p.measured, p.unit), _limit(p), "kept" if p.kept else "**not kept**")
            for p in kept
        ],
    )
    yield "## Side by side"
    yield ""
    yield (
        "False rollbacks are the healthy releases rolled back within the hour. *Found* are the cells in which"
        " most of the bad candidates are found within it. The requests are those to the candidate, as a"
        " multiple of the two-sample bound: the best that a test can do that does not know stable's true rate"
        " (geometric mean over cells where the bound is at least a minute's requests)."
    )
    yield ""
    yield from _side_by_side("errors", errors)
    yield from _side_by_side("latency", latency)
    yield "## Where requests are not independent"
    yield ""
    yield "Healthy releases rolled back within the hour; errors 1 % in general."
    yield ""
    judges = list(next(iter(found["bursts"].values())))
    yield from _table(
        ("what goes on", *judges),
        [(name, *(_percent(row[judge]) for judge in judges)) for name, row in found["bursts"].items()],
    )
    yield "## Promotion on proof"
    yield ""
    yield "Falsely: exactly at the margin, within two hours. Rightly: a candidate as good as stable."
    yield ""
    yield from _table(
        ("stable, margin, traffic", "shown falsely", "shown rightly after", "requests"),
        [
            (name, _percent(false), _minutes(right), _requests(right))
            for name, false, right in found["margins"]
        ],
    )
    yield "## Other figures"
    yield ""
    outage: Result = found["outage"]
    yield from _table(
        ("what", "measured"),
        [
            ("a total failure at 30 requests an hour, split in halves", f"{_requests(outage)} requests"),
            *(
                (
                    f"harm of {name} that begins after two good hours",
                    f"found after {minutes or math.inf:g} min",
                )
                for name, minutes in found["late"].items()
            ),
            ("one more minute of errors, with tolerance and fast path", f"{found['cost']['errors']:.3f} ms"),
            ("one more minute of latency, 136 buckets", f"{found['cost']['latency']:.3f} ms"),
        ],
    )
    yield "## Every cell"
    yield ""
    yield "Median requests to the candidate (and minutes), or the share found where it is under a half."
    yield ""
    for cells in (errors, latency):
        yield from _cells(cells)


def _side_by_side(kind: str, cells: Sequence[Cell]) -> Iterable[str]:
    rows = []
    bad = [cell for cell in cells if not cell.is_null]
    for judge in cells[0].results:
        mean, largest = false_alarms(cells, judge)
        times, over = ratio(cells, judge)
        most_found = sum(cell.results[judge].minutes is not None for cell in bad)
        bound = f"{times:.2f}x ({over} cells)" if over else "-"
        rows.append((judge, _percent(mean), _percent(largest), f"{most_found} of {len(bad)}", bound))
    yield from _table((kind, "false rollbacks, mean", "worst cell", "found", "requests over bound"), rows)


def _cells(cells: Sequence[Cell]) -> Iterable[str]:
    judges = list(cells[0].results)
    rows = [
        (
            f"{_rate(cell.stable)} -> {_rate(cell.candidate)}",
            f"{cell.share:.0%}",
            f"{cell.rps:g}",
            "-" if cell.is_null else f"{cell.bound:,.0f}",
            *(_cell(cell.results[judge]) for judge in judges),
        )
        for cell in cells
    ]
    yield from _table((cells[0].kind, "share", "rps", "bound", *judges), rows)


def _rate(text: str) -> str:
    try:
        return f"{float(text) * 100:g} %"
    except ValueError:
        return text


def _cell(result: Result) -> str:
    if result.requests is None or result.minutes is None:
        return f"[{_percent(result.detected)}]"
    return f"{result.requests:,.0f} ({result.minutes:g})"


def _percent(share: float) -> str:
    digits = 2 if 0 < share < FEW else 0
    return f"{share * 100:.{digits}f} %"


def _minutes(result: Result) -> str:
    return "-" if result.minutes is None else f"{result.minutes:g} min"


def _requests(result: Result) -> str:
    return "-" if result.requests is None else f"{result.requests:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _draw(cells: Sequence[Cell], path: Path) -> None:
    """Draw how many requests each judge needs, beside how many healthy releases it rolls back."""
    with plt.rc_context({"svg.hashsalt": NAME, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=(3, 2))
        _draw_requests(left, cells)
        _draw_false(right, cells)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)


def _draw_requests(axes: Axes, cells: Sequence[Cell]) -> None:
    for judge in (DEFAULT, UNCAPPED, "Kayenta, 5 min", "SPRT oracle"):
        for floor in (True, False):
            points = [
                (cell.bound, requests)
                for cell in cells
                if not cell.is_null
                and (cell.ticks < 1) == floor
                and (requests := cell.results[judge].requests) is not None
            ]
            across, up = [bound for bound, _ in points], [requests for _, requests in points]
            shade = 0.25 if floor else 0.9
            label = None if floor else judge
            axes.scatter(across, up, s=18, label=label, color=COLOURS[judge], alpha=shade, linewidths=0)
    known = [cell.bound for cell in cells if not cell.is_null]
    ends = (min(known), max(known))
    axes.plot(ends, ends, color="black", linewidth=0.8, label="two-sample bound")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("two-sample bound (requests to the candidate; pale: less than a minute's)")
    axes.set_ylabel("requests until harm is found (median)")
    axes.set_title("Bad releases: how soon they are found", fontsize=11)
    axes.legend(fontsize=8, frameon=False)


def _draw_false(axes: Axes, cells: Sequence[Cell]) -> None:
    judges = [judge for judge in cells[0].results if judge != "SPRT oracle"]
    worst = [max(false_alarms(cells, judge)[1] * 100, 0.01) for judge in judges]
    axes.barh(judges, worst, color=[COLOURS[judge] for judge in judges])
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="% in the worst cell (line: 1 % promised)")
    axes.set_title("Healthy releases: how many are rolled back", fontsize=11)
