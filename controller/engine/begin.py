"""The beginning of a rollout: go on with the one on record, or open a new one."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from controller.core.evidence import MINUTE, final_until
from controller.core.observation import RevisionState, ServiceState
from controller.core.opening import NothingToDo, Opening, OpeningRefused, open_rollout
from controller.core.pause_ahead import read_pause_ahead
from controller.core.placement import is_as_written
from controller.core.policy import Policy
from controller.core.policy_choices import OnNewRevision
from controller.core.preflight import Gravity, check_service
from controller.core.probe_evidence import without_probes
from controller.core.reach import Traffic, traffic_of
from controller.core.rollout import Phase, Rollout
from controller.core.step_plan import fit_steps
from controller.core.traffic import written
from controller.core.trail import opening_of
from controller.engine.audit import LogMemory, entry_of, unlogged_of
from controller.engine.outside import Outside
from controller.engine.patience import AT_FIRST, until_it_works
from controller.engine.probe_log import asked_lately
from controller.engine.reconcile import read_rollout
from controller.engine.telling import tell
from controller.engine.writing import apply, try_to_apply
from controller.ports import CanaryError, ConflictError, Minutes, PermanentError, ThrottledError

log = structlog.get_logger()

LATELY = timedelta(minutes=60)
"""The time before a rollout from which stable's traffic is known."""


SAID_AT_FIRST = frozenset(
    {"max instances", "min instances", "health check", "ingress", "sign-in proxy", "owner"}
)
"""What is said of a service when a rollout begins; the rest the opening itself says, or mends."""


@dataclass(frozen=True)
class Request:
    """What a person or a pipeline wants to roll out; without a candidate, the newest revision."""

    service: str
    policy: Policy
    by: str
    candidate: str = ""
    retry: bool = False


@dataclass(frozen=True)
class Begun:
    """A rollout that was opened just now, or found on record and to be gone on with."""

    rollout: Rollout
    opened: bool
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    queued: bool = False
    """The wanted rollout has to wait for this one, which is another's."""
    log: LogMemory = field(default_factory=LogMemory, compare=False)
    """What was told of the opening, for who follows it: a controller tells of it once."""


def begin(outside: Outside, request: Request) -> Begun | NothingToDo:
    """Find or open the rollout that the request is about.

    Raises OpeningRefused, when nothing is written, and what the ports raise, when something may be: begun
    again, it goes on with that.
    """
    lost: list[Rollout] = []
    return until_it_works(outside, AT_FIRST, lambda: _begin(outside, request, lost))


def _begin(outside: Outside, request: Request, lost: list[Rollout]) -> Begun | NothingToDo:
    """Try once; `lost` are openings that somebody else's write has undone, but for their tags."""
    service = outside.cloud_run.read_service(request.service)
    previous = read_rollout(service)
    wanted = request.candidate or _default_candidate(service, previous)
    if previous and (found := _found(service, previous, wanted, retry=request.retry)):
        return found
    revisions = outside.cloud_run.list_revisions(request.service)
    now = outside.clock.now()
    opening = open_rollout(service, revisions, request.policy, now, request.by, wanted, previous, lost)
    if isinstance(opening, NothingToDo):
        return opening
    opening = _fitted(opening, _check_reads(outside, opening.rollout))
    opening = _checked(outside, opening, service, revisions, previous)
    news = (*unlogged_of(service), opening_of(opening.rollout, previous))
    try_to_apply(outside, service, opening.rollout, opening.split, news)
    lacking = tuple(outside.notices.lacking(request.policy.notices)) if request.policy.notices else ()
    try:
        memory = open_on(outside, service, opening, previous)
    except ConflictError:
        lost.append(opening.rollout)
        raise
    log.info("opened", service=service.name, rollout=opening.rollout.id, candidate=opening.rollout.candidate)
    warnings = (*opening.warnings, *lacking)
    return Begun(opening.rollout, opened=True, warnings=warnings, notes=opening.notes, log=memory)


def open_on(outside: Outside, service: ServiceState, opening: Opening, previous: Rollout | None) -> LogMemory:
    """Write an opening, and what was not logged yet of the rollout before; return what was told of it.

    One that is under way takes the mark of a pause ahead into its record.
    """
    made = opening_of(opening.rollout, previous)
    news = (*unlogged_of(service), made)
    apply(
        outside, service, opening.rollout, opening.split, news, opening=not opening.rollout.phase.is_terminal
    )
    memory = LogMemory()
    tell(outside, memory, news, made)
    return memory


def _checked(
    outside: Outside,
    opening: Opening,
    service: ServiceState,
    revisions: Sequence[RevisionState],
    previous: Rollout | None,
) -> Opening:
    """Return the opening with what to know of the service's settings; raises OpeningRefused."""
    found = list(check_service(service, revisions, opening.rollout.policy))
    for finding in found:
        # Whether there is one stable, the opening has said: it knows what is about to be served.
        if finding.gravity is Gravity.ERROR and finding.check != "split":
            raise OpeningRefused(f"{finding.what}; {finding.todo}")
    news = [each for each in found if each.gravity is Gravity.WARNING and each.check in SAID_AT_FIRST]
    told = [*(f"{each.what}; {each.todo}" for each in news), *_lacking_log(outside, opening, previous)]
    return replace(opening, warnings=(*opening.warnings, *told))


