"""The faults that were asked for, and how often each has struck."""

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from controller.emulator.calls import Call
from controller.emulator.faults.fault import CallFault, Fault, plain


@dataclass
class Armed:
    """A fault and its count."""

    number: int
    fault: Fault
    since: datetime
    seen: int = 0
    """Calls that it could have struck."""
    struck: int = 0
    trouble: str = ""
    """Why it could not do, the last time, what it was meant to."""

    def takes(self, call: Call) -> bool:
        """Count a call; return whether it is to be struck."""
        fault = self.fault
        if not isinstance(fault, CallFault) or self.is_over(call.now) or not self._is_about(fault, call):
            return False
        self.seen += 1
        strikes = self.seen % fault.every == 0
        self.struck += strikes
        return strikes

    def is_over(self, now: datetime) -> bool:
        """Return whether it will not strike any more."""
        is_late = self.fault.lasts is not None and now >= self.since + self.fault.lasts
        most = self.fault.next if isinstance(self.fault, CallFault) else None
        return is_late or (most is not None and self.struck >= most)

    def shown(self, now: datetime) -> dict[str, Any]:
        """Return what a person is told about it."""
        told = {
            "number": self.number,
            "over": self.is_over(now),
            "seen": self.seen,
            "struck": self.struck,
            "fault": plain(self.fault),
        }
        return told | ({"trouble": self.trouble} if self.trouble else {})

    def _is_about(self, fault: CallFault, call: Call) -> bool:
        return fault.applies_to(call.method) and fnmatchcase(call.principal, fault.principal)
