"""Label selectors of Kubernetes: `key = value`, `key == value`, `key != value`, `key`, `!key`, by commas."""

import re
from collections.abc import Callable

from controller.emulator.errors import invalid
from controller.emulator.knative.shapes import Json

_TERM = re.compile(
    r"\s*(?:(?P<key>[^\s=!,]+)\s*(?:(?P<operator>==?|!=)\s*(?P<value>[^\s=!,]*))?|!(?P<absent>[^\s=!,]+))\s*"
)


def read(selector: str) -> Callable[[Json], bool]:
    """Return the test that a v1 object passes if its labels are as the selector says."""
    terms = _terms(selector)

    def is_selected(item: Json) -> bool:
        labels = item["metadata"].get("labels", {})
        return all(_fits(labels, term) for term in terms)

    return is_selected


def value_of(selector: str, key: str) -> str:
    """Return the value that the selector demands of a label, or ""."""
    demanded = [term for term in _terms(selector) if term["key"] == key and term["operator"] in {"=", "=="}]
    return demanded[0]["value"] or "" if demanded else ""


def _fits(labels: dict[str, str], term: re.Match[str]) -> bool:
    if term["absent"]:
        return term["absent"] not in labels
    if not term["operator"]:
        return term["key"] in labels
    is_equal = labels.get(term["key"]) == term["value"]
    return not is_equal if term["operator"] == "!=" else is_equal


def _terms(selector: str) -> list[re.Match[str]]:
    found = [_TERM.fullmatch(part) for part in selector.split(",") if part.strip()]
    if None in found:
        raise invalid(f"labelSelector '{selector}' is not of the form key=value, key!=value, key or !key.")
    return [term for term in found if term is not None]
