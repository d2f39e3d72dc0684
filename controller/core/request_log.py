"""The request log: what Cloud Logging says of single requests, seconds after they were answered."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One answered request; `latency` is in milliseconds and includes the wait for an instance.

    An entry is written when the answer is complete, so `received_at` follows its end, not its start.
    """

    id: str
    revision: str
    received_at: datetime
    started_at: datetime
    status: int
    latency: float
    instance: str = ""
    """The instance that answered; empty where the request reached none."""
    refusal: str = ""
    """What the platform says of an answer that it made itself; empty where the application answered."""
    is_probe: bool = False
    """Whether the request was one of our own."""


@dataclass(frozen=True, slots=True)
class InstanceStart:
    """The platform started an instance of a revision."""

    revision: str
    instance: str
    at: datetime


@dataclass(frozen=True)
class RequestLog:
    """What was logged in a time, in order of receipt; each entry once.

    `share` is the part of all requests that was asked for. `cut` says that there were more of them than
    could be read.
    """

    requests: tuple[LoggedRequest, ...] = ()
    starts: tuple[InstanceStart, ...] = ()
    share: float = 1.0
    cut: bool = False
