"""The one project that there is; Monitoring answers for every other as for one that may not be read."""

import re

import grpc

from controller.emulator.errors import ApiError, invalid
from controller.emulator.names import by_id


def check_project(name: str, project: str, permission: str) -> None:
    """Refuse what is no `projects/P`, and any P but ours, in the words that a missing permission gets.

    P is the id of the project or its number.
    """
    found = re.fullmatch(r"projects/([^/]+)", by_id(name, project))
    if found is None:
        raise invalid(f"Name must begin with 'projects/PROJECT', got '{name[:100]}'.", "name")
    if found[1] != project:
        raise ApiError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"Permission {permission} denied (or the resource may not exist).",
        )
