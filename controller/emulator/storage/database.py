"""The SQLite file: its tables, and the errors of opening it in words."""

import sqlite3
from pathlib import Path

FILE = "state.sqlite3"
VERSION = "1"
_LOCK_SECONDS = 1.0
_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE resources (
    kind TEXT, name TEXT, place INTEGER NOT NULL, message BLOB NOT NULL, rest TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE metrics (
    kind TEXT, location TEXT, service TEXT, revision TEXT, code INTEGER, minute INTEGER,
    listed TEXT NOT NULL,
    PRIMARY KEY (kind, location, service, revision, code, minute)
) STRICT;
CREATE TABLE entries (number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE deleted_logs (name TEXT PRIMARY KEY, at TEXT NOT NULL) STRICT;
CREATE TABLE images (name TEXT PRIMARY KEY, image TEXT NOT NULL) STRICT;
"""


class StorageError(OSError):
    """Kept state that cannot be used; the text says where, why, and what to do."""


def opened(directory: Path) -> sqlite3.Connection:
    """Open the file, making it if need be, for this process alone; raises StorageError."""
    path = directory / FILE
    try:
        directory.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the state cannot be kept in {directory}: {error}") from None
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        if "locked" in str(error):
            raise StorageError(f"{path} is in use by another local Cloud Run; end that one first") from None
        raise StorageError(f"{path} cannot be read ({error}); move it away to begin anew") from None
    except StorageError:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO about VALUES ('version', ?)", (VERSION,))
    connection.execute("COMMIT")
    found = connection.execute("SELECT value FROM about WHERE name = 'version'").fetchone()
    if found != (VERSION,):
        raise StorageError(
            f"{path} was written by another version of the local Cloud Run; move it away to begin anew"
        )
