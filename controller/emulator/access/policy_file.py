"""The file of `--iam`: YAML read into a policy, every mistake with its line and what to write instead."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from controller.emulator.access.policy import (
    ALL_AUTHENTICATED,
    ALL_USERS,
    ActAs,
    Binding,
    IamPolicy,
    is_service_account,
)
from controller.emulator.access.roles import PREDEFINED, looks_misspelt
from controller.emulator.names import SERVICE

LARGEST_FILE: Final = 256 * 1024
_ROLE_NAME: Final = re.compile(r"[A-Za-z0-9_.]{3,64}")
_PERMISSION: Final = re.compile(r"[a-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*){2,}")
_EMAIL: Final = re.compile(r"[^@\s:]+@[^@\s:]+")
_SERVICE_ACCOUNT: Final = re.compile(r"(projects/[^/]+/)?serviceAccounts/([^/@]+@[^/@]+)")


class IamFileInvalid(Exception):
    """A file with at least one mistake; `lines` has each as `FILE:LINE: what is wrong; what to do`."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


def read_iam_file(file: Path, project: str, region: str) -> IamPolicy:
    """Read the policy of a project; raises IamFileInvalid with every mistake."""
    reader = _Reader(file, project, region)
    policy = reader.read()
    if reader.mistakes:
        raise IamFileInvalid([text for _, text in sorted(reader.mistakes, key=lambda each: each[0])])
    return policy


