"""Checks by asking: of a candidate before any user is sent to it, and of a service such as staging."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from controller.core.observation import ALL_INGRESS, ServiceState
from controller.core.policy import Policy
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.core.rollout import Rollout
from controller.engine.outside import Outside
from controller.ports import NotFoundError

ATTEMPTS = 3
PAUSE = 2.0
"""Seconds."""
MOST_AWAITED = 10
"""How often an address is asked that is not known yet."""
BUDGET = 120.0
"""Seconds for all requests with all their attempts, so that a pass comes to an end."""
WARM_UP_BUDGET = 60.0
"""Seconds for warming up, on top."""
LEAST_SECONDS = 0.2
"""With less than this, no request is worth its while."""
NOT_FOUND = 404
UNREACHED = frozenset({0, 403, NOT_FOUND})
"""What a request is answered with (0: not at all) that may not come in."""


class AskingTime:
    """The real seconds that are left: what listens may take them all, however fast the clock runs."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; less than 0 when they are used up."""
        return self._end - monotonic()

    def limited(self, probe: Probe) -> Probe:
        """Return the probe with no more time than is left."""
        within = min(probe.expect.within, timedelta(seconds=max(self.left, LEAST_SECONDS)))
        return probe.model_copy(update={"expect": probe.expect.model_copy(update={"within": within})})


@dataclass(frozen=True)
class Outcome:
    """A probe, and what came of it at an address: the first good answer, or the last of all attempts."""

    probe: Probe
    address: str
    answer: Answer
    hint: str = ""
    """What may be behind a bad answer, to be read after its problem."""


def probes_asked(policy: Policy) -> Sequence[Probe]:
    """Return what a policy asks before users come: its smoke paths, then its probes."""
    return (*(Probe(path=path) for path in policy.smoke), *policy.probes)


def check_service(outside: Outside, service_name: str, policy: Policy, tag: str = "") -> Iterator[Outcome]:
    """Ask a service at its own address, or at a tag's; yield each answer as it comes.

    Raises NotFoundError where there is no such service, tag or address.
    """
    service = outside.cloud_run.read_service(service_name)
    address = _address_of(service, tag)
    probes = probes_asked(policy)
    if tag:
        first = Probe(path=probes[0].path, method="HEAD")
        _await_address(outside, address, first, AskingTime(WARM_UP_BUDGET))
    _warm_up(outside, address, policy.probes)
    yield from _ask_all(outside, service, address, probes, AskingTime(BUDGET))


def _address_of(service: ServiceState, tag: str) -> str:
    if tag and tag not in {target.tag for target in service.traffic}:
        there = ", ".join(sorted(target.tag for target in service.traffic if target.tag)) or "none"
        raise NotFoundError(f"service {service.name} has no tag {tag!r}; its tags: {there}")
    if address := service.addresses.get(tag, "") if tag else service.address:
        return address
    why = "Cloud Run does not show it yet" if service.has_default_url else "its default URL is disabled"
    whose = f"tag {tag!r} of service {service.name}" if tag else f"service {service.name}"
    raise NotFoundError(
        f"{whose} has no address to ask ({why}); see: gcloud run services describe {service.name}"
    )


def check_candidate(
    outside: Outside, rollout: Rollout, service: ServiceState, seconds: float = BUDGET
) -> tuple[str, ...]:
    """Return one complaint for each path and probe that the candidate does not answer well."""
    address = service.addresses.get(rollout.candidate_tag, "")
    if not address:
        return ("Cloud Run gives its tags no address (the service's default URL is disabled)",)
    policy = rollout.policy
    _warm_up(outside, address, policy.probes)
    budget = AskingTime(seconds)
    answers = list(_ask_all(outside, service, address, probes_asked(policy), budget))
    stable = service.addresses.get(rollout.stable_tag, "") if rollout.stable else ""
    return tuple(
        each.answer.problem + (each.hint or _shared(outside, stable, each.probe, each.answer, budget))
        for each in answers
        if not each.answer.ok
    )


def _ask_all(
    outside: Outside, service: ServiceState, address: str, probes: Sequence[Probe], budget: AskingTime
) -> Iterator[Outcome]:
    for probe in probes:
        answer = ask_well(outside, address, probe, budget)
        yield Outcome(probe, address, answer, "" if answer.ok else _hint(service, answer))


def ask_well(outside: Outside, address: str, probe: Probe, budget: AskingTime) -> Answer:
    """Return the first good answer, or the last of all attempts."""
    if budget.left <= 0:
        asked = f"{probe.method} {address}{probe.path}"
        problem = f"{asked} was not tried: the paths before it have taken all the time there is"
        return Answer(False, 0, 0.0, problem)
    answer = outside.probes.ask(address, budget.limited(probe))
    for _ in range(ATTEMPTS - 1):
        if answer.ok or budget.left <= PAUSE:
            break
        outside.clock.sleep(PAUSE)
        answer = outside.probes.ask(address, budget.limited(probe))
    return answer


def _shared(outside: Outside, stable: str, probe: Probe, bad: Answer, budget: AskingTime) -> str:
    """Say that stable does not answer well either, as it is then the probe that is wrong."""
    if not (stable and bad.status) or budget.left <= 0:
        return ""
    answer = outside.probes.ask(stable, budget.limited(probe))
    return (
        "" if answer.ok else f"; stable fails it, too ({answer.status or 'no answer'}): is the probe right?"
    )


def _hint(service: ServiceState, answer: Answer) -> str:
    if service.ingress == ALL_INGRESS or answer.status not in UNREACHED:
        return ""
    return (
        f"; the service takes internal traffic only (ingress: {service.ingress}); run the controller inside"
        " its VPC, or leave probes out of the policy"
    )


def _warm_up(outside: Outside, address: str, probes: tuple[Probe, ...]) -> None:
    budget = AskingTime(WARM_UP_BUDGET)
    wanted = [probe for probe in probes if probe.warm_up]
    if wanted:
        _await_address(outside, address, Probe(path=wanted[0].path, method="HEAD"), budget)
    for probe in wanted:
        if budget.left > 0:
            outside.probes.warm_up(address, budget.limited(probe), probe.warm_up)


def _await_address(outside: Outside, address: str, probe: Probe, budget: AskingTime) -> None:
    """Wait until the tag is known where requests arrive: some seconds after the service says that it is."""
    for _ in range(MOST_AWAITED):
        answer = outside.probes.ask(address, budget.limited(probe))
        if answer.status != NOT_FOUND or budget.left <= PAUSE:
            return
        outside.clock.sleep(PAUSE)
