"""The filter language of Cloud Monitoring. Each OR is taken before the ANDs around it, as in Logging.

Which of the two binds tighter in Google's own parser is not known; parentheses say what is meant in both.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.emulator.errors import invalid
from controller.emulator.filter_syntax import (
    Cursor,
    Expression,
    Predicate,
    Token,
    compiled,
    path_of,
    syntax_error,
)

Labels = Mapping[str, str]
"""Of one series: `metric.type`, `resource.type`, `metric.labels.K`, `resource.labels.K`, `project`.

What is not there, as `group.id` and `metadata.user_labels.K` never are, is the same as the empty text.
"""

FIELDS = re.compile(
    r"metric\.type|resource\.type|project|group\.id"
    r"|(metric|resource)\.labels\..+|metadata\.(user|system)_labels\..+"
)
_MAPS = re.compile(r"(metric|resource)\.labels|metadata\.(user|system)_labels")
LONGEST = 20_000
"""Characters, as in Logging; Google names no limit for Monitoring."""
_STRING_FUNCTIONS: dict[str, Callable[[str, str], bool]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "has_substring": str.__contains__,
}
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}


@dataclass
class Named:
    """What a filter speaks of."""

    metric_types: set[str] = field(default_factory=set)
    """Those that metric.type is compared with by `=`."""
    resource_types: set[str] = field(default_factory=set)
    """The same of resource.type."""
    fields: set[str] = field(default_factory=set)
    """All field paths, in the plural form."""


@dataclass(frozen=True)
class MetricFilter:
    """Which series are asked for."""

    named: Named
    matches: Predicate[Labels]


def parse_metric_filter(text: str) -> MetricFilter:
    """Parse a filter; refuse it, with the position, if it is not one."""
    if len(text) > LONGEST:
        raise invalid(f"The filter has {len(text)} characters; {LONGEST} are the most.", "filter")
    named = Named()
    return MetricFilter(named, Expression(lambda cursor: _comparison(cursor, named)).parse(text))


def label_path(path: str) -> str:
    """Return a field path in its plural form without quotes: `metric.label."x"` is `metric.labels.x`."""
    return re.sub(r"^((?:metric|resource)\.label|metadata\.(?:user|system)_label)(?=\.|$)", r"\1s", path)


def _comparison(cursor: Cursor, named: Named) -> Predicate[Labels]:
    if cursor.current.kind != "word":
        raise cursor.error("expected a field")
    start = cursor.take()
    path = label_path(path_of(start))
    operator = cursor.take()
    if _MAPS.fullmatch(path) and operator.text == ":":
        return _has_label(cursor, path, named)
    if not FIELDS.fullmatch(path):
        raise syntax_error(f"unknown field '{start.text}'", start.position)
    named.fields.add(path)
    if operator.kind != "operator" or operator.text not in {"=", "!=", ":", *_ORDERS}:
        raise syntax_error(f"expected an operator after '{start.text}'", operator.position)
    if cursor.current.text == "(" and cursor.current.kind == "operator":
        raise cursor.error("The right-hand side of a comparison contains an unsupported value")
    if operator.text in _ORDERS:
        return _ordering(cursor, path, _ORDERS[operator.text])
    if operator.text == ":":
        part = cursor.value()
        return lambda labels: part in labels.get(path, "")
    return _equality(cursor, path, operator.text, named)


def _has_label(cursor: Cursor, path: str, named: Named) -> Predicate[Labels]:
    label = f"{path}.{cursor.value()}"
    named.fields.add(label)
    return lambda labels: label in labels


def _equality(cursor: Cursor, path: str, operator: str, named: Named) -> Predicate[Labels]:
    place = cursor.current
    value = cursor.value()
    if place.kind == "word" and cursor.current.kind == "operator" and cursor.current.text == "(":
        matches = _function(cursor, path, place)
    else:
        if path == "metric.type" and operator == "=":
            named.metric_types.add(value)
        if path == "resource.type" and operator == "=":
            named.resource_types.add(value)
        matches = _equals(path, value)
    return matches if operator == "=" else lambda labels: not matches(labels)


def _equals(path: str, value: str) -> Predicate[Labels]:
    return lambda labels: labels.get(path, "") == value


def _function(cursor: Cursor, path: str, name: Token) -> Predicate[Labels]:
    cursor.expect("(")
    place = cursor.current
    values = [cursor.value()]
    while cursor.skip(","):
        values.append(cursor.value())
    cursor.expect(")")
    if name.text == "one_of":
        chosen = frozenset(values)
        return lambda labels: labels.get(path, "") in chosen
    if len(values) != 1:
        raise syntax_error(f"'{name.text}' takes one argument, not {len(values)}", name.position)
    (value,) = values
    if name.text == "monitoring.regex.full_match":
        return _full_match(path, value, place)
    if name.text not in _STRING_FUNCTIONS:
        raise syntax_error(f"unknown function '{name.text}'", name.position)
    test = _STRING_FUNCTIONS[name.text]
    return lambda labels: test(labels.get(path, ""), value)


def _full_match(path: str, pattern: str, place: Token) -> Predicate[Labels]:
    expression = compiled(pattern, place.position)
    return lambda labels: expression.fullmatch(labels.get(path, "")) is not None


def _ordering(cursor: Cursor, path: str, order: Callable[[float, float], bool]) -> Predicate[Labels]:
    place = cursor.current
    try:
        limit = float(cursor.value())
    except ValueError:
        raise syntax_error("expected a number", place.position) from None
    return lambda labels: labels.get(path, "").isdecimal() and order(float(labels[path]), limit)
