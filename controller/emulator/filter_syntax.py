"""What the filter languages of Monitoring and Logging share: tokens, AND, OR, NOT and parentheses."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import re2

from controller.emulator.errors import ApiError, invalid

T = TypeVar("T")
Predicate = Callable[[T], bool]

MOST_NESTED = 50
"""Parentheses in parentheses; Google names no limit, and no person needs as many."""
KEYWORDS = frozenset(("AND", "OR", "NOT"))
PATTERN_OPTIONS = re2.Options()
PATTERN_OPTIONS.log_errors = False

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)?)
      | (?P<operator>=~|!~|!=|<=|>=|=|<|>|:|\(|\)|,|\*)
      | (?P<minus>-(?=[A-Za-z("']))
      | (?P<word>[^\s()=<>!:,"'~*]+(?:(?<=\.)"(?:[^"\\]|\\.)*"[^\s()=<>!:,"'~*]*)*)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([\\\"'nrt])")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|([^."]+)', re.DOTALL)
_PATH = re.compile(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*", re.DOTALL)


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
            raise syntax_error(_unreadable(text[position]), position + 1)
        if match.lastgroup != "blank":
            result.append(Token(str(match.lastgroup), match[0], position + 1))
        position = match.end()
    return [*result, Token("end", "", position + 1)]


def _unreadable(character: str) -> str:
    return "a quoted string without an end" if character in "\"'" else f"unexpected character {character!r}"


def syntax_error(what: str, position: int) -> ApiError:
    """Return INVALID_ARGUMENT for a filter, with the place."""
    return invalid(f"Unparseable filter: {what} at position {position}.", "filter")


def compiled(pattern: str, position: int) -> Any:
    """Compile a regular expression with RE2, as Google does: no pattern takes more than linear time."""
    try:
        return re2.compile(pattern, PATTERN_OPTIONS)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise syntax_error(f"this is no regular expression ({reason:.200})", position) from None


def unquoted(token: Token) -> str:
    r"""Return the text of a quoted string, or the word as it stands.

    An escape that means nothing in a string keeps its backslash, for a regular expression: `\d`, `\.`.
    """
    return _unescaped(token.text[1:-1]) if token.kind == "string" else token.text


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text)


def path_of(token: Token) -> str:
    """Return a field path without the quotes around its parts."""
    return ".".join(parts_of(token))


def parts_of(token: Token) -> tuple[str, ...]:
    """Return the parts of a field path; a quoted part may hold dots: `labels."a.b/c"` has two.

    What is no path, such as `a..b`, is one part.
    """
    if not _PATH.fullmatch(token.text):
        return (token.text,)
    return tuple(
        _unescaped(match[1]) if match[1] is not None else match[2] for match in _PART.finditer(token.text)
    )


class Cursor:
    """A place in the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._place = 0
        self._nested = 0

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

    def open(self) -> bool:
        """Go on into parentheses, if they begin here; refuse the filter where they are too deep."""
        if self.current.text != "(":
            return False
        self._nested += 1
        if self._nested > MOST_NESTED:
            raise syntax_error(f"parentheses are nested more than {MOST_NESTED} deep", self.current.position)
        self._place += 1
        return True

    def close(self) -> None:
        """Go on out of parentheses, or refuse the filter."""
        self.expect(")")
        self._nested -= 1

    def value(self) -> str:
        """Take a string, a number or a word."""
        token = self.current
        if token.kind not in {"string", "word", "time", "minus"} or token.text in KEYWORDS:
            raise self.error("expected a value")
        self.take()
        if token.kind != "minus":
            return unquoted(token)
        if self.current.kind != "word":
            raise self.error("expected a value")
        return f"-{self.take().text}"

    def error(self, what: str) -> ApiError:
        """Return the refusal of what stands here."""
        found = f"'{self.current.text}'" if self.current.text else "the end of the filter"
        return syntax_error(f"{what}, found {found}", self.current.position)


@dataclass(frozen=True, slots=True)
class Conjunction(Generic[T]):
    """True where every part is."""

    parts: tuple[Predicate[T], ...]

    def __call__(self, subject: T) -> bool:
        """Return whether every part is true."""
        for part in self.parts:  # noqa: SIM110 - a loop costs half of what all() of a generator does
            if not part(subject):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Disjunction(Generic[T]):
    """True where any part is."""

    parts: tuple[Predicate[T], ...]

    def __call__(self, subject: T) -> bool:
        """Return whether a part is true."""
        for part in self.parts:  # noqa: SIM110 - as above
            if part(subject):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Negation(Generic[T]):
    """True where the part is not."""

    part: Predicate[T]

    def __call__(self, subject: T) -> bool:
        """Return whether the part is false."""
        return not self.part(subject)


def comparisons_in(predicate: Predicate[T]) -> int:
    """Return how many comparisons a filter makes at most."""
    match predicate:
        case Conjunction(parts) | Disjunction(parts):
            return sum(comparisons_in(part) for part in parts)
        case Negation(part):
            return comparisons_in(part)
        case _:
            return 1


class Expression(Generic[T]):
    """Parses AND, OR and NOT around the comparisons of a language. OR binds tighter than AND."""

    def __init__(self, comparison: Callable[[Cursor], Predicate[T]]) -> None:
        self._comparison = comparison

    def parse(self, text: str) -> Predicate[T]:
        """Return the filter as a function; an empty one lets everything through."""
        cursor = Cursor(text)
        if cursor.current.kind == "end":
            everything: Conjunction[T] = Conjunction(())  # Conjunction[T]() cannot mark itself: it is frozen
            return everything
        predicate = self._all(cursor)
        if cursor.current.kind != "end":
            raise cursor.error("expected AND, OR or the end")
        return predicate

    def group(self, cursor: Cursor) -> Predicate[T]:
        """Read on from an opened parenthesis to its end."""
        predicate = self._all(cursor)
        cursor.close()
        return predicate

    def _all(self, cursor: Cursor) -> Predicate[T]:
        parts = [self._any(cursor)]
        while cursor.current.kind != "end" and cursor.current.text != ")":
            cursor.skip("AND")
            parts.append(self._any(cursor))
        return parts[0] if len(parts) == 1 else Conjunction(tuple(parts))

    def _any(self, cursor: Cursor) -> Predicate[T]:
        parts = [self._not(cursor)]
        while cursor.skip("OR"):
            parts.append(self._not(cursor))
        return parts[0] if len(parts) == 1 else Disjunction(tuple(parts))

    def _not(self, cursor: Cursor) -> Predicate[T]:
        is_negated = False
        while cursor.skip("NOT", "-"):
            is_negated = not is_negated
        if cursor.current.text in KEYWORDS:
            raise cursor.error("expected a comparison")
        part = self.group(cursor) if cursor.open() else self._comparison(cursor)
        return Negation(part) if is_negated else part
