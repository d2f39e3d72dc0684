"""SPEAKS with people and pipelines."""
