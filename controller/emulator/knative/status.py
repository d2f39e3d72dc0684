"""Traffic and conditions: v1's form and v2's, both as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.emulator.knative.shapes import Json, check_names, without_empty
from controller.emulator.names import short

LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
OF_TARGET = ("latestRevision", "revisionName", "percent", "tag", "url")
STATUS = {"CONDITION_SUCCEEDED": "True", "CONDITION_FAILED": "False"}
REASONS = ("reason", "revisionReason", "executionReason")


def target_to_v2(target: Json, path: str) -> Json:
    """Return v2's traffic target; `url` is Cloud Run's answer and not asked for."""
    check_names(target, OF_TARGET, path)
    is_latest = target.get("latestRevision") or not target.get("revisionName")
    return without_empty(
        {
            "type": LATEST if is_latest else REVISION,
            "revision": target.get("revisionName"),
            "percent": target.get("percent"),
            "tag": target.get("tag"),
        }
    )


def target_to_v1(target: Mapping[str, Any], latest_ready: str | None = None) -> Json:
    """Return v1's target; as a status it names the revision, given the latest ready one ("" = none yet)."""
    is_latest = target.get("type") == LATEST
    revision = short(target.get("revision", "")) or (latest_ready if is_latest else None)
    result = {
        "latestRevision": is_latest or None,
        "revisionName": revision,
        "percent": target.get("percent"),
        "tag": target.get("tag"),
        "url": target.get("uri"),
    }
    return without_empty(result)


def conditions_to_v1(conditions: Sequence[Mapping[str, Any]], *, is_going: bool) -> list[Json]:
    """Return v1's conditions, unknown of what is being deleted: gcloud gives up at one that failed."""
    shown = [condition_to_v1(condition) for condition in conditions]
    return [{**one, "status": "Unknown"} for one in shown] if is_going else shown


def condition_to_v1(condition: Mapping[str, Any]) -> Json:
    """Return v1's condition: three words for the state, and the reason in CamelCase."""
    reason = next((condition[name] for name in REASONS if name in condition), "")
    result = {
        "type": condition.get("type"),
        "status": STATUS.get(condition.get("state", ""), "Unknown"),
        "reason": "".join(word.capitalize() for word in reason.split("_")),
        "severity": condition.get("severity", "").capitalize(),
        "message": condition.get("message"),
        "lastTransitionTime": condition.get("lastTransitionTime"),
    }
    return without_empty(result)
