"""What faults do to the metrics: missing, late, or said to be incomplete."""

from collections.abc import Sequence
from datetime import timedelta
from fnmatch import fnmatchcase

from controller.emulator.faults.fault import Fault, IncompleteMetrics, LateMetrics, MissingMetrics
from controller.emulator.monitoring.catalog import METRICS
from controller.emulator.monitoring.visibility import Visibility
from controller.emulator.names import RevisionKey


def show(visibility: Visibility, faults: Sequence[Fault]) -> None:
    """Let Monitoring show what these faults, and nothing else, leave of the metrics."""
    missing = [fault for fault in faults if isinstance(fault, MissingMetrics)]
    late = [fault for fault in faults if isinstance(fault, LateMetrics)]
    delays = {metric: _delay(metric, late) for metric in METRICS}

    def hidden(metric_type: str, key: RevisionKey) -> bool:
        return any(
            fault.concerns(metric_type) and fnmatchcase(key.revision, fault.revision) for fault in missing
        )

    visibility.hidden = hidden
    visibility.partial_errors[:] = [one.message for one in faults if isinstance(one, IncompleteMetrics)]
    visibility.extra = {metric: delay for metric, delay in delays.items() if delay}


def _delay(metric_type: str, faults: Sequence[LateMetrics]) -> timedelta:
    """Return the longest delay that a fault wants for a metric type."""
    return max((fault.by for fault in faults if fault.concerns(metric_type)), default=timedelta())
