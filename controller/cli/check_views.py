"""What a sweep saw of one service: as a line, as JSON, as an exit code, and whether it is news."""

import json
from collections.abc import Iterable
from datetime import timedelta

from controller.cli.exit_codes import ExitCode
from controller.cli.report import health_report, health_text, report_of, way_back
from controller.cli.views import line_of
from controller.core.plain_text import plain, plain_values
from controller.core.rollout import Phase
from controller.engine.health import ServiceHealth
from controller.engine.reconcile import Pass
from controller.engine.sweep import Checked
from controller.ports import CanaryError, RecordUnreadableError

LATE = timedelta(minutes=5)
"""An end that is not in force after this time needs somebody to look."""

_WORSE = [
    ExitCode.DONE,
    ExitCode.SUPERSEDED,
    ExitCode.UNSURE,
    ExitCode.FAILED,
    ExitCode.ROLLED_BACK,
    ExitCode.HARMFUL,
    ExitCode.USAGE,
    ExitCode.UNAVAILABLE,
    ExitCode.UNEXPECTED,
]
"""From good to bad."""


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that needs a person most."""
    return max(codes, key=_WORSE.index, default=ExitCode.DONE)


def code_of(checked: Checked) -> ExitCode:
    """Return what this pass saw happen: an end that was reached before, and is in force, is no news."""
    if checked.error:
        if isinstance(checked.error, RecordUnreadableError):
            return ExitCode.USAGE
        return ExitCode.UNAVAILABLE if isinstance(checked.error, CanaryError) else ExitCode.UNEXPECTED
    rollout_code = _code_of_rollout(checked.seen) if checked.seen else ExitCode.DONE
    return worst([rollout_code, _code_of_health(checked.health) if checked.health else ExitCode.DONE])


def _code_of_rollout(seen: Pass) -> ExitCode:
    rollout = seen.rollout
    if seen.observation is None or rollout is None:
        return ExitCode.DONE
    if rollout.held:
        return ExitCode.UNSURE
    if not rollout.is_over and rollout.phase.is_terminal and seen.observation.now - rollout.since > LATE:
        return ExitCode.UNAVAILABLE
    ends = {
        Phase.ROLLED_BACK: ExitCode.ROLLED_BACK,
        Phase.FAILED: ExitCode.FAILED,
        Phase.SUPERSEDED: ExitCode.SUPERSEDED,
    }
    return ExitCode.DONE if seen.was_over else ends.get(rollout.phase, ExitCode.DONE)


def _code_of_health(health: ServiceHealth) -> ExitCode:
    if health.back_to:
        return ExitCode.ROLLED_BACK
    if health.is_harmful:
        return ExitCode.HARMFUL
    return ExitCode.UNAVAILABLE if health.verdict.unread else ExitCode.DONE


def line_of_checked(checked: Checked) -> str:
    """Return the service, its phase or its health, and why, in one line of plain text."""
    if checked.health:
        told = f"{checked.health.verdict.value.value:<11} {health_text(checked.health)}{_way_back(checked)}"
    elif checked.seen:
        told = line_of(checked.seen)
    else:
        told = f"{'error':<11} {_error_text(checked.error)}" if checked.error else "was deleted"
    return f"{checked.service:<20} {plain(told)}"


def _way_back(checked: Checked) -> str:
    """Say how a person sends the users of a harmful revision back."""
    rollout = checked.seen.rollout if checked.seen else None
    command = way_back(checked.service, rollout, checked.health)
    return f"; to send all users back: {command}" if command else ""


def json_of_checked(checked: Checked) -> str:
    """Return the same as one JSON object."""
    if checked.seen:
        health = {"health": health_report(checked.health)} if checked.health else {}
        return json.dumps(report_of(checked.seen) | health)
    what = {"error": _error_text(checked.error)} if checked.error else {"deleted": True}
    return json.dumps(plain_values({"service": checked.service, **what}))


def state_of(checked: Checked) -> tuple[object, ...]:
    """Return what is news where it is another than before: not the numbers, which move each minute."""
    if checked.error:
        return (_error_text(checked.error),)
    rollout = checked.seen.rollout if checked.seen else None
    health = checked.health
    return (
        (rollout.id, rollout.phase, rollout.percent, rollout.reason, rollout.observed_at)
        if rollout
        else None,
        (health.revision, health.verdict.value, health.back_to, health.why_not) if health else None,
    )


def _error_text(error: Exception | None) -> str:
    return str(error) if isinstance(error, CanaryError) else f"unexpected {type(error).__name__}: {error}"
