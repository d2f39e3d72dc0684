"""What an aligner or a reducer can be applied to, and what it makes of values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from controller.emulator.errors import invalid
from controller.emulator.monitoring.catalog import Kind, Value, ValueType
from controller.emulator.monitoring.table import Shape

Summary = Callable[[Sequence[Value]], Value]

NUMBERS = frozenset({ValueType.INT64, ValueType.DOUBLE})
DISTRIBUTIONS = frozenset({ValueType.DISTRIBUTION})
EVERYTHING = NUMBERS | DISTRIBUTIONS
DELTA, GAUGE = frozenset({Kind.DELTA}), frozenset({Kind.GAUGE})


class Rule(NamedTuple):
    """How one aligner or reducer works."""

    value_types: frozenset[int]
    result: int | None
    """The value type of the result; None = as it was."""
    of: Summary
    """What it makes of the values in one period."""
    kinds: frozenset[int] = DELTA | GAUGE


@dataclass(frozen=True)
class Rules:
    """The rules of all aligners, or of all reducers."""

    noun: str
    field: str
    """Where a request names one of them."""
    names: type[IntEnum]
    by_number: Mapping[int, Rule]

    def choose(self, number: int, shape: Shape) -> Rule:
        """Return the rule of a number; refuse what cannot be applied to points of this shape."""
        rule = self.by_number.get(number)
        if rule and shape.kind in rule.kinds and shape.value_type in rule.value_types:
            return rule
        name, why = str(number), "is not known"
        if number in {*self.names}:
            name, why = self.names(number).name, f"cannot be applied to metrics with {shape}"
        raise invalid(
            f'Field {self.field} had an invalid value of "{name}": The {self.noun} {why}.', self.field
        )
