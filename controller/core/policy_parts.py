"""The parts of a policy: what all of them have in common, and how their short forms are read."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from controller.core.units import UnitInvalid, shown

Fields = dict[Any, Any]


class Part(BaseModel):
    """What all parts of a policy have in common: they never change, and hold nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: object) -> object:
        return value if isinstance(value, cls) else cls._read(value)

    @classmethod
    def _read(cls, value: object) -> Fields:
        """Return the fields that a value stands for: short forms spelled out, what is implied filled in."""
        return fields_of(value)


def has_fields(value: object, short: str | None = None) -> bool:
    """Say whether a value is a mapping, or a scalar where a short form is known."""
    return isinstance(value, Mapping) or (bool(short) and isinstance(value, str | int | float | timedelta))


def fields_of(value: object, short: str | None = None, kind: str = "a mapping") -> Fields:
    """Take a mapping as it is, and a scalar as the field that the short form stands for."""
    if isinstance(value, Mapping):
        return dict(value)
    if not has_fields(value, short):
        raise UnitInvalid(f"expected {kind}, not {shown(value)}")
    return {short: value}
