"""Whatever is asked for in whatever order: in the end everything has settled, and nothing contradicts."""

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import grpc
from google.cloud import run_v2
from google.protobuf import field_mask_pb2
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts.cloud import to
from contracts.conftest import PARENT, SIMULATED, a_template
from controller.emulator.clock import Clock
from controller.emulator.errors import ApiError
from controller.emulator.logs.store import Logs
from controller.emulator.monitoring.store import Metrics
from controller.emulator.names import short
from controller.emulator.run.catalog import ServiceState
from controller.emulator.run.control_plane import ControlPlane
from controller.emulator.run.traffic import Split
from controller.emulator.serving.job_processes import JobProcesses
from controller.emulator.serving.simulated import SimulatedRuntime

WEB = f"{PARENT}/services/web"
WHO = "somebody"
LONG_ENOUGH = timedelta(hours=1)
"""For every revision to start or be given up, however often an operation is held up or the clock set back."""
NO_CAUSE = "is not ready and cannot serve traffic. "
"""How the failure of a revision would end that has not failed."""
REFUSALS = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
}

places = some.integers(0, 3)
"""How old a revision is: 0 is the newest, and one that is older than all there are does not exist."""
shapes = some.sampled_from(
    [
        lambda *_: [],
        lambda one, _: [to(one, 100)],
        lambda one, _: [to("", 50), to(one, 50)],
        lambda one, other: [to(one, 30), to(other, 70, "tag")],
        lambda one, other: [to(one, 100), to(other, 0, "tag")],
        lambda one, _: [to(one, 100), to("", 0, "tag")],
    ]
)
templates = some.builds(
    lambda name, seconds, number, crash: a_template(
        revision=name, START_SECONDS=seconds, NUMBER=str(number), **crash
    ),
    some.sampled_from(["", "", "web-a", "web-b"]),
    some.sampled_from(["0", "1", "5", "30", "inf"]),
    some.integers(0, 3),
    some.sampled_from([{}, {}, {"CRASH": "1"}]),
)
seldom = some.sampled_from([True, False, False, False])


class Followed(SimulatedRuntime):
    """Simulated revisions that tell which split requests follow."""

    split = Split()

    def follow(self, location: str, service_id: str, split: Split, at: Any) -> None:
        super().follow(location, service_id, split, at)
        self.split = split


