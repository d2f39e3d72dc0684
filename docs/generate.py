"""Writes the parts of the documentation that follow from the code; `make docs` runs it, a test compares.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end of generated part -->`.
"""

import ast
import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from controller.cli.exit_codes import MEANINGS
from controller.core.policy_schema import policy_reference, policy_schema
from controller.core.rollout import COMMANDS, MOVES, Event, Impossible, Move, Next, Phase, Refuse, Stay

ROOT = Path(__file__).parents[1]
PART = re.compile(r"(<!-- generated: (?P<name>[a-z ]+) -->\n).*?(<!-- end of generated part -->)", re.DOTALL)


def map_of_modules() -> str:
    """Return the tree of the package, each module with the first line of its docstring."""
    rows = []
    for path in sorted((ROOT / "controller").rglob("*.py"), key=_by_layer):
        line = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        name = path.relative_to(ROOT).as_posix()
        rows.append(f"| `{name.removesuffix('/__init__.py')}` | {line} |")
    return "\n".join(["| where | what |", "|---|---|", *rows])


def _by_layer(path: Path) -> tuple[int, list[str]]:
    """Sort a folder before what is in it, and folders from the core outwards."""
    parts = [part for part in path.relative_to(ROOT / "controller").parts if part != "__init__.py"]
    order = [
        "core",
        "draws.py",
        "principal.py",
        "ports.py",
        "engine",
        "gateways",
        "emulator",
        "simulation",
        "wiring.py",
        "cli",
        "__main__.py",
    ]
    return (order.index(parts[0]) + 1 if parts else 0), parts


def diagram_of_phases() -> str:
    """Return the phases and what leads from one to another, as a Mermaid diagram."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for phase, moves in MOVES.items():
        for event, move in moves.items():
            for target in _targets(move):
                if target is not phase or phase is Phase.STEPPING:
                    arrows.setdefault((phase.value, target.value), []).append(event.value)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> waiting"]
    lines += [f"    {one} --> {other}: {', '.join(events)}" for (one, other), events in arrows.items()]
    lines += [f"    {phase.value} --> [*]" for phase in Phase if phase.is_terminal]
    return "\n".join([*lines, "```"])


def _targets(move: Move) -> list[Phase]:
    if isinstance(move, Phase):
        return [move]
    if move is Next.STEP:
        return [Phase.STEPPING, Phase.BAKING]
    if move is Next.BACK:
        return [Phase.WAITING, Phase.CHECKING, Phase.STEPPING, Phase.BAKING]
    return []


def table_of_moves() -> str:
    """Return what follows from each event in each phase that is not an end."""
    phases = [phase for phase in Phase if not phase.is_terminal]
    lines = ["| event | " + " | ".join(phases) + " |", "|---|" + "---|" * len(phases)]
    for event in Event:
        name = f"`{event.value}`" if event in COMMANDS else event.value
        lines.append(f"| {name} | " + " | ".join(_cell(MOVES[phase][event]) for phase in phases) + " |")
    return "\n".join(lines)


def _cell(move: Move) -> str:
    match move:
        case Impossible():
            return ""
        case Stay():
            return "stays"
        case Refuse():
            return "refused"
        case Next.STEP:
            return "next step"
        case Next.BACK:
            return "back"
        case _:
            return move.value


def table_of_exit_codes() -> str:
    """Return the exit codes and what they mean."""
    rows = [f"| {code.value} | {words} |" for code, words in MEANINGS.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def tables_of_scenarios() -> str:
    """Return the acceptance scenarios and the tests that are marked with their numbers."""
    return str(runpy.run_path(str(ROOT / "tests/acceptance.py"))["tables"]())


PARTS: dict[str, Callable[[], str]] = {
    "map": map_of_modules,
    "phases": diagram_of_phases,
    "moves": table_of_moves,
    "exit codes": table_of_exit_codes,
    "scenarios": tables_of_scenarios,
}


def generated() -> dict[Path, str]:
    """Return the text that each generated file, or file with generated parts, should have."""
    texts = {
        ROOT / "docs/policy.md": policy_reference(),
        # What `canary init` writes has to be in the package.
        ROOT / "controller/cli/standard.yaml": (ROOT / "policies/standard.yaml").read_text(),
        ROOT / "policies/policy.schema.json": json.dumps(policy_schema(), indent=2) + "\n",
    }
    for name in ("README.md", "ARCHITECTURE.md", "docs/scenarios.md"):
        path = ROOT / name
        texts[path] = PART.sub(lambda m: f"{m[1]}{PARTS[m['name']]()}\n{m[3]}", path.read_text())
    return texts


def main() -> int:
    """Write what differs and name it."""
    for path, text in generated().items():
        if path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
