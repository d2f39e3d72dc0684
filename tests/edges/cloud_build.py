"""A small Cloud Build: reads a build strictly, substitutes its variables, and runs its steps in their order.

A step runs the program of its image, or its entrypoint, from the PATH.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from google.cloud.devtools.cloudbuild_v1.types import Build, BuildStep
from google.protobuf import json_format

Values = Mapping[str, str]

BUILT_IN = frozenset(
    {"PROJECT_ID", "PROJECT_NUMBER", "BUILD_ID", "LOCATION", "SERVICE_ACCOUNT", "SERVICE_ACCOUNT_EMAIL"}
    | {"TRIGGER_NAME", "COMMIT_SHA", "REVISION_ID", "SHORT_SHA", "REPO_NAME", "REPO_FULL_NAME"}
    | {"BRANCH_NAME", "TAG_NAME", "REF_NAME"}
)
"""What Cloud Build knows by itself; empty where it is not known, as the commit of a build by hand."""
UNDERSTOOD = frozenset({"id", "name", "entrypoint", "args", "env"})
"""Fields of a step that are obeyed here; a step with another must not look as if it had been run."""
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<braced>\w+)\}|(?P<bare>[A-Za-z_]\w*)|(?P<other>\{))")


class Refused(Exception):
    """What Cloud Build would not begin with."""


def read_build(text: str) -> Build:
    """Return a build; raises Refused for a field or a value that Cloud Build does not know."""
    build = Build()
    try:
        json_format.ParseDict(yaml.safe_load(text), Build.pb(build))
    except json_format.ParseError as error:
        raise Refused(str(error)) from error
    return build


def substituted(build: Build, built_in: Values, given: Values) -> Build:
    """Return a build without its variables; `given` comes before what the build says itself.

    A name that is not known is refused, and so is one that is given and never used: as for a build by hand.
    """
    own = {**build.substitutions, **given}
    if wrong := [name for name in own if not (name in BUILT_IN or re.fullmatch(r"_[A-Z0-9_]+", name))]:
        raise Refused(f"{wrong} cannot be the names of substitutions")
    used: set[str] = set()
    plain = dict.fromkeys(BUILT_IN, "") | {**built_in, **own}
    values = plain
    if build.options.dynamic_substitutions:
        values = {name: _filled(value, plain, used) for name, value in plain.items()}
    whole = json_format.MessageToDict(Build.pb(build))
    rest = {name: _filled_in(part, values, used) for name, part in whole.items() if name != "substitutions"}
    if unused := {name for name in own if name.startswith("_")} - used:
        raise Refused(f"substitutions that nothing uses: {unused}")
    return read_build(yaml.safe_dump(rest))


def _filled_in(part: Any, values: Values, used: set[str]) -> Any:
    match part:
        case str():
            return _filled(part, values, used)
        case list():
            return [_filled_in(each, values, used) for each in part]
        case dict():
            return {name: _filled_in(each, values, used) for name, each in part.items()}
        case _:
            return part


def _filled(text: str, values: Values, used: set[str]) -> str:
    """Return a text with its variables replaced, once: what a value holds is not looked at again."""

    def value_of(reference: re.Match[str]) -> str:
        if reference["dollar"]:
            return "$"
        name = reference["braced"] or reference["bare"]
        if name not in values:
            raise Refused(f"{reference.string[reference.start() :]!r} is no substitution that is known here")
        used.add(name)
        return values[name]

    return _REFERENCE.sub(value_of, text)


@dataclass(frozen=True)
class Built:
    """How a build ended: with the exit code of the last step that was run."""

    code: int
    said: Mapping[str, str] = field(repr=False)
    """What each step that was run has said, on both streams, in their order."""

    @property
    def last_step(self) -> str:
        return list(self.said)[-1]


@dataclass(frozen=True)
class Machine:
    """Where steps run: in the workspace, with the programs of some images."""

    workspace: Path
    environment: Values
    programs: Values
    """What an image runs where its step names no entrypoint."""
    seconds: float
    """The longest that a step may take."""

    def run(self, build: Build) -> Built:
        """Run the steps until one fails."""
        said: dict[str, str] = {}
        code = 0
        for step in build.steps:
            done = self._run(step)
            said[step.id] = done.stdout
            if code := done.returncode:
                break
        return Built(code, said)

    def _run(self, step: BuildStep) -> subprocess.CompletedProcess[str]:
        set_fields = {each.name for each, _ in BuildStep.pb(step).ListFields()}
        assert set_fields <= UNDERSTOOD, f"{step.id} has {set_fields - UNDERSTOOD}, which are not obeyed here"
        program = step.entrypoint or self.programs[step.name]
        return subprocess.run(
            [program, *step.args],
            cwd=self.workspace,
            env={**self.environment, **_variables(step.env)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.seconds,
            check=False,
        )


def _variables(lines: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
