"""Aggregation: alignment, then reduction, as a request asks for them."""

from datetime import timedelta
from typing import Any

from google.cloud import monitoring_v3

from controller.emulator.errors import invalid
from controller.emulator.monitoring.alignment import Aligner, align
from controller.emulator.monitoring.grid import Interval, microseconds
from controller.emulator.monitoring.minutes import MINUTE
from controller.emulator.monitoring.reduction import Reducer, reduce
from controller.emulator.monitoring.table import Table

LONGEST_PERIOD = timedelta(weeks=104)


def aggregated(
    table: Table, interval: Interval, oldest: int, aggregation: monitoring_v3.Aggregation
) -> Table:
    """Return the table aligned to the periods of the interval, and reduced by group."""
    aligner, reducer = aggregation.per_series_aligner, aggregation.cross_series_reducer
    if aligner == Aligner.ALIGN_NONE:
        if reducer != Reducer.REDUCE_NONE:
            raise invalid(
                "A cross_series_reducer requires a per_series_aligner other than ALIGN_NONE.", "aggregation"
            )
        return table
    aligned = align(table, interval.windows(_period(aggregation.alignment_period), oldest), aligner)
    if reducer == Reducer.REDUCE_NONE:
        return aligned
    return reduce(aligned, reducer, list(aggregation.group_by_fields))


def _period(value: Any) -> int:
    period = value if isinstance(value, timedelta) else timedelta()
    if not timedelta(seconds=MINUTE) <= period <= LONGEST_PERIOD:
        raise invalid(
            f"aggregation.alignmentPeriod must be at least {MINUTE} seconds, and at most 104 weeks.",
            "aggregation.alignmentPeriod",
        )
    return microseconds(period)
