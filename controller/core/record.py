"""The record: a rollout as the JSON text in the service's annotation, with a format version."""

import json
from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from controller.core.policy import Policy, PolicyInvalid, parse_policy, policy_as_plain
from controller.core.rollout import Phase, Rollout

ANNOTATION = "cloud-run-canary/rollout"
"""The key of the annotation; Google's and Knative's own name spaces are refused by the API."""

FORMAT = 1
LONGEST_RECORD = 64 * 1024


class RecordInvalid(Exception):
    """An annotation that is not a record which this version can read; it must not be overwritten."""


class RecordDamaged(RecordInvalid):
    """An annotation that no version can read."""


class RecordNewer(RecordInvalid):
    """A record written by a newer version."""


def write_record(rollout: Rollout) -> str:
    """Return the rollout as one line of JSON."""
    plain = _rollouts().dump_python(rollout, mode="json", exclude={"policy"})
    given = {name: value for name, value in plain.items() if value is not None}
    policy = policy_as_plain(rollout.policy)
    return json.dumps({"format": FORMAT, **given, "policy": policy}, separators=(",", ":"), sort_keys=True)


@lru_cache(maxsize=16)  # pass after pass it is the same text
def parse_record(text: str) -> Rollout:
    """Return the rollout in an annotation; raises RecordDamaged or RecordNewer."""
    plain = _parse_json(text)
    version = plain.pop("format", None)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordDamaged("it has no format version")
    if version > FORMAT:
        raise RecordNewer(f"it has format {version}, and this version of canary reads format {FORMAT}")
    unknown = set(plain) - {field.name for field in fields(Rollout)}
    if unknown:
        raise RecordDamaged(f"it has an unknown field {min(unknown)!r}")
    try:
        policy: Policy = parse_policy(plain.pop("policy", None))
        rollout: Rollout = _rollouts().validate_python({**plain, "policy": policy})
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
        plain = json.loads(text)
    except (ValueError, RecursionError):
        raise RecordDamaged("it is not JSON") from None
    if not isinstance(plain, dict):
        raise RecordDamaged("it is not a JSON object")
    return plain


def _checked(rollout: Rollout) -> Rollout:
    """Refuse a record whose numbers no rollout can have."""
    times = [rollout.started_at, rollout.since, rollout.observed_at]
    times += [time for window in rollout.windows for time in (window.start, window.end)]
    if any(time is not None and time.tzinfo is None for time in times):
        raise RecordDamaged("a time in it has no time zone")
    paused = rollout.phase is Phase.PAUSED
    if paused != (rollout.paused_phase is not None) or paused != (rollout.pause is not None):
        raise RecordDamaged("it does not say rightly what was paused, and why")
    if rollout.paused_phase is Phase.PAUSED or (rollout.paused_phase and rollout.paused_phase.is_terminal):
        raise RecordDamaged("it says that a phase was paused which cannot be")
    steps = len(rollout.policy.steps)
    first = 0 if Phase.STEPPING in {rollout.phase, rollout.paused_phase} else -1
    last = steps - 1 if Phase.STEPPING in {rollout.phase, rollout.paused_phase} else steps
    if not first <= rollout.step <= last:
        raise RecordDamaged("its step is out of range")
    if not (rollout.candidate and rollout.id) or rollout.stable == rollout.candidate:
        raise RecordDamaged("it does not name its revisions")
    return rollout


@cache
def _rollouts() -> TypeAdapter[Rollout]:
    return TypeAdapter(Rollout)
