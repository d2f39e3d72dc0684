"""WriteLogEntries: what is refused, and what is filled in."""

import re
from datetime import datetime, timedelta
from typing import Any

from google.cloud.logging_v2 import types
from google.rpc import status_pb2

from controller.emulator.calls import Call
from controller.emulator.errors import ApiError, invalid
from controller.emulator.logs.entries import Entry
from controller.emulator.logs.lines import FURTHEST_AHEAD, FURTHEST_BACK
from controller.emulator.logs.messages import entry_of, log_id_of
from controller.emulator.logs.store import Logs
from controller.emulator.names import by_id

LARGEST_ENTRY = 256 * 1024
LARGEST_REQUEST = 10 * 1024 * 1024
MOST_LABELS = 64
LONGEST_LABEL_KEY = 512
LONGEST_LABEL = 64 * 1024
LONGEST_LOG_ID = 511
_LOG_ID = re.compile(r"[A-Za-z0-9/_.-]+")
PartialErrors: Any = types.WriteLogEntriesPartialErrors.pb()
WriteLogEntriesRequest: Any = types.WriteLogEntriesRequest.pb()


class Writing:
    """Adds to the store what others write."""

    def __init__(self, store: Logs) -> None:
        self._store = store

    def write(self, call: Call, request: types.WriteLogEntriesRequest) -> types.WriteLogEntriesResponse:
        """Answer WriteLogEntries: all entries or none, or with `partial_success` those that can be."""
        message = types.WriteLogEntriesRequest.pb(request)
        if message.ByteSize() > LARGEST_REQUEST:
            raise invalid(f"The request is larger than {LARGEST_REQUEST} bytes.", "entries")
        entries: list[Entry] = []
        errors: dict[int, ApiError] = {}
        for index, one in enumerate(message.entries):
            try:
                entries.append(self._entry(one, message, call.now))
            except ApiError as error:
                errors[index] = error
        if errors and not (request.partial_success and entries):
            raise next(iter(errors.values()))
        if not request.dry_run:
            for entry in entries:
                self._store.add(entry)
        if errors:
            raise _partial(errors)
        return types.WriteLogEntriesResponse()

    def _entry(self, entry: Any, request: Any, now: datetime) -> Entry:
        if entry.ByteSize() > LARGEST_ENTRY:
            raise invalid(f"Log entry with size {entry.ByteSize()} exceeds maximum size of 256.0K", "entries")
        project, log_id = self._log_of(entry.log_name or request.log_name)
        resource = entry.resource if entry.HasField("resource") else request.resource
        origin = self._store.origins.of_resource(
            project,
            log_id,
            resource.type or "global",
            {"project_id": project, **resource.labels},
            _labels(entry, request),
        )
        return entry_of(entry, self._store.next_number(), origin, _timestamp(entry, now), now)

    def _log_of(self, log_name: str) -> tuple[str, str]:
        project, log_id = log_id_of(by_id(log_name, self._store.project))
        if not project or not _LOG_ID.fullmatch(log_id) or len(log_id) > LONGEST_LOG_ID:
            raise invalid(
                f"'{log_name[:100]}' is not of the form projects/PROJECT/logs/LOG_ID, with a LOG_ID of at "
                f"most {LONGEST_LOG_ID} letters, digits and / _ - . where / is written %2F.",
                "log_name",
            )
        return project, log_id


def _labels(entry: Any, request: Any) -> dict[str, str]:
    """Return the labels of an entry and of its request, cut where they are too long."""
    labels = {**request.labels, **entry.labels}
    if len(labels) > MOST_LABELS:
        raise invalid(
            f"A log entry may have {MOST_LABELS} labels at most, this one has {len(labels)}.", "labels"
        )
    return {_cut(key, LONGEST_LABEL_KEY): _cut(value, LONGEST_LABEL) for key, value in labels.items()}


def _cut(text: str, longest: int) -> str:
    """Cut a text to so many bytes, the last of which are an ellipsis."""
    encoded = text.encode()
    return text if len(encoded) <= longest else f"{encoded[: longest - 3].decode(errors='ignore')}\u2026"


def _timestamp(entry: Any, now: datetime) -> datetime:
    if not entry.HasField("timestamp"):
        return now
    try:
        timestamp: datetime = entry.timestamp.ToDatetime(now.tzinfo)
    except ValueError as error:
        raise invalid(f"timestamp: {error}", "timestamp") from None
    if timestamp > now + FURTHEST_AHEAD:
        raise invalid("Log entry timestamps may not be more than 24 hours in the future.", "timestamp")
    if timestamp < now - FURTHEST_BACK:
        raise invalid(
            f"Log entry timestamps may not be further back than logs are kept ({_days(FURTHEST_BACK)}).",
            "timestamp",
        )
    return timestamp


def _days(length: timedelta) -> str:
    return f"{length.days} days"


def _partial(errors: dict[int, ApiError]) -> ApiError:
    """Return the first of the errors, with all of them in its details."""
    details = PartialErrors()
    for index, error in errors.items():
        status = status_pb2.Status(code=error.code.value[0], message=error.message)
        details.log_entry_errors[index].CopyFrom(status)
    first = next(iter(errors.values()))
    return ApiError(first.code, first.message, details=(details,))
