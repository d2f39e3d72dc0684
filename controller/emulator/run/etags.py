"""Etags: the time and name of a version, and what a stale one does."""

import base64
from datetime import datetime

from google.protobuf import message, timestamp_pb2

from controller.emulator.errors import aborted
from controller.emulator.names import short
from controller.emulator.settings import EtagMode


def etag_of(name: str, update_time: datetime) -> str:
    """Return the etag of a version: its time and its name, both in base64, as Google's decode to."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(update_time)
    parts = (stamp.SerializeToString(), name.encode())
    return '"' + "/".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + '"'


def version_of(etag: str) -> str:
    """Return the version in an etag, in microseconds since the epoch as v1 tells it; else the etag itself."""
    stamp = timestamp_pb2.Timestamp()
    encoded = etag.strip('"').split("/")[0]
    try:
        stamp.ParseFromString(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
        return str(stamp.ToMicroseconds())
    except (ValueError, message.DecodeError):  # any text may be sent as an etag
        return etag


def check(mode: EtagMode, name: str, current: str, sent: str) -> None:
    """Refuse a stale etag where etags are enforced; an empty one is never stale."""
    if mode is EtagMode.IGNORE or sent in {"", current}:
        return
    raise aborted(
        f"Conflict for resource '{short(name)}': version '{version_of(sent)}' was specified "
        f"but current version is '{version_of(current)}'."
    )
