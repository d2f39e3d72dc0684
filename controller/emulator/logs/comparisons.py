"""One comparison of a Logging filter, by what the field is compared as."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import re2

from controller.emulator.filter_syntax import PATTERN_OPTIONS, Predicate, compiled, syntax_error
from controller.emulator.logs.entries import Entry, Origin
from controller.emulator.logs.fields import PARSE, Field, Kind
from controller.emulator.logs.values import as_text, fold, leaves, number, truth

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    ":": operator.eq,  # "has" of a single value that is no text
}
LARGEST_PATTERN = 20_000
"""Instructions of a compiled regular expression."""


@dataclass(frozen=True, slots=True)
class InstantTest:
    """A comparison of a time; of `timestamp`, a list can be cut by it before it is read."""

    field: Field
    operator: str
    wanted: datetime

    def __call__(self, entry: Entry) -> bool:
        """Return whether it is true of an entry."""
        return COMPARE[self.operator](self.field.read(entry), self.wanted)


def comparison(field: Field, symbol: str, text: str, *, is_quoted: bool, position: int) -> Predicate[Entry]:
    """Return a comparison with a value; refuse a value that the field cannot have."""
    if symbol in {"=~", "!~"}:
        return _regex_test(field, symbol, text, position)
    match field.kind:
        case Kind.TEXT:
            return _text_test(field.read, symbol, text)
        case Kind.ORIGIN:
            return by_origin(_text_test(field.read, symbol, text))
        case Kind.DYNAMIC:
            matches = _dynamic_test(symbol, text, is_quoted=is_quoted)
            return lambda entry: any(map(matches, field.read(entry)))
        case Kind.OBJECT:
            return _object_test(field, symbol, text, position)
        case Kind.NUMBER | Kind.SEVERITY | Kind.INSTANT | Kind.DURATION | Kind.TRUTH:
            return _ordered_test(field, symbol, text, position)


def _ordered_test(field: Field, symbol: str, text: str, position: int) -> Predicate[Entry]:
    try:
        wanted = PARSE[field.kind](text)
    except (ValueError, OverflowError):
        raise syntax_error(f"'{text}' is not a value of this field", position) from None
    if field.kind is Kind.INSTANT:
        return InstantTest(field, symbol, wanted)
    read, compare = field.read, COMPARE[symbol]
    return lambda entry: compare(read(entry), wanted)


def presence(field: Field) -> Predicate[Entry]:
    """Return the test `field:*`: the label or payload field is there, or the field is not its default."""
    read = field.read
    match field.kind:
        case Kind.ORIGIN:
            return by_origin(lambda origin: read(origin) is not None)
        case Kind.OBJECT:
            return lambda entry: read(entry) not in (None, {})
        case _:
            return lambda entry: bool(read(entry))


def by_origin(test: Callable[[Origin], bool]) -> Predicate[Entry]:
    """Return a test of entries' origins that looks at each origin once."""
    remembered = lru_cache(maxsize=1024)(test)
    return lambda entry: remembered(entry.origin)


def _text_test(read: Callable[[Any], str | None], symbol: str, text: str) -> Callable[[Any], bool]:
    wanted = fold(text)
    if symbol == ":":
        return lambda entry: (found := read(entry)) is not None and wanted in fold(found)
    compare = COMPARE[symbol]
    return lambda entry: (found := read(entry)) is not None and compare(fold(found), wanted)


def _dynamic_test(symbol: str, text: str, *, is_quoted: bool) -> Callable[[Any], bool]:
    """Return the test of a value in a payload: it is compared as what it is, if the text can be read as that.

    A search (`:`) goes into objects.
    """
    wanted, compare = fold(text), COMPARE[symbol]
    wanted_number, wanted_truth = _read_or_none(number, text), _read_or_none(truth, text)
    is_null = not is_quoted and text in {"NULL_VALUE", "null"}

    def matches(value: Any) -> bool:
        match value:
            case str():
                return wanted in fold(value) if symbol == ":" else compare(fold(value), wanted)
            case bool():
                return wanted_truth is not None and compare(value, wanted_truth)
            case int() | float():
                return wanted_number is not None and compare(value, wanted_number)
            case None:
                return is_null != (symbol == "!=") and symbol in {"=", ":", "!="}
            case dict() | list():
                return symbol == ":" and any(matches(one) for one in leaves(value))
            case _:  # a duration, as in httpRequest: a search finds no times
                return False

    return matches


def _read_or_none(read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError:
        return None


def _object_test(field: Field, symbol: str, text: str, position: int) -> Predicate[Entry]:
    if symbol != ":":
        raise syntax_error("an object can only be searched (:), not compared; name a field of it", position)
    matches = _dynamic_test(symbol, text, is_quoted=True)
    return lambda entry: (found := field.read(entry)) is not None and any(map(matches, leaves(found)))


def _regex_test(field: Field, symbol: str, pattern: str, position: int) -> Predicate[Entry]:
    if field.kind is Kind.OBJECT:
        raise syntax_error("an object has no text to match; name a field of it", position)
    found_in, wanted, read = _matcher(pattern, position), symbol == "=~", field.read
    if field.kind is Kind.DYNAMIC:
        return lambda entry: any(found_in(as_text(one)) is wanted for one in read(entry))
    if field.kind is Kind.ORIGIN:
        return by_origin(lambda origin: (found := read(origin)) is not None and found_in(found) is wanted)
    return lambda entry: found_in(as_text(read(entry))) is wanted


def _matcher(pattern: str, position: int) -> Callable[[str], bool]:
    """Return the search for a regular expression."""
    if compiled(pattern, position).programsize > LARGEST_PATTERN:
        raise syntax_error("the regular expression is too large", position)
    search = re2.Set.SearchSet(PATTERN_OPTIONS)  # four times as fast as re2.search, which returns places too
    search.Add(pattern)
    search.Compile()
    return lambda text: bool(search.Match(text))
