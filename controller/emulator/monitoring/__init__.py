"""Cloud Monitoring: what was measured, and how it is asked for."""
