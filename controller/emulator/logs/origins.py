"""Where entries come from: made once, and shared by all the entries of an instance."""

from collections.abc import Mapping
from typing import Any

from controller.emulator.logs.entries import JOB, REVISION, Origin
from controller.emulator.names import RevisionKey

MOST_ORIGINS = 10_000
"""How many are remembered to be shared; the entries keep theirs in any case."""


class Origins:
    """Gives the same object for the same labels."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._known: dict[Any, Origin] = {}
        self._user_labels: dict[RevisionKey, Mapping[str, str]] = {}

    def of_instance(self, key: RevisionKey, log_id: str, instance: str) -> Origin:
        """Return the origin of what an instance of a revision logs ("" = no certain instance)."""
        return self._known.get((key, log_id, instance)) or self._new_instance(key, log_id, instance)

    def of_task(self, location: str, job: str, log_id: str, labels: Mapping[str, str]) -> Origin:
        """Return the origin of what a task of a job logs; the labels tell of which execution and attempt."""
        resource_labels = {"project_id": self._project, "job_name": job, "location": location}
        return self.of_resource(self._project, log_id, JOB, resource_labels, labels)

    def of_resource(
        self,
        project: str,
        log_id: str,
        resource_type: str,
        resource_labels: Mapping[str, str],
        labels: Mapping[str, str],
    ) -> Origin:
        """Return the origin of what others write."""
        key = (
            project,
            log_id,
            resource_type,
            tuple(sorted(resource_labels.items())),
            tuple(sorted(labels.items())),
        )
        origin = self._known.get(key)
        return origin or self._kept(key, Origin(project, log_id, resource_type, resource_labels, labels))

    def with_labels(self, origin: Origin, labels: Mapping[str, str]) -> Origin:
        """Return the origin with more labels."""
        return self.of_resource(
            origin.project,
            origin.log_id,
            origin.resource_type,
            origin.resource_labels,
            {**origin.labels, **labels},
        )

    def label(self, key: RevisionKey, labels: Mapping[str, str]) -> None:
        """Give the entries of a revision the labels that its users have chosen too, from now on."""
        if labels:
            self._user_labels[key] = dict(labels)
            self._known.clear()

    def _new_instance(self, key: RevisionKey, log_id: str, instance: str) -> Origin:
        resource_labels = {
            "project_id": self._project,
            "location": key.location,
            "service_name": key.service,
            "revision_name": key.revision,
            "configuration_name": key.service,
        }
        labels = {**self._user_labels.get(key, {}), **({"instanceId": instance} if instance else {})}
        origin = Origin(self._project, log_id, REVISION, resource_labels, labels)
        return self._kept((key, log_id, instance), origin)

    def _kept(self, key: Any, origin: Origin) -> Origin:
        if len(self._known) >= MOST_ORIGINS:
            self._known.clear()
        self._known[key] = origin
        return origin
