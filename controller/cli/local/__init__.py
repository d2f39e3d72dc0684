"""The commands of the local Cloud Run: `canary local ...`."""
