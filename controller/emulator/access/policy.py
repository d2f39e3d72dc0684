"""An IAM policy: which members hold which roles, and where."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Final

from controller.emulator.access.roles import PREDEFINED

ALL_USERS: Final = "allUsers"
ALL_AUTHENTICATED: Final = "allAuthenticatedUsers"


class ActAs(StrEnum):
    """When a write needs iam.serviceAccounts.actAs: only if it changes the template, or always.

    Whether the real API asks for it on a write of the traffic alone is not established.
    """

    TEMPLATE = "template"
    ALWAYS = "always"


@dataclass(frozen=True)
class Binding:
    """Members that hold a role on a resource and on everything below it."""

    role: str
    """`roles/run.viewer`, or `projects/P/roles/NAME` for a role of the project's own."""
    members: frozenset[str]
    resource: str
    """`projects/P`, or `projects/P/locations/L/services/S`, or `projects/P/serviceAccounts/E`."""

    def covers(self, resource: str) -> bool:
        """Return whether the binding counts for a resource."""
        return resource == self.resource or resource.startswith(f"{self.resource}/")


@dataclass(frozen=True)
class IamPolicy:
    """The roles of a project's own, the bindings of the project, and when actAs is asked for."""

    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Permissions by full name: `projects/P/roles/NAME`."""
    bindings: tuple[Binding, ...] = ()
    act_as: ActAs = ActAs.TEMPLATE

    def permissions_of(self, role: str) -> frozenset[str]:
        """Return what a role holds; nothing if there is no such role."""
        return self.roles.get(role) or PREDEFINED.get(role, frozenset())

    def held(self, members: Iterable[str], resource: str, also: Iterable[Binding] = ()) -> frozenset[str]:
        """Return the permissions that a caller, who is each of the members, holds on a resource."""
        names = frozenset(members)
        bindings = chain(self.bindings, also)
        found = [one.role for one in bindings if one.covers(resource) and names & one.members]
        return frozenset().union(*map(self.permissions_of, found))


def members_of(principal: str, *, is_anonymous: bool) -> frozenset[str]:
    """Return all the members that a caller is."""
    if is_anonymous:
        return frozenset({ALL_USERS})
    name = principal.lower()
    kind = "serviceAccount" if is_service_account(name) else "user"
    return frozenset({ALL_USERS, ALL_AUTHENTICATED, f"{kind}:{name}"})


def is_service_account(email: str) -> bool:
    """Return whether an address is one of Google's service accounts."""
    return email.endswith(".gserviceaccount.com")
