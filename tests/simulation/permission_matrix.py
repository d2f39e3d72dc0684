"""Which permission each command needs: measured on a local Cloud Run with IAM, and written into the docs.

`make permissions` writes docs/permissions.md anew; a test compares.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from structlog.testing import capture_logs
from test_least_role import a_world_with
from test_little_traffic import portal
from world import QUICK, SERVICE, World

from controller.core.permissions import CONTROLLER
from controller.core.preflight import Gravity
from controller.core.rollout import Event, Rollout
from controller.engine.audit import transitions_of
from controller.engine.begin import measure_traffic
from controller.engine.commands import release_service
from controller.engine.preflight import preflight
from controller.engine.reconcile import Memory, look, reconcile
from controller.engine.replay import replay
from controller.engine.sweep import sweep
from controller.ports import CanaryError, DeniedError

PAGE = Path(__file__).parents[2] / "docs/permissions.md"
TABLE = re.compile(r"(<!-- measured: permissions -->\n).*?(<!-- end of measured part -->)", re.DOTALL)
SECOND = 50
"""The share of the second step."""
A_WHILE = 400
"""Seconds, after which there is evidence of a step."""
NEEDED, LACKED = "needs it", "goes on without"

Command = Callable[[World], object]


def _roll_out(world: World) -> object:
    return world.roll_out()


def _roll_out_with_all(world: World) -> object:
    return world.roll_out(portal(**QUICK))


def _look(world: World) -> object:
    return look(world.outside, SERVICE)


def _explain(world: World) -> object:
    return measure_traffic(world.outside, SERVICE, portal(**QUICK))


def _release(world: World) -> object:
    ours, world.outside = world.outside, world.owners_outside
    world.roll_out()
    world.outside = ours
    return release_service(world.outside, SERVICE)


def _under_way(event: Event) -> Command:
    def command(world: World) -> object:
        return world.command(event)

    return command


def _roll_back_to(world: World) -> object:
    return world.command(Event.ROLLBACK, world.newest())


def _check(world: World) -> object:
    errors: list[Exception] = []
    for _ in range(10):
        sweep(world.outside, lambda checked: errors.append(checked.error) if checked.error else None)
        if errors:
            raise errors[0]
        world.wait(60)
    return None


def _history(world: World) -> object:
    return world.outside.audit_log.read_entries(SERVICE)


def _replay(world: World) -> object:
    return list(replay(world.outside, transitions_of(world.outside.audit_log.read_entries(SERVICE))))


def _doctor(world: World) -> object:
    for finding in preflight(world.outside, SERVICE, portal(**QUICK)):
        if finding.gravity is not Gravity.OK and "permission" in finding.what:
            raise DeniedError(finding.what)
    return None


COMMANDS: Mapping[str, tuple[Command, bool]] = {
    "rollout, retry": (_roll_out, False),
    "rollout with probes and request_logs": (_roll_out_with_all, False),
    "status": (_look, True),
    "promote": (_under_way(Event.PROMOTE), True),
    "pause, resume": (_under_way(Event.PAUSE), True),
    "rollback": (_under_way(Event.ROLLBACK), True),
    "rollback --to": (_roll_back_to, False),
    "release": (_release, False),
    "check, run": (_check, True),
    "history": (_history, True),
    "replay": (_replay, True),
    "policy explain --service": (_explain, False),
    "doctor": (_doctor, False),
}
"""Each command, and whether a rollout is under way when it is given."""


def row_of(name: str) -> dict[str, str]:
    """Return what a command says where each permission is missing alone; "" where it does not use it."""
    return {permission: _without(name, permission) for permission in CONTROLLER}


def _without(name: str, missing: str) -> str:
    command, under_way = COMMANDS[name]
    held = set(CONTROLLER) - {missing}
    with tempfile.TemporaryDirectory() as folder, a_world_with(held, Path(folder)) as world:
        world.deploy()
        if under_way:
            _begin(world)
        with capture_logs() as logs:
            try:
                command(world)
            except CanaryError as error:
                if missing not in str(error):
                    raise
                return NEEDED
        return LACKED if missing in str(logs) else ""


def _begin(world: World) -> None:
    """Let somebody who may do everything bring a rollout into its second step, and go."""
    memory = Memory()
    ours, world.outside = world.outside, world.owners_outside
    world.begin()
    while not _is_in_second_step(reconcile(world.outside, SERVICE, memory).rollout):
        world.wait(15)
    world.wait(A_WHILE)
    world.outside = ours


def _is_in_second_step(rollout: Rollout | None) -> bool:
    return rollout is not None and rollout.percent == SECOND and rollout.observed_at is not None


def table() -> str:
    """Return the matrix as a table in Markdown."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = dict(zip(COMMANDS, pool.map(row_of, COMMANDS), strict=True))
    lines = [f"| command | {' | '.join(f'`{permission}`' for permission in CONTROLLER)} |"]
    lines.append(f"|---|{'---|' * len(CONTROLLER)}")
    for name, row in rows.items():
        lines.append(written(name, row))
    return "\n".join(lines)


def written(name: str, row: Mapping[str, str]) -> str:
    """Return a row of the table."""
    return f"| `{name}` | {' | '.join(row[permission] for permission in CONTROLLER)} |"


def main() -> int:
    """Write the table into the page."""
    page, measured = PAGE.read_text(encoding="utf-8"), table()
    PAGE.write_text(TABLE.sub(rf"\1\n{measured}\n\n\2", page), encoding="utf-8")
    sys.stdout.write(f"{measured}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
