"""The outside: all that a pass touches, by the interfaces of `ports.py`."""

from dataclasses import dataclass

from controller.ports import AuditLog, Clock, CloudRun, Metrics, Notices, Probes, RequestLogs


@dataclass(frozen=True)
class Outside:
    """All that a pass touches."""

    cloud_run: CloudRun
    metrics: Metrics
    clock: Clock
    probes: Probes
    audit_log: AuditLog
    request_logs: RequestLogs
    probe_log: AuditLog
    """Where the answers to probes are kept, so that another controller can go on with them."""
    notices: Notices
