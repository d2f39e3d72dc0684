"""Canary rollouts for Google Cloud Run."""
