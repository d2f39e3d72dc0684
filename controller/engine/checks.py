"""The checks of a candidate: warmed up, then asked on its own address, before any user is sent to it."""

from datetime import timedelta
from time import monotonic

from controller.core.observation import ALL_INGRESS, ServiceState
from controller.core.policy_probes import Probe
from controller.core.probe_evidence import Answer
from controller.core.rollout import Rollout
from controller.engine.outside import Outside

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
    probes = (*(Probe(path=path) for path in policy.smoke), *policy.probes)
    answers = [(probe, _ask_well(outside, address, probe, budget)) for probe in probes]
    stable = service.addresses.get(rollout.stable_tag, "") if rollout.stable else ""
    return tuple(
        answer.problem + (_hint(service, answer) or _shared(outside, stable, probe, answer, budget))
        for probe, answer in answers
        if not answer.ok
    )


def _ask_well(outside: Outside, address: str, probe: Probe, budget: AskingTime) -> Answer:
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


def asked_well(outside: Outside, address: str, probe: Probe) -> Answer:
    """Return the first good answer of three attempts, or the last; within the time that all may take."""
    return _ask_well(outside, address, probe, AskingTime(BUDGET))


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
