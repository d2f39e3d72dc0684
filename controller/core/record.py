"""The record: a rollout as the JSON text in the service's annotation, with a format version."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core.mistakes import PolicyInvalid
from controller.core.plain_text import plain
from controller.core.policy import Policy, parse_policy, policy_as_plain
from controller.core.rollout import Phase, Rollout
from controller.core.traffic import ALL
from controller.core.units import shown

ANNOTATION = "cloud-run-canary/rollout"
"""The key of the annotation; Google's and Knative's own name spaces are refused by the API."""

FORMAT = 1
LONGEST_RECORD = 96 * 1024
_REVISION = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[a-z0-9]{1,20}")
_FIRST_YEAR, _LAST_YEAR = 2020, 2199
"""Far from where dates end, so that minutes and weeks can be added and taken away."""


class RecordInvalid(Exception):
    """An annotation that is not a record which this version can read; it must not be overwritten."""

    def __init__(self, why: str) -> None:
        super().__init__(plain(why))


class RecordDamaged(RecordInvalid):
    """An annotation that no version can read."""


class RecordNewer(RecordInvalid):
    """A record written by a newer version."""


def write_record(rollout: Rollout) -> str:
    """Return the rollout as one line of JSON."""
    dumped = _rollouts().dump_python(rollout, mode="json", exclude={"policy"})
    given = {name: value for name, value in dumped.items() if value is not None}
    policy = policy_as_plain(rollout.policy)
    return json.dumps({"format": FORMAT, **given, "policy": policy}, separators=(",", ":"), sort_keys=True)


@lru_cache(maxsize=16)  # pass after pass it is the same text
def parse_record(text: str) -> Rollout:
    """Return the rollout in an annotation; raises RecordDamaged or RecordNewer."""
    read = _parse_json(text)
    version = read.pop("format", None)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordDamaged("it has no format version")
    if version > FORMAT:
        raise RecordNewer(f"it has format {shown(version)}, and this version of canary reads format {FORMAT}")
    unknown = set(read) - {field.name for field in fields(Rollout)}
    if unknown:
        raise RecordDamaged(f"it has an unknown field {shown(min(unknown))}")
    try:
        policy: Policy = parse_policy(read.pop("policy", None))
        rollout: Rollout = _rollouts().validate_python({**read, "policy": policy})
    except PolicyInvalid as invalid:
        raise RecordDamaged(f"its policy is invalid: {invalid}") from None
    except ValidationError as invalid:
        first = invalid.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecordDamaged(f"its field {place!r} is invalid: {first['msg']}") from None
    return _checked(rollout)


def _parse_json(text: str) -> dict[str, Any]:
    if len(text) > LONGEST_RECORD:
        raise RecordDamaged(f"it is longer than {LONGEST_RECORD} characters")
    try:
        read = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise RecordDamaged("it is not JSON") from None
    if not isinstance(read, dict):
        raise RecordDamaged("it is not a JSON object")
    return read


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a field given twice: readers differ in which one they take."""
    read = dict(pairs)
    if len(read) < len(pairs):
        raise ValueError("a field is given twice")
    return read


def _checked(rollout: Rollout) -> Rollout:
    """Refuse a record whose numbers no rollout can have."""
    times = tuple(_times(rollout))
    if any(time.tzinfo is None for time in times):
        raise RecordDamaged("a time in it has no time zone")
    if any(not _FIRST_YEAR <= time.year <= _LAST_YEAR for time in times):
        raise RecordDamaged(f"a time in it is not between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    paused = rollout.phase is Phase.PAUSED
    if paused != (rollout.paused_phase is not None) or paused != (rollout.pause is not None):
        raise RecordDamaged("it does not say rightly what was paused, and why")
    if rollout.paused_phase is Phase.PAUSED or (rollout.paused_phase and rollout.paused_phase.is_terminal):
        raise RecordDamaged("it says that a phase was paused which cannot be")
    steps = len(rollout.policy.steps)
    first = 0 if Phase.STEPPING in {rollout.phase, rollout.paused_phase} else -1
    last = steps - 1 if Phase.STEPPING in {rollout.phase, rollout.paused_phase} else steps
    if Phase.BAKING in {rollout.phase, rollout.paused_phase}:
        first = steps
    if not first <= rollout.step <= last:
        raise RecordDamaged("its step is out of range")
    if not all(_REVISION.fullmatch(name) for name in _names(rollout)) or rollout.stable == rollout.candidate:
        raise RecordDamaged("it does not name its revisions")
    if not all(_ID.fullmatch(name) for name in (rollout.id, *rollout.obeyed)):
        raise RecordDamaged("an id in it is none")
    watched = rollout.phase in {Phase.STEPPING, Phase.BAKING}
    sound = all(0 < window.percent <= ALL for window in rollout.windows)
    closed = all(window.end is not None for window in rollout.windows[:-1])
    if not (sound and closed) or (watched and (rollout.observed_at is None) != (rollout.window is None)):
        raise RecordDamaged("its windows of evidence are not sound")
    return rollout


def _times(rollout: Rollout) -> Iterator[datetime]:
    times = [rollout.started_at, rollout.since, rollout.observed_at]
    times += [time for window in rollout.windows for time in (window.start, window.end)]
    return (time for time in times if time is not None)


def _names(rollout: Rollout) -> Iterator[str]:
    """Yield the names of the service and its revisions that are given: there may be no stable."""
    yield from (rollout.service, rollout.candidate)
    yield from filter(None, (rollout.stable, rollout.newest))


@cache
def _rollouts() -> TypeAdapter[Rollout]:
    return TypeAdapter(Rollout)
