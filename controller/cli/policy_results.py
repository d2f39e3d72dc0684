"""What reading a policy file gave, for people and as plain data."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeGuard

from controller.core.mistakes import path_text
from controller.core.plain_text import plain
from controller.core.policy import Policy, policy_as_plain, policy_digest
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
