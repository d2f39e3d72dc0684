"""Faults on demand: what can be made to go wrong, when, and the gate at which it does."""
