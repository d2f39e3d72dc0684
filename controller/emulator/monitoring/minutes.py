"""The whole minutes at which Cloud Run's metrics are sampled."""

import math

MINUTE = 60
"""In seconds."""


def minute_end(seconds: float) -> int:
    """Return the end of the minute (start, end] that an instant belongs to, in epoch seconds."""
    return math.ceil(seconds / MINUTE) * MINUTE
