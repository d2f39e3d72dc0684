"""Pages of ListTimeSeries: which points go on which page, and the bytes of one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from google.cloud import monitoring_v3

from controller.emulator.errors import invalid
from controller.emulator.monitoring import wire
from controller.emulator.monitoring.catalog import Row
from controller.emulator.monitoring.filter import Labels
from controller.emulator.monitoring.table import Table

LARGEST_PAGE = 100_000

_TOKEN = re.compile(r"([0-9]{1,15})@([0-9]{1,18})")
_Response: Any = monitoring_v3.ListTimeSeriesResponse.pb()


@dataclass(frozen=True)
class Page:
    """Where a page begins, and the instant at which the first page was read, so that all pages agree."""

    offset: int
    read_at: int
    """In microseconds since the epoch."""
    size: int

    @classmethod
    def parse(cls, token: str, page_size: int, now: int) -> "Page":
        """Read a page token and size; an empty token is the first page, and size 0 the largest."""
        if page_size < 0:
            raise invalid(f"Field pageSize had an invalid value of {page_size}.", "page_size")
        size = min(page_size or LARGEST_PAGE, LARGEST_PAGE)
        if not token:
            return cls(0, now, size)
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise invalid(f"Invalid page token '{token[:100]}'.", "page_token")
        return cls(int(found[1]), min(int(found[2]), now), size)

    def next(self) -> str:
        """Return the token of the page after this one."""
        return f"{self.offset + self.size}@{self.read_at}"


class _Shown(NamedTuple):
    """What a page shows of one series: its points have no gaps any more."""

    labels: Labels
    intervals: list[bytes]
    values: Row


def write_page(
    metric_type: str, table: Table, page: Page, *, headers_only: bool, errors: Sequence[str]
) -> bytes:
    """Return one ListTimeSeriesResponse, encoded. Its size counts points, of headers the series."""
    shown, is_last = _headers(table, page) if headers_only else _points(table, page)
    shape = table.shape
    value_fields = wire.value_fields(shape.value_type)
    pieces: list[bytes] = []
    for labels, intervals, values in shown:
        header = wire.header(metric_type, *shape, tuple(labels.items()))
        points = wire.points(intervals, value_fields(values))
        pieces += (wire.field_start(1, len(header) + len(points)), header, points)
    rest = _Response(next_page_token="" if is_last else page.next(), unit=shape.unit)
    for message in errors:
        rest.execution_errors.add(code=grpc.StatusCode.UNAVAILABLE.value[0], message=message)
    return b"".join([*pieces, rest.SerializeToString()])


def _headers(table: Table, page: Page) -> tuple[list[_Shown], bool]:
    end = page.offset + page.size
    return [_Shown(labels, [], []) for labels, _ in table.rows[page.offset : end]], end >= len(table.rows)


def _points(table: Table, page: Page) -> tuple[list[_Shown], bool]:
    """Return the points of a page, and whether it is the last one.

    A series may begin on one page and go on in the next.
    """
    every = wire.interval_fields(table.grid, table.shape.kind)
    shown: list[_Shown] = []
    first, end, reached = page.offset, page.offset + page.size, 0
    for labels, row in table.rows:
        if reached >= end:
            return shown, False
        length = len(row) - row.count(None)
        if reached + length > first:
            one = _Shown(labels, every, row) if length == len(row) else _without_gaps(labels, every, row)
            part = slice(max(0, first - reached), end - reached)
            shown.append(_Shown(labels, one.intervals[part], one.values[part]))
        reached += length
    return shown, reached <= end


def _without_gaps(labels: Labels, intervals: list[bytes], row: Row) -> _Shown:
    present = [(interval, value) for interval, value in zip(intervals, row, strict=True) if value is not None]
    return _Shown(labels, [interval for interval, _ in present], [value for _, value in present])
