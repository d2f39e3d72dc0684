"""What Cloud Run says of a service and its revisions at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.core.evidence import Evidence
from controller.core.traffic import Split, shares_of


@dataclass(frozen=True)
class RevisionState:
    """A revision: ready, not ready yet (both flags false), or failed for good with its message."""

    name: str
    created_at: datetime
    ready: bool = False
    failed: bool = False
    message: str = ""
    session_affinity: bool = False


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
    """All that a decision rests on; `evidence` is None in a phase that needs none."""

    now: datetime
    service: ServiceState
    stable: RevisionState | None
    candidate: RevisionState | None
    evidence: Evidence | None = None
