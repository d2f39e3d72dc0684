"""DRIVES: one pass over a service, and when to pass again."""
