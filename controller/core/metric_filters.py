"""Filters of Cloud Monitoring, as a policy names the metrics of its own guards by them."""

import re
from typing import Final

from controller.core.units import UnitInvalid, shown

LONGEST_FILTER: Final = 2000
FILTER_PATTERN: Final = r'^\s*$|metric\.type\s*=\s*"'
_FILTER_EXAMPLE: Final = 'metric.type="run.googleapis.com/request_count"'
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
# In a filter whose quoted texts are replaced by NUL, which no filter may have itself.
_OR: Final = re.compile(r"(?<![\w.])OR(?![\w.])")
_METRIC_TYPE: Final = re.compile(r"(?<![\w.])metric\.type(?![\w.])(\s*=\s*\0)?")
REVISION_LABEL_PATTERN: Final = r"^(resource|metric)\.labels?\.[A-Za-z_][A-Za-z0-9_]{0,60}$"
REVISION_LABEL: Final = "resource.labels.revision_name"


def parse_filter(value: object) -> str:
    """Read a filter of Cloud Monitoring; an empty one is none."""
    if not isinstance(value, str):
        raise UnitInvalid(f"expected a filter such as {_FILTER_EXAMPLE}, not {shown(value)}")
    text = value.strip()
    if text and (complaint := _filter_complaint(text)):
        raise UnitInvalid(complaint)
    return text


def _filter_complaint(text: str) -> str:
    """Say what keeps a filter from being one to which conditions can be added with AND."""
    if not text.isprintable():
        return "a filter is one line of printable characters; YAML joins lines after >-"
    if len(text) > LONGEST_FILTER:
        return f"a filter has at most {LONGEST_FILTER} characters, not {len(text)}; shorten it"
    bare = _QUOTED.sub("\0", text)
    if '"' in bare:
        return "a quotation mark has no partner; close it"
    if _OR.search(bare):
        return 'a filter may have no OR, as conditions are added to it with AND; write =one_of("a", "b")'
    if [bool(match[1]) for match in _METRIC_TYPE.finditer(bare)] != [True]:
        return f"a filter names exactly one metric, with an equals sign, such as {_FILTER_EXAMPLE}"
    return ""


def parse_revision_label(value: object) -> str:
    """Read the label by which a metric names the revision."""
    if isinstance(value, str) and re.fullmatch(REVISION_LABEL_PATTERN, value):
        return value
    raise UnitInvalid(
        f"expected a label such as {REVISION_LABEL} or metric.labels.revision, not {shown(value)}"
    )
