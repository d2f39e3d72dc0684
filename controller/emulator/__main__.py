"""The process of a local Cloud Run: serves until it is asked to end."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable

from controller.emulator import state
from controller.emulator.access.policy_file import IamFileInvalid
from controller.emulator.admin import Admin
from controller.emulator.assembly import Emulator
from controller.emulator.settings import EtagMode, Settings


def serve(settings: Settings, announce: Callable[[state.LocalState], None]) -> None:
    """Serve in this process until SIGTERM, SIGINT or a request to end."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Its warnings are of what clients send that is no HTTP; each would come with a traceback.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    asyncio.run(_serve(settings, announce))


async def _serve(settings: Settings, announce: Callable[[state.LocalState], None]) -> None:
    emulator = Emulator(settings)
    admin = Admin(emulator)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, admin.shutdown_asked.set)
    try:
        await emulator.start()
        await admin.start()
        _record(emulator.grpc_address, emulator.front_address, emulator.admin_address, settings, announce)
        gc.freeze()  # what is there by now stays: let no search for garbage look at it again
        await admin.shutdown_asked.wait()
    finally:
        await emulator.stop()
        await admin.stop()
        state.remove_state()


def _record(
    grpc_address: str,
    front: str,
    admin: str,
    settings: Settings,
    announce: Callable[[state.LocalState], None],
) -> None:
    pid = os.getpid()
    here = state.LocalState(
        grpc_address,
        front,
        admin,
        settings.project,
        settings.region,
        settings.speed,
        pid,
        state.start_of(pid),
    )
    state.write_state(here)
    announce(here)


def main() -> int:
    """Serve with the settings that the parent process has chosen."""
    chosen = json.loads(sys.argv[1])
    settings = Settings(**{**chosen, "etag": EtagMode(chosen["etag"])})
    try:
        serve(settings, lambda _: None)
    except (OSError, IamFileInvalid) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
