"""A real project as the place of contract tests: services of unique names, deleted after each test."""

import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import google.auth
import pytest
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import run_v2
from google.longrunning import operations_pb2

from .cloud import SECONDS, Cloud

PREFIX = "canary-contract"
LONGEST_SETTLING = 300.0
POLL = 1.0
NO_SUCH_COMMAND = ["/no/such/command"]


@dataclass(frozen=True)
class Place:
    """A real project and region that can be reached, and the image of every container."""

    project: str
    region: str
    image: str
    services: run_v2.ServicesClient
    revisions: run_v2.RevisionsClient


def reach(project: str, region: str, image: str) -> Place | str:
    """Return the place, or the reason why it cannot be reached."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing quota projects and metadata servers
            credentials, _ = google.auth.default()
            services = run_v2.ServicesClient(credentials=credentials)
            revisions = run_v2.RevisionsClient(credentials=credentials)
            parent = f"projects/{project}/locations/{region}"
            request = run_v2.ListServicesRequest(parent=parent, page_size=1)
            services.list_services(request=request, timeout=SECONDS)
    except (GoogleAuthError, exceptions.GoogleAPIError) as error:
        return f"the project '{project}' cannot be reached in {region}: {error}".splitlines()[0]
    return Place(project, region, image, services, revisions)


@dataclass
class RealCloud(Cloud):
    """Cloud Run itself. Every service that is created here is deleted when the test ends."""

    place: Place
    web: str = field(default_factory=lambda: f"{PREFIX}-{uuid.uuid4().hex[:8]}")
    _names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.services = self.place.services
        self.revisions = self.place.revisions
        self.parent = f"projects/{self.place.project}/locations/{self.place.region}"

    def template(self, *, revision: str = "", **env: str) -> run_v2.RevisionTemplate:
        container = run_v2.Container(
            image=self.place.image,
            command=NO_SUCH_COMMAND if env.pop("CRASH", "") else [],
            env=[run_v2.EnvVar(name=name, value=value) for name, value in env.items()],
        )
        return run_v2.RevisionTemplate(revision=revision, containers=[container])

    def create_as(
        self, service: run_v2.Service, name: str = "", *, validate_only: bool = False
    ) -> operations_pb2.Operation:
        self._names.add(name or self.web)
        return super().create_as(service, name, validate_only=validate_only)

    def write(self, service: run_v2.Service, **request: Any) -> operations_pb2.Operation:
        self._names.add(service.name.rsplit("/", 1)[-1])
        return super().write(service, **request)

    def settle(self) -> None:
        deadline = time.monotonic() + LONGEST_SETTLING
        pause = threading.Event()
        for name in sorted(self._names):
            while self._is_busy(name):
                assert time.monotonic() < deadline, f"{name} did not settle in {LONGEST_SETTLING:g} s"
                pause.wait(POLL)

    def delete_all(self) -> None:
        """Delete every service that may have been created, and say which could not be."""
        left = []
        for name in sorted(self._names):
            try:
                self.delete(name)
            except exceptions.NotFound:
                continue
            except exceptions.GoogleAPICallError as error:
                left.append(f"{self.full(name)} ({error.message})")
        assert not left, f"delete by hand: {', '.join(left)}"

    def _is_busy(self, name: str) -> bool:
        try:
            service = self.get(name)
        except exceptions.NotFound:
            return False
        return service.reconciling or "delete_time" in service


@contextmanager
def a_real_cloud(place: Place | str) -> Iterator[RealCloud]:
    """Give a real project for one test, or skip it with the reason."""
    if isinstance(place, str):
        pytest.skip(place)
    cloud = RealCloud(place)
    try:
        yield cloud
    finally:
        cloud.delete_all()
