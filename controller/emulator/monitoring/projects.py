"""The one project that there is; Monitoring answers for every other as for one that may not be read."""

import re

import grpc

from controller.emulator.errors import ApiError, invalid


def check_project(name: str, project: str, permission: str) -> None:
    """Refuse what is no `projects/P`, and any P but ours, in the words that a missing permission gets."""
    found = re.fullmatch(r"projects/([^/]+)", name)
    if found is None:
        raise invalid(f"Name must begin with 'projects/PROJECT', got '{name}'.", "name")
    if found[1] != project:
        raise ApiError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"Permission {permission} denied (or the resource may not exist).",
        )
