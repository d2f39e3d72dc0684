"""JSON over HTTP for notices: what fails is said without an address or a token, which may be secret."""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from controller.gateways.timed_http import NoAnswer, fetched

SECONDS: Final = 5.0
"""Real seconds for one request, its answer included."""
USER_AGENT: Final = "cloud-run-canary"
_GOOD: Final = range(200, 300)


class NotSent(Exception):
    """A notice that was not sent, or cannot be, and why, without anything secret."""


def call(
    who: str,
    method: str,
    url: str,
    headers: Mapping[str, str],
    value: Any = None,
    hints: Mapping[int, str] | None = None,
) -> bytes:
    """Return the body of a good answer of `who`; raises NotSent, with a hint for the status."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise NotSent(f"the address of {who} does not begin with https://")
    body = None if value is None else json.dumps(value).encode()
    sent = {
        "User-Agent": USER_AGENT,
        **({} if body is None else {"Content-Type": "application/json"}),
        **headers,
    }
    try:
        status, answer = fetched(method, url, sent, seconds=SECONDS, body=body)
    except NoAnswer as error:
        why = "gave no answer in time" if error.reached else "cannot be reached"
        raise NotSent(f"{who} {why}") from None  # the cause may quote the address
    if status not in _GOOD:
        hint = (hints or {}).get(status, "")
        raise NotSent(f"{who} answered with {status}{hint and '; ' + hint}")
    return answer
