"""PRETENDS to be Google: a local Cloud Run with Monitoring and Logging. Imports nothing of ours."""
