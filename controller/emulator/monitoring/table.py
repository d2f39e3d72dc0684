"""Series side by side over the same periods, as alignment and reduction take and give them."""

from dataclasses import dataclass
from typing import NamedTuple

from controller.emulator.monitoring.catalog import Kind, Row, ValueType
from controller.emulator.monitoring.filter import Labels
from controller.emulator.monitoring.grid import Grid


class Shape(NamedTuple):
    """What the points of a table are."""

    kind: int
    value_type: int
    unit: str

    def __str__(self) -> str:
        return f"kind {Kind.Name(self.kind)} and value type {ValueType.Name(self.value_type)}"

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, not distributions."""
        return self.value_type in {ValueType.INT64, ValueType.DOUBLE}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of values, one row a series, one column a period."""

    shape: Shape
    grid: Grid
    rows: list[tuple[Labels, Row]]


def is_empty(row: Row) -> bool:
    """Say whether a row has no point at all."""
    return all(value is None for value in row)
