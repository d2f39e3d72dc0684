"""The knobs of the sample service, read from its environment; a simulated revision obeys the same."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self, TypedDict

PROBE_AGENT = b"cloud-run-canary-probe"
"""How the user agent of a smoke test begins."""


class Changes(TypedDict, total=False):
    """Knobs to turn; what is left out stays as it is."""

    error_share: float
    probe_error_share: float | None
    latency_ms: float
    latency_spread: float
    start_seconds: float
    crashes: bool


@dataclass(frozen=True, slots=True)
class Knobs:
    """How a revision starts and answers."""

    error_share: float = 0.0
    """0 to 1 of the requests get a 500."""
    probe_error_share: float | None = None
    """The same of those whose user agent begins with `PROBE_AGENT`; None = as of any other."""
    latency_ms: float = 50.0
    """Median, in milliseconds."""
    latency_spread: float = 0.25
    """Standard deviation of the latency's logarithm; 0 = always the median."""
    start_seconds: float = 0.0
    """From the start until it listens; infinite = never."""
    crashes: bool = False
    """Ends with code 3 instead of listening."""
    text: str = "Hello from the sample service."

    @classmethod
    def parse(cls, environment: Mapping[str, str]) -> Self:
        """Read each knob from the variable of its name, CRASH aside, in capitals; raises ValueError."""
        default = cls()
        probes = environment.get("PROBE_ERROR_SHARE", "")
        return cls(
            error_share=_number(environment, "ERROR_SHARE", default.error_share, most=1.0),
            probe_error_share=_number(environment, "PROBE_ERROR_SHARE", 0.0, most=1.0) if probes else None,
            latency_ms=_number(environment, "LATENCY_MS", default.latency_ms),
            latency_spread=_number(environment, "LATENCY_SPREAD", default.latency_spread),
            start_seconds=_number(environment, "START_SECONDS", default.start_seconds),
            crashes=environment.get("CRASH", "") not in {"", "0"},
            text=environment.get("TEXT", default.text),
        )

    def changed(self, changes: Changes) -> Self:
        """Return a copy with these changes."""
        return replace(self, **changes)

    @property
    def mean_seconds(self) -> float:
        """Return the mean latency, in seconds."""
        return self.latency_ms / 1000 * math.exp(self.latency_spread**2 / 2)

    @property
    def never_listens(self) -> bool:
        """Whether no instance ever comes up."""
        return self.crashes or self.start_seconds == math.inf

    def error_share_of(self, user_agent: bytes) -> float:
        """Return the share of errors among the requests of a user agent."""
        if self.probe_error_share is None or not user_agent.startswith(PROBE_AGENT):
            return self.error_share
        return self.probe_error_share

    def draw_latency(self, rng: random.Random) -> float:
        """Return the latency of one request, in milliseconds."""
        if not self.latency_ms:
            return 0.0
        return rng.lognormvariate(math.log(self.latency_ms), self.latency_spread)


def _number(environment: Mapping[str, str], name: str, default: float, most: float = math.inf) -> float:
    text = environment.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        limits = f"from 0 to {most:g}" if most < math.inf else "of 0 or more"
        raise ValueError(f"{name} must be a number {limits}, not {text!r}")
    return value