class Walk(RuleBasedStateMachine):
    """One service, to which anything may be done."""

    def __init__(self) -> None:
        super().__init__()
        self._start(Clock(speed=0))

    def _start(self, clock: Clock) -> None:
        logs = Logs(SIMULATED.project, SIMULATED.log_capacity, SIMULATED.log_bytes)
        self.clock = clock
        self.runtime = Followed(clock, SIMULATED, Metrics(), logs, random.Random(1))
        self.control_plane = ControlPlane(
            clock,
            SIMULATED,
            self.runtime,
            JobProcesses(clock, logs, SIMULATED.grace_seconds, dict),
            lambda *place: f"http://{'.'.join(place)}",
            lambda key: f"http://logs/{key.revision}",
        )

    @initialize(template=templates)
    def begin(self, template: run_v2.RevisionTemplate) -> None:
        self._create(template)

    @rule(template=templates)
    def create(self, template: run_v2.RevisionTemplate) -> None:
        self._create(template)

    def _create(self, template: run_v2.RevisionTemplate) -> None:
        service = run_v2.Service(template=template)
        request = run_v2.CreateServiceRequest(parent=PARENT, service_id="web", service=service)
        self._write(lambda: self.control_plane.services.create(request, WHO, self.clock.now()))

    @rule(shape=shapes, one=places, other=places)
    def move_traffic(self, shape: Any, one: int, other: int) -> None:
        self._update("traffic", traffic=shape(self._name(one), self._name(other)))

    @rule(template=templates)
    def deploy(self, template: run_v2.RevisionTemplate) -> None:
        self._update("template", template=template)

    @rule(template=templates, shape=shapes, one=places, other=places)
    def deploy_and_move_traffic(
        self, template: run_v2.RevisionTemplate, shape: Any, one: int, other: int
    ) -> None:
        traffic = shape(self._name(one), self._name(other))
        self._update("template", "traffic", template=template, traffic=traffic)

    @rule(number=some.integers(0, 9))
    def annotate(self, number: int) -> None:
        self._update("annotations", annotations={"number": str(number)})

    @rule(sure=seldom)
    def delete(self, sure: bool) -> None:
        if not sure:
            return
        request = run_v2.DeleteServiceRequest(name=WEB)
        self._write(lambda: self.control_plane.services.delete(request, self.clock.now()))

    @rule(place=places)
    def delete_revision(self, place: int) -> None:
        request = run_v2.DeleteRevisionRequest(name=f"{WEB}/revisions/{self._name(place)}")
        self._write(lambda: self.control_plane.revisions.delete(request, self.clock.now()))

    @rule(seconds=some.sampled_from([0.5, 1, 2, 3, 4, 30]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule(seconds=some.sampled_from([-30, -5, 5, 40]))
    def jump(self, seconds: int) -> None:
        self.clock.jump(timedelta(seconds=seconds))

    @rule(seconds=some.sampled_from([1, 10, 40]))
    def hold_up(self, seconds: int) -> None:
        operations = self.control_plane.operations.all()
        if operations:
            self.control_plane.hold_up(operations[-1].proto.name, timedelta(seconds=seconds))

    @rule(sure=seldom)
    def restart(self, sure: bool) -> None:
        if not sure:
            return
        kept = list(self.control_plane.export())
        self._start(Clock(speed=0, start=self.clock.now()))
        self.control_plane.restore(kept)

    @rule()
    def settle(self) -> None:
        self.clock.advance(LONG_ENOUGH)
        for operation in self.control_plane.operations.all():
            assert operation.done
            assert not operation.proto.error.message.endswith(NO_CAUSE)
        service = self._service()
        if service is None:
            return
        assert not service.proto.reconciling
        assert service.proto.observed_generation == service.proto.generation
        if service.split.percents:
            assert self.runtime.split == service.split

    @invariant()
    def the_status_names_what_is_served(self) -> None:
        service = self._service()
        if service is None or not service.split.percents:
            return
        latest = short(service.proto.latest_ready_revision)
        shares: Counter[str] = Counter()
        for status in service.proto.traffic_statuses:
            shares[status.revision or latest] += status.percent
        assert {name: share for name, share in shares.items() if share} == service.split.percents
        assert shares.total() == 100

    @invariant()
    def the_latest_and_what_is_served_exist(self) -> None:
        service = self._service()
        if service is None:
            return
        latest = {service.proto.latest_ready_revision, service.proto.latest_created_revision}
        named = {short(name) for name in latest if name} | service.split.revisions()
        assert named <= set(service.revisions)
        latest_ready = short(service.proto.latest_ready_revision)
        assert not latest_ready or service.revisions[latest_ready].ready

    def teardown(self) -> None:
        self.settle()

    def _service(self) -> ServiceState | None:
        services = self.control_plane.services.all()
        return services[0] if services else None

    def _name(self, place: int) -> str:
        service = self._service()
        newest_first = list(reversed(service.revisions)) if service else []
        return newest_first[place] if place < len(newest_first) else "web-none"

    def _update(self, *paths: str, **fields: Any) -> None:
        request = run_v2.UpdateServiceRequest(
            service=run_v2.Service(name=WEB, **fields), update_mask=field_mask_pb2.FieldMask(paths=paths)
        )
        self._write(lambda: self.control_plane.services.update(request, WHO, self.clock.now()))

    def _write(self, write: Any) -> None:
        try:
            write()
        except ApiError as refusal:
            assert refusal.code in REFUSALS  # noqa: PT017 - which refusals may come is what is tested


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=150, stateful_step_count=30, derandomize=True, deadline=None)
