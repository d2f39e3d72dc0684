"""The documents say what the code does."""

import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from controller.cli.main import app
from controller.core.policy import parse_policy

ROOT = Path(__file__).parents[2]


def the_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_current() -> None:
    for path, text in the_generator().generated().items():
        assert path.read_text() == text, f"{path.name} is out of date; run: make docs"


@pytest.mark.parametrize("path", sorted((ROOT / "controller").rglob("*.py")), ids=lambda path: path.stem)
def test_every_module_says_in_one_sentence_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert re.match(r"[^\n]{10,108}[.:]$", text.partition("\n")[0])


def test_every_command_of_the_readme_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    used = re.findall(r"^(?:canary) ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(used) > 8
    assert set(used) <= set(commands)


def test_the_policies_of_the_readme_are_some() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    quiet, busy = (parse_policy(yaml.safe_load(example)) for example in reversed(examples))
    assert [step.traffic for step in busy.steps] == [5, 25, 50]
    assert quiet.auto
    assert quiet.probes


def test_the_verdict_that_the_readme_shows_is_the_one_that_its_command_gives() -> None:
    readme = (ROOT / "README.md").read_text()
    command, shown = re.findall(
        r"^\$ canary (simulate .*)\nExample: (.*?)\n```", readme, re.MULTILINE | re.DOTALL
    )[0]
    arguments = [str(ROOT / part) if part.startswith("policies/") else part for part in command.split()]
    said = CliRunner().invoke(app, [*arguments, "--json"]).stdout
    assert json.loads(said)["example"] == " ".join(shown.split())


def test_links_between_documents_lead_somewhere() -> None:
    for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / name).read_text()):
            assert (ROOT / link).exists(), f"{name} links to {link}"


def test_locked_requirements_have_hashes_and_name_no_index() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        pinned = re.findall(r"^[a-z0-9.-]+(?:\[[a-z,]+\])?==", text, re.MULTILINE)
        assert len(pinned) > (5 if path.stem == "build" else 20)
        assert text.count("--hash=sha256:") >= len(pinned)


def test_the_production_image_carries_no_emulator() -> None:
    locked = (ROOT / "requirements/production.txt").read_text()
    assert "aiohttp" not in locked
    assert "google-cloud-run==" in locked
