"""Mistakes in what people write: where each one is, what is wrong, and what to write instead."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError

from controller.core.plain_text import plain
from controller.core.units import UnitInvalid, shown

Path = tuple[str | int, ...]

_LONGEST_NAME: Final = 100
_MOST_TOLD: Final = 10
"""How many mistakes fit in one sentence."""
_SECRETIVE: Final = "notices"
"""The field below which the name of an unknown one is not told: it may be an address, which is a secret."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with a policy: where, and what to do about it."""

    path: Path
    message: str


class PolicyInvalid(ValueError):
    """A policy with at least one mistake; `mistakes` holds them all."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        first = [f"{path_text(each.path)}: {each.message}" for each in self.mistakes[:_MOST_TOLD]]
        more = len(self.mistakes) - len(first)
        super().__init__("; ".join([*first, f"and {more} more"] if more else first))


def path_text(path: Path) -> str:
    """Write a path as people do, such as `steps[1].hold.at_least`; the empty path is `policy`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{plain(part, _LONGEST_NAME)}" for part in path)
    return "".join(parts).removeprefix(".") or "policy"


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the end of a message that asks whether the nearest known name was meant, or nothing."""
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        return ""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def read_mistakes(model: type[BaseModel], error: ValidationError) -> Iterator[Mistake]:
    """Yield what pydantic found wrong with a model's input, in our words.

    Our own validators raise UnitInvalid for the value itself, or PolicyInvalid for places below it.
    """
    for detail in error.errors(include_url=False, include_input=False):
        path = detail["loc"]
        match detail:
            case {"ctx": {"error": PolicyInvalid() as nested}}:
                for mistake in nested.mistakes:
                    yield Mistake((*path, *mistake.path), mistake.message)
            case {"ctx": {"error": UnitInvalid() as cause}}:
                yield Mistake(path, str(cause))
            case {"type": "extra_forbidden"}:
                yield _unknown_field(model, path)
            case {"type": "missing"}:
                yield Mistake(path, f"{path[-1]} is missing; add it")
            case {"type": "invalid_key"}:
                yield Mistake(path, "the name of a field must be text")
            case {"type": "string_unicode"}:
                yield Mistake(path, "the name of a field is not valid Unicode text")
            case _:
                yield Mistake(path, detail["msg"])


def _unknown_field(model: type[BaseModel], path: Path) -> Mistake:
    name = path[-1]
    fields = _part_at(model, path[:-1]).model_fields
    known = [name for name, field in fields.items() if not field.exclude]
    instead = nearest(name, known) or "; known are " + ", ".join(known)
    if path[:-1] and path[0] == _SECRETIVE:
        return Mistake(path[:-1], f"unknown field{instead}")
    return Mistake(path, f"unknown field {shown(name)}{instead}")


def _part_at(part: type[BaseModel], path: Path) -> type[BaseModel]:
    for name in path:
        if isinstance(name, str):
            part = part_in(part.model_fields[name].annotation) or part
    return part


def part_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field's annotation holds, itself or in a list or a mapping, or nothing."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(part_in, get_args(annotation))), None)