def _lacking_log(outside: Outside, opening: Opening, previous: Rollout | None) -> Iterator[str]:
    """Say that the audit log may not be written, which a rollout goes on without."""
    try:
        outside.audit_log.try_entry(entry_of(opening_of(opening.rollout, previous)))
    except PermanentError as error:
        yield f"its transitions are not logged, and wait on the service: {error}"
    except CanaryError:
        return  # it is out of reach for now, and is tried again with each transition


def _default_candidate(service: ServiceState, previous: Rollout | None) -> str:
    """Return the candidate under way unless something newer was deployed since, else the newest revision."""
    if previous and not previous.phase.is_terminal and service.latest_created == previous.newest:
        return previous.candidate
    return service.latest_created


def _found(service: ServiceState, previous: Rollout, wanted: str, *, retry: bool) -> Begun | None:
    """Return the rollout on record if it is what is wanted, or is in its way; None to open a new one."""
    if not previous.phase.is_terminal:
        if previous.candidate == wanted:
            return Begun(previous, opened=False)
        if previous.policy.on_new_revision is OnNewRevision.SUPERSEDE:
            return None
        return Begun(previous, opened=False, queued=True)
    if retry or previous.candidate != wanted:
        return None
    ended = previous.is_over and previous.phase is not Phase.SUPERSEDED
    if ended and not is_as_written(previous, service) and not read_pause_ahead(service):
        raise OpeningRefused(
            f"the rollout of {wanted} ended before ({previous.phase}), and traffic was changed since:"
            f" {written(service.shares_wanted)}. To roll it out again: canary retry {service.name}"
        )
    return Begun(previous, opened=False)


def _check_reads(outside: Outside, rollout: Rollout) -> Traffic | None:
    """Read once, before anything is written, what each pass will have to read; return stable's traffic."""
    outside.cloud_run.read_revision(rollout.service, rollout.candidate)
    pair = [revision for revision in (rollout.stable, rollout.candidate) if revision]
    read, until = read_lately(outside, rollout.service, pair, rollout.policy)
    known = {name for minutes in read.of.values() for minute in minutes for name in minute.sample.custom}
    if unread := [f"{name}: {what}" for name, what in read.problems.items() if name not in known]:
        raise PermanentError("; ".join(unread))
    _check_others(outside, rollout, pair)
    return traffic_of(read.of.get(rollout.stable, ()), until, rollout.policy.guards.errors)


def _check_others(outside: Outside, rollout: Rollout, pair: Sequence[str]) -> None:
    """Make sure that what the policy wants to be read or asked besides the metrics can be."""
    now = outside.clock.now()
    if rollout.policy.request_logs:
        with suppress(ThrottledError):
            outside.request_logs.read_requests(rollout.service, pair, now - MINUTE, now)
    for probe in rollout.policy.probes:
        if lacking := outside.probes.lacking(probe):
            raise OpeningRefused(f"the probe {probe.name} cannot be asked: {lacking}")


def measure_traffic(outside: Outside, service_name: str, policy: Policy) -> Traffic | None:
    """Return what the revision with most of the users got in the last hour; None where it got nothing."""
    shares = outside.cloud_run.read_service(service_name).shares_served
    if not shares:
        return None
    serving = max(shares, key=lambda revision: shares[revision])
    read, until = read_lately(outside, service_name, [serving], policy)
    return traffic_of(read.of.get(serving, ()), until, policy.guards.errors)


def read_lately(
    outside: Outside, service: str, revisions: Sequence[str], policy: Policy
) -> tuple[Minutes, datetime]:
    """Return the last hour of final minutes as users made it, and where it ends."""
    until = final_until(outside.clock.now(), policy.metrics_delay)
    since = until - LATELY
    read = outside.metrics.read_minutes(service, revisions, since, until, policy.guards)
    if not policy.probes:
        return read, until
    asked = asked_lately(outside, service, since - MINUTE)
    users = {name: without_probes(minutes, asked.get(name, ()))[0] for name, minutes in read.of.items()}
    return replace(read, of=users), until


def _fitted(opening: Opening, traffic: Traffic | None) -> Opening:
    """Return the opening with steps that fit stable's traffic, and what there is to say about that."""
    fitted = fit_steps(opening.rollout.policy, traffic)
    rollout = replace(opening.rollout, policy=fitted.policy)
    warnings, notes = (*opening.warnings, *fitted.warnings), (*opening.notes, *fitted.notes)
    return replace(opening, rollout=rollout, warnings=warnings, notes=notes)


def rejected(outside: Outside, service_name: str) -> Rollout:
    """Return the ended rollout that `retry` is about; raises OpeningRefused where there is none."""
    service = outside.cloud_run.read_service(service_name)
    previous = read_rollout(service)
    if previous is None:
        raise OpeningRefused(
            f"{service.name} has no rollout on record to retry; use: canary rollout {service.name}"
        )
    if not previous.phase.is_terminal:
        raise OpeningRefused(
            f"the rollout of {previous.candidate} is still {previous.phase}; follow it with: canary rollout"
            f" {service.name}"
        )
    return previous
