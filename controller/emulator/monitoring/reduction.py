"""Reduction: aligned series that have the same labels to group by become one."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from google.cloud import monitoring_v3

from controller.emulator.errors import invalid
from controller.emulator.filter_syntax import Token, path_of
from controller.emulator.monitoring import summaries
from controller.emulator.monitoring.catalog import Kind, Row, Value, ValueType
from controller.emulator.monitoring.filter import FIELDS, Labels, label_path
from controller.emulator.monitoring.table import Shape, Table

Reducer = monitoring_v3.Aggregation.Reducer

_NUMBERS = frozenset({ValueType.INT64, ValueType.DOUBLE})
_DISTRIBUTIONS = frozenset({ValueType.DISTRIBUTION})


class Rule(NamedTuple):
    """What a reducer can be applied to, and what it makes of the values of one period."""

    value_types: frozenset[int]
    result: int | None
    """The value type of the result; None = as it was."""
    of: Callable[[Sequence[Value]], Value]


RULES: Mapping[int, Rule] = {
    Reducer.REDUCE_SUM: Rule(_NUMBERS | _DISTRIBUTIONS, None, summaries.total),
    Reducer.REDUCE_MIN: Rule(_NUMBERS, None, summaries.smallest),
    Reducer.REDUCE_MAX: Rule(_NUMBERS, None, summaries.largest),
    Reducer.REDUCE_MEAN: Rule(_NUMBERS | _DISTRIBUTIONS, ValueType.DOUBLE, summaries.mean),
    Reducer.REDUCE_STDDEV: Rule(_NUMBERS | _DISTRIBUTIONS, ValueType.DOUBLE, summaries.deviation),
    Reducer.REDUCE_COUNT: Rule(_NUMBERS | _DISTRIBUTIONS, ValueType.INT64, len),
    **{
        reducer: Rule(_NUMBERS | _DISTRIBUTIONS, ValueType.DOUBLE, summaries.percentile(percent))
        for reducer, percent in {
            Reducer.REDUCE_PERCENTILE_99: 99,
            Reducer.REDUCE_PERCENTILE_95: 95,
            Reducer.REDUCE_PERCENTILE_50: 50,
            Reducer.REDUCE_PERCENTILE_05: 5,
        }.items()
    },
}


def reduce(table: Table, reducer: int, group_by: Sequence[str]) -> Table:
    """Return one row a group. The labels that were not grouped by are gone."""
    rule = RULES.get(reducer)
    if rule is None or table.shape.value_type not in rule.value_types:
        name = Reducer(reducer).name
        raise invalid(
            f'Field aggregation.crossSeriesReducer had an invalid value of "{name}": '
            f"The reducer cannot be applied to metrics with {table.shape}.",
            "aggregation.crossSeriesReducer",
        )
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
        raise invalid(f'Field {field} had an invalid value of "{text}": there is no such field.', field)
    return path


def _grouped(table: Table, fields: Sequence[str]) -> list[tuple[Labels, list[Row]]]:
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for labels, row in table.rows:
        groups.setdefault(tuple([labels.get(field) for field in fields]), []).append(row)
    return [
        ({name: value for name, value in zip(fields, group, strict=True) if value is not None}, rows)
        for group, rows in groups.items()
    ]


def _reduced(rows: Sequence[Row], of: Callable[[Sequence[Value]], Value]) -> Row:
    columns = ([value for value in column if value is not None] for column in zip(*rows, strict=True))
    return [of(values) if values else None for values in columns]
