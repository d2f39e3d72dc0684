"""Keeps the state of a local Cloud Run: read before the first call, written every second and at the end."""

import json
import logging
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from controller.emulator.images import Image, Images
from controller.emulator.logs import rows as log_rows
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.run.control_plane import ControlPlane
from controller.emulator.run.saved import Row
from controller.emulator.settings import Settings
from controller.emulator.storage.database import StorageError, opened

log = logging.getLogger(__name__)

_METRIC_NAME = 6
"""So many fields of a row of metrics name it."""
_ENTRIES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Kept:
    """The stores whose content is kept."""

    control_plane: ControlPlane
    metrics: Metrics
    logs: Logs
    images: Images


class Storage:
    """An open file and what of it is up to date."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection = opened(directory)
        self._written: dict[tuple[str, str], Row] = {}
        self._metrics_since = 0
        self._last_entry = 0
        self._complained = False

    def settings(self, chosen: Settings) -> Settings:
        """Return the settings to go on with: the kept clock and, where free, ports; raises StorageError."""
        about = self._about()
        for name in ("project", "region"):
            before, now = about.get(name), getattr(chosen, name)
            if before not in {None, now}:
                self.close()
                raise StorageError(
                    f"{self._directory} holds the state of the {name} '{before}', not of '{now}'; "
                    f"start with --{name} {before}, or choose another directory"
                )
        kept = {name: int(about.get(name, 0)) for name in ("grpc_port", "front_port", "admin_port")}
        return replace(
            chosen,
            start=_start(about.get("now"), chosen),
            grpc_port=chosen.grpc_port or _if_free(chosen.host, kept["grpc_port"]),
            front_port=chosen.front_port or _if_free(chosen.host, kept["front_port"]),
            admin_port=chosen.admin_port or _if_free(chosen.host, kept["admin_port"]),
        )

    def restore(self, kept: Kept) -> None:
        """Fill the stores, which must be empty, with what was kept; raises StorageError."""
        try:
            self._restore(kept)
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"the state in {self._directory} is damaged ({error}); move it away to begin anew"
            ) from None

    def _restore(self, kept: Kept) -> None:
        select = self._connection.execute
        for (image,) in select("SELECT image FROM images"):
            fields = json.loads(image)
            kept.images.put(Image(**{**fields, "command": tuple(fields["command"])}))
        rows = [Row(*row) for row in select("SELECT kind, name, message, rest FROM resources ORDER BY place")]
        kept.control_plane.restore(rows)
        self._written = {(row.kind, row.name): row for row in rows}
        metrics = [(*row[:_METRIC_NAME], json.loads(row[-1])) for row in select("SELECT * FROM metrics")]
        kept.metrics.restore(metrics)
        deletions = {
            name: datetime.fromisoformat(at) for name, at in select("SELECT name, at FROM deleted_logs")
        }
        log_rows.restore(kept.logs, select("SELECT number, entry FROM entries ORDER BY number"), deletions)
        self._last_entry = select("SELECT coalesce(max(number), 0) FROM entries").fetchone()[0]

    def save(self, kept: Kept, now: datetime, about: Mapping[str, str]) -> None:
        """Write what has changed since the last time, whole or not at all.

        A disk that is full does not end the local Cloud Run: it is said once, and tried again.
        """
        try:
            with self._transaction():
                self._save_resources(kept.control_plane)
                self._save_metrics(kept.metrics, now)
                self._save_logs(kept.logs)
                self._save_images(kept.images)
                facts = {**about, "now": now.isoformat()}.items()
                self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", facts)
        except sqlite3.Error as error:
            self._written.clear()  # what of it has arrived is not known any more
            self._metrics_since = 0
            self._last_entry = self._newest_entry()
            if not self._complained:
                self._complained = True
                log.warning("the state cannot be written to %s: %s", self._directory, error)
        else:
            self._complained = False

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _save_resources(self, control_plane: ControlPlane) -> None:
        current = {(row.kind, row.name): row for row in control_plane.export()}
        gone = [(kind, name) for kind, name in self._written if (kind, name) not in current]
        changed = [
            (*key, place, row.message, row.rest)
            for place, (key, row) in enumerate(current.items())
            if self._written.get(key) != row
        ]
        if changed or gone:
            run = self._connection.executemany
            run("DELETE FROM resources WHERE kind = ? AND name = ?", gone)
            run("INSERT OR REPLACE INTO resources VALUES (?, ?, ?, ?, ?)", changed)
            places = ((place, *key) for place, key in enumerate(current))
            run("UPDATE resources SET place = ? WHERE kind = ? AND name = ?", places)
        self._written = current

    def _save_metrics(self, metrics: Metrics, now: datetime) -> None:
        rows = ((*row[:_METRIC_NAME], json.dumps(row[-1])) for row in metrics.export(self._metrics_since))
        self._connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        pruned_to = (metrics.oldest or 1) - 1
        self._connection.execute("DELETE FROM metrics WHERE minute BETWEEN 1 AND ?", (pruned_to,))
        self._metrics_since = int(now.timestamp())

    def _save_logs(self, logs: Logs) -> None:
        while rows := log_rows.rows_after(logs, self._last_entry, _ENTRIES_AT_ONCE):
            self._connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", rows)
            self._last_entry = rows[-1][0]
        self._connection.execute("DELETE FROM entries WHERE number < ?", (logs.oldest,))
        deletions = ((name, at.isoformat()) for name, at in logs.deletions.items())
        self._connection.executemany("INSERT OR REPLACE INTO deleted_logs VALUES (?, ?)", deletions)

    def _save_images(self, images: Images) -> None:
        self._connection.execute("DELETE FROM images")
        rows = ((image.name, json.dumps(asdict(image))) for image in images.all())
        self._connection.executemany("INSERT INTO images VALUES (?, ?)", rows)

    def _about(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT name, value FROM about").fetchall())

    def _newest_entry(self) -> int:
        try:
            found = self._connection.execute("SELECT coalesce(max(number), 0) FROM entries").fetchone()
        except sqlite3.Error:
            return 0
        return int(found[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _start(kept: str | None, chosen: Settings) -> datetime | None:
    """Return where the clock starts: it never goes back behind what was kept."""
    if kept is None:
        return chosen.start
    before = datetime.fromisoformat(kept)
    first = chosen.start or (datetime.now(UTC) if chosen.speed else before)
    return max(before, first)


def _if_free(host: str, port: int) -> int:
    """Return the port if it can be listened on, else 0: any other."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
    return port
