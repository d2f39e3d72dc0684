"""The tasks of jobs as real processes: ended by themselves, by their time, or by a person."""

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial

from google.cloud import run_v2

from controller.emulator.clock import Clock
from controller.emulator.logs.entries import SYSTEM, Severity
from controller.emulator.logs.store import Logs
from controller.emulator.run.failures import ended
from controller.emulator.run.tasks import AttemptKey, Ended, Report, TaskRuntime
from controller.emulator.serving.child import Child, SpawnError
from controller.emulator.serving.orphans import MARKER
from controller.emulator.serving.watchdog import Watchdog
from controller.principal import VARIABLE

COULD_NOT_START = 1
LABEL = "run.googleapis.com"


class JobProcesses(TaskRuntime):
    """Runs each try as a process that finds this local Cloud Run, and calls it as the job's account."""

    def __init__(
        self, clock: Clock, logs: Logs, grace_seconds: float, environment: Callable[[], Mapping[str, str]]
    ) -> None:
        self._clock = clock
        self._logs = logs
        self._grace_seconds = grace_seconds
        self._environment = environment
        self._watchdog = Watchdog()
        self._asked_to_end: dict[AttemptKey, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def run(self, key: AttemptKey, execution: run_v2.Execution, report: Report) -> None:
        """Start a try; call `report` once, later, when it has ended."""
        self._asked_to_end[key] = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._followed(key, execution, report))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self, key: AttemptKey) -> None:
        """Ask a try to end, and end it if it does not."""
        if (asked := self._asked_to_end.get(key)) is not None:
            asked.set()

    async def close(self) -> None:
        """End everything, of which nothing is reported any more; return when nothing is left."""
        self._closing = True
        for asked in self._asked_to_end.values():
            asked.set()
        await asyncio.gather(*self._tasks)
        await self._watchdog.close()

    async def _followed(self, key: AttemptKey, execution: run_v2.Execution, report: Report) -> None:
        try:
            result = await self._ended(key, execution)
        except SpawnError as error:
            command = execution.template.containers[0].command
            problem = f"The command '{command[0]}' could not be started: {error}."
            self._say(key, SYSTEM, problem, Severity.ERROR)
            result = Ended(COULD_NOT_START, problem)
        del self._asked_to_end[key]
        if not self._closing:
            report(self._clock.now(), result)

    async def _ended(self, key: AttemptKey, execution: run_v2.Execution) -> Ended:
        """Run a process to its end; raises SpawnError."""
        container = execution.template.containers[0]
        child = Child(self._watchdog, partial(self._say, key))
        command = [*container.command, *container.args]
        await child.start(command, self._variables(key, execution), container.working_dir)
        asked = self._asked_to_end[key]
        ending, asking = asyncio.create_task(child.wait()), asyncio.create_task(asked.wait())
        await asyncio.wait({ending, asking}, return_when=asyncio.FIRST_COMPLETED)
        asking.cancel()
        # Also after its own end: nothing of its group may go on.
        await child.stop(0 if ending.done() else self._grace_seconds)
        code = await ending
        self._say(key, SYSTEM, ended(code), Severity.ERROR if code else Severity.INFO)
        return Ended(code)

    def _variables(self, key: AttemptKey, execution: run_v2.Execution) -> Mapping[str, str]:
        chosen = {variable.name: variable.value for variable in execution.template.containers[0].env}
        return {
            **os.environ,
            **self._environment(),
            VARIABLE: execution.template.service_account,
            **chosen,
            "CLOUD_RUN_JOB": key.job,
            "CLOUD_RUN_EXECUTION": key.execution,
            "CLOUD_RUN_TASK_INDEX": "0",
            "CLOUD_RUN_TASK_ATTEMPT": str(key.number),
            "CLOUD_RUN_TASK_COUNT": str(execution.task_count),
            MARKER: self._watchdog.marker,
        }

    def _say(self, key: AttemptKey, log_id: str, text: str, severity: Severity = Severity.INFO) -> None:
        labels = {
            f"{LABEL}/execution_name": key.execution,
            f"{LABEL}/task_index": "0",
            f"{LABEL}/task_attempt": str(key.number),
        }
        origin = self._logs.origins.of_task(key.location, key.job, log_id, labels)
        self._logs.add_line_of(origin, text, self._clock.now(), severity)
