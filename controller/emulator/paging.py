"""Lists in pages."""

import re
from collections.abc import Sequence
from typing import TypeVar

from controller.emulator.errors import invalid

T = TypeVar("T")
LARGEST_PAGE = 100
_PLACE = re.compile(r"[0-9]{0,12}")


def paged(found: Sequence[T], size: int, token: str, largest: int = LARGEST_PAGE) -> tuple[Sequence[T], str]:
    """Return one page and the token of the next ("" = the last). The token is the place to go on from."""
    if size < 0:
        raise invalid(f"Invalid page size {size}: it must not be negative.", "page_size")
    if not _PLACE.fullmatch(token):
        raise invalid(f"Invalid page token '{token:.100}'.", "page_token")
    start = int(token or 0)
    end = start + (min(size, largest) or largest)
    return found[start:end], str(end) if end < len(found) else ""
