"""The filter language of Cloud Monitoring, as far as ListTimeSeries needs it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.emulator.errors import invalid
from controller.emulator.filter_syntax import Cursor, Expression, Predicate, path_of

Labels = Mapping[str, str]
"""Of one series: `metric.type`, `resource.type`, `metric.labels.K`, `resource.labels.K`, `project`."""

_FIELDS = re.compile(r"metric\.type|resource\.type|project|(metric|resource)\.labels\..+")
_STRING_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "has_substring": str.__contains__,
    "monitoring.regex.full_match": lambda text, pattern: re.fullmatch(pattern, text) is not None,
}
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass(frozen=True)
class MetricFilter:
    """The one metric that is asked for, and which of its series."""

    metric_type: str
    matches: Predicate[Labels]


def parse_metric_filter(text: str, *, one_metric: bool = True) -> MetricFilter:
    """Parse a filter; refuse it, with the position, if it is not one, or if it does not name one metric."""
    types: list[str] = []
    matches = Expression(lambda cursor: _comparison(cursor, types)).parse(text)
    if one_metric and len(types) != 1:
        raise invalid(
            'The provided filter must specify a single metric type with metric.type = "..."; '
            f"it specifies {len(types)}.",
            "filter",
        )
    return MetricFilter(types[0] if types else "", matches)


def label_path(path: str) -> str:
    """Return a field path in its plural form: `metric.label.x` and `metric.labels.x` are the same."""
    return re.sub(r"^(metric|resource)\.label\.", r"\1.labels.", path)


def _comparison(cursor: Cursor, types: list[str]) -> Predicate[Labels]:
    if cursor.current.kind != "word":
        raise cursor.error("expected a field")
    start = cursor.current
    path = label_path(path_of(cursor.take()))
    if not _FIELDS.fullmatch(path):
        raise invalid(
            f"Unparseable filter: unknown field '{start.text}' at position {start.position}.", "filter"
        )
    operator = cursor.take().text
    if cursor.current.text == "(":
        raise cursor.error("The right-hand side of a comparison contains an unsupported value")
    if operator in {"=", "!="}:
        return _equality(cursor, path, operator, types)
    if operator == ":":
        part = cursor.value()
        return lambda labels: part in labels.get(path, "")
    if operator in _ORDERS:
        return _ordering(cursor, path, operator)
    raise invalid(
        f"Unparseable filter: expected an operator after '{start.text}' at position {start.position}.",
        "filter",
    )


def _equality(cursor: Cursor, path: str, operator: str, types: list[str]) -> Predicate[Labels]:
    is_function = cursor.current.kind == "word"
    value = cursor.value()
    if is_function and cursor.current.text == "(":
        matches = _function(cursor, path, value)
    else:
        if path == "metric.type" and operator == "=":
            types.append(value)
        matches = _equals(path, value)
    return matches if operator == "=" else lambda labels: not matches(labels)


def _equals(path: str, value: str) -> Predicate[Labels]:
    return lambda labels: labels.get(path, "") == value


def _function(cursor: Cursor, path: str, name: str) -> Predicate[Labels]:
    cursor.expect("(")
    values = [cursor.value()]
    while cursor.skip(","):
        values.append(cursor.value())
    cursor.expect(")")
    if name == "one_of":
        return lambda labels: labels.get(path, "") in values
    if name not in _STRING_FUNCTIONS or len(values) != 1:
        raise cursor.error(f"unknown function or wrong number of arguments: {name}")
    test, value = _STRING_FUNCTIONS[name], values[0]
    return lambda labels: test(labels.get(path, ""), value)


def _ordering(cursor: Cursor, path: str, operator: str) -> Predicate[Labels]:
    place = cursor.current
    try:
        limit = float(cursor.value())
    except ValueError:
        raise invalid(
            f"Unparseable filter: expected a number at position {place.position}.", "filter"
        ) from None
    order = _ORDERS[operator]
    return lambda labels: labels.get(path, "").isdecimal() and order(float(labels[path]), limit)
