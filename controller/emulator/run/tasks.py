"""What the control plane asks of whatever runs the tasks of jobs."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from google.cloud import run_v2


class AttemptKey(NamedTuple):
    """What names one try of the task of an execution."""

    location: str
    job: str
    execution: str
    number: int
    """0 is the first."""


@dataclass(frozen=True)
class Ended:
    """How a try ended: its exit code, below zero the number of a signal."""

    code: int
    problem: str = ""
    """Why it could not be started at all."""


Report = Callable[[datetime, Ended], None]


class TaskRuntime(Protocol):
    """Runs the one task of an execution, try by try."""

    @abstractmethod
    def run(self, key: AttemptKey, execution: run_v2.Execution, report: Report) -> None:
        """Start a try; call `report` once, later, when it has ended."""

    @abstractmethod
    def stop(self, key: AttemptKey) -> None:
        """Ask a try to end, and end it if it does not; it is reported like any other. None may run."""
