"""Executes a Dockerfile without Docker: each step in turn, in a folder that stands for the root."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

SECONDS = 600.0
"""How long a step may take, downloads included."""
ABSOLUTE = re.compile(r"(?<![^\s=:])/(?=\w)")
"""Where an absolute path begins in a step."""


class Step(NamedTuple):
    """An instruction and what follows it, on one line."""

    word: str
    rest: str


class StepFailed(Exception):
    """A RUN step did not end with 0."""


def steps_of(text: str) -> list[Step]:
    """Return the steps of a Dockerfile, its arguments put in."""
    lines = "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("#"))
    steps, arguments = list[Step](), dict[str, str]()
    for line in lines.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = " ".join(rest.split())
        for name, value in arguments.items():
            rest = rest.replace(f"${{{name}}}", value)
        if word == "ARG":
            name, _, value = rest.partition("=")
            arguments[name] = value
        elif word:
            steps.append(Step(word, rest))
    return steps


def _is_ignored(inside: Path, patterns: list[str]) -> bool:
    names = [inside.as_posix(), *(parent.as_posix() for parent in inside.parents[:-1])]
    ignored = False
    for pattern in patterns:
        glob = pattern.removeprefix("!")
        if any(fnmatch(name, glob) or fnmatch(f"/{name}", glob.replace("**/", "*/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


@dataclass
class Image:
    """What a Dockerfile has made so far: files under a root, the environment, and the rest of its words."""

    root: Path
    base: Mapping[str, str]
    """The environment that the base gives."""
    environment: dict[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    words: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = dict(self.base)

    def inside(self, path: str | Path) -> Path:
        """Return where a path of the image is on this machine."""
        return self.root / (self.directory / path).relative_to("/")

    def rewritten(self, text: str) -> str:
        """Return the text with every absolute path under the root."""
        return ABSOLUTE.sub(f"{self.root}/", text)

    def run(self, command: str) -> None:
        """Execute a RUN step, as Docker does, by sh."""
        done = subprocess.run(
            ["sh", "-c", self.rewritten(command)],
            env=self.environment,
            cwd=self.inside("."),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise StepFailed(f"RUN {command}\n{done.stdout}\n{done.stderr}")

    def set_environment(self, rest: str) -> None:
        """Execute an ENV step."""
        for pair in shlex.split(rest):
            name, _, value = pair.partition("=")
            value = self.rewritten(value)
            self.environment[name] = value.replace("$PATH", self.environment.get("PATH", ""))

    def copy(self, rest: str, source: Path) -> None:
        """Execute a COPY step: files into a folder, or what is in a folder into another."""
        *sources, target = [word for word in rest.split() if not word.startswith("--")]
        for each in sources:
            origin = source / each.lstrip("/")
            into = self.inside(target)
            if origin.is_dir():
                shutil.copytree(origin, into, symlinks=True, dirs_exist_ok=True)
            else:
                is_folder = target.endswith(("/", ".")) or len(sources) > 1
                into = into / origin.name if is_folder else into
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(origin, into)


def build(file: Path, context: Path, place: Path, base: Mapping[str, str]) -> Image:
    """Execute the steps of a Dockerfile and return the last image; each stage has the root for itself."""
    root = place / "root"
    image, name = Image(root, base), ""
    for step in steps_of(file.read_text()):
        match step.word:
            case "FROM":
                if root.exists():
                    root.rename(place / name)
                root.mkdir()
                image, name = Image(root, base), step.rest.partition(" AS ")[2] or "last"
            case "WORKDIR":
                image.directory = Path(step.rest)
                image.inside(".").mkdir(parents=True, exist_ok=True)
            case "RUN":
                image.run(step.rest)
            case "ENV":
                image.set_environment(step.rest)
            case "COPY":
                stage = re.match(r"--from=(\w+)", step.rest)
                image.copy(step.rest, place / stage[1] if stage else context)
            case _:
                image.words[step.word] = step.rest
    return image


def sent_context(repository: Path, place: Path) -> Path:
    """Copy what a build gets of the repository to a place of its own."""
    patterns = (repository / ".dockerignore").read_text().split()
    for top in sorted({pattern.removeprefix("!").split("/")[0] for pattern in patterns if "!" in pattern}):
        found = repository / top
        inner = [Path(top)] if found.is_file() else [Path(top) / each for each in _files_in(found)]
        for inside in inner:
            if not _is_ignored(inside, patterns):
                (place / inside).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(repository / inside, place / inside)
    return place


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield (Path(parent) / name).relative_to(folder)
