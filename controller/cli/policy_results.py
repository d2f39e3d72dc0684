"""What reading a policy file gave, for people and as plain data."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeGuard

from controller.core.mistakes import path_text
from controller.core.plain_text import plain
from controller.core.policy import Policy, policy_as_plain, policy_digest
from controller.core.reach import Traffic, reach_lines
from controller.core.step_plan import Fitted
from controller.core.wording import as_sentence, percent_text
from controller.gateways.policy_files import PolicyFileInvalid, read_policy

Result = Policy | PolicyFileInvalid


def read_result(file: Path) -> Result:
    """Return the policy in a file, or what is wrong with it."""
    try:
        return read_policy(file)
    except PolicyFileInvalid as error:
        return error


def is_sound(result: Result) -> TypeGuard[Policy]:
    """Tell whether the file holds a policy."""
    return isinstance(result, Policy)


def result_lines(file: Path, result: Result) -> Iterable[str]:
    """Return the result for people: that the file is sound, or each mistake in a line."""
    return result.lines if isinstance(result, PolicyFileInvalid) else (plain(f"{file}: ok"),)


def result_as_plain(file: Path, result: Result) -> dict[str, Any]:
    """Return the result as JSON-able values."""
    if isinstance(result, PolicyFileInvalid):
        mistakes = [asdict(each) | {"path": path_text(each.path)} for each in result.mistakes]
        return {"file": str(file), "ok": False, "mistakes": mistakes}
    return {"file": str(file), "ok": True, "digest": policy_digest(result), "policy": policy_as_plain(result)}


def fitted_lines(fitted: Fitted, traffic: Traffic | None) -> Iterable[str]:
    """Yield what a policy means at the traffic measured, for people: a plan's arithmetic, and times."""
    if traffic:
        share = "none" if traffic.never_failed else percent_text(traffic.errors)
        yield f"In the last hour, stable had {traffic.text}, of which {share} failed."
        yield from fitted.plan.lines() if fitted.plan else ()
        yield from reach_lines(fitted.policy, traffic)
    elif not (fitted.warnings or fitted.notes):
        yield "In the last hour, stable had no request, so nothing can be said of its traffic."
    yield from (as_sentence(note) for note in fitted.notes)
    yield from (f"Warning: {warning}." for warning in fitted.warnings)


def fitted_as_plain(fitted: Fitted, traffic: Traffic | None) -> dict[str, Any]:
    """Return what a policy means at the traffic measured as JSON-able values."""
    return {
        "traffic": asdict(traffic) if traffic else None,
        "steps": policy_as_plain(fitted.policy)["steps"],
        "arithmetic": list(fitted.plan.lines()) if fitted.plan else [],
        "takes": list(reach_lines(fitted.policy, traffic)) if traffic else [],
        "notes": list(fitted.notes),
        "warnings": list(fitted.warnings),
    }
