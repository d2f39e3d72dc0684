"""Reduction: aligned series that have the same labels to group by become one."""

from collections.abc import Sequence

from google.cloud import monitoring_v3

from controller.emulator.errors import invalid
from controller.emulator.filter_syntax import Token, path_of
from controller.emulator.monitoring import summaries
from controller.emulator.monitoring.catalog import Kind, Row, ValueType
from controller.emulator.monitoring.filter import FIELDS, Labels, label_path
from controller.emulator.monitoring.rules import EVERYTHING, NUMBERS, Rule, Rules, Summary
from controller.emulator.monitoring.table import Shape, Table

Reducer = monitoring_v3.Aggregation.Reducer

RULES = Rules(
    "reducer",
    "aggregation.crossSeriesReducer",
    Reducer,
    {
        Reducer.REDUCE_SUM: Rule(EVERYTHING, None, summaries.total),
        Reducer.REDUCE_MIN: Rule(NUMBERS, None, summaries.smallest),
        Reducer.REDUCE_MAX: Rule(NUMBERS, None, summaries.largest),
        Reducer.REDUCE_MEAN: Rule(EVERYTHING, ValueType.DOUBLE, summaries.mean),
        Reducer.REDUCE_STDDEV: Rule(EVERYTHING, ValueType.DOUBLE, summaries.deviation),
        Reducer.REDUCE_COUNT: Rule(EVERYTHING, ValueType.INT64, len),
        Reducer.REDUCE_PERCENTILE_99: Rule(EVERYTHING, ValueType.DOUBLE, summaries.percentile(99)),
        Reducer.REDUCE_PERCENTILE_95: Rule(EVERYTHING, ValueType.DOUBLE, summaries.percentile(95)),
        Reducer.REDUCE_PERCENTILE_50: Rule(EVERYTHING, ValueType.DOUBLE, summaries.percentile(50)),
        Reducer.REDUCE_PERCENTILE_05: Rule(EVERYTHING, ValueType.DOUBLE, summaries.percentile(5)),
    },
)


def reduce(table: Table, reducer: int, group_by: Sequence[str]) -> Table:
    """Return one row a group. The labels that were not grouped by are gone."""
    rule = RULES.choose(reducer, table.shape)
    is_sum = reducer == Reducer.REDUCE_SUM
    shape = Shape(
        table.shape.kind if is_sum else Kind.GAUGE,
        rule.result or table.shape.value_type,
        table.shape.unit if is_sum or table.shape.kind == Kind.GAUGE else "",
    )
    fields = [_field(position, text) for position, text in enumerate(group_by)]
    rows = [
        (labels, rows[0] if is_sum and len(rows) == 1 else _reduced(rows, rule.of))
        for labels, rows in _grouped(table, fields)
    ]
    return Table(shape, table.grid, rows)


def _field(position: int, text: str) -> str:
    path = label_path(path_of(Token("word", text, 1)))
    if not FIELDS.fullmatch(path):
        field = f"aggregation.groupByFields[{position}]"
        raise invalid(f'Field {field} had an invalid value of "{text[:100]}": there is no such field.', field)
    return path


def _grouped(table: Table, fields: Sequence[str]) -> list[tuple[Labels, list[Row]]]:
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for labels, row in table.rows:
        groups.setdefault(tuple([labels.get(field) for field in fields]), []).append(row)
    return [
        ({name: value for name, value in zip(fields, group, strict=True) if value is not None}, rows)
        for group, rows in groups.items()
    ]


def _reduced(rows: Sequence[Row], of: Summary) -> Row:
    columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
    return [of(values) if values else None for values in columns]
