"""Plain text: what strangers wrote, made fit for a terminal, a log and a record.

Messages of revisions, errors of APIs, annotations and names of files are written by whoever can deploy or
open a pull request. They may hold escapes that move the cursor, marks that turn a sentence around, a line
break that forges the next line, or a megabyte.

This is done where text leaves (views, reports, logs, the message of a failure). Those ways out are few, and
each sees everything; the ways in are many, and what comes in by them must be written back byte for byte: a
stranger's tag or annotation. Done twice it changes nothing, so whoever quotes a stranger inside a sentence
may do it on the spot, to keep the quotation short.
"""

from collections.abc import Mapping
from typing import Any, Final

LONGEST_NAME: Final = 100
"""Of who asked, in characters."""
LONGEST: Final = 4000
"""More of one text than this helps nobody."""


def plain(text: str, longest: int = LONGEST) -> str:
    """Return the text on one line: white space as spaces, what cannot be printed by its code, the end cut."""
    shown = "".join(map(_shown, text[: longest + 1]))
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def plain_parts(text: str, longest: int) -> str:
    """Return the same of a text whose parts have semicolons in between: as many whole ones as fit."""
    shown = plain(text)
    if len(shown) <= longest:
        return shown
    # One part that is very long itself is cut, so that more is left than a few words.
    end = shown.rfind("; ", longest // 2, longest - len("..."))
    return plain(shown, longest) if end < 0 else f"{shown[:end]}; ..."


def plain_lines(text: str) -> str:
    """Return a text of our own that quotes strangers: the same for each of its lines."""
    return "\n".join(map(plain, text.split("\n")))


def plain_values(value: Any) -> Any:
    """Return JSON-able values with every text in them plain; whatever JSON does not know becomes text."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return plain(value)
        case Mapping():
            return {plain(str(name)): plain_values(each) for name, each in value.items()}
        case list() | tuple():
            return [plain_values(each) for each in value]
        case _:
            return plain(str(value))


def _shown(character: str) -> str:
    if character.isspace():
        return " "
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
