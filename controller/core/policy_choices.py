"""The choices of a policy: fields whose values are a few words."""

from enum import StrEnum
from functools import partial

from pydantic import BeforeValidator, WithJsonSchema

from controller.core.mistakes import nearest
from controller.core.units import UnitInvalid, shown


class AdvanceOn(StrEnum):
    """What lets a step pass, once its minimum of time and requests is there."""

    NO_HARM = "no_harm"
    PROVEN = "proven"


class WhenUnsure(StrEnum):
    """What happens when a step reaches its limit without a verdict."""

    HOLD = "hold"
    ADVANCE = "advance"
    ROLLBACK = "rollback"


class AfterPromotion(StrEnum):
    """How the traffic is left when the candidate has been promoted."""

    AS_FOUND = "as_found"
    PINNED = "pinned"
    LATEST = "latest"


class OnNewRevision(StrEnum):
    """What a newer revision does to a rollout that is under way."""

    SUPERSEDE = "supersede"
    QUEUE = "queue"
    IGNORE = "ignore"


class OnDeadline(StrEnum):
    """What happens when the candidate is not ready in time."""

    ROLLBACK = "rollback"
    REPORT = "report"


class OnHarm(StrEnum):
    """What a scheduled check does where the revision that serves is harmful."""

    ALERT = "alert"
    ROLLBACK = "rollback"


class NoticeKind(StrEnum):
    """What people are told of a rollout."""

    STARTED = "started"
    STEP = "step"
    HELD = "held"
    ROLLED_BACK = "rolled_back"
    PROMOTED = "promoted"
    FAILED = "failed"
    SUPERSEDED = "superseded"


def _parse_choice(choices: type[StrEnum], value: object) -> StrEnum:
    if isinstance(value, str) and value in list(choices):
        return choices(value)
    raise UnitInvalid(f"expected {' or '.join(choices)}, not {shown(value)}{nearest(value, choices)}")


def choice(choices: type[StrEnum]) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return how a choice is read and described."""
    schema = WithJsonSchema(
        {
            "title": "one of " + ", ".join(choices),
            "type": "string",
            "enum": [str(each) for each in choices],
        }
    )
    return BeforeValidator(partial(_parse_choice, choices)), schema
