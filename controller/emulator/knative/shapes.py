"""Reads JSON that anybody may have sent: what is no object, list or number where it should be is refused."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from controller.emulator.errors import ApiError, invalid

Json = dict[str, Any]
SOME_CHARACTERS = 60


def obj(value: Any, path: str) -> Json:
    """Return an object; what is absent or null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _refusal(path, "an object", value)
    return value


def objects(value: Any, path: str) -> list[Json]:
    """Return a list of objects; what is absent or null is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _refusal(path, "a list", value)
    return [obj(item, f"{path}[{position}]") for position, item in enumerate(value)]


def texts(value: Any, path: str) -> dict[str, str]:
    """Return an object whose values are all text, such as labels."""
    result = obj(value, path)
    for name, text in result.items():
        if not isinstance(text, str):
            raise _refusal(f"{path}[{name}]", "text", text)
    return result


def whole(value: Any, path: str) -> int:
    """Return a whole number, which may have been sent as text."""
    if isinstance(value, int | str) and re.fullmatch(r"-?[0-9]{1,10}", str(value)):
        return int(value)
    raise _refusal(path, "a whole number", value)


def check_names(value: Mapping[str, Any], known: Iterable[str], path: str) -> None:
    """Refuse fields that nobody here would read, rather than lose them silently."""
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise invalid(f"Unknown field '{unknown[0]}' in {path}.", path)


def without_empty(value: Mapping[str, Any]) -> Json:
    """Return the fields that say something: not null, not empty text, object or list."""
    return {name: item for name, item in value.items() if item not in (None, "", {}, [])}


def _refusal(path: str, wanted: str, value: Any) -> ApiError:
    said = repr(value)
    shown = said if len(said) <= SOME_CHARACTERS else f"{said[:SOME_CHARACTERS]}..."
    return invalid(f"{path} must be {wanted}, not {shown}.", path)
