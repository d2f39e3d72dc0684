"""Policy files: YAML or JSON read into a policy, every mistake with its file, line and path."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from controller.core.mistakes import Mistake, PolicyInvalid, path_text
from controller.core.mistakes import Path as FieldPath
from controller.core.plain_text import plain
from controller.core.policy import Policy, parse_policy
from controller.core.policy_notices import without_secrets
from controller.core.units import shown

LARGEST_FILE: Final = 64 * 1024
_DEEPEST: Final = 20
_MOST_PARTS: Final = 5000
"""Names, values, lists and mappings of the largest policy, generously."""
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_FRACTION: Final = re.compile(r"-?[0-9]+\.[0-9]*([eE][-+]?[0-9]+)?")
_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = {"map", "seq", "str", "null", "bool", "int", "float", "timestamp", "merge", "value"}


class PolicyFileInvalid(Exception):
    """A policy file with at least one mistake; `lines` has each as `FILE:LINE: path.to.field: message`."""

    def __init__(self, file: Path, mistakes: Iterable["FileMistake"]) -> None:
        self.file = file
        self.mistakes = tuple(sorted(mistakes, key=lambda each: (each.line, path_text(each.path))))
        self.lines = tuple(each.text(file) for each in self.mistakes)
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True)
class FileMistake:
    """A mistake at a line of a file, counted from 1; line 0 is the file as a whole."""

    line: int
    path: FieldPath
    message: str

    def text(self, file: Path) -> str:
        """Write the mistake as `FILE:LINE: path: message`, in one line of plain text whatever the file is."""
        place = f"{file}:{self.line}" if self.line else f"{file}"
        path = f"{path_text(self.path)}: " if self.path else ""
        return plain(f"{place}: {path}{self.message}")


@dataclass
class _Document:
    """The plain values of a file so far, the line of each path, and what was wrong on the way."""

    lines: dict[FieldPath, int] = field(default_factory=dict)
    mistakes: list[FileMistake] = field(default_factory=list)

    def mistaken(self, line: int, path: FieldPath, message: str) -> None:
        """Note a mistake, without what may be secret in its path."""
        self.mistakes.append(FileMistake(line, without_secrets(path), message))


def read_policy(file: Path) -> Policy:
    """Read a policy file.

    Raises PolicyFileInvalid with every mistake, also if the file cannot be read.
    """
    return read_policy_text(_read_text(file), file)


def read_policy_text(text: str, file: Path) -> Policy:
    """Read the text of a policy; mistakes name `file` as the place where it is.

    Raises PolicyFileInvalid with every mistake.
    """
    if len(text) > LARGEST_FILE:
        raise _whole(file, "this is longer than 64 KiB, which no policy needs")
    root = _compose(file, text)
    document = _Document()
    plain = _plain(root, (), document)
    try:
        policy = parse_policy(plain)
    except PolicyInvalid as error:
        document.mistakes += [
            FileMistake(_line_of(each, document.lines), each.path, each.message) for each in error.mistakes
        ]
    else:
        if not document.mistakes:
            return policy
    raise PolicyFileInvalid(file, document.mistakes)


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _whole(file, "there is no such file; check the path") from None
    except IsADirectoryError:
        raise _whole(file, "this is a directory; name a file in it") from None
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or str(cause)
        raise _whole(file, f"the file cannot be read: {reason}") from None
    if len(content) > LARGEST_FILE:
        raise _whole(file, "the file is larger than 64 KiB, which no policy needs")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content[: cause.start].count(b"\n") + 1
        raise _whole(file, "the file is not UTF-8 text; save it as UTF-8", line) from None


def _compose(file: Path, text: str) -> yaml.Node:
    """Return the root node of the only document; its structure is checked before it is built."""
    try:
        _check_structure(file, text)
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as cause:
        raise _malformed(file, cause) from None
    except yaml.reader.ReaderError as cause:
        line = text[: cause.position].count("\n") + 1
        raise _whole(
            file, f"the character {cause.character!r} is not allowed in YAML; remove it", line
        ) from None
    except yaml.YAMLError as cause:
        raise _whole(file, f"this is not YAML: {cause}") from None
    if root is None:
        raise _whole(file, "the file is empty; write at least version: 1")
    return root


def _check_structure(file: Path, text: str) -> None:
    """Refuse what could make a small file large or deep, while only reading events."""
    depth, documents = 0, 0
    for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _whole(file, "anchors and aliases are not allowed; write the value out", line)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise _whole(file, "a second document begins here; a policy file holds one", line)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise _whole(file, "this is nested too deeply for a policy", line)
        if number > _MOST_PARTS:
            raise _whole(file, "this holds more values than any policy needs", line)


def _malformed(file: Path, cause: yaml.MarkedYAMLError) -> PolicyFileInvalid:
    mark = cause.problem_mark or cause.context_mark
    problem = cause.problem or cause.context or "it cannot be read"
    if "'\\t'" in problem:
        problem = "a tab stands where YAML wants spaces; indent with spaces"
    return _whole(file, f"this is not YAML: {problem}", mark.line + 1 if mark else 0)


def _whole(file: Path, message: str, line: int = 0) -> PolicyFileInvalid:
    return PolicyFileInvalid(file, [FileMistake(line, (), message)])


def _line_of(mistake: Mistake, lines: dict[FieldPath, int]) -> int:
    """Return the line of the path, or of what holds it: a value may come from a default."""
    path = mistake.path
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _plain(node: yaml.Node, path: FieldPath, document: _Document) -> Any:
    document.lines.setdefault(path, node.start_mark.line + 1)
    if node.tag.removeprefix(_TAG) not in _PLAIN_TAGS:
        message = f"the tag {shown(node.tag)} is not allowed; write the value alone"
        document.mistaken(node.start_mark.line + 1, path, message)
        return None
    match node:
        case yaml.MappingNode():
            return _plain_mapping(node, path, document)
        case yaml.SequenceNode():
            return [_plain(each, (*path, index), document) for index, each in enumerate(node.value)]
        case _:
            return _plain_scalar(node)


def _plain_mapping(node: yaml.MappingNode, path: FieldPath, document: _Document) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            document.mistaken(line, path, "the name of a field must be text")
            continue
        name = key.value
        if name in lines:
            message = f"given twice, on lines {lines[name]} and {line}; keep one"
            document.mistaken(line, (*path, name), message)
            continue
        lines[name] = document.lines[(*path, name)] = line
        if value.tag == f"{_TAG}null":
            message = "has no value; write one, or take the field away"
            document.mistaken(line, (*path, name), message)
            continue
        mapping[name] = _plain(value, (*path, name), document)
    return mapping


def _plain_scalar(node: yaml.Node) -> Any:
    """Read a scalar as YAML 1.2 does: `010` is no octal number and `1:30` no number; they stay text."""
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in {"true", "yes", "on"}
        case "int" if _DECIMAL.fullmatch(text) and len(text) < 20:  # noqa: PLR2004 - no count is longer
            return int(text)
        case "float" if _FRACTION.fullmatch(text):
            return float(text)
        case _:
            return text
