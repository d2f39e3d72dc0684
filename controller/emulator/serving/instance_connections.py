"""Connections to instances that are used again: which are idle, and the way to new ones."""

import asyncio

from controller.emulator.serving.instance_connection import Asker, InstanceConnection
from controller.emulator.serving.instances import Instance

FRESH_SECONDS = 1.0
"""A request that cannot be repeated takes no connection that was idle for longer: it may be closing."""


class InstanceConnections:
    """The idle connections to every instance, and the way to new ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: bytearray) -> None:
        self._loop = loop
        self._buffer = buffer
        self._idle: dict[Instance, list[InstanceConnection]] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def idle(self, instance: Instance, *, is_repeatable: bool) -> InstanceConnection | None:
        """Take the connection that was used last, if there is one that will do."""
        waiting = self._idle.get(instance)
        if not waiting:
            return None
        if not is_repeatable and self._loop.time() - waiting[-1].idle_since > FRESH_SECONDS:
            return None
        connection = waiting.pop()
        connection.on_idle_lost = None
        return connection

    def open(self, instance: Instance, asker: Asker) -> None:
        """Open a connection; the asker hears of it, or of the failure."""

        async def connect() -> None:
            try:
                await self._loop.create_connection(
                    lambda: InstanceConnection(instance, asker, self._buffer), "127.0.0.1", instance.port
                )
            except OSError:
                asker.broke(None)

        task = self._loop.create_task(connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def give_back(self, connection: InstanceConnection) -> None:
        """Keep a connection whose request is answered for the next one, or close it."""
        if not connection.is_reusable:
            connection.close()
            return
        connection.let_go()
        connection.idle_since = self._loop.time()
        connection.on_idle_lost = self._forget
        self._idle.setdefault(connection.instance, []).append(connection)

    async def close(self) -> None:
        """Close every idle connection."""
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connections in list(self._idle.values()):
            for connection in list(connections):
                connection.drop()

    def _forget(self, connection: InstanceConnection) -> None:
        kept = self._idle.get(connection.instance, [])
        if connection in kept:
            kept.remove(connection)
        if not kept:
            self._idle.pop(connection.instance, None)
