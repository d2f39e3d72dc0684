"""What can be seen of the service inside the local Cloud Run, without the controller's gateways."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.cloud import run_v2
from world import CONTROLLER, SERVICE

from controller.core.record import ANNOTATION, RecordInvalid, parse_record
from controller.core.rollout import Phase, Rollout
from controller.emulator.server import LocalCloudRun
from controller.gateways.audit_log import LOG_ID

OURS = "cloud-run-canary/"
"""What the keys of the controller's own annotations begin with."""
OWN_TAG = re.compile(r"(canary|stable)-[0-9a-f]{8}")


@dataclass(frozen=True)
class Sight:
    """The service at one moment: what was asked for, what is in force, and what is on record."""

    elapsed: timedelta
    generation: int
    etag: str
    writer: str
    """Who wrote last."""
    newest: str
    calm: bool
    """Whether nothing is being changed."""
    asked: Mapping[str, int]
    """The percent of the users that each revision is to have."""
    asked_of_latest: bool
    shown: int
    """The sum of the percents that are said to be served."""
    in_force: Mapping[str, int]
    """The percent of the users that each revision has."""
    tags: Mapping[str, str]
    annotations: Mapping[str, str]
    ready: frozenset[str]
    text: str
    """The record as it is written."""
    rollout: Rollout | None

    @property
    def foreign_tags(self) -> dict[str, str]:
        """The tags of the service's owner."""
        return {tag: revision for tag, revision in self.tags.items() if not OWN_TAG.fullmatch(tag)}

    @property
    def own_tags(self) -> set[str]:
        """The tags of the controller."""
        return {tag for tag in self.tags if OWN_TAG.fullmatch(tag)}

    @property
    def foreign_annotations(self) -> dict[str, str]:
        """The annotations of the service's owner."""
        return {key: text for key, text in self.annotations.items() if not key.startswith(OURS)}

    @property
    def by_controller(self) -> bool:
        """Whether the last write was the controller's."""
        return self.writer == CONTROLLER


class Eye:
    """Looks at the service inside the local Cloud Run; cheap where nothing has changed."""

    def __init__(self, local: LocalCloudRun) -> None:
        self._plane = local._emulator.control_plane
        self._logs = local._emulator.logs
        self._name = f"projects/{local.settings.project}/locations/{local.settings.region}/services/{SERVICE}"
        self._key: tuple[Any, ...] = ()
        self._records: tuple[str, Rollout | None] = ("", None)
        self._sight: Sight | None = None

    @property
    def log_is_cut(self) -> bool:
        """Whether entries of the audit trail had to make room for newer ones."""
        return LOG_ID in self._logs.dropped_by_log

    def sight(self, elapsed: timedelta) -> Sight | None:
        """Return what is there now, the same object if nothing has changed; None if it is deleted."""
        state = next((one for one in self._plane.services.all() if one.proto.name == self._name), None)
        if state is None:
            self._key, self._sight = (), None
            return None
        service = run_v2.Service.pb(state.proto)
        ready = frozenset(name for name, revision in state.revisions.items() if revision.ready)
        key = (service.generation, service.reconciling, state.split, ready, service.latest_ready_revision)
        if key == self._key:
            return self._sight
        latest = _short(service.latest_ready_revision)
        targets = [(_short(target.revision), target.percent, target.tag) for target in service.traffic]
        annotations = dict(service.annotations)
        text = annotations.get(ANNOTATION, "")
        self._key = key
        self._sight = Sight(
            elapsed=elapsed,
            generation=service.generation,
            etag=service.etag,
            writer=service.last_modifier,
            newest=_short(service.latest_created_revision),
            calm=not service.reconciling,
            asked=_shares((name or latest, percent) for name, percent, _ in targets),
            asked_of_latest=any(percent and not name for name, percent, _ in targets),
            shown=sum(status.percent for status in service.traffic_statuses),
            in_force={name: percent for name, percent in state.split.percents.items() if percent},
            tags={tag: name for name, _, tag in targets if tag},
            annotations=annotations,
            ready=ready,
            text=text,
            rollout=self._rollout(text),
        )
        return self._sight

    def _rollout(self, text: str) -> Rollout | None:
        if text != self._records[0]:
            try:
                self._records = (text, parse_record(text) if text else None)
            except RecordInvalid:
                self._records = (text, None)
        return self._records[1]


def share_due(rollout: Rollout) -> int:
    """Return the percent that the candidate is to have by a record, worked out from its policy anew."""
    if not rollout.stable:  # there is nobody else to serve
        return 100
    phase = rollout.paused_phase or rollout.phase
    if phase in {Phase.BAKING, Phase.PROMOTED}:
        return 100
    if phase is Phase.STEPPING:
        return [step.traffic for step in rollout.policy.steps][rollout.step]
    return 0


def split_due(rollout: Rollout) -> dict[str, int]:
    """Return the percents that both revisions are to have by a record."""
    share = share_due(rollout)
    shares = {rollout.stable: 100 - share, rollout.candidate: share}
    return {name: percent for name, percent in shares.items() if percent}


def _shares(targets: Any) -> dict[str, int]:
    shares: dict[str, int] = {}
    for name, percent in targets:
        shares[name] = shares.get(name, 0) + percent
    return {name: percent for name, percent in shares.items() if percent}


def _short(name: str) -> str:
    return name.rpartition("/")[2]
