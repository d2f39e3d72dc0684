"""The preflight: all that a rollout will read, ask and write is tried before any traffic moves."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from controller.core.evidence import MINUTE, Minute
from controller.core.observation import RevisionState, ServiceState
from controller.core.policy import Policy
from controller.core.preflight import CheckResult, Gravity, check_service
from controller.core.reach import traffic_of
from controller.core.record import ANNOTATION
from controller.core.step_plan import fit_steps
from controller.core.traffic import LONGEST_TAG_AND_SERVICE, Target, tags_of
from controller.core.units import duration_text
from controller.engine.begin import read_lately
from controller.engine.checks import BUDGET, AskingTime, ask_well, probes_asked
from controller.engine.outside import Outside
from controller.engine.reconcile import read_rollout
from controller.ports import (
    AuditEntry,
    AuditLog,
    CanaryError,
    DeniedError,
    NotFoundError,
    RecordUnreadableError,
    ServiceChange,
    Severity,
    ThrottledError,
)

BY = "preflight"
TAG = "canary-00000000"
"""As long as the tags of a rollout."""
STALE = timedelta(minutes=10)
"""Beyond what Cloud Monitoring is late anyway; a service with users has a request in this time."""
GRANT = "give the controller's account this permission: docs/permissions.md has the least role"


def preflight(outside: Outside, service_name: str, policy: Policy) -> Iterator[CheckResult]:
    """Yield a finding for each thing that a rollout of this service depends on; raises NotFoundError."""
    try:
        service = outside.cloud_run.read_service(service_name)
    except NotFoundError:
        raise
    except CanaryError as error:
        yield _failed("service", error)
        return
    yield CheckResult("service", Gravity.OK, f"generation {service.generation}")
    revisions: list[RevisionState] = []
    yield _tried("revisions", lambda: _read_revisions(outside, service, revisions))
    yield from check_service(service, revisions, policy)
    yield _tried("record", lambda: _read_record(service))
    yield _tried("write", lambda: _try_write(outside, service))
    yield from _check_reads(outside, service, policy)
    yield from _check_logs(outside, service, policy)
    yield from _check_probes(outside, service, policy)
    yield from _check_notices(outside, policy)
    yield _list_services(outside)


def _tried(check: str, attempt: Callable[[], CheckResult]) -> CheckResult:
    """Return what an attempt found, or the error that it ended with."""
    try:
        return attempt()
    except CanaryError as error:
        return _failed(check, error)


def _failed(check: str, error: CanaryError) -> CheckResult:
    todo = GRANT if isinstance(error, DeniedError) else ""
    ours = isinstance(error, NotFoundError | RecordUnreadableError)
    return CheckResult(check, Gravity.ERROR, str(error), todo, unavailable=not ours)


def _read_revisions(outside: Outside, service: ServiceState, revisions: list[RevisionState]) -> CheckResult:
    revisions += outside.cloud_run.list_revisions(service.name)
    if service.latest_created:
        outside.cloud_run.read_revision(service.name, service.latest_created)
    return CheckResult("revisions", Gravity.OK, f"{len(revisions)}, the newest is {service.latest_created}")


def _read_record(service: ServiceState) -> CheckResult:
    rollout = read_rollout(service)
    if rollout is None:
        return CheckResult("record", Gravity.OK, "no rollout yet")
    if rollout.is_over:
        return CheckResult("record", Gravity.OK, f"the last rollout is {rollout.phase.value}")
    return CheckResult(
        "record",
        Gravity.WARNING,
        f"a rollout of {rollout.candidate} is {rollout.phase.value} at {rollout.percent} %",
        f"follow it: canary status {service.name} --wait",
    )


def _try_write(outside: Outside, service: ServiceState) -> CheckResult:
    """Let Cloud Run say whether it would take a tag and an annotation; the mask is that of every write."""
    split = service.traffic
    is_short = len(TAG) + len(service.name) <= LONGEST_TAG_AND_SERVICE
    if service.latest_created and is_short and TAG not in tags_of(split):
        split = (*split, Target(service.latest_created, 0, TAG))
    annotations = {**service.annotations, ANNOTATION: service.annotations.get(ANNOTATION, "{}")}
    outside.cloud_run.try_service(ServiceChange(service.name, service.etag, annotations, split))
    return CheckResult("write", Gravity.OK, "traffic and annotations may be written (tried, and not kept)")


def _check_reads(outside: Outside, service: ServiceState, policy: Policy) -> Iterator[CheckResult]:
    """Look whether the metrics can be read and are fresh, and whether the policy fits the traffic."""
    serving = max(service.shares_served, key=lambda name: service.shares_served[name], default="")
    try:
        read, until = read_lately(outside, service.name, [serving], policy)
    except CanaryError as error:
        yield _failed("metrics", error)
        return
    minutes = read.of.get(serving, ())
    yield _freshness(minutes, outside.clock.now(), policy.metrics_delay)
    for name, problem in read.problems.items():
        yield CheckResult("metrics", Gravity.ERROR, f"{name}: {problem}", "see docs/policy.md, guards.custom")
    traffic = traffic_of(minutes, until, policy.guards.errors)
    fitted = fit_steps(policy, traffic)
    if traffic is None and not fitted.warnings:
        yield CheckResult("policy", Gravity.WARNING, "stable had no request in the last hour to fit it to")
        return
    for warning in fitted.warnings:
        yield CheckResult("policy", Gravity.WARNING, warning, "docs/little-traffic.md says what can be done")
    if traffic and not fitted.warnings:
        yield CheckResult("policy", Gravity.OK, f"it fits {traffic.text}")


def _freshness(minutes: Sequence[Minute], now: datetime, delay: timedelta) -> CheckResult:
    ends = [minute.end for minute in minutes if minute.sample.requests]
    if not ends:
        return CheckResult("metrics", Gravity.OK, "readable; no request in the last hour")
    age = (now - max(ends)) // MINUTE * MINUTE
    told = f"readable; the newest minute with requests is {duration_text(age)} old"
    if age > delay + STALE:
        why = "either its users are gone, or Cloud Monitoring is late: look at its request count"
        return CheckResult("metrics", Gravity.WARNING, told, why)
    return CheckResult("metrics", Gravity.OK, told)


def _check_logs(outside: Outside, service: ServiceState, policy: Policy) -> Iterator[CheckResult]:
    now = outside.clock.now()
    yield _tried_log("audit log", outside.audit_log, service, now, Gravity.WARNING)
    if policy.probes:  # what was asked must be read back, but can be done without being kept
        yield _tried_log("probe log", outside.probe_log, service, now, Gravity.ERROR)
    if policy.request_logs:
        yield _tried("request log", lambda: _read_log(outside, service))


def _tried_log(
    check: str, log: AuditLog, service: ServiceState, now: datetime, gravity: Gravity
) -> CheckResult:
    """Try to read, and to write, which a rollout goes on without; `gravity` is that of reading."""
    entry = AuditEntry(f"{BY}-{service.name}", now, service.name, "", Severity.INFO, BY)
    try:
        log.read_entries(service.name, since=now - MINUTE, limit=1)
    except CanaryError as error:
        return replace(_failed(check, error), gravity=gravity)
    try:
        log.try_entry(entry)
    except CanaryError as error:
        return replace(_failed(check, error), gravity=Gravity.WARNING)
    return CheckResult(check, Gravity.OK, "writable and readable")


def _read_log(outside: Outside, service: ServiceState) -> CheckResult:
    now = outside.clock.now()
    try:
        outside.request_logs.read_requests(service.name, list(service.shares_served), now - MINUTE, now)
    except ThrottledError as error:
        return CheckResult(
            "request log", Gravity.WARNING, str(error), "let fewer controllers read it at once"
        )
    return CheckResult("request log", Gravity.OK, "readable")


def _check_probes(outside: Outside, service: ServiceState, policy: Policy) -> Iterator[CheckResult]:
    """Ask the service itself what the policy will ask of a candidate; nothing that writes."""
    budget = AskingTime(BUDGET)
    for probe in probes_asked(policy):
        if lacking := outside.probes.lacking(probe):
            yield CheckResult("probes", Gravity.ERROR, f"{probe.name} cannot be asked: {lacking}")
        elif probe.writes:
            yield CheckResult("probes", Gravity.OK, f"{probe.name} writes, so it was not tried")
        elif service.address:
            answer = ask_well(outside, service.address, probe, budget)
            if answer.ok:
                yield CheckResult("probes", Gravity.OK, f"{probe.name} answered with {answer.status}")
            else:
                yield CheckResult("probes", Gravity.WARNING, f"the service itself fails it: {answer.problem}")


def _check_notices(outside: Outside, policy: Policy) -> Iterator[CheckResult]:
    """Look whether each receiver could be told something."""
    lacking = outside.notices.lacking(policy.notices) if policy.notices else ()
    for each in lacking:
        yield CheckResult("notices", Gravity.WARNING, each, "docs/notices.md says what addresses look like")
    if policy.notices and not lacking:
        yield CheckResult("notices", Gravity.OK, "each receiver has an address")


def _list_services(outside: Outside) -> CheckResult:
    """Look whether `canary check` and `canary run` could find the services; a rollout does not need it."""
    try:
        outside.cloud_run.list_services()
    except CanaryError as error:
        found = _failed("services", error)
        return replace(found, gravity=Gravity.WARNING, what=f"canary check and run: {found.what}")
    return CheckResult("services", Gravity.OK, "can be listed, for canary check and run")
