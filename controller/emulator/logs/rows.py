"""Log entries as rows, to be kept across restarts: a number that only grows, and a LogEntry message.

A store that is written to a database incrementally asks for the rows after the last one it has, and
removes those before `Logs.oldest`. `Logs.deletions` is to be kept beside them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.cloud.logging_v2 import types

from controller.emulator.logs.entries import NOTHING_MORE, Entry
from controller.emulator.logs.messages import entry_of, log_id_of, show
from controller.emulator.logs.store import Logs

Row = tuple[int, bytes]
LogEntry: Any = types.LogEntry.pb()


def rows_after(logs: Logs, number: int, most: int = 10_000) -> list[Row]:
    """Return the rows that follow the one of that number (0 = from the beginning), oldest first."""
    return [(entry.number, _row_of(entry)) for entry in logs.after(number, most)]


def restore(logs: Logs, rows: Iterable[Row], deletions: Mapping[str, datetime] | None = None) -> None:
    """Put rows, by number, into an empty store; new entries are counted on behind them."""
    logs.restore(_entry_of(number, row, logs) for number, row in rows)
    logs.deletions.update(deletions or {})


def _row_of(entry: Entry) -> bytes:
    message = LogEntry()
    show(message, entry)
    row: bytes = message.SerializeToString()
    return row


def _entry_of(number: int, row: bytes, logs: Logs) -> Entry:
    message = LogEntry.FromString(row)
    project, log_id = log_id_of(message.log_name)
    resource = message.resource
    origin = logs.origins.of_resource(
        project, log_id, resource.type, dict(resource.labels), dict(message.labels)
    )
    times = [moment.ToDatetime(UTC) for moment in (message.timestamp, message.receive_timestamp)]
    entry = entry_of(message, number, origin, *times)
    return _without_own_id(entry)


def _without_own_id(entry: Entry) -> Entry:
    """Forget an insert id that follows from the number: it need not be kept."""
    more = entry.more._replace(insert_id="")
    own = entry._replace(more=NOTHING_MORE if more == NOTHING_MORE else more)
    return own if own.insert_id == entry.insert_id else entry
