"""Following a rollout to its end on behalf of a command: what is said on the way, and the exit code."""

from controller.cli.exit_codes import ExitCode
from controller.cli.views import View
from controller.core.opening import NothingToDo
from controller.core.policy import parse_policy
from controller.core.rollout import Phase, Rollout
from controller.core.wording import as_sentence
from controller.engine.begin import Request, begin
from controller.engine.loop import Ending, Followed, follow
from controller.engine.outside import Outside


def followed_to_the_end(outside: Outside, request: Request, view: View) -> ExitCode:
    """Begin, follow, and wait for a rollout that is in the way if the policy says so."""
    while True:
        begun = begin(outside, request)
        if isinstance(begun, NothingToDo):
            view.said(f"Nothing to do: {begun.why}.")
            return ExitCode.DONE
        for warning in begun.warnings:
            view.said(f"Warning: {warning}.")
        for note in begun.notes:
            view.said(as_sentence(note))
        if begun.queued:
            view.said(f"Waiting for the rollout of {begun.rollout.candidate} to end first.")
        elif not begun.opened:
            view.said(_found(begun.rollout, request))
        followed = follow(outside, begun.rollout, view.saw, begun.log)
        replaced = followed.ending is Ending.REPLACED
        if not begun.queued or not (followed.rollout.phase.is_terminal or replaced):
            view.ended(followed.rollout, ending_text(followed))
            return exit_code(followed)


def _found(rollout: Rollout, request: Request) -> str:
    if rollout.phase.is_terminal:
        return f"{rollout.candidate} was rolled out before; {_again(rollout.service, request)}"
    text = f"Going on with the rollout of {rollout.candidate}, {rollout.phase.value} at {rollout.percent} %."
    if rollout.policy != request.policy and not request.policy.auto:
        text += " It keeps the policy that it began with, which is not the one given now."
    return text


def _again(service: str, request: Request) -> str:
    if request.policy == parse_policy({"version": 1}):
        return f"to try it again: canary retry {service}"
    # A retry without a policy takes the standard one, not that of this command.
    return f"to try it again, with the same policy: canary retry {service} --policy FILE"


def exit_code(followed: Followed) -> ExitCode:
    """Return what the command ends with."""
    if followed.ending in {Ending.REPLACED, Ending.REMOVED, Ending.DELETED}:
        return ExitCode.SUPERSEDED
    if followed.ending is Ending.UNSERVED:
        return ExitCode.UNAVAILABLE
    match followed.rollout.phase:
        case Phase.PROMOTED:
            return ExitCode.DONE
        case Phase.ROLLED_BACK:
            return ExitCode.ROLLED_BACK
        case Phase.FAILED:
            return ExitCode.FAILED
        case Phase.SUPERSEDED:
            return ExitCode.SUPERSEDED
        case _:
            return ExitCode.UNSURE


def ending_text(followed: Followed) -> str:
    """Say how it ended, and what to do next where something is to be done."""
    rollout = followed.rollout
    match followed.ending:
        case Ending.REPLACED:
            return f"Superseded: another rollout of {rollout.service} took the place of this one."
        case Ending.REMOVED:
            return (
                f"Superseded: somebody removed the record of {rollout.service}; its traffic stays as it is."
                f" Set it with: gcloud run services update-traffic {rollout.service}"
            )
        case Ending.DELETED:
            return (
                f"Superseded: the service {rollout.service} was deleted; there is nothing left to roll out."
            )
        case Ending.UNSERVED:
            return (
                f"Not in force: Cloud Run does not serve what was asked for ({rollout.reason}). Look at it,"
                f" and set its traffic by hand: gcloud run services describe {rollout.service}"
            )
        case Ending.OVER | Ending.HELD:
            return _end_of(rollout)


def _end_of(rollout: Rollout) -> str:
    reason, everybody = as_sentence(rollout.reason), f"serves all users of {rollout.service}"
    match rollout.phase:
        case Phase.PROMOTED:
            return f"Promoted: {rollout.candidate} {everybody}. {reason}"
        case Phase.ROLLED_BACK if rollout.follows_latest:
            pinned = "Traffic stays pinned, because LATEST would be the rejected revision."
            return f"Rolled back: {rollout.stable} {everybody}. {reason} {pinned}"
        case Phase.ROLLED_BACK:
            return f"Rolled back: {rollout.stable} {everybody}. {reason}"
        case Phase.FAILED if not rollout.stable:
            return f"Failed: {rollout.candidate} {everybody}, as there is no other. {reason}"
        case Phase.FAILED:
            return f"Failed: {rollout.stable} still {everybody}. {reason}"
        case Phase.SUPERSEDED:
            return f"Superseded: {reason}"
        case _:
            commands = f"canary resume, promote or rollback {rollout.service}"
            return f"Held at {rollout.percent} %: {reason} A person decides: {commands}."
