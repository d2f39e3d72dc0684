"""DECIDES. Pure: no input or output, no clock, no randomness, no logging, nothing of Google."""
