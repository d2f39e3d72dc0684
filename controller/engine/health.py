"""The health of a service at rest: judged, and acted upon where the policy says so and nobody else has."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog

from controller.core.decision import Command
from controller.core.evidence import Sample
from controller.core.health import HEALTH_CHECK, HealthValue, HealthVerdict, judge_health, unreadable
from controller.core.observation import ALL_INGRESS, RevisionState, ServiceState
from controller.core.opening import NothingToDo, open_rollback
from controller.core.pause_ahead import read_pause_ahead
from controller.core.placement import is_as_written
from controller.core.policy import Policy
from controller.core.policy_choices import OnHarm
from controller.core.policy_health import Health
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer, without_at_most, without_probes
from controller.core.rollout import Event, Phase, Rollout, command_id
from controller.core.traffic import ALL, tags_of
from controller.engine.begin import open_on
from controller.engine.checks import ATTEMPTS, AskingTime
from controller.engine.outside import Outside
from controller.engine.probe_log import OVERLAP, AskedProbes, Place
from controller.engine.shared_metrics import HealthMetrics
from controller.ports import CanaryError

log = structlog.get_logger()

PROBE_PAUSE = 15.0
"""Seconds between two attempts."""
PROBE_SECONDS = 150.0
"""After this time no further probe of a service is begun, as all others wait."""


@dataclass
class HealthMemory:
    """What a controller keeps of the revision of a service at rest: what was reported, and its answers."""

    revision: str = ""
    reported: bool = False
    asked_at: datetime | None = None
    complaints: tuple[str, ...] | None = None

    def turn_to(self, revision: str) -> None:
        """Forget what is of another revision."""
        self.revision, self.reported, self.asked_at, self.complaints = revision, False, None, None


@dataclass(frozen=True)
class ServiceHealth:
    """How the revision is that serves all users, and what was done about it.

    `back_to` is the revision that they were sent back to; `why_not` says why they were not, where the policy
    wants it.
    """

    revision: str
    verdict: HealthVerdict
    back_to: str = ""
    why_not: str = ""

    @property
    def is_harmful(self) -> bool:
        """Tell whether the users of this revision are harmed."""
        return self.verdict.value is HealthValue.HARMFUL


def is_watched(rollout: Rollout) -> bool:
    """Tell whether the service of this rollout is at rest, and its policy asks for its health."""
    return rollout.is_over and rollout.policy.health is not None


def check_health(
    outside: Outside,
    service: ServiceState,
    rollout: Rollout,
    metrics: HealthMetrics,
    memory: HealthMemory,
    asked: AskedProbes,
) -> ServiceHealth | None:
    """Judge the revision that serves all users, and act on harm; None where there is no such revision."""
    revision, health = _watched(service, rollout), rollout.policy.health
    if not revision or health is None:
        return None
    if memory.revision != revision:  # what another one answered must not be held against this one
        memory.turn_to(revision)
    complaints = _complaints(outside, service, revision, rollout.policy, memory, asked)
    found = ServiceHealth(revision, _judged(service, rollout, revision, metrics, asked, complaints))
    if not found.is_harmful:
        memory.reported = False
        return found
    if health.on_harm is OnHarm.ROLLBACK:
        found = _rolled_back(outside, service, rollout, found)
    if not memory.reported:
        _report(service, rollout, found)
    memory.reported = not found.back_to
    return found


def look_at_health(outside: Outside, service: ServiceState, rollout: Rollout) -> ServiceHealth | None:
    """Judge the revision that serves all users by its metrics alone; no probe is asked, nothing is done."""
    revision = _watched(service, rollout)
    if not revision:
        return None
    now, asked = outside.clock.now(), AskedProbes()
    if since := asked_since([rollout], now):
        asked.recall(outside, since, service.name)
    metrics = HealthMetrics(outside.metrics, [rollout.policy], now)
    return ServiceHealth(revision, _judged(service, rollout, revision, metrics, asked, None))


def asked_since(rollouts: Iterable[Rollout], now: datetime) -> datetime | None:
    """Return from when on it must be known what was asked of these services; None where nothing is."""
    return min(
        (
            now - rollout.policy.health.window - rollout.policy.metrics_delay - OVERLAP
            for rollout in rollouts
            if rollout.policy.health and rollout.policy.probes and is_watched(rollout)
        ),
        default=None,
    )


def _watched(service: ServiceState, rollout: Rollout) -> str:
    """Return the revision that serves all users, or nothing where nobody asks for its health."""
    (revision, share), *others = service.shares_served.items() or [("", 0)]
    return revision if is_watched(rollout) and not others and share == ALL else ""


def _judged(
    service: ServiceState,
    rollout: Rollout,
    revision: str,
    metrics: HealthMetrics,
    asked: AskedProbes,
    complaints: tuple[str, ...] | None,
) -> HealthVerdict:
    """Judge by what users met; of the past it is not known what was asked, so the most is taken off."""
    policy = rollout.policy
    health = policy.health or Health()
    often = math.ceil(sum(health.past / probe.every for probe in policy.probes))
    try:
        past, minutes = metrics.of(service.name, revision, policy, health)
        users, _ = without_probes(minutes, asked.of((service.name, revision)))
        return judge_health(health, without_at_most(past, often), users, complaints)
    except CanaryError as error:
        return judge_health(health, Sample(), (), complaints) if complaints else unreadable(str(error))


def _report(service: ServiceState, rollout: Rollout, found: ServiceHealth) -> None:
    log.error(
        "rolled back for harm" if found.back_to else "harm",
        service=service.name,
        rollout=rollout.id,
        revision=found.revision,
        reason=found.verdict.reason,
        limit=found.verdict.limit,
        minutes=found.verdict.minutes,
        back_to=found.back_to,
        why_not=found.why_not,
    )


# --- back to the revision before


def _rolled_back(
    outside: Outside, service: ServiceState, rollout: Rollout, found: ServiceHealth
) -> ServiceHealth:
    """Send all users back to the revision that was stable before, or say why not."""
    if objection := _objection(service, rollout, found.revision):
        return replace(found, why_not=objection)
    try:
        target = outside.cloud_run.read_revision(service.name, rollout.stable)
        if target is None or not target.ready:
            return replace(found, why_not=f"{rollout.stable} is not ready to serve")
        return _written(outside, service, rollout, found, target)
    except CanaryError as error:  # harm is reported all the same
        return replace(found, why_not=str(error))


def _objection(service: ServiceState, rollout: Rollout, revision: str) -> str:
    """Say why nobody may be sent back: what people have set is theirs."""
    if rollout.phase is not Phase.PROMOTED:
        phase = rollout.phase.value
        return f"the last rollout was not promoted ({phase}), so no revision before is known as good"
    if not rollout.stable:
        return "there was no stable before it"
    if revision != rollout.candidate or not is_as_written(rollout, service):
        return "traffic was changed by hand since the rollout"
    if not service.settled:
        return "the service is being changed"
    if read_pause_ahead(service):
        return "it is paused"
    return ""


def _written(
    outside: Outside, service: ServiceState, rollout: Rollout, found: ServiceHealth, target: RevisionState
) -> ServiceHealth:
    """Open the rollback as `canary rollback --to` does, with the numbers as its reason."""
    now = outside.clock.now()
    command = Command(
        Event.ROLLBACK,
        HEALTH_CHECK,
        command_id(Event.ROLLBACK, HEALTH_CHECK, now),
        rollout="",
        to=target.name,
    )
    opening = open_rollback(service, target, now, command, rollout)
    if isinstance(opening, NothingToDo):
        return replace(found, why_not=opening.why)
    reason = f"{opening.rollout.reason}: {found.verdict.reason}"
    told = replace(opening, rollout=replace(opening.rollout, reason=reason))
    open_on(outside, service, told, rollout)
    return replace(found, back_to=target.name)


# --- probes


def _complaints(
    outside: Outside,
    service: ServiceState,
    revision: str,
    policy: Policy,
    memory: HealthMemory,
    asked: AskedProbes,
) -> tuple[str, ...] | None:
    """Ask the policy's probes when they are due, or return what they said last; None where none can be."""
    address = _address(service, revision)
    if policy.health is None or not policy.health.probes or not policy.probes or not address:
        return None
    now = outside.clock.now()
    every = min(probe.every for probe in policy.probes)
    if memory.asked_at is None or now - memory.asked_at >= every:
        ask = partial(_ask, outside, asked, (service.name, revision), address)
        memory.complaints = _asked(outside, service, policy.probes, ask)
        memory.asked_at = now
    return memory.complaints


