"""ListLogEntries: which entries a page has, and where the next one goes on."""

import asyncio
import base64
import hashlib
import re
from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from google.cloud.logging_v2 import types

from controller.emulator.calls import Call
from controller.emulator.errors import ApiError, invalid, unimplemented
from controller.emulator.filter_syntax import Predicate, comparisons_in
from controller.emulator.logs.entries import Entry
from controller.emulator.logs.filter import parse_log_filter, times_in
from controller.emulator.logs.messages import show
from controller.emulator.logs.store import Logs
from controller.emulator.names import by_id
from controller.emulator.settings import Settings

LARGEST_PAGE = 1000
DEFAULT_PAGE = 50
LONGEST_FILTER = 20_000
MOST_RESOURCES = 100
TOKEN_LIFE = timedelta(hours=24)
IS_DESCENDING = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}
USUAL_COMPARISONS = 10
"""Of a filter; for a longer one fewer entries are looked at, so that a page always takes about as long."""
COMPARISONS_AT_ONCE = 20_000
"""Then other work has its turn: requests at the front do not wait for a list."""
_PROJECT = re.compile(r"projects/([^/]+)")
_ABOVE_PROJECTS = re.compile(r"(folders|organizations|billingAccounts)/[^/]+|projects/[^/]+/locations/.+")
ListLogEntriesResponse: Any = types.ListLogEntriesResponse.pb()
_timestamp = attrgetter("timestamp")


class Key(NamedTuple):
    """The place of an entry in the order of a list."""

    timestamp: datetime
    insert_id: str


class Place(NamedTuple):
    """Where a page begins: behind a key, among what could be read when the first page was."""

    read_at: datetime
    after: Key | None


class Query(NamedTuple):
    """What is asked for."""

    projects: frozenset[str]
    matches: Predicate[Entry]
    is_descending: bool
    digest: str
    """Of all of it; a page token is good for the same query only."""


