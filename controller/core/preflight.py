"""The preflight: what endangers a canary on a service, found before any traffic moves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.core.observation import ALL_INGRESS, RevisionState, ServiceState
from controller.core.policy import Policy
from controller.core.traffic import ALL, LATEST, written

MOST_SERVING: Final = 2
"""Stable and candidate."""
LABEL_OF_TERRAFORM: Final = "goog-terraform-provisioned"
"""What the Google provider of Terraform puts on what it makes, unless it is told not to."""


class Gravity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class CheckResult:
    """What was found where something was checked, and what to do; no rollout begins with an error."""

    check: str
    gravity: Gravity
    what: str
    todo: str = ""
    unavailable: bool = False
    """Whether it is an error of an API, and none of the service."""


def check_service(
    service: ServiceState, revisions: Sequence[RevisionState], policy: Policy
) -> Iterator[CheckResult]:
    """Yield a finding for each setting of a service that a canary depends on."""
    names = {*service.shares_served, service.latest_created}
    pair = [revision for revision in revisions if revision.name in names]
    yield _regions(service)
    yield _split(service)
    yield _follows_latest(service)
    yield _affinity(service, pair)
    yield _most_instances(service, pair, policy)
    yield _least_instances(service, pair)
    yield _health_check(service, pair)
    yield _addresses(service, policy)
    yield _sign_in_proxy(service, policy)
    yield _owner(service)


def _ok(check: str, what: str) -> CheckResult:
    return CheckResult(check, Gravity.OK, what)


def _regions(service: ServiceState) -> CheckResult:
    if len(service.regions) > 1:
        regions = ", ".join(service.regions)
        return CheckResult(
            "regions",
            Gravity.ERROR,
            f"it is a multi-region service ({regions}), whose regions share one split",
            "roll out a service of its own in each region",
        )
    return _ok("regions", "one")


def _split(service: ServiceState) -> CheckResult:
    shares = service.shares_served
    if len(shares) > MOST_SERVING:
        return CheckResult(
            "split",
            Gravity.ERROR,
            f"{len(shares)} revisions serve users ({written(shares)}), so there is no single stable",
            f"leave one: gcloud run services update-traffic {service.name}"
            f" --to-revisions={max(shares, key=lambda name: shares[name])}={ALL}",
        )
    if service.shares_wanted != shares:
        return CheckResult(
            "split",
            Gravity.WARNING,
            f"what was asked for ({written(service.shares_wanted)}) is not served ({written(shares)})",
            f"see why: gcloud run services describe {service.name}",
        )
    return _ok("split", written(shares))


def _follows_latest(service: ServiceState) -> CheckResult:
    latest = sum(target.percent for target in service.traffic if target.revision == LATEST)
    if 0 < latest < ALL:
        return CheckResult(
            "latest",
            Gravity.WARNING,
            f"{latest} % of the users follow the latest revision, the others do not: a deployment moves them",
            f"pin them: gcloud run services update-traffic {service.name} --to-revisions=REVISION={ALL}",
        )
    if latest:
        return CheckResult(
            "latest",
            Gravity.WARNING,
            "users follow the latest revision: a deployment gives it all of them before any canary",
            "deploy with --no-traffic",
        )
    return _ok("latest", "users are pinned to revisions")


def _affinity(service: ServiceState, pair: Sequence[RevisionState]) -> CheckResult:
    sticky = [revision.name for revision in pair if revision.session_affinity]
    if sticky:
        return CheckResult(
            "session affinity",
            Gravity.WARNING,
            f"it is on for {', '.join(sticky)}: users stay with their revision, so the split is not exact",
            f"turn it off: gcloud run services update {service.name} --no-session-affinity",
        )
    return _ok("session affinity", "off")


def _most_instances(service: ServiceState, pair: Sequence[RevisionState], policy: Policy) -> CheckResult:
    """Look for a step that has less than one instance.

    A revision has its own maximum; the service's is divided by the split.
    """
    check, smallest = "max instances", min(step.traffic for step in policy.steps)
    if service.manual_instances is not None:
        return CheckResult(
            check,
            Gravity.WARNING,
            f"it is scaled by hand to {service.manual_instances}, which are divided by the split",
            f"scale by need: gcloud beta run services update {service.name} --scaling=auto",
        )
    if service.most_instances and service.most_instances * smallest < ALL:
        least = -(-ALL // smallest)
        return CheckResult(
            check,
            Gravity.WARNING,
            f"{smallest} % of at most {service.most_instances} instances is less than one: the first step has"
            " no room",
            f"allow more: gcloud beta run services update {service.name} --max={least}; or begin with a"
            " larger step",
        )
    few = [revision for revision in pair if revision.most_instances == 1]
    if few:
        return CheckResult(
            check,
            Gravity.WARNING,
            f"{few[0].name} may have one instance at most: at {ALL} % it must serve all users alone",
            "see whether one is enough, or raise --max-instances",
        )
    return _ok(check, "enough for the first step")


def _least_instances(service: ServiceState, pair: Sequence[RevisionState]) -> CheckResult:
    kept = [revision for revision in pair if revision.least_instances]
    if kept:
        numbers = ", ".join(f"{revision.name}: {revision.least_instances}" for revision in kept)
        return CheckResult(
            "min instances",
            Gravity.WARNING,
            f"they belong to the revision ({numbers}), so a tag alone keeps them running, and paid for, also"
            " without users",
            f"set them for the service: gcloud run services update {service.name} --min-instances=0"
            f" --min={max(revision.least_instances for revision in kept)}",
        )
    return _ok("min instances", "none that a tag keeps running")


def _health_check(service: ServiceState, pair: Sequence[RevisionState]) -> CheckResult:
    broken = [revision for revision in pair if revision.name == service.latest_created and revision.failed]
    if not service.checks_deployments:
        return CheckResult(
            "health check",
            Gravity.WARNING,
            "deployments are not checked, so a revision counts as ready before it has answered anything",
            f"gcloud beta run services update {service.name} --deploy-health-check",
        )
    if broken:
        return CheckResult(
            "health check",
            Gravity.WARNING,
            f"the newest revision, {broken[0].name}, is not ready: {broken[0].message}",
            "deploy one that works",
        )
    return _ok("health check", "a revision is ready when it has started")


def _addresses(service: ServiceState, policy: Policy) -> CheckResult:
    """Look whether a candidate can be asked before it has users."""
    named = " and ".join(name for name, asks in (("smoke", policy.smoke), ("probes", policy.probes)) if asks)
    if not named:
        return _ok("ingress", "the policy asks nothing of a revision's own address")
    if not service.has_default_url:
        return CheckResult(
            "ingress",
            Gravity.ERROR,
            f"the policy's {named} ask a revision at its own address, and the default URL is disabled",
            f"gcloud beta run services update {service.name} --default-url; or leave them out",
        )
    if service.ingress != ALL_INGRESS:
        return CheckResult(
            "ingress",
            Gravity.WARNING,
            f"it is {service.ingress}: what {named} ask is let in only from inside its network",
            "run canary there, as a job with a VPC connection",
        )
    return _ok("ingress", "a revision can be asked at its own address")


def _sign_in_proxy(service: ServiceState, policy: Policy) -> CheckResult:
    if service.has_sign_in_proxy and (policy.smoke or policy.probes):
        return CheckResult(
            "sign-in proxy",
            Gravity.WARNING,
            "Identity-Aware Proxy stands before it, and lets no request of ours in",
            "leave smoke and probes out of the policy",
        )
    return _ok("sign-in proxy", "none in the way")


def _owner(service: ServiceState) -> CheckResult:
    if service.labels.get(LABEL_OF_TERRAFORM) == "true" or service.client == "terraform":
        return CheckResult(
            "owner",
            Gravity.WARNING,
            "Terraform made it: an apply in the middle of a rollout sets traffic and annotations back",
            "let Terraform leave them alone: lifecycle { ignore_changes = [traffic, annotations, client,"
            " client_version] }",
        )
    return _ok("owner", "no Terraform")