def _address(service: ServiceState, revision: str) -> str:
    """Return where the revision answers: at a tag of its own, or at the service, whose users it all has."""
    tags = (tag for tag, name in tags_of(service.served).items() if name == revision)
    return next(filter(None, (service.addresses.get(tag) for tag in tags)), service.address)


def _ask(outside: Outside, asked: AskedProbes, place: Place, address: str, probe: Probe) -> Answer:
    """Ask once, and remember it: it must not be taken for a user."""
    at = outside.clock.now()
    answer = outside.probes.ask(address, probe)
    asked.note(place, probe.name, (at, answer))
    return answer


def _asked(
    outside: Outside, service: ServiceState, probes: tuple[Probe, ...], ask: Callable[[Probe], Answer]
) -> tuple[str, ...] | None:
    """Return the complaint about the first probe that the revision does not answer well in three attempts.

    One is enough, and what hangs takes its time. None where nothing can be said of it, as we could not ask.
    """
    budget, could_ask = AskingTime(PROBE_SECONDS), True
    for probe in probes:
        if budget.left <= 0:
            log.warning("probes took all the time there is", service=service.name, left_out=probe.name)
            return None
        answer = _asked_in_attempts(outside, probe, ask)
        if answer.ok:
            continue
        if _is_of_the_revision(answer, service):
            return (answer.problem,)
        could_ask = False
        log.warning("a probe says nothing of the revision", service=service.name, why=answer.problem)
    return () if could_ask else None


def _asked_in_attempts(outside: Outside, probe: Probe, ask: Callable[[Probe], Answer]) -> Answer:
    """Return the first good answer, or the last of attempts that an outage of some seconds does not span."""
    answer = ask(probe)
    for _ in range(ATTEMPTS - 1):
        if answer.ok:
            break
        outside.clock.sleep(PROBE_PAUSE)
        answer = ask(probe)
    return answer


def _is_of_the_revision(answer: Answer, service: ServiceState) -> bool:
    """Tell whether an answer blames the revision.

    It does where the service was reached and gave none. Not where we could not ask, were not let in, or there
    was no instance to be had (429).
    """
    if answer.status == 0:
        return answer.reached
    turned_away = {401, 403, 429} if service.ingress == ALL_INGRESS else {401, 403, 404, 429}
    return not answer.kept_out and answer.status not in turned_away
