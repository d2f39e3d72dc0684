"""JSON over HTTP for notices: what fails is said without an address or a token, which may be secret."""

import json
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

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
    *,
    in_the_open: bool = False,
) -> bytes:
    """Return the body of a good answer of `who`; raises NotSent, with a hint for the status.

    Without TLS only this machine is asked, or whoever is asked nothing secret, `in_the_open`.
    """
    url, authorization = _address(who, url, in_the_open=in_the_open)
    body = None if value is None else json.dumps(value).encode()
    sent = {
        "User-Agent": USER_AGENT,
        **({} if body is None else {"Content-Type": "application/json"}),
        **authorization,
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


def _address(who: str, url: str, *, in_the_open: bool) -> tuple[str, dict[str, str]]:
    """Return an address without its user and password, which belong to no name, and these as a header."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise NotSent(f"the address of {who} cannot be read") from None  # the cause may quote it
    if parts.scheme != "https" and not (parts.scheme == "http" and (in_the_open or _is_here(host))):
        raise NotSent(f"the address of {who} does not begin with https://")
    user, _, place = parts.netloc.rpartition("@")
    if not user:
        return url, {}
    encoded = b64encode(unquote_to_bytes(user)).decode()
    return parts._replace(netloc=place).geturl(), {"Authorization": f"Basic {encoded}"}


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
