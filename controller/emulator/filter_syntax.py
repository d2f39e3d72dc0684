"""What the filter languages of Monitoring and Logging share: tokens, AND, OR, NOT and parentheses."""

import re
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from controller.emulator.errors import ApiError, invalid

T = TypeVar("T")
Predicate = Callable[[T], bool]

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?)
      | (?P<operator>=~|!~|!=|<=|>=|=|<|>|:|\(|\)|,|\*)
      | (?P<minus>-(?=[A-Za-z(]))
      | (?P<word>[^\s()=<>!:,"'~*]+(?:(?<=\.)"(?:[^"\\]|\\.)*"[^\s()=<>!:,"'~*]*)*)
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of a filter and where it begins, counted from 1."""

    kind: str
    text: str
    position: int


def tokens_of(text: str) -> list[Token]:
    """Cut a filter into tokens, the last of which is the end."""
    result, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise syntax_error(f"unexpected character {text[position]!r}", position + 1)
        if match.lastgroup != "blank":
            result.append(Token(str(match.lastgroup), match[0], position + 1))
        position = match.end()
    return [*result, Token("end", "", position + 1)]


def syntax_error(what: str, position: int) -> ApiError:
    """Return INVALID_ARGUMENT for a filter, with the place."""
    return invalid(f"Unparseable filter: {what} at position {position}.", "filter")


def unquoted(token: Token) -> str:
    """Return the text of a quoted string, or the word as it stands."""
    if token.kind == "string":
        return re.sub(r"\\(.)", r"\1", token.text[1:-1])
    return token.text


def path_of(token: Token) -> str:
    """Return a field path without the quotes around its parts."""
    return re.sub(r'"((?:[^"\\]|\\.)*)"', r"\1", token.text)


class Cursor:
    """A place in the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._place = 0

    @property
    def current(self) -> Token:
        """Return the token at this place."""
        return self._tokens[self._place]

    def take(self) -> Token:
        """Return the token at this place and go on to the next."""
        token = self.current
        if token.kind != "end":
            self._place += 1
        return token

    def skip(self, *texts: str) -> bool:
        """Go on if one of these stands here, unquoted."""
        if self.current.kind != "string" and self.current.text in texts:
            self._place += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Go on if this stands here, else refuse the filter."""
        if not self.skip(text):
            raise self.error(f"expected {text!r}")

    def value(self) -> str:
        """Take a string, a number or a word."""
        if self.current.kind not in {"string", "word", "time", "minus"}:
            raise self.error("expected a value")
        token = self.take()
        return "-" + self.value() if token.kind == "minus" else unquoted(token)

    def error(self, what: str) -> ApiError:
        """Return the refusal of what stands here."""
        found = f"'{self.current.text}'" if self.current.text else "the end of the filter"
        return syntax_error(f"{what}, found {found}", self.current.position)


class Expression(Generic[T]):
    """Parses AND, OR and NOT around the comparisons of a language. OR binds tighter than AND."""

    def __init__(self, comparison: Callable[[Cursor], Predicate[T]]) -> None:
        self._comparison = comparison

    def parse(self, text: str) -> Predicate[T]:
        """Return the filter as a function; an empty one lets everything through."""
        cursor = Cursor(text)
        if cursor.current.kind == "end":
            return lambda _: True
        predicate = self._all(cursor)
        if cursor.current.kind != "end":
            raise cursor.error("expected AND, OR or the end")
        return predicate

    def _all(self, cursor: Cursor) -> Predicate[T]:
        parts = [self._any(cursor)]
        while cursor.current.kind != "end" and cursor.current.text != ")":
            cursor.skip("AND")
            parts.append(self._any(cursor))
        return parts[0] if len(parts) == 1 else lambda subject: all(part(subject) for part in parts)

    def _any(self, cursor: Cursor) -> Predicate[T]:
        parts = [self._not(cursor)]
        while cursor.skip("OR"):
            parts.append(self._not(cursor))
        return parts[0] if len(parts) == 1 else lambda subject: any(part(subject) for part in parts)

    def _not(self, cursor: Cursor) -> Predicate[T]:
        if cursor.skip("NOT", "-"):
            part = self._not(cursor)
            return lambda subject: not part(subject)
        if cursor.skip("("):
            part = self._all(cursor)
            cursor.expect(")")
            return part
        return self._comparison(cursor)