class Listing:
    """Reads the store page by page.

    A page ends where it is full, where the store ends, or where it has looked at as many entries as
    the settings allow; then it may be empty, and have a token to go on with.
    """

    def __init__(self, store: Logs, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def answer(self, call: Call, request: types.ListLogEntriesRequest) -> Any:
        """Answer ListLogEntries."""
        query = _query_of(request, self._settings.project)
        place = _place_of(request.page_token, query, call.now)
        size = request.page_size or DEFAULT_PAGE
        found, after = await self._page(query, place, size)
        answer = ListLogEntriesResponse()
        for entry in found:
            show(answer.entries.add(), entry)
        if after is not None:
            answer.next_page_token = _token(query, Place(place.read_at, after))
        return answer

    async def _page(self, query: Query, place: Place, size: int) -> tuple[list[Entry], Key | None]:
        """Return the entries of a page, and the key that the next one begins behind."""
        entries = self._candidates(query, place)
        comparisons = max(USUAL_COMPARISONS, comparisons_in(query.matches))
        most = max(1, self._settings.log_scan_limit * USUAL_COMPARISONS // comparisons)
        step = max(1, COMPARISONS_AT_ONCE // comparisons)
        found: list[Entry] = []
        looked_at = 0
        while looked_at < min(most, len(entries)) and len(found) <= size:
            end = _end_of_instant(entries, min(looked_at + step, most))
            matching = [
                entry
                for entry in entries[looked_at:end]
                if query.matches(entry) and entry.origin.project in query.projects
            ]
            found += _unique(matching, query)
            looked_at = end
            await asyncio.sleep(0)
        if len(found) > size:
            return found[:size], _key(found[size - 1])
        if looked_at < len(entries):
            return found, _behind(entries[looked_at - 1], query)
        return found, None

    def _candidates(self, query: Query, place: Place) -> list[Entry]:
        """Return what can be read and has a timestamp that the filter can let through, in order of time."""
        latest = place.read_at - self._settings.log_delay
        entries = [entry for entry in self._store.all() if entry.received <= latest]
        entries.sort(key=_timestamp)
        first, last = times_in(query.matches)
        if place.after is not None and query.is_descending:
            last = min(last, place.after.timestamp)
        elif place.after is not None:
            first = max(first, place.after.timestamp)
        low = bisect_left(entries, first, key=_timestamp)
        high = bisect_right(entries, last, key=_timestamp)
        entries = entries[low:high][::-1] if query.is_descending else entries[low:high]
        return entries if place.after is None else _beyond(entries, place.after, query)


def _query_of(request: types.ListLogEntriesRequest, own: str) -> Query:
    names = [by_id(name, own) for name in request.resource_names]
    if not 0 < len(names) <= MOST_RESOURCES:
        raise invalid(f"resource_names must have 1 to {MOST_RESOURCES} names.", "resource_names")
    if not 0 <= request.page_size <= LARGEST_PAGE:
        raise invalid(
            f"page_size must be between 0 and {LARGEST_PAGE}, not {request.page_size}.", "page_size"
        )
    if request.order_by not in IS_DESCENDING:
        raise invalid('order_by must be "timestamp asc" or "timestamp desc".', "order_by")
    if len(request.filter) > LONGEST_FILTER:
        raise invalid(f"filter has more than {LONGEST_FILTER} characters.", "filter")
    is_descending = IS_DESCENDING[request.order_by]
    asked = "\n".join([*sorted(names), str(is_descending), request.filter])
    return Query(
        frozenset(map(project_of, names)),
        parse_log_filter(request.filter),
        is_descending,
        hashlib.sha256(asked.encode()).hexdigest()[:16],
    )


def project_of(name: str) -> str:
    """Return the project of `projects/P`, refusing any other form."""
    if match := _PROJECT.fullmatch(name):
        return match[1]
    if _ABOVE_PROJECTS.fullmatch(name):
        raise unimplemented(f"The local Cloud Logging has logs of projects only, not of '{name}'.")
    raise invalid(f"'{name}' is not of the form projects/PROJECT.", "resource_names")


def _end_of_instant(entries: list[Entry], end: int) -> int:
    """Return where a piece of the list ends that cuts no two entries of one instant apart."""
    while 0 < end < len(entries) and entries[end].timestamp == entries[end - 1].timestamp:
        end += 1
    return min(end, len(entries))


def _beyond(entries: list[Entry], after: Key, query: Query) -> list[Entry]:
    """Return a list that begins at the instant of a key, without what is not behind the key."""
    end = 0
    while end < len(entries) and entries[end].timestamp == after.timestamp:
        end += 1
    left = [one for one in entries[:end] if (_key(one) < after if query.is_descending else _key(one) > after)]
    return left + entries[end:]


def _unique(entries: list[Entry], query: Query) -> list[Entry]:
    """Return entries in order, without duplicates.

    Duplicates have the project, the timestamp and the insert id in common; the first received stays.
    """
    unique: dict[tuple[Key, str], Entry] = {}
    for entry in entries if not query.is_descending else reversed(entries):
        unique.setdefault((_key(entry), entry.origin.project), entry)
    return [unique[key] for key in sorted(unique, reverse=query.is_descending)]


def _key(entry: Entry) -> Key:
    return Key(entry.timestamp, entry.insert_id)


def _behind(entry: Entry, query: Query) -> Key:
    """Return the key behind all the entries of an instant."""
    return Key(entry.timestamp, "" if query.is_descending else chr(0x10FFFF))


def _token(query: Query, place: Place) -> str:
    after = place.after or Key(place.read_at, "")
    text = f"{query.digest}|{place.read_at.isoformat()}|{after.timestamp.isoformat()}|{after.insert_id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _place_of(token: str, query: Query, now: datetime) -> Place:
    if not token:
        return Place(now, None)
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        digest, read_at, timestamp, insert_id = text.split("|", 3)
        place = Place(_aware(read_at), Key(_aware(timestamp), insert_id))
    except ValueError:
        raise _bad_token(f"'{token[:100]}' is not one of this service") from None
    if digest != query.digest:
        raise _bad_token("it is of a list with another filter, order or resource_names")
    if now - place.read_at > TOKEN_LIFE:
        raise _bad_token("it is older than 24 hours")
    return place


def _aware(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found


def _bad_token(why: str) -> ApiError:
    return invalid(f"Invalid page token: {why}. Begin again without a token.", "page_token")
