"""FORESEES: what a policy would do, on drawn traffic and by the real decisions."""
