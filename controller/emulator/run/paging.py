"""Lists in pages."""

from collections.abc import Sequence
from typing import TypeVar

from controller.emulator.errors import invalid

T = TypeVar("T")
LARGEST_PAGE = 100


def paged(found: Sequence[T], size: int, token: str) -> tuple[Sequence[T], str]:
    """Return one page and the token of the next ("" = the last). The token is the place to go on from."""
    if size < 0:
        raise invalid(f"Invalid page size {size}: it must not be negative.", "page_size")
    if token and not token.isdecimal():
        raise invalid(f"Invalid page token '{token}'.", "page_token")
    start = int(token or 0)
    end = start + (min(size, LARGEST_PAGE) or LARGEST_PAGE)
    return found[start:end], str(end) if end < len(found) else ""