class _Reader:
    """Reads one file and collects what is wrong in it."""

    def __init__(self, file: Path, project: str, region: str) -> None:
        self.mistakes: list[tuple[int, str]] = []
        self._file = file
        self._project = f"projects/{project}"
        self._region = region
        self._roles: dict[str, frozenset[str]] = {}

    def read(self) -> IamPolicy:
        root = self._root()
        if root is None:
            return IamPolicy()
        fields = self._fields(root, ("roles", "bindings", "act_as"), required=("bindings",))
        if roles := fields.get("roles"):
            self._roles = dict(self._custom_roles(roles))
        items = self._items(fields["bindings"]) if "bindings" in fields else []
        bindings = [binding for node in items if (binding := self._binding(node))]
        act_as = self._choice(fields["act_as"], tuple(ActAs)) if "act_as" in fields else ""
        return IamPolicy(self._roles, tuple(bindings), ActAs(act_as or ActAs.TEMPLATE))

    def _root(self) -> yaml.Node | None:
        """Return the document; None if it cannot be read at all."""
        try:
            with self._file.open("rb") as opened:
                content = opened.read(LARGEST_FILE + 1)
        except OSError as error:
            self._wrong(0, f"the file cannot be read: {error.strerror}; check the path")
            return None
        if len(content) > LARGEST_FILE:
            self._wrong(0, f"the file is larger than {LARGEST_FILE // 1024} KiB; take out what is not needed")
            return None
        try:
            root = yaml.compose(content.decode("utf-8-sig"), yaml.SafeLoader)
        except UnicodeDecodeError:
            self._wrong(0, "the file is not UTF-8 text; save it as UTF-8")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._wrong(mark.line + 1 if mark else 0, f"this is not YAML: {error.problem or error.context}")
        except (yaml.YAMLError, RecursionError) as error:
            self._wrong(0, f"this is not YAML: {type(error).__name__}")
        else:
            if root is None:
                self._wrong(0, "the file is empty; write at least one of the bindings")
            return root
        return None

    def _custom_roles(self, node: yaml.Node) -> Iterator[tuple[str, frozenset[str]]]:
        for key, value in self._pairs(node):
            if not _ROLE_NAME.fullmatch(key.value):
                self._at(key, f"'{key.value}' is no name of a role; use 3 to 64 letters, digits, _ and .")
            texts = [text for item in self._items(value) if (text := self._permission(item))]
            yield self._full_role(key.value), frozenset(texts)

    def _permission(self, node: yaml.Node) -> str:
        text = self._text(node)
        if not text:
            return ""
        if not _PERMISSION.fullmatch(text):
            self._at(node, f"'{text}' is no permission; write it as service.resource.verb")
        elif meant := looks_misspelt(text):
            self._at(node, f"there is no permission '{text}'; write {meant}, or take it out")
        return text

    def _binding(self, node: yaml.Node) -> Binding | None:
        fields = self._fields(node, ("role", "members", "resource"), required=("role", "members"))
        if not {"role", "members"} <= fields.keys():
            return None
        members = [self._member(item) for item in self._items(fields["members"])]
        if isinstance(fields["members"], yaml.SequenceNode) and not members:
            self._at(fields["members"], "has no members; name one, or take the binding out")
        resource = self._resource(fields["resource"]) if "resource" in fields else self._project
        return Binding(self._role(fields["role"]), frozenset(members), resource)

    def _role(self, node: yaml.Node) -> str:
        text = self._text(node)
        if not text or text in PREDEFINED:
            return text
        if self._full_role(text) not in self._roles:
            known = ", ".join(PREDEFINED)
            self._at(node, f"there is no role '{text}'; describe it under roles, or use one of {known}")
        return self._full_role(text)

    def _full_role(self, name: str) -> str:
        return name if name.startswith("projects/") else f"{self._project}/roles/{name}"

    def _member(self, node: yaml.Node) -> str:
        text = self._text(node)
        if not text or text in {ALL_USERS, ALL_AUTHENTICATED}:
            return text
        kind, _, email = text.partition(":")
        if kind not in {"user", "serviceAccount"} or not _EMAIL.fullmatch(email):
            forms = f"user:EMAIL, serviceAccount:EMAIL, {ALL_USERS} or {ALL_AUTHENTICATED}"
            self._at(node, f"'{text}' is no member; write {forms}")
        elif is_service_account(email.lower()) != (kind == "serviceAccount"):
            right = "user" if kind == "serviceAccount" else "serviceAccount"
            self._at(node, f"'{email}' is a {right}'s address; write {right}:{email}")
        return f"{kind}:{email.lower()}"

    def _resource(self, node: yaml.Node) -> str:
        text = self._text(node)
        if text in {"", "project", self._project}:
            return self._project
        if account := _SERVICE_ACCOUNT.fullmatch(text):
            return f"{self._project}/serviceAccounts/{account[2]}"
        name = f"{self._project}/locations/{self._region}/{text}" if text.startswith("services/") else text
        if not SERVICE.fullmatch(name) or not name.startswith(f"{self._project}/"):
            forms = f"project, services/NAME, {self._project}/locations/REGION/services/NAME or"
            self._at(node, f"'{text}' is no resource; write {forms} serviceAccounts/EMAIL")
        return name

    def _fields(
        self, node: yaml.Node, allowed: tuple[str, ...], required: tuple[str, ...]
    ) -> dict[str, yaml.Node]:
        fields = {}
        for key, value in self._pairs(node):
            if key.value in allowed:
                fields[key.value] = value
            else:
                self._at(key, f"there is no field '{key.value}'; there are {', '.join(allowed)}")
        if isinstance(node, yaml.MappingNode):
            for missing in [name for name in required if name not in fields]:
                self._at(node, f"the field '{missing}' is missing; add it")
        return fields

    def _pairs(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._at(node, "fields are expected here; write NAME: VALUE")
            return
        lines: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._at(key, "the name of a field must be text")
            elif key.value in lines:
                self._at(key, f"'{key.value}' stands on line {lines[key.value]} already; keep one")
            else:
                lines[key.value] = key.start_mark.line + 1
                yield key, value

    def _items(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        self._at(node, "a list is expected here; begin each item with -")
        return []

    def _text(self, node: yaml.Node) -> str:
        if isinstance(node, yaml.ScalarNode) and node.value:
            return str(node.value)
        self._at(node, "text is expected here; write one value")
        return ""

    def _choice(self, node: yaml.Node, choices: tuple[str, ...]) -> str:
        text = self._text(node)
        if text and text not in choices:
            self._at(node, f"'{text}' is not known here; write {' or '.join(choices)}")
            return ""
        return text

    def _at(self, node: yaml.Node, text: str) -> None:
        self._wrong(node.start_mark.line + 1, text)

    def _wrong(self, line: int, text: str) -> None:
        place = f"{self._file}:{line}" if line else str(self._file)
        self.mistakes.append((line, f"{place}: {text}"))
