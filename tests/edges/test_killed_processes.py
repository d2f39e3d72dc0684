"""Fifty times `kill -9`, at random moments of rollouts that real processes follow."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from controller.core.record import ANNOTATION, parse_record
from controller.core.rollout import Phase

from .conftest import Running, until
from .simulated import SimulatedCloud, a_simulated_cloud

pytestmark = pytest.mark.processes

LANES = 5
"""So many rollouts side by side, because each of them mostly waits."""
KILLS_A_LANE = 10
CANDIDATES = {"good": {}, "bad": {"ERROR_SHARE": "0.3"}}
ENDS = {
    "good": (0, Phase.PROMOTED, {"v2": 100}, [0, 20, 50, 100]),
    "bad": (3, Phase.ROLLED_BACK, {"v1": 100}, [0, 20, 0]),
}
"""The exit code, the phase, who serves, and the candidate's percents on the way."""
UNDER_WAY = {phase for phase in Phase if not phase.is_terminal}
GOING_ON = ("rollout", "check")
"""The commands that take a rollout up in turn. One that passes once leaves the end to `rollout`."""
THE_DEAD_WROTE = "somebody wrote at the same time, and may have been overwritten"
"""What a life may say where the last write of the one before is still on its way when it begins."""


class Moment(NamedTuple):
    """When to kill: so many seconds after the start, or after the first word that is heard.

    Loading takes most of a short life on a busy machine; most kills are to come later.
    """

    after_a_word: bool
    seconds: float

    @classmethod
    def drawn(cls, random: Random, longest: float) -> "Moment":
        return cls(random.random() < 0.75, random.uniform(0, longest))


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SimulatedCloud]:
    with a_simulated_cloud(tmp_path, speed=240) as cloud:
        yield cloud


def test_rollouts_end_well_however_often_their_controllers_are_killed(cloud: SimulatedCloud) -> None:
    longest = undisturbed_seconds(cloud)
    with ThreadPoolExecutor(LANES) as pool:
        lanes = [pool.submit(killed_in_a_lane, cloud, seed, longest / 2) for seed in range(LANES)]
    hit = [percent for lane in lanes for percent in lane.result()]
    assert len(hit) == LANES * KILLS_A_LANE
    assert {0, 20, 50, 100} <= set(hit)


def undisturbed_seconds(cloud: SimulatedCloud) -> float:
    """Return how long a rollout of a good candidate takes on this machine."""
    begun = time.monotonic()
    with cloud.rollout(cloud.candidate()) as running:
        assert running.end() == 0
    return time.monotonic() - begun


def killed_in_a_lane(cloud: SimulatedCloud, seed: int, longest: float) -> list[int]:
    """Roll candidates out one after the other; return the candidate's percent at each kill."""
    random, hit = Random(seed), list[int]()
    for kind in cycle(CANDIDATES):
        name = cloud.candidate(**CANDIDATES[kind])
        code, phase, serving, percents = ENDS[kind]
        story = f"a {kind} candidate of {name}, seed {seed}, after {len(hit)} kills"
        with watched(cloud, name) as watch:
            moments = (Moment.drawn(random, longest) for _ in range(KILLS_A_LANE - len(hit)))
            assert followed_by_mortals(cloud, name, moments, watch, hit) == code, story
            assert until(partial(has_gone, watch, percents)), (story, watch)
        assert not watch.wrong, (story, watch)
        assert (watch.phase, len(watch.rollouts)) == (phase, 1), (story, watch)
        assert (cloud.serving(name), cloud.tags(name)) == (serving, set()), story
        if len(hit) == KILLS_A_LANE:
            return hit
    raise AssertionError


def has_gone(watch: "Watch", percents: list[int]) -> bool:
    return watch.percents == percents


def followed_by_mortals(
    cloud: SimulatedCloud, name: str, moments: Iterator[Moment], watch: "Watch", hit: list[int]
) -> int:
    """Start commands again, one killed at each moment, until one has ended; return its exit code."""
    for command in cycle(GOING_ON):
        with a_life(cloud, name, command) as life:
            if ends_before(life, next(moments, None)):
                code = life.end()
                assert code >= 0
                assert messages(life.stderr) <= {THE_DEAD_WROTE}
                if command == "rollout":
                    return code
            else:
                life.send(signal.SIGKILL)
                if life.end() == -signal.SIGKILL:
                    hit.append(watch.percents[-1])
    raise AssertionError


def messages(stderr: str) -> set[str]:
    """Return what was logged; all that is not a line of the log fails."""
    return {json.loads(line)["message"] for line in stderr.splitlines()}


def a_life(cloud: SimulatedCloud, name: str, command: str) -> Running:
    if command == "rollout":
        return cloud.rollout(name)
    return cloud.start(command, *cloud.at, "--json")


def ends_before(life: Running, moment: Moment | None) -> bool:
    """Return whether it ends by itself before the moment; without one there is no kill to wait for."""
    if moment and moment.after_a_word:
        life.until(lambda _: True)
    try:
        life.process.wait(moment.seconds if moment else None)
    except subprocess.TimeoutExpired:
        return False
    return True


@dataclass
class Watch:
    """What somebody saw who looked at a service all the time."""

    phase: Phase = Phase.WAITING
    percents: list[int] = field(default_factory=lambda: [0])
    rollouts: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def look(self, cloud: SimulatedCloud, name: str) -> None:
        service = cloud.service(name)
        candidate = f"{name}-v2"
        asked = sum(each.percent for each in service.traffic if each.revision == candidate)
        served = sum(each.percent for each in service.traffic_statuses if each.revision == candidate)
        self._expect(
            sum(each.percent for each in service.traffic_statuses) == 100, "not all users are served"
        )
        record = service.annotations.get(ANNOTATION, "")
        if not record:
            self._expect(asked == served == 0 and not self.rollouts, "a share without a record")
            return
        rollout = parse_record(record)
        self._expect(asked == rollout.percent, f"record of {rollout.percent} %, but {asked} % asked for")
        allowed = max(rollout.percent, *(window.percent for window in rollout.windows), 0)
        self._expect(served <= allowed, f"{served} % served where {allowed} % are allowed")
        self._expect(bool(rollout.reason), f"{rollout.phase} without a reason")
        self._expect(self.phase in {rollout.phase, *UNDER_WAY}, f"{self.phase} was left for {rollout.phase}")
        self.rollouts.add(rollout.id)
        self.phase = rollout.phase
        if served != self.percents[-1]:
            self.percents.append(served)

    def _expect(self, is_so: bool, otherwise: str) -> None:
        if not is_so:
            self.wrong.append(otherwise)


@contextmanager
def watched(cloud: SimulatedCloud, name: str) -> Iterator[Watch]:
    """Look at a service, again and again, for as long as the context lasts."""
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            watch.look(cloud, name)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield watch
        finally:
            over.set()
            looking.result()
