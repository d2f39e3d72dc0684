"""What the control plane asks of whatever runs the revisions."""

from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from google.cloud import run_v2

from controller.emulator.names import RevisionKey
from controller.emulator.run.catalog import Failure
from controller.emulator.run.traffic import Split

Report = Callable[[datetime, Failure | None], None]


class Runtime(Protocol):
    """Runs revisions and sends requests to them."""

    @abstractmethod
    def deploy(self, key: RevisionKey, revision: run_v2.Revision, report: Report, at: datetime) -> None:
        """Start the revision; call `report` once, later, when it is known to be healthy or not."""

    @abstractmethod
    def adopt(self, key: RevisionKey, revision: run_v2.Revision, at: datetime) -> None:
        """Take a revision for ready as it is; its instances start when they are needed."""

    @abstractmethod
    def follow(self, location: str, service_id: str, split: Split, at: datetime) -> None:
        """Send requests by this split from now on."""

    @abstractmethod
    def scale(self, location: str, service_id: str, scaling: run_v2.ServiceScaling, at: datetime) -> None:
        """Keep to the service's own limits of instances from now on."""

    @abstractmethod
    def remove(self, key: RevisionKey) -> None:
        """Stop whatever runs of the revision."""
