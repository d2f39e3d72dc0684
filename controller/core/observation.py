"""What Cloud Run says of a service and its revisions at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from controller.core.assessment import Assessment
from controller.core.traffic import Split, shares_of

ALL_INGRESS = "all"


@dataclass(frozen=True)
class RevisionState:
    """A revision: ready, not ready yet (both flags false), or failed for good with its message."""

    name: str
    created_at: datetime
    ready: bool = False
    failed: bool = False
    message: str = ""
    session_affinity: bool = False
    most_instances: int = 0
    """0 where it has no maximum of its own."""
    least_instances: int = 0
    known: bool = True
    """False where it could not be read; then it is not taken for ready, nor for failed or deleted."""


def unread(name: str, why: str) -> RevisionState:
    """Return what is known of a revision that could not be read: its name, and why."""
    return RevisionState(name, datetime.min.replace(tzinfo=UTC), message=why, known=False)


@dataclass(frozen=True)
class ServiceState:
    """A service as read once: `traffic` is what was asked for, `served` what is in force."""

    name: str
    etag: str
    generation: int
    settled: bool
    """Nothing is being changed: the last write has succeeded or failed."""
    failed: bool
    message: str
    traffic: Split
    served: Split
    latest_ready: str
    latest_created: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """The service's own address, where its users come."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """The address of the revision behind each tag."""
    ingress: str = ALL_INGRESS
    """Whose requests are let in, in gcloud's words: `all`, or `internal` with or without load balancers."""
    has_default_url: bool = True
    """Whether the service, and so each tag, has an address of its own."""
    has_sign_in_proxy: bool = False
    """Whether Identity-Aware Proxy stands before it."""
    regions: tuple[str, ...] = ()
    """Those of a multi-region service; empty for all others."""
    most_instances: int = 0
    """Of all its revisions together; 0 where it has no maximum of its own."""
    manual_instances: int | None = None
    """How many there are where they are set by hand."""
    checks_deployments: bool = True
    """Whether a revision is ready only when it has started."""
    labels: Mapping[str, str] = field(default_factory=dict)
    client: str = ""
    """What program wrote it last, in that program's own words."""

    @property
    def shares_served(self) -> dict[str, int]:
        """The percent of the users that each revision answers now."""
        return shares_of(self.served, self.latest_ready)

    @property
    def shares_wanted(self) -> dict[str, int]:
        """The percent of the users that each revision was last asked to answer."""
        return shares_of(self.traffic, self.latest_ready)


@dataclass(frozen=True)
class Observation:
    """All that a decision rests on; `assessment` and `smoke` are None where they were not asked for.

    `smoke` has a complaint for each path that the candidate did not answer well.
    """

    now: datetime
    service: ServiceState
    stable: RevisionState | None
    candidate: RevisionState | None
    assessment: Assessment | None = None
    others: tuple[Assessment, ...] = ()
    """What was weighed besides the metrics: the request log, and the answers to probes."""
    smoke: tuple[str, ...] | None = None
