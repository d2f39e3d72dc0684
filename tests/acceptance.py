"""The acceptance scenarios: the rule of each, by number, and the tests that are marked with it."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

HEADINGS: dict[str, dict[int, str]] = {
    "Progress and promotion": {
        1: "A service with one revision is left as it is.",
        2: "A good candidate: every phase, split and reason on the way, and one target at 100 % in the end.",
        3: "The stable of the second rollout is the candidate of the first.",
        4: "Steps that pass by evidence and steps that wait for a person, mixed.",
        5: "`promote` goes one step on, `promote --full` to all users; from a gate, too.",
        6: "`promote --full` does nothing after the end, and nothing for a candidate that is not ready.",
        7: "A step longer than the deadline of readiness is no failure, and `status --wait` waits for it.",
        8: "A manual gate opens for a person, or when its time is up, and never else.",
        9: "A pause before a deployment keeps the candidate at 0 % until it is resumed.",
        10: "`status --wait-for paused` ends when it pauses.",
        11: "What is unknown, in conflict or refused is said, each with its exit code; nothing is written.",
        12: "Any rising steps are followed, one of 100 % too; none, or more than 100 %, are refused.",
        13: "Afterwards the service is its owner's as before; what is foreign is kept byte for byte.",
    },
    "Rollback, supersede, retry": {
        14: "A rollback with nothing under way writes nothing, however often.",
        15: "A rollback from any step is one write: all on stable, no tag of ours, and who asked.",
        16: "A candidate that is never ready fails in time; a good one after it is promoted.",
        17: "The first revision ever is broken, the next is promoted by absolute limits.",
        18: "Stable is bad and the candidate good: not stuck, and it says how it was judged.",
        19: "A newer revision in the middle begins at the first step, against the same stable.",
        20: "While the newer one is not ready, stable serves everybody.",
        21: "A rollback to a revision that is named takes no steps.",
        22: "`on_deadline` reports or ends, as it says.",
        23: "After the end no deadline and no error changes anything.",
        24: "Harm in the bake goes back to the last good revision; what is reported is what is served.",
        25: "A rejected candidate is tried again by `retry` alone.",
        26: "Going back to what serves, or deploying it again, starts nothing.",
        27: "A change that makes no revision starts no rollout.",
        28: "`release` gives the traffic setting back as it was found.",
    },
    "Verdicts": {
        29: "All guards pass: on. One fails: back, with its name and the others as they stood.",
        30: "Too little evidence in the time is held; a timer alone promotes nobody.",
        31: "Metrics that cannot be read hold for a bounded time, each way in its own words.",
        32: "Empty series and impossible numbers are unmeasured: no pass and no fail.",
        33: "Values of every type are read as what they are; a series over two pages is one.",
        34: "A guard on a metric that does not exist is refused before traffic moves.",
        35: "A guard that observes is shown and never decides.",
        36: "Every combination of guards that pass, fail, are unsure or measured nothing.",
        37: "Minutes not yet visible are no drop in traffic; late points change no verdict given.",
        38: "No window holds a minute of the step before.",
        39: "A fault that stable shares pauses and blames nobody.",
        40: "A minute of errors on one instance is borne, three minutes on all are not.",
        41: "A slower body, a slower tail, or both; a faster candidate; cold starts.",
        42: "Without traffic it is held; with hardly any, a candidate that always fails is not promoted.",
        43: "A candidate that fails its smoke test meets no user.",
    },
    "Writes, races, interference": {
        44: "A refused write is tried again; one whose answer is lost is noticed and not doubled.",
        45: "What is accepted and not yet in force is no step and no evidence.",
        46: "A split that an operation fails to bring about is not left asked for.",
        47: "Every list that is written is whole, and names known revisions only.",
        48: "A deployment in the middle gets no user.",
        49: "Traffic edited by hand ends the rollout and is never overwritten.",
        50: "A stale etag comes to the same, ignored or enforced.",
        51: "Several controllers at once keep all rules.",
        52: "A controller killed at any call is gone on with, to the same end.",
        53: "A rollback wins every race, and no command is lost.",
        54: "While the API of Cloud Run fails, deadlines pass and rollbacks are done once it is back.",
        55: "Somebody's annotation, written in between, survives.",
        56: "One broken record or policy stops no other service of the pass.",
        57: "A deleted service or candidate ends the rollout clearly.",
        58: "A clock that is set, or a machine that sleeps, skips no step and counts nothing twice.",
        59: "A late controller advances one step a pass, by the evidence.",
        60: "One notice for each transition, after its write, and none that lies.",
    },
}


def rules() -> dict[int, str]:
    """Return the rule of each scenario by its number."""
    return {number: rule for heading in HEADINGS.values() for number, rule in heading.items()}


def marked_tests() -> dict[int, list[str]]:
    """Return the tests that are marked with each number, as FILE: TEST below the folder of the tests."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        name = path.relative_to(TESTS).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in _marks(node):
                    found.setdefault(number, []).append(f"{name}: {node.name}")
    return found


def _marks(function: ast.FunctionDef) -> Iterator[int]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.scenario":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def table(heading: str) -> str:
    """Return the scenarios under a heading, with their tests, as a Markdown table."""
    tests = marked_tests()
    rows = ["| | rule | tests |", "|---|---|---|"]
    for number, rule in HEADINGS[heading].items():
        cell = "<br>".join(f"`{test}`" for test in tests[number])
        rows.append(f"| {number} | {rule} | {cell} |")
    return "\n".join(rows)


def tables() -> str:
    """Return all scenarios by heading."""
    return "\n\n".join(f"## {heading}\n\n{table(heading)}" for heading in HEADINGS)
