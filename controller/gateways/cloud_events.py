"""CloudEvents 1.0 in structured JSON, to any HTTP address or to a topic of Pub/Sub.

They are a few fields of JSON and one call of REST, written here: the package `cloudevents` and the client of
Pub/Sub would bring more code and more to load than they save.
"""

import json
import os
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final

from controller.core.notices import Notice
from controller.gateways.json_http import call

PUBSUB: Final = "https://pubsub.googleapis.com"
EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
"""The variable by which Google's own clients find a local Pub/Sub."""
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
TYPE: Final = "cloud-run-canary.rollout"
_HINTS: Final = {
    403: "give the controller's service account roles/pubsub.publisher on the topic",
    404: "there is no such topic; create it, or mend its name in the policy",
}


def event_of(notice: Notice, source: str, link: str) -> dict[str, Any]:
    """Return a notice as a CloudEvent; source and id together name it, whoever sends it."""
    rollout = notice.rollout
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": source,
        "type": f"{TYPE}.{notice.kind}",
        "subject": rollout.id,
        "time": notice.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "kind": notice.kind.value,
            "severity": notice.weight.value,
            "title": notice.title,
            "body": notice.body,
            "link": link,
            "service": rollout.service,
            "rollout": rollout.id,
            "stable": rollout.stable,
            "candidate": rollout.candidate,
            "phase": rollout.phase.value,
            "percent": rollout.percent,
            "reason": rollout.reason,
        },
    }


def post(address: str, event: Mapping[str, Any]) -> None:
    """Send an event to an HTTP address; raises NotSent."""
    call("whoever gets the events", "POST", address, {"Content-Type": CONTENT_TYPE}, event)


def publish(topic: str, event: Mapping[str, Any], signed_in: Callable[[str, str], Mapping[str, str]]) -> None:
    """Publish an event to a topic; raises NotSent."""
    local = os.environ.get(EMULATOR, "")
    url = f"{f'http://{local}' if local else PUBSUB}/v1/{topic}:publish"
    data = b64encode(json.dumps(event).encode()).decode()
    messages = {"messages": [{"data": data, "attributes": {"content-type": CONTENT_TYPE}}]}
    headers = {} if local else signed_in("POST", url)
    call("Pub/Sub", "POST", url, headers, messages, _HINTS, in_the_open=bool(local))
