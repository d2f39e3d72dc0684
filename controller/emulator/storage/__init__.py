"""What a local Cloud Run keeps across restarts: one SQLite file in a directory of the user's choice."""
