"""What the revisions of one local Cloud Run share."""

import random
from dataclasses import dataclass, field

from controller.emulator.clock import Clock
from controller.emulator.logs.entries import SYSTEM, Severity
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import RevisionKey
from controller.emulator.serving.watchdog import Watchdog
from controller.emulator.settings import Settings


@dataclass(frozen=True)
class Host:
    """The clock they live by, where they are measured and logged, and who ends what they leave behind."""

    clock: Clock
    settings: Settings
    metrics: Metrics
    logs: Logs
    rng: random.Random
    watchdog: Watchdog = field(default_factory=Watchdog)

    def say(
        self, key: RevisionKey, text: str, instance: str = "", severity: Severity = Severity.INFO
    ) -> None:
        """Write a line into the system log."""
        self.logs.add_line(key, SYSTEM, text, self.clock.now(), instance=instance, severity=severity)
