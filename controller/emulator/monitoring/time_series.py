"""Aggregation: alignment, then reduction, as a request asks for them."""

from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration

from controller.emulator.errors import invalid
from controller.emulator.monitoring.alignment import Aligner, align
from controller.emulator.monitoring.grid import SECOND, Interval, microseconds
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.reduction import Reducer, reduce
from controller.emulator.monitoring.table import Table

LONGEST_PERIOD = microseconds(timedelta(weeks=104))


def aggregated(table: Table, interval: Interval, points: Interval, aggregation: Any) -> Table:
    """Return the table aligned to the periods of the interval, and reduced by group.

    `points` is the interval in which there can be any; `aggregation` an Aggregation of protobuf's own kind.
    """
    aligner, reducer = aggregation.per_series_aligner, aggregation.cross_series_reducer
    if aligner == Aligner.ALIGN_NONE:
        if reducer != Reducer.REDUCE_NONE:
            raise invalid(
                "A cross_series_reducer requires a per_series_aligner other than ALIGN_NONE.", "aggregation"
            )
        return table
    aligned = align(table, interval.windows(_period(aggregation.alignment_period), points), aligner)
    if reducer == Reducer.REDUCE_NONE:
        return aligned
    return reduce(aligned, reducer, list(aggregation.group_by_fields))


def _period(value: Duration) -> int:
    period = value.ToMicroseconds()
    if not MINUTE * SECOND <= period <= LONGEST_PERIOD:
        raise invalid(
            f"aggregation.alignmentPeriod must be at least {MINUTE} seconds, and at most 104 weeks.",
            "aggregation.alignmentPeriod",
        )
    return period
