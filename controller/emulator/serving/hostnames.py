"""The host names at which services and their tags answer: put together and taken apart."""

from functools import lru_cache
from typing import NamedTuple

DOMAIN = ".localhost"
_AFTER_TAG = "---"


class Destination(NamedTuple):
    """A service, or with a tag one of its revisions."""

    location: str
    service: str
    tag: str = ""


def hostname(to: Destination, own_region: str) -> str:
    """Return SERVICE.localhost, or SERVICE.REGION.localhost elsewhere than in the emulator's own region.

    For a tag, SERVICE becomes TAG---SERVICE.
    """
    label = f"{to.tag}{_AFTER_TAG}{to.service}" if to.tag else to.service
    return f"{label}{DOMAIN}" if to.location == own_region else f"{label}.{to.location}{DOMAIN}"


@lru_cache(maxsize=1024)
def destination(host: bytes, own_region: str) -> Destination:
    """Return what a Host header names; a port, the case, the ending and a dot after it do not matter."""
    name = host.decode("latin-1").partition(":")[0].lower().removesuffix(".").removesuffix(DOMAIN)
    label, _, region = name.partition(".")
    tag, has_tag, service = label.partition(_AFTER_TAG)
    return Destination(region or own_region, *((service, tag) if has_tag else (label, "")))
