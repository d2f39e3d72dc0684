"""The query language of Cloud Logging."""

import zlib
from datetime import UTC, datetime

from controller.emulator.filter_syntax import (
    Conjunction,
    Cursor,
    Expression,
    Predicate,
    Token,
    syntax_error,
)
from controller.emulator.logs.comparisons import InstantTest, by_origin, comparison, presence
from controller.emulator.logs.entries import Entry
from controller.emulator.logs.fields import Field, Kind, field_of, searchable
from controller.emulator.logs.values import as_text, fold, number

OPERATORS = frozenset(("=", "!=", "<", "<=", ">", ">=", ":", "=~", "!~"))
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def parse_log_filter(text: str) -> Predicate[Entry]:
    """Return the filter as a function of an entry; refuse it, with the position, if it cannot be read."""
    return Expression(_comparison).parse(text)


def times_in(predicate: Predicate[Entry]) -> tuple[datetime, datetime]:
    """Return the first and the last timestamp that a filter can let through, both included."""
    match predicate:
        case Conjunction(parts):
            spans = [times_in(part) for part in parts]
            return max((first for first, _ in spans), default=FIRST), min(
                (last for _, last in spans), default=LAST
            )
        case InstantTest(Field(name="timestamp"), ">" | ">=", wanted):
            return wanted, LAST
        case InstantTest(Field(name="timestamp"), "<" | "<=", wanted):
            return FIRST, wanted
        case InstantTest(Field(name="timestamp"), "=" | ":", wanted):
            return wanted, wanted
        case _:
            return FIRST, LAST


def _comparison(cursor: Cursor) -> Predicate[Entry]:
    start = cursor.current
    if start.kind == "string":
        return _anywhere(cursor.value())
    if start.kind not in {"word", "time"}:
        raise cursor.error("expected a comparison")
    cursor.take()
    if cursor.current.text == "(" and _touches(start, cursor.current):
        return _function(cursor, start)
    if cursor.current.text not in OPERATORS or cursor.current.kind == "string":
        return _anywhere(start.text)
    field = field_of(start)
    symbol = cursor.take().text
    if symbol == ":" and cursor.skip("*"):
        return presence(field)
    if cursor.open():
        return Expression(lambda inner: _value(inner, field, symbol)).group(cursor)
    return _value(cursor, field, symbol)


def _touches(name: Token, parenthesis: Token) -> bool:
    """Tell `log_id("x")` from a word that is followed by a group."""
    return name.position + len(name.text) == parenthesis.position


def _value(cursor: Cursor, field: Field, symbol: str) -> Predicate[Entry]:
    place = cursor.current
    text = cursor.value()
    return comparison(field, symbol, text, is_quoted=place.kind == "string", position=place.position)


def _anywhere(text: str) -> Predicate[Entry]:
    """Return the search without a field."""
    wanted = fold(text)
    return lambda entry: wanted in searchable(entry)


def _function(cursor: Cursor, name: Token) -> Predicate[Entry]:
    if name.text not in {"log_id", "sample", "source"}:
        raise syntax_error(
            f"unknown function '{name.text}' (the local Cloud Logging has log_id, sample and source)",
            name.position,
        )
    cursor.expect("(")
    if name.text == "sample":
        return _sample(cursor)
    wanted = fold(cursor.value())
    cursor.expect(")")
    if name.text == "log_id":
        return by_origin(lambda origin: fold(origin.log_id) == wanted)
    return by_origin(lambda origin: fold(f"projects/{origin.project}") == wanted)


def _sample(cursor: Cursor) -> Predicate[Entry]:
    """Return the choice of a share of the entries: the same entries each time, by a hash of the field."""
    token = cursor.current
    cursor.value()
    field = field_of(token)
    cursor.expect(",")
    place = cursor.current
    try:
        share = number(cursor.value())
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise syntax_error(f"'{place.text}' is not a share from 0 to 1", place.position)
    cursor.expect(")")
    limit = share * 2**32

    def is_chosen(entry: Entry) -> bool:
        found = field.read_entry(entry)
        if field.kind is Kind.DYNAMIC:
            found = found[0] if found else None
        return found is not None and zlib.crc32(as_text(found).encode()) < limit

    return is_chosen
