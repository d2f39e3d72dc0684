"""The interfaces that the engine needs, and the errors, named by what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controller.core.evidence import Minute
from controller.core.observation import RevisionState, ServiceState
from controller.core.policy_guards import CustomGuard
from controller.core.traffic import Split


class CanaryError(Exception):
    """Something outside went wrong; the text names the place, the cause and the next step."""


class TransientError(CanaryError):
    """It may work the next time: try again."""


class ConflictError(CanaryError):
    """Somebody else wrote in between: read and decide again, never resend."""


class PermanentError(CanaryError):
    """It will not work by itself: stop and tell a person."""


class NotFoundError(PermanentError):
    """The service or revision does not exist."""


class RecordUnreadableError(PermanentError):
    """The service's record is damaged, or a newer version's; it must not be overwritten."""


class NoRolloutError(PermanentError):
    """The service has no rollout on record."""


class DeniedError(PermanentError):
    """A permission is missing; the text names it."""


@dataclass(frozen=True)
class ServiceChange:
    """One write: annotations always, as a whole; the split only where it is to change."""

    service: str
    etag: str
    annotations: Mapping[str, str]
    split: Split | None = None


class CloudRun(Protocol):
    """Services and revisions of one project and region."""

    def read_service(self, service: str) -> ServiceState:
        """Return the service as it is now; raises NotFoundError."""
        ...

    def read_revision(self, service: str, revision: str) -> RevisionState | None:
        """Return the revision, or None where there is none of that name."""
        ...

    def list_revisions(self, service: str) -> Sequence[RevisionState]:
        """Return all revisions, the newest first."""
        ...

    def write_service(self, change: ServiceChange) -> None:
        """Ask for the change and return when it is accepted, not when it is in force.

        Never repeated by itself. A TransientError may mean that it was applied: read to find out.
        """
        ...


class Metrics(Protocol):
    """Request counts, latencies and other metrics of one project and region, in whole minutes."""

    def read_minutes(
        self,
        service: str,
        revisions: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        custom: Mapping[str, CustomGuard] = {},
    ) -> Mapping[str, Sequence[Minute]]:
        """Return each revision's minutes that end after `start` and not after `end`, both whole minutes.

        The samples hold what the metrics of the `custom` guards say, too, by the guards' names.
        """
        ...


class Probes(Protocol):
    """Requests of our own to a revision."""

    def ask(self, address: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return one complaint for each path that the revision at this address does not answer well."""
        ...


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """Return the time, with its zone."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock."""
        ...
