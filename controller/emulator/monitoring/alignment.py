"""Alignment: the points of each series brought to the ends of the periods that were asked for."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter

from google.cloud import monitoring_v3

from controller.emulator.errors import unimplemented
from controller.emulator.monitoring import summaries
from controller.emulator.monitoring.catalog import Kind, Row, ValueType
from controller.emulator.monitoring.grid import SECOND, Grid
from controller.emulator.monitoring.proration import Shares, interpolated, prorated, shares, whole
from controller.emulator.monitoring.rules import (
    DELTA,
    DISTRIBUTIONS,
    EVERYTHING,
    GAUGE,
    NUMBERS,
    Rule,
    Rules,
    Summary,
)
from controller.emulator.monitoring.table import Shape, Table, is_empty

Aligner = monitoring_v3.Aggregation.Aligner
RowAligner = Callable[[Row], Row]

BEYOND = frozenset({Aligner.ALIGN_DELTA, Aligner.ALIGN_RATE, Aligner.ALIGN_INTERPOLATE})
"""Those that look at the minute which the end of the interval cuts in two."""

RULES = Rules(
    "aligner",
    "aggregation.perSeriesAligner",
    Aligner,
    {
        Aligner.ALIGN_DELTA: Rule(EVERYTHING, None, summaries.total, DELTA),
        Aligner.ALIGN_RATE: Rule(NUMBERS, ValueType.DOUBLE, summaries.total, DELTA),
        Aligner.ALIGN_INTERPOLATE: Rule(NUMBERS, None, itemgetter(0), GAUGE),
        Aligner.ALIGN_NEXT_OLDER: Rule(NUMBERS, None, itemgetter(0), GAUGE),
        Aligner.ALIGN_MIN: Rule(NUMBERS, None, summaries.smallest),
        Aligner.ALIGN_MAX: Rule(NUMBERS, None, summaries.largest),
        Aligner.ALIGN_MEAN: Rule(NUMBERS, ValueType.DOUBLE, summaries.mean),
        Aligner.ALIGN_COUNT: Rule(NUMBERS, ValueType.INT64, len),
        Aligner.ALIGN_SUM: Rule(EVERYTHING, None, summaries.total),
        Aligner.ALIGN_STDDEV: Rule(NUMBERS, ValueType.DOUBLE, summaries.deviation),
        Aligner.ALIGN_PERCENTILE_99: Rule(DISTRIBUTIONS, ValueType.DOUBLE, summaries.percentile(99)),
        Aligner.ALIGN_PERCENTILE_95: Rule(DISTRIBUTIONS, ValueType.DOUBLE, summaries.percentile(95)),
        Aligner.ALIGN_PERCENTILE_50: Rule(DISTRIBUTIONS, ValueType.DOUBLE, summaries.percentile(50)),
        Aligner.ALIGN_PERCENTILE_05: Rule(DISTRIBUTIONS, ValueType.DOUBLE, summaries.percentile(5)),
    },
)
_ONE_TO_ONE = frozenset({Aligner.ALIGN_DELTA, Aligner.ALIGN_SUM})
"""Those that leave a point alone which fills a period by itself."""


def align(table: Table, windows: Grid, aligner: int) -> Table:
    """Return the table over other periods; series without a point in them are left out."""
    if aligner == Aligner.ALIGN_PERCENT_CHANGE:
        raise unimplemented("The local Cloud Monitoring does not offer ALIGN_PERCENT_CHANGE.")
    rule = RULES.choose(aligner, table.shape)
    row_aligner = _row_aligner(table, windows, aligner, rule)
    aligned = ((labels, row_aligner(row)) for labels, row in table.rows)
    return Table(
        _shape(table.shape, aligner, rule),
        windows,
        [(labels, row) for labels, row in aligned if not is_empty(row)],
    )


def _shape(shape: Shape, aligner: int, rule: Rule) -> Shape:
    """Return what the points are afterwards. What has become a gauge by alignment has lost its unit."""
    kind = Kind.DELTA if aligner == Aligner.ALIGN_DELTA else Kind.GAUGE
    return Shape(kind, rule.result or shape.value_type, shape.unit if kind == shape.kind else "")


def _row_aligner(table: Table, windows: Grid, aligner: int, rule: Rule) -> RowAligner:
    source = table.grid
    offset, odd = divmod(source.newest - windows.newest, source.period)
    if aligner in _ONE_TO_ONE and not odd and source.period == windows.period:
        return lambda row: _cut(row, offset, windows.count)
    if aligner == Aligner.ALIGN_INTERPOLATE:
        return lambda row: interpolated(row, source, windows)
    if aligner in {Aligner.ALIGN_DELTA, Aligner.ALIGN_RATE} and table.shape.is_number:
        return _by_shares(shares(source, windows), table.shape, windows, aligner)
    return _by_spans(_spans(source, windows), rule.of)


def _cut(row: Row, offset: int, count: int) -> Row:
    """Return so many values from a place; what lies outside the row is absent."""
    inside = row[offset : offset + count]
    return inside if len(inside) == count else [*inside, *[None] * (count - len(inside))]


def _by_shares(parts: Sequence[Shares], shape: Shape, windows: Grid, aligner: int) -> RowAligner:
    if aligner == Aligner.ALIGN_RATE:
        seconds = windows.period / SECOND
        return lambda row: [None if value is None else value / seconds for value in prorated(row, parts)]
    if shape.value_type == ValueType.INT64:
        return lambda row: [*whole(prorated(row, parts))]
    return lambda row: [*prorated(row, parts)]


def _by_spans(spans: Sequence[slice], of: Summary) -> RowAligner:
    def aligned(row: Row) -> Row:
        inside = ([value for value in row[span] if value is not None] for span in spans)
        return [of(values) if values else None for values in inside]

    return aligned


def _spans(source: Grid, windows: Grid) -> list[slice]:
    """Return, for each window, the places of the points whose instants it holds."""
    edges = [windows.newest - position * windows.period for position in range(windows.count + 1)]
    places = [min(source.count, max(0, -(-(source.newest - edge) // source.period))) for edge in edges]
    return [slice(first, after) for first, after in pairwise(places)]
