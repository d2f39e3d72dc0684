"""Resource names: taken apart, put together, and made up for new revisions."""

import hashlib
import random
import re
import uuid
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import grpc

from controller.emulator.errors import ApiError, invalid, violation

SERVICE = re.compile(r"projects/([^/]+)/locations/([^/]+)/services/([^/]+)")
JOB = re.compile(r"projects/([^/]+)/locations/([^/]+)/jobs/([^/]+)")
LOCATION = re.compile(r"projects/([^/]+)/locations/([^/]+)")

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_SERVICE = 49
LONGEST_REVISION = 63
CONSONANTS = "bcdfghjklmnpqrstvwxz"
LEAST_PROJECT_NUMBER = 10**11


class RevisionKey(NamedTuple):
    """What names a revision in metrics and logs."""

    location: str
    service: str
    revision: str


def location_of(parent: str) -> str:
    """Return the region of `projects/P/locations/L`, refusing any other form."""
    if not (match := LOCATION.fullmatch(parent)):
        raise invalid(f"'{parent}' is not of the form projects/PROJECT/locations/REGION.", "parent")
    return match[2]


def check_place(parent: str, project: str, permission: str = "run.services.create") -> None:
    """Refuse to create anything elsewhere than in a region of our own project.

    Another project is refused in the words that a missing permission gets.
    """
    if not DNS_LABEL.fullmatch(region := location_of(parent)):
        raise invalid(
            f"'{region}' in '{parent}' is not a region: it must use only lowercase letters, digits and "
            "hyphens, start with a letter and not end with a hyphen.",
            "parent",
        )
    if not parent.startswith(f"projects/{project}/"):
        raise ApiError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"Permission '{permission}' denied on resource '{parent}' (or resource may not exist).",
        )


def check_service_name(name: str) -> None:
    """Refuse a name that is not `projects/P/locations/L/services/S`."""
    if not SERVICE.fullmatch(name):
        raise invalid(
            f"'{name}' is not of the form projects/PROJECT/locations/REGION/services/SERVICE.", "name"
        )


def check_job_name(name: str) -> None:
    """Refuse a name that is not `projects/P/locations/L/jobs/J`."""
    if not JOB.fullmatch(name):
        raise invalid(f"'{name}' is not of the form projects/PROJECT/locations/REGION/jobs/JOB.", "name")


def check_service_id(service_id: str, field: str = "CreateServiceRequest.service_id") -> None:
    """Refuse what is no DNS label of less than 50 characters; the ids of jobs are of the same form."""
    if not DNS_LABEL.fullmatch(service_id) or len(service_id) > LONGEST_SERVICE:
        raise violation(
            field,
            f"'{service_id}' must use only lowercase letters, digits and hyphens, start with a letter, not "
            "end with a hyphen, and be shorter than 50 characters.",
        )


@lru_cache(maxsize=64)
def project_number(project: str) -> str:
    """Return the number of a project: twelve digits that follow from its id."""
    digest = hashlib.sha256(project.encode()).digest()
    return str(LEAST_PROJECT_NUMBER + int.from_bytes(digest[:8], "big") % (9 * LEAST_PROJECT_NUMBER))


def default_service_account(project: str) -> str:
    """Return the account that revisions run as where nobody chose one."""
    return f"{project_number(project)}-compute@developer.gserviceaccount.com"


def by_id(name: str, project: str) -> str:
    """Return a resource name with the project's id, where it has the project's number."""
    number = f"projects/{project_number(project)}"
    is_number = name == number or name.startswith(f"{number}/")
    return f"projects/{project}{name.removeprefix(number)}" if is_number else name


def uid_of(name: str, create_time: datetime) -> str:
    """Return the unique id of a resource: a UUID4 that follows from its name and its time."""
    digest = hashlib.sha256(f"{name} {create_time.isoformat()}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def short(name: str) -> str:
    """Return the last part of a resource name; a short name stays what it is."""
    return name.rsplit("/", 1)[-1]


def revision_id(service_id: str, number: int, rng: random.Random) -> str:
    """Make up a revision's name as Google does: `service-00003-xkc`, at most 63 characters."""
    ending = f"-{number:05d}-{''.join(rng.choices(CONSONANTS, k=3))}"
    return service_id[: LONGEST_REVISION - len(ending)] + ending


def execution_id(job_id: str, rng: random.Random) -> str:
    """Make up an execution's name as Google does: `job-x7k2p`."""
    return f"{job_id}-{''.join(rng.choices(CONSONANTS + '2456789', k=5))}"
