"""Cloud Logging: what was logged, and how it is asked for."""
